import math

import numpy as np
import pytest
import scipy.stats

from bancada.evaluation import words
from bancada.evaluation.chosen import choose
from bancada.evaluation.entry import Entry, Replicas, Terms
from bancada.evaluation.leaderboard import COLUMNS, leaderboard

SEEDS = list(range(111, 121))
BASE = np.array([3.0, 4.1, 2.2, 5.3, 3.4, 4.5, 2.6, 3.7, 4.8, 2.9])
NAN = float("nan")


def entry(name, values, validation=None):
    """A variant; a value that is missing is that of a diverged seed."""
    values = np.asarray(values, float)
    held_out = np.full(len(values), NAN) if validation is None else np.array(validation, float)
    finished = [i for i, value in enumerate(values) if np.isfinite(value)]
    return Entry(name, "compiled", 64, values, held_out, finished, epochs_to_converge=40.0)


def board(*entries, metric="error_rate_percent", split="test", baseline="base", min_difference=0.1, **more):
    terms = Terms(metric, split, SEEDS[: len(entries[0].values)], baseline, min_difference, **more)
    return {row["variant"]: row for row in leaderboard(entries, terms)}


def texts(rows):
    def cell(value):
        missing = value is None or (isinstance(value, float) and not np.isfinite(value))
        return "" if missing else str(value).lower() if isinstance(value, bool) else str(value)

    return [{key: cell(row[key]) for key in COLUMNS} for row in rows.values()]


def printed(rows, title="study", width=120):
    return words.format_leaderboard(texts(rows), title, width=width)


def test_the_statistics_are_scipys_and_the_verdicts_follow_from_them():
    good, bad = BASE - np.linspace(0.5, 1.4, 10), BASE + np.linspace(1, 1.9, 10)
    noise = np.array([0.3, -0.2, 0.5, -0.6, 0.1, 0.4, -0.7, 0.8, -0.15, -0.05])
    rows = board(entry("base", BASE), entry("good", good), entry("noisy", BASE + noise), entry("bad", bad))
    assert [(name, row["rank"]) for name, row in rows.items()] == [("good", 1), ("base", 2), ("noisy", 3), ("bad", 4)]
    assert [row["verdict"] for row in rows.values()] == ["better", "baseline", "undecided", "worse"]
    p_noisy = scipy.stats.wilcoxon(noise, method="exact").pvalue
    assert rows["noisy"]["p"] == rows["noisy"]["p_holm"] == pytest.approx(p_noisy)  # the largest of three: times 1
    assert rows["good"]["p_holm"] == rows["bad"]["p_holm"] == pytest.approx(3 * 2 / 2**10)
    assert (rows["good"]["p_better"], rows["bad"]["p_better"], rows["noisy"]["p_better"]) == (1, 0, 0.5)
    assert rows["bad"]["difference"] == pytest.approx(1.45)
    assert (rows["bad"]["difference_low"], rows["bad"]["difference_high"]) == pytest.approx((1.2, 1.7))
    assert {row["comparisons"] for row in rows.values()} == {3, None}
    base = rows["base"]
    assert [base[key] for key in ("median", "median_low", "median_high", "min", "max")] == [3.55, 2.6, 4.8, 2.2, 5.3]
    assert (base["mean"], base["sd"]) == pytest.approx((BASE.mean(), BASE.std(ddof=1)))
    assert {tuple(row) for row in rows.values()} == {COLUMNS}


def test_the_order_is_by_the_median_and_then_by_the_mean():
    """One seed in ten that fails moves the mean and not the median."""
    often, never = np.array([1.0] * 9 + [50]), np.full(10, 2.0)
    assert list(board(entry("never", never), entry("often", often))) == ["often", "never"]
    assert list(board(entry("a", often), entry("b", np.ones(10)))) == ["b", "a"]


def test_of_r2_the_higher_is_the_better():
    rows = board(entry("base", BASE / 10), entry("good", BASE / 10 + np.linspace(0.2, 0.3, 10)), metric="r2")
    assert list(rows) == ["good", "base"]
    assert (rows["good"]["verdict"], rows["good"]["p_better"]) == ("better", 1)


def test_identical_variants_share_a_rank_and_are_equivalent():
    rows = board(entry("base", BASE), entry("twin", BASE), min_difference=0.0)
    assert [row["rank"] for row in rows.values()] == [1, 1]
    assert (rows["twin"]["difference"], rows["twin"]["p_better"]) == (0.0, 0.5)
    assert math.isnan(rows["twin"]["p"]) and math.isnan(rows["twin"]["p_holm"])
    assert (rows["twin"]["verdict"], rows["twin"]["reason"]) == ("equivalent", "the same for every seed")
    assert "nan" not in printed(rows)


def test_a_comparison_without_a_p_counts_in_holms_family():
    near, far = np.where(np.arange(10) == 3, BASE, BASE + np.linspace(0.2, 1.1, 10)), BASE + np.linspace(1, 1.9, 10)
    rows = board(entry("base", BASE), entry("twin", BASE), entry("near", near), entry("far", far))
    assert {rows[name]["comparisons"] for name in ("twin", "near", "far")} == {3}
    assert rows["near"]["reason"] == "equal on 1 of 10 seeds"
    # all ten signs are the same, or nine beside a zero; the twin's p counts as 1
    assert (rows["far"]["p_holm"], rows["near"]["p_holm"]) == (3 * 2 / 2**10, 2 * 2 / 2**9)


def test_two_deterministic_variants_are_compared_without_a_test():
    rows = board(entry("base", [2.0] * 10), entry("lower", [1.5] * 10), entry("same", [2.0] * 10))
    assert (rows["lower"]["verdict"], rows["lower"]["difference"], rows["lower"]["p"]) == ("better", -0.5, None)
    assert rows["lower"]["reason"].startswith("deterministic")
    assert (rows["same"]["verdict"], rows["same"]["difference_low"]) == ("equivalent", None)
    assert math.isnan(rows["base"]["median_low"])


def test_a_baseline_with_one_value_can_be_tested_against():
    rows = board(entry("base", [2.0] * 10), entry("other", BASE + 1))
    assert rows["other"]["p"] == pytest.approx(scipy.stats.wilcoxon(BASE - 1, method="exact").pvalue)
    assert rows["other"]["verdict"] == "worse"


def test_diverged_seeds_count_as_the_worst_value_and_are_said():
    one, most = np.where(np.arange(10) == 4, NAN, BASE - 2), np.where(np.arange(10) < 8, NAN, BASE - 2)
    rows = board(entry("every", [NAN] * 10), entry("most", most), entry("one", one), entry("base", BASE))
    assert list(rows) == ["one", "base", "most", "every"]
    row = rows["one"]
    assert row["median"] == pytest.approx(np.median(np.where(np.isnan(one), np.inf, one)))
    assert (row["max"], row["diverged_seeds"], row["failed_seeds"]) == ("diverged", 1, 1)
    assert np.isnan([row["mean"], row["sd"], row["difference"]]).all()
    assert (rows["most"]["median_low"], rows["most"]["median"]) == (pytest.approx(2.8), "diverged")
    assert (rows["every"]["verdict"], rows["every"]["difference_high"]) == ("worse", "diverged")
    text = printed(rows)
    assert "one: 1 of 10 seeds diverged: no mean" in text and "nan" not in text and "inf" not in text
    twins = board(entry("base", [NAN] * 10), entry("other", [NAN] * 10))
    assert (twins["other"]["verdict"], twins["other"]["reason"]) == ("undecided", "every seed of both diverged")


def test_outputs_that_are_not_finite_are_not_called_diverged():
    other = Entry("other", "torch", 1, np.array([NAN, 1, 2]), np.full(3, NAN), [0, 1, 2], 4.0, infinite_seeds=1)
    row = board(entry("base", BASE[:3]), other)["other"]
    assert (row["max"], row["diverged_seeds"], row["failed_seeds"]) == ("not finite", 0, 1)


def test_failed_seeds_are_those_beyond_the_reference_or_the_limit():
    values = np.array([0.1, 0.2, 4.9, 5, 5.1, 50, 60, NAN, 0, 1])
    row = board(entry("base", values), reference=[50.0])["base"]
    expected = scipy.stats.binomtest(3, 10).proportion_ci(method="exact")
    assert row["failed_seeds"] == 3  # 50, which is no better than the majority class, 60, and the diverged one
    assert (row["failed_low"], row["failed_high"]) == pytest.approx((expected.low, expected.high))
    assert board(entry("base", values), reference=[50.0], fails_beyond=5.0)["base"]["failed_seeds"] == 4
    assert board(entry("base", values), fails_beyond=0.0)["base"]["failed_seeds"] == 9
    assert board(entry("base", -values), metric="r2", fails_beyond=-5.0)["base"]["failed_seeds"] == 4
    assert "3  7 to 65 %" in printed(board(entry("base", values), reference=[50.0]))


@pytest.mark.parametrize(("seeds", "variants", "enough"), [(8, 11, False), (10, 11, True), (5, 1, False), (6, 1, True)])
def test_too_few_seeds_are_reported(seeds, variants, enough):
    others = [entry(f"v{i}", BASE[:seeds] + 5 + i) for i in range(variants)]
    rows = board(entry("base", BASE[:seeds]), *others)
    assert rows["v0"]["p_holm"] == pytest.approx(variants * 2 / 2**seeds)
    assert rows["v0"]["verdict"] == ("worse" if enough else "undecided")
    assert ("no p below" in rows["v0"]["reason"]) == (not enough)
    if not enough:
        assert "no difference can be shown" in words.sentence(texts(rows))


def test_one_seed_has_no_interval_and_says_so():
    rows = board(entry("base", BASE[:1]), entry("other", BASE[:1] + 1))
    assert (rows["other"]["verdict"], rows["other"]["reason"]) == ("undecided", "1 seed: 1 comparison needs 6")
    assert "over 1 seed on one data set" in printed(rows)
    assert words.sentence(texts(rows)) == "other is undecided: with one seed, no difference can be shown"


def test_without_a_baseline_nothing_is_compared():
    rows = board(entry("a", BASE), entry("b", BASE + 1), baseline=None)
    assert [(row["verdict"], row["p_holm"]) for row in rows.values()] == [(None, None)] * 2
    assert words.sentence(texts(rows)) == "the median error rate (%) of a is 3.55; nothing is compared"


def test_re_split_tables_have_the_corrected_test_and_centres_without_interval():
    replicas = Replicas("splits of one table and seeds", resplit=(90, 10))
    rows = board(entry("base", BASE), entry("other", BASE + np.linspace(1, 2, 10)), replicas=replicas)
    d = np.linspace(1, 2, 10)
    t = d.mean() / (d.std(ddof=1) * math.sqrt(1 / 10 + 10 / 90))
    assert rows["other"]["p"] == pytest.approx(2 * scipy.stats.t.sf(t, 9))
    assert (rows["other"]["verdict"], rows["other"]["over"]) == ("worse", "splits of one table and seeds")
    assert math.isnan(rows["other"]["median_low"])
    text = printed(rows)
    assert "over 10 splits of one table and seeds" in text and "corrected resampled t" in text and "Holm)" not in text
    one = board(entry("base", BASE[:1]), entry("other", BASE[:1] + 1), replicas=replicas)
    assert (one["other"]["verdict"], one["other"]["reason"]) == ("undecided", "1 split: no test")
    assert "over 1 split of one table and seed" in printed(one)


def test_the_table_fits_a_terminal_and_says_which_rows_it_is_about():
    entries = [entry("base", BASE), *(entry(f"a_variant_with_a_name_{i}", BASE * 7 + i) for i in range(11))]
    text = printed(board(*entries), "moons")
    assert max(map(len, text.splitlines())) <= 120
    assert text.startswith(
        "moons: error_rate_percent (lower is better) on the test rows, over 10 seeds on one data set"
    )
    assert "the median's from value 2 to 9 of 10 (covers 97.9 %)" in text
    assert "nothing is held out" in printed(board(*entries, split="train"))
    assert "there are no test rows" in printed(board(*entries, split="validation"))


def test_tiny_values_are_shown_in_a_common_unit():
    text = printed(board(entry("base", BASE * 1e-4), metric="weight_error_max", split="validation"), "line")
    assert "weight_error_max, in units of 1e-4 (lower is better) of the learned weights" in text
    assert "3.55" in text


def test_engine_and_parameters_stand_beside_the_variant_where_the_table_has_room():
    names = ["v" * letters for letters in range(4, 60, 5)]
    for width, whole in ((80, 24), (120, 39)):
        shown = {name: printed(board(entry("base", BASE), entry(name, BASE + 1)), width=width) for name in names}
        assert all(max(map(len, text.splitlines())) <= width for text in shown.values())
        assert all(name in text for name, text in shown.items() if len(name) <= whole)
        with_them = ["compiled" in text for text in shown.values()]
        assert with_them == sorted(with_them, reverse=True)
        assert set(with_them) == {True, False} if width == 120 else {False}


def test_of_two_columns_of_one_name_the_results_stay():
    cells = [["variant", "validation", "validation"], ["a", "1" * 30, "2" * 30]]
    names, _, row = words.printed([words.as_table(cells, 50)], 50).strip().splitlines()
    assert (names.split(), row.split()) == (["variant", "validation"], ["a", "2" * 30])


def test_a_study_ends_in_a_sentence_that_can_be_repeated():
    noise = np.array([3, -2, 5, -6, 1, 4, -7, 8, -1.5, -0.5])
    good, bad = entry("good", BASE - np.linspace(1, 2, 10)), entry("bad", BASE + np.linspace(1, 2, 10))
    rows = board(entry("base", BASE), good, bad, entry("twin", BASE), entry("noisy", BASE + noise))
    limit = rows["noisy"]["smallest_difference"]
    assert words.sentence(texts(rows)) == (
        "good makes fewer errors than base; bad makes more errors than base; twin is equivalent to base; "
        f"noisy is undecided: with these ten seeds, differences below {limit:.2g} points cannot be shown"
    )
    rows = board(entry("base", BASE), entry("good", BASE + np.linspace(1, 2, 10)), metric="r2")
    assert words.sentence(texts(rows)) == "good has a higher R² than base"
    drawn, noisy = Replicas("data sets and seeds"), [entry(name, BASE + noise) for name in "abcd"]
    rows = board(entry("base", BASE), *noisy, replicas=drawn)
    assert words.sentence(texts(rows)).startswith("all others are undecided: with these ten data sets and seeds, diff")
    rows["a"]["verdict"] = "better"
    assert "; b, c and d are undecided: with" in words.sentence(texts(rows))


def test_of_a_variant_that_diverged_with_every_seed_no_number_is_told():
    lost, fine = entry("lost", [NAN] * 10), entry("fine", BASE + np.linspace(1, 2, 10))
    rows = board(entry("base", BASE), lost, fine)
    assert words.sentence(texts(rows)) == "fine makes more errors than base; lost diverged with every seed"
    rows = board(entry("base", [NAN] * 10), lost, fine)
    assert words.sentence(texts(rows)) == "base, which the others are compared with, diverged with every seed"
    assert (rows["lost"]["verdict"], math.isnan(rows["lost"]["smallest_difference"])) == ("undecided", True)


def test_reference_rows_stand_under_the_board():
    given = [
        {"reference": "majority class", "value": "50", "note": ""},
        {"reference": "logistic regression", "value": "", "note": "left out: 2e+07 cells, more than 10^7"},
        {"reference": "not defined here", "value": "", "note": ""},
    ]
    text = words.format_leaderboard(texts(board(entry("base", BASE))), "study", given)
    shown = "majority class 50, logistic regression left out: 2e+07 cells, more than 10^7, not defined here n. d."
    assert f"for reference: {shown}\n" in text


@pytest.mark.parametrize(
    ("values", "metric", "seed"),
    [
        ([3.0, 1.0, 2.0], "error_rate_percent", 112),
        ([2.0, 1.0, 1.0], "error_rate_percent", 112),  # equals: the first
        ([0.5, 0.7, 0.9], "r2", 113),  # higher is better
        ([NAN, 5.0, 4.0], "error_rate_percent", 113),
        ([NAN, NAN, NAN], "error_rate_percent", None),
    ],
)
def test_the_best_seed_is_that_of_the_validation_rows(values, metric, seed):
    other = entry("other", [9, 9, 9], [1, 1, 1])
    terms = Terms(metric, "test", SEEDS[:3])
    assert choose([entry("base", [1, 2, 3], values), other], terms).seeds["base"] == seed


@pytest.mark.parametrize(
    ("values", "other", "metric", "champion"),
    [
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.5], "error_rate_percent", "base"),  # the same median, the lower mean
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.5], "r2", "other"),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], "error_rate_percent", "other"),  # and the same mean, less spread
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0], "error_rate_percent", "base"),  # the first by name
        ([0.0, 1.0, 50.0], [2.0, 2.0, 2.0], "error_rate_percent", "base"),  # the order of the board: by the median
        ([1.0, NAN, 1.0], [9.0, 9.0, 9.0], "error_rate_percent", "other"),
        ([NAN, 1.0, 1.0], [1.0, NAN, 1.0], "error_rate_percent", None),
    ],
)
def test_the_champion_is_the_first_on_the_validation_rows(values, other, metric, champion):
    entries = [entry("base", [9, 9, 9], values), entry("other", [1, 1, 1], other)]
    assert choose(entries, Terms(metric, "test", SEEDS[:3])).champion == champion


@pytest.mark.parametrize("why", ["the study's validation rows are its test rows", "the study has no validation rows"])
def test_without_validation_rows_of_its_own_a_study_takes_the_first_seed_and_the_baseline(why):
    entries = [entry("a", [1, 1, 1], [1, 1, 1]), entry("base", [NAN, 2, 1], [NAN, 2, 1])]
    found = choose(entries, Terms("error_rate_percent", "test", SEEDS[:3], "base", no_validation=why))
    assert found == ({"a": 111, "base": 112}, "base", f"the first: {why}")
    assert choose(entries, Terms("error_rate_percent", "test", SEEDS[:3], no_validation=why)).champion == "a"
    assert (
        choose([entry("base", [NAN] * 3)], Terms("mse", "test", SEEDS[:3], "base", no_validation=why)).champion is None
    )
    rows = board(*entries, no_validation=why)
    assert {row["variant"]: row["best_seed"] for row in rows.values()} == found.seeds
    assert f"best seed of a variant: the first: {why}; champion: base" in printed(rows)


def test_a_metric_without_a_value_on_validation_rows_chooses_the_first_seed():
    """R2 of one row."""
    found = choose([entry("base", [0.1, 0.2, 0.3])], Terms("r2", "test", SEEDS[:3], "base"))
    assert (found.seeds, found.champion) == ({"base": 111}, "base")
    assert found.how == "the first: r2 has no value on the validation rows"
