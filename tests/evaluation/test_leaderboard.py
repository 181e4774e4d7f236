import numpy as np
import pytest
import scipy.stats

from bancada.evaluation.leaderboard import COLUMNS, EXPLANATION, Entry, format_leaderboard, leaderboard, smallest_p

SEEDS = list(range(111, 121))
BASE = np.array([3.0, 4.1, 2.2, 5.3, 3.4, 4.5, 2.6, 3.7, 4.8, 2.9])


def entry(name, values, deterministic=False):
    values = np.asarray(values, float)
    return Entry(name, "compiled", 64, values, 40.0, int(np.isnan(values).sum()), deterministic)


def board(*entries, metric="error_rate_percent", split="test", baseline="base", min_difference=0.1):
    seeds = SEEDS[: len(entries[0].values)]
    rows = leaderboard(entries, split, metric, seeds, baseline, min_difference)
    return {row["variant"]: row for row in rows}


def printed(rows, title="study"):
    def cell(value):
        missing = value is None or (isinstance(value, float) and not np.isfinite(value))
        return "" if missing else str(value)

    return format_leaderboard([{key: cell(row[key]) for key in COLUMNS} for row in rows.values()], title)


def test_the_statistics_are_scipys_and_the_verdicts_follow_from_them():
    good, bad = BASE - np.linspace(0.5, 1.4, 10), BASE + np.linspace(1, 1.9, 10)
    noise = np.array([0.3, -0.2, 0.5, -0.6, 0.1, 0.4, -0.7, 0.8, -0.15, -0.05])
    rows = board(entry("base", BASE), entry("good", good), entry("noisy", BASE + noise), entry("bad", bad))
    assert [(name, row["rank"]) for name, row in rows.items()] == [("good", 1), ("base", 2), ("noisy", 3), ("bad", 4)]
    assert [row["verdict"] for row in rows.values()] == ["better", "baseline", "no difference shown", "worse"]
    p_noisy = scipy.stats.wilcoxon(noise, method="exact").pvalue
    assert rows["noisy"]["p_holm"] == pytest.approx(p_noisy)  # the largest of three: times 1
    assert rows["good"]["p_holm"] == rows["bad"]["p_holm"] == pytest.approx(3 * 2 / 2**10)
    test = scipy.stats.ttest_rel(bad, BASE).confidence_interval(0.95)
    assert rows["bad"]["difference"] == pytest.approx(1.45)
    assert (rows["bad"]["difference_low"], rows["bad"]["difference_high"]) == pytest.approx((test.low, test.high))
    assert (rows["base"]["best_seed"], rows["base"]["best"]) == (113, 2.2)
    assert (rows["base"]["worst_seed"], rows["base"]["worst"]) == (114, 5.3)
    assert {tuple(row) for row in rows.values()} == {COLUMNS}


def test_of_r2_the_higher_is_the_better():
    rows = board(entry("base", BASE / 10), entry("good", BASE / 10 + np.linspace(0.2, 0.3, 10)), metric="r2")
    assert list(rows) == ["good", "base"]
    assert rows["good"]["verdict"] == "better"
    assert rows["base"]["best"] == 0.53


def test_identical_variants_share_a_rank_and_show_no_difference():
    rows = board(entry("base", BASE), entry("twin", BASE))
    assert [row["rank"] for row in rows.values()] == [1, 1]
    assert (rows["twin"]["difference"], rows["twin"]["p_holm"]) == (0.0, 1.0)
    assert rows["twin"]["verdict"] == "no difference shown"


def test_a_difference_within_min_difference_is_none_however_small_its_p():
    close = BASE + np.linspace(0.04, 0.05, 10)
    rows = board(entry("base", BASE), entry("close", close))
    assert rows["close"]["p_holm"] < 0.01
    assert rows["close"]["verdict"] == "no difference shown"
    assert "too small to matter" in rows["close"]["note"]
    assert board(entry("base", BASE), entry("close", close), min_difference=0.01)["close"]["verdict"] == "worse"


def test_two_deterministic_variants_are_compared_without_a_test():
    rows = board(entry("base", [2.0] * 10, True), entry("lower", [1.5] * 10, True), entry("same", [2.0] * 10, True))
    assert rows["lower"]["verdict"] == "better (deterministic)"
    assert rows["lower"]["difference"] == -0.5
    assert rows["lower"]["p_holm"] is None
    assert rows["same"]["verdict"] == "no difference shown"
    assert rows["base"]["deterministic"] is True
    assert np.isnan(rows["base"]["ci95_low"])


def test_a_deterministic_baseline_can_be_tested_against():
    rows = board(entry("base", [2.0] * 10, True), entry("other", BASE + 1))
    assert rows["other"]["p_holm"] == pytest.approx(scipy.stats.wilcoxon(BASE - 1, method="exact").pvalue)
    assert rows["other"]["verdict"] == "worse"


def test_the_same_value_for_every_seed_is_not_called_deterministic():
    rows = board(entry("base", [0.0] * 10), entry("other", BASE))
    assert rows["base"]["deterministic"] is False
    assert rows["base"]["note"] == "the same for every seed: no interval"
    assert "deterministic" not in printed(rows)


def test_diverged_seeds_rank_last_and_are_worse():
    one, every = np.where(np.arange(10) == 4, np.nan, BASE - 2), np.full(10, np.nan)
    rows = board(entry("every", every), entry("one", one), entry("base", BASE), entry("bad", BASE + 9))
    assert list(rows) == ["base", "bad", "one", "every"]
    assert rows["one"]["diverged_seeds"] == 1
    assert np.isnan(rows["one"]["mean"])
    assert rows["one"]["median"] == pytest.approx(np.median(np.where(np.isnan(one), np.inf, one)))
    assert (rows["one"]["worst_seed"], rows["one"]["best_seed"]) == (115, 113)
    assert rows["every"]["verdict"] == "worse"
    assert np.isnan(rows["every"]["difference"])
    assert np.isnan(rows["every"]["median"])
    assert "one: 1 of 10 seeds diverged: no mean" in printed(rows)


@pytest.mark.parametrize(("seeds", "variants", "enough"), [(8, 11, False), (10, 11, True), (5, 1, False), (6, 1, True)])
def test_too_few_seeds_are_reported(seeds, variants, enough):
    others = [entry(f"v{i}", BASE[:seeds] + 5 + i) for i in range(variants)]
    rows = board(entry("base", BASE[:seeds]), *others)
    assert smallest_p(seeds, variants) == pytest.approx(variants * 2 / 2**seeds)
    assert rows["v0"]["p_holm"] == pytest.approx(variants * 2 / 2**seeds)
    assert rows["v0"]["verdict"] == ("worse" if enough else "no difference shown")
    assert ("too few seeds" in rows["v0"]["note"]) == ("too few seeds" in printed(rows)) == (not enough)


def test_the_smallest_p_is_exact_for_as_many_seeds_as_params_allow():
    assert smallest_p(5, 1) == 2 / 32
    assert smallest_p(1000, 11) == 22 / 2**1000
    assert smallest_p(2, 11) == 1


def test_one_seed_has_no_interval_and_says_so():
    rows = board(entry("base", BASE[:1], True), entry("other", BASE[:1] + 1, True))
    assert rows["base"]["deterministic"] is None
    assert rows["other"]["verdict"] != "worse"
    assert "one seed: no interval" in printed(rows)


def test_without_a_baseline_nothing_is_compared():
    rows = board(entry("a", BASE), entry("b", BASE + 1), baseline=None)
    assert [row["verdict"] for row in rows.values()] == ["", ""]
    assert [row["p_holm"] for row in rows.values()] == [None, None]


def test_a_mean_and_ranks_with_different_signs_show_no_difference():
    apart = BASE + np.array([-0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.15, 90])
    rows = board(entry("base", BASE), entry("apart", apart), min_difference=0.0)
    assert rows["apart"]["difference"] > 0
    assert rows["apart"]["verdict"] == "no difference shown"


def test_the_table_fits_a_terminal_and_says_which_rows_it_is_about():
    entries = [entry("base", BASE), *(entry(f"a_variant_with_a_name_{i}", BASE * 7 + i) for i in range(11))]
    text = printed(board(*entries), "moons")
    assert max(map(len, text.splitlines())) <= 120
    assert text.startswith("moons: error_rate_percent (lower is better) on the test rows, 10 seeds")
    assert "training seeds on one data set" in EXPLANATION.replace("\n", " ")
    assert "nothing is held out" in printed(board(*entries, split="train"))
    assert "there are no test rows" in printed(board(*entries, split="validation"))


def test_tiny_values_are_shown_in_a_common_unit():
    text = printed(board(entry("base", BASE * 1e-4), metric="weight_error_max", split="validation"), "line")
    assert "weight_error_max, in units of 1e-4 (lower is better) of the learned weights" in text
    assert "3.65" in text


def test_one_seed_cannot_show_whether_a_variant_is_deterministic():
    rows = board(entry("base", [3.0], deterministic=True), entry("other", [9.0], deterministic=True))
    assert rows["other"]["deterministic"] is None
    assert rows["other"]["verdict"] == "no difference shown"
    assert "too few seeds" in rows["other"]["note"]
    assert "depends on the seed" not in rows["other"]["note"]


def test_engine_and_parameters_stand_beside_the_variant_where_the_table_has_room():
    rows = board(entry("base", BASE), entry("other", BASE + 1))
    assert [(row["engine"], row["parameters"]) for row in rows.values()] == [("compiled", 64)] * 2
    text = printed(rows)
    assert text.splitlines()[2].split()[:5] == ["#", "variant", "engine", "params", "mean"]
    assert text.splitlines()[4].split()[:4] == ["1", "base", "compiled", "64"]
    assert max(map(len, text.splitlines())) <= 120


def test_a_table_that_would_be_too_wide_leaves_them_out():
    names = ["v" * letters for letters in range(10, 40)]
    texts = {name: printed(board(entry("base", BASE), entry(name, BASE + 1))) for name in names}
    assert all(name in text and max(map(len, text.splitlines())) <= 120 for name, text in texts.items())
    with_them = ["compiled" in text for text in texts.values()]
    assert with_them == sorted(with_them, reverse=True)
    assert {True, False} == set(with_them)
