import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from trained import trained_by

from bancada.evaluation import statistics
from bancada.evaluation.candidates import Candidate
from bancada.networks import metrics

# Test errors of ten seeds, in percent, of the results of commit ccf2ba1.
TEN = {
    "moons_tanh": [0.05, 0.05, 0.15, 10.75, 0.15, 0.25, 0.1, 0.1, 0.05, 0.1],
    "moons_sigmoid": [0.0] * 10,
    "moons_tanh_small": [0.05, 0.05, 0.05, 0.05, 0.15, 0.05, 0.05, 0.05, 0.05, 0.05],
    "moons_batch_norm": [0, 0.1, 0, 12.95, 0.25, 0.1, 0, 0, 0.05, 0],
    "moons_bce": [10.4, 0.05, 0.1, 0.1, 7.5, 0.25, 9.4, 0.1, 0.1, 0.15],
    "moons_relu": [4.35, 0, 12.25, 14.4, 0.05, 11.2, 14.3, 50, 50, 9.4],
    "moons_adam": [10.5, 27.6, 50, 29.65, 9.25, 12.5, 19.25, 16.7, 20.25, 9.4],
    "moons_cross_entropy": [0, 0.05, 0.05, 0.1, 0.1, 0, 0.05, 0.05, 0.3, 0.05],
}
RNG = np.random.default_rng(3)
OBSERVED = RNG.normal(size=(7, 2)) + np.array([5, -1])
PREDICTED = (OBSERVED + RNG.normal(size=(3, 7, 2))).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "sklearns"),
    [
        (metrics.mse, sklearn.metrics.mean_squared_error),
        (metrics.mae, sklearn.metrics.mean_absolute_error),
        (metrics.r2, sklearn.metrics.r2_score),
    ],
)
def test_regression_scores_are_scikit_learns_for_every_seed(ours, sklearns):
    expected = [sklearns(OBSERVED, seed.astype(np.float64)) for seed in PREDICTED]
    assert ours(PREDICTED, OBSERVED) == pytest.approx(expected, rel=1e-12)


def test_r2_of_a_constant_target_is_scikit_learns():
    observed = np.full((4, 1), 2.0)
    predicted = np.array([[2.0, 2, 2, 2], [1, 2, 3, 2]]).reshape(2, 4, 1)
    assert (
        list(metrics.r2(predicted, observed))
        == [sklearn.metrics.r2_score(observed, p) for p in predicted]
        == [1.0, 0.0]
    )


def test_r2_of_a_single_row_and_of_a_diverged_seed_is_missing():
    assert np.isnan(metrics.r2(np.ones((2, 1, 1)), np.ones((1, 1)))).all()
    assert np.isnan(metrics.r2(np.full((1, 3, 1), np.nan), np.ones((3, 1)))).all()


def test_error_rate_is_wrong_over_total_in_percent():
    decided = np.array([[0, 1, 1, 0], [0, 1, 0, 0]]).reshape(2, 4, 1)
    observed = np.array([[0], [1], [1], [1]])
    expected = [100 * sklearn.metrics.zero_one_loss(observed, seed) for seed in decided]
    assert list(metrics.error_rate_percent(decided, observed)) == expected == [25.0, 50.0]


def test_weight_and_bias_errors_are_distances_from_the_truth():
    weights, biases = np.array([[2.5, -3.4], [2.0, -3.0]], np.float64), np.array([4.0, 4.2])
    assert metrics.weight_error_max(weights, np.array([2, -3.4])) == pytest.approx([0.5, 0.4])
    assert metrics.bias_error(biases, 4.2) == pytest.approx([0.2, 0.0])


def test_a_constant_loss_has_converged_after_the_first_epoch():
    assert statistics.epochs_to_converge(np.full(50, 0.7)) == 1


def test_a_linear_decrease_converges_at_99_percent_of_it():
    assert statistics.epochs_to_converge(np.linspace(100, 0, 1001)) == 991  # 990 of 1000 steps, and the first epoch


def test_an_exponential_converges_where_the_closed_form_says():
    rate, epochs = 0.05, 2000
    losses = 3 + 2 * np.exp(-rate * np.arange(epochs))
    steps = math.log(100) / rate  # exp(-rate * steps) = 1 %; the rest of the fall is below 1e-40
    assert statistics.epochs_to_converge(losses) == math.ceil(steps) + 1


def test_noise_above_the_best_loss_so_far_does_not_delay_convergence():
    losses = np.concatenate([np.linspace(10, 0, 101), np.abs(np.random.default_rng(0).normal(size=500)) * 5])
    assert statistics.epochs_to_converge(losses) == 100
    assert statistics.epochs_to_converge(np.array([4.0, np.nan, np.inf, 0.0, 3.0])) == 4


def test_histories_by_seed_are_padded_where_a_seed_diverged():
    history = {"seed": np.array([5, 5, 5, 6]), "epoch": np.array([0, 1, 2, 0]), "lr": np.array([3.0, 2.0, 1.0, 9.0])}
    trained = trained_by([5, 6], diverged={6: 0})
    curves = Candidate("variant", trained, history, {}, None).curve("lr")
    assert np.array_equal(curves, [[3, 2, 1], [9, np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("variant", "median", "difference", "better"),
    [
        ("moons_sigmoid", (0, 0, 0), (-0.125, -5.4, -0.075), 1.0),
        ("moons_tanh_small", (0.05, 0.05, 0.05), (-0.05, -5.35, 0), 0.8),
        ("moons_batch_norm", (0.025, 0, 0.25), (-0.05, -0.125, 1.025), 0.65),
        ("moons_bce", (0.125, 0.1, 9.4), (0.025, -0.675, 5.175), 0.35),
        ("moons_relu", (11.725, 0.05, 50), (10.125, 3.975, 30.425), 0.2),
        ("moons_adam", (17.975, 9.4, 29.65), (17.75, 11.35, 29.575), 0.0),
        ("moons_cross_entropy", (0.05, 0, 0.1), None, 0.85),
        ("moons_tanh", (0.1, 0.05, 0.25), (0, 0, 0), 0.5),
    ],
)
def test_ten_seeds_of_lesson_three(variant, median, difference, better):
    values = np.array(TEN[variant], float)
    assert (statistics.median(values), *statistics.median_interval(values)) == pytest.approx(median)
    found = statistics.compare(values, np.array(TEN["moons_tanh"]))
    assert found.p_better == pytest.approx(better)
    if difference:
        assert found[1:4] == pytest.approx(difference, abs=1e-9)


def test_one_seed_has_no_spread_and_no_interval():
    found = statistics.summary(np.array([2.5]))
    assert (found.mean, found.median) == (2.5, 2.5)
    assert np.isnan([found.std, found.median_low, found.median_high]).all()


def test_values_without_spread_have_no_interval():
    found = statistics.summary(np.full(10, 0.1))
    assert (found.mean, found.std, found.median) == (0.1, 0.0, 0.1)
    assert np.isnan([found.median_low, found.median_high]).all()


def test_a_diverged_seed_leaves_no_mean_and_counts_as_the_worst_in_the_median():
    values = np.array([3.0, np.nan, 1.0])
    errors, r2 = statistics.summary(values), statistics.summary(values, higher_is_better=True)
    assert (errors.median, r2.median) == (3.0, 1.0)
    assert np.isnan([errors.mean, errors.std]).all()
    assert math.isnan(statistics.summary(np.array([3.0, np.nan])).median)
    ten = statistics.summary(np.array([*range(1, 9), np.nan, np.nan], float))
    assert (ten.median, ten.median_low) == (5.5, 2) and math.isnan(ten.median_high)


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    [(5, 0, 1), (6, 1, 0.9688), (8, 1, 0.9922), (9, 2, 0.9609), (10, 2, 0.9785), (12, 3, 0.9614)],
)
def test_the_interval_of_the_median_is_the_narrowest_that_covers_95_percent(count, rank, coverage):
    """n = 8: x2 to x7 has 0.9297 only. scipy.stats.quantile_test's two one-sided intervals are the same."""
    assert statistics.median_ranks(count) == (rank, pytest.approx(coverage, abs=5e-5))
    values = np.random.default_rng(count).normal(size=count)
    found = statistics.median_interval(values)
    if not rank:
        assert np.isnan(found).all()
        return
    assert found == tuple(scipy.stats.quantile_test(values, q=0).confidence_interval(0.95))
    assert statistics.median_interval(-values) == (-found[1], -found[0])


def test_hollander_and_wolfes_example_of_the_depression_scale():
    """Their table 3.1, examples 3.1, 3.3 and 3.4: T+ = 5, -0.46, -0.786 to -0.010, 96 %."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    found = statistics.compare(after, before)
    assert found[1:4] == pytest.approx((-0.46, -0.786, -0.010))
    assert statistics.walsh_ranks(9) == (6, pytest.approx(0.961, abs=5e-4))
    assert found.p == pytest.approx(2 * 0.0195, abs=1e-4)


def test_the_estimate_and_its_interval_belong_together():
    assert statistics.hodges_lehmann(np.array([1.0, 2, 3, 4, 5, 6, 20, 30])) == 5.0  # the plain median is 4.5
    kept = np.array([0.0, 0, 0, 1, 2, 3, 4, -1])
    assert statistics.hodges_lehmann(kept) == 1.0
    assert statistics.walsh_ranks(10)[0] == 9
    assert np.isnan(statistics.hodges_lehmann_interval(np.arange(5.0))).all()


@pytest.mark.parametrize("count", range(6, 13))
def test_without_ties_the_interval_excludes_0_exactly_when_p_is_below_5_percent(count):
    generator = np.random.default_rng(count)
    for _ in range(60):
        differences = generator.normal(0.6, 1, count)
        low, high = statistics.hodges_lehmann_interval(differences)
        assert (low > 0 or high < 0) == (statistics.signed_rank_p(differences) < 0.05)


@pytest.mark.parametrize("count", [1, 2, 5, 10, 30])
def test_the_signed_rank_p_is_scipys_exact_one_without_ties(count):
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    assert statistics.signed_rank_p(differences) == pytest.approx(
        scipy.stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12
    )


@pytest.mark.parametrize(
    "differences",
    [
        [1, 1, 1, 1, 1, 1],
        [1, -1, 2, 2, 2, -3, 4],
        [0, 0, 1, 1, -2, 3, 3, 3],
        [0.5, -0.5],
        [0, 2, 2],
        [1, 1, 2, -3, 4, 4, 5],
        [0.01, 0.01, 0.01, 0.01, 0.01, -0.2],
        [0, 0, 0, 1, 2, 3, 4, -1],
    ],
)
def test_with_ties_and_zeros_the_p_is_that_of_all_signs(differences):
    given = np.array(differences, float)
    ranks = np.where(given == 0, 0, scipy.stats.rankdata(np.abs(given)))  # Pratt: zeros take ranks, but have no sign
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product([-1, 1], repeat=len(given))])
    expected = (np.abs(sums) >= abs(np.dot(np.sign(given), ranks)) - 1e-9).mean()
    assert statistics.signed_rank_p(given) == statistics.signed_rank_p(-given) == pytest.approx(expected, rel=1e-12)


def test_signed_rank_ps_of_full_enumeration():
    assert statistics.signed_rank_p(np.array([1.0, 1, 2, -3, 4, 4, 5])) == 3 / 32  # scipy 1.17.1's "exact" says 0.109
    assert statistics.signed_rank_p(np.array([0.01] * 5 + [-0.2])) == 17 / 32
    assert statistics.signed_rank_p(np.array([1.0, 2, -3])) == 1.0
    assert statistics.signed_rank_p(np.zeros(10)) == 1.0
    assert statistics.signed_rank_p(np.arange(1.0, 11)) == statistics.signed_rank_p(np.ones(10)) == 2 / 2**10


def test_the_smallest_p_and_the_seeds_that_it_needs():
    assert statistics.smallest_p(10, 11) == pytest.approx(0.0215, abs=5e-5)
    assert [statistics.smallest_p(*of) for of in ((5, 1), (6, 1), (6, 3), (2, 11))] == [0.0625, 0.03125, 0.09375, 1]
    assert statistics.smallest_p(1000, 11) == 22 / 2**1000
    for comparisons in range(1, 100):
        needed = statistics.seeds_needed(comparisons)
        assert statistics.smallest_p(needed, comparisons) <= 0.05 < statistics.smallest_p(needed - 1, comparisons)


def test_holm_by_hand():
    # sorted 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.9 * 1; never below the one before
    assert statistics.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert (statistics.holm([]), statistics.holm([0.6, 0.9]), statistics.holm([0.02, 0.02])) == ([], [1, 1], [0.04] * 2)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (1, 10), (3, 10), (0, 8), (8, 8), (17, 32)])
def test_the_interval_of_a_share_is_scipys_exact_one(count, total):
    expected = scipy.stats.binomtest(count, total).proportion_ci(method="exact")
    assert statistics.clopper_pearson(count, total) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_published_intervals_of_a_share():
    assert statistics.clopper_pearson(0, 10) == pytest.approx((0, 0.308), abs=5e-4)
    assert statistics.clopper_pearson(1, 10) == pytest.approx((0.0025, 0.445), abs=5e-4)
    assert statistics.clopper_pearson(3, 10) == pytest.approx((0.067, 0.652), abs=5e-4)
    with pytest.raises(ValueError, match="0 of 0"):
        statistics.clopper_pearson(0, 0)


def test_re_split_tables_have_nadeau_and_bengios_variance():
    """By hand: mean 2, sd 1, 3 splits of 90 training and 10 test rows: the error is sqrt(1 / 3 + 1 / 9) = 2 / 3."""
    mean, low, high, p = statistics.corrected_resampled_t(np.array([1.0, 2, 3]), 90, 10)
    half = scipy.stats.t.ppf(0.975, 2) * 2 / 3
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))
    assert p == pytest.approx(2 * scipy.stats.t.sf(3, 2))
    assert np.isnan(statistics.corrected_resampled_t(np.array([1.0, 1.0]), 90, 10)[1:]).all()
    found = statistics.compare_splits(np.array([1.0, 3, 5]), np.array([2.0, 5, 8]), 90, 10)
    assert (found.estimate, found.p, found.p_better) == (-2, pytest.approx(p), 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([1.0], "1 split: no test"), ([1.0, 2.0], "no spread, no test"), ([1, math.nan], "no value for some seeds")],
)
def test_re_split_tables_without_a_test_say_why(values, reason):
    found = statistics.compare_splits(np.array(values, float), np.array([3.0, 4.0])[: len(values)], 90, 10)
    assert math.isnan(found.p)
    word, why = statistics.verdict(found, 1.0, 1, 0.0, False)
    assert word == "undecided"
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("count", "comparisons", "expected"),
    [(10, 1, 1.02), (10, 11, 1.66), (20, 1, 0.68), (20, 11, 0.95), (32, 1, 0.52), (32, 11, 0.71)],
)
def test_the_smallest_difference_that_normal_differences_can_show(count, comparisons, expected):
    scores = scipy.stats.norm.ppf((np.arange(count) + 0.5) / count)
    scores /= scores.std(ddof=1)
    assert statistics.smallest_difference(3 * scores + 7, comparisons) == pytest.approx(3 * expected, rel=0.04)


def test_where_no_p_can_be_small_there_is_no_smallest_difference():
    assert math.isnan(statistics.smallest_difference(np.arange(8.0), 11))
    assert statistics.seeds_needed(11) == 9
    assert math.isnan(statistics.smallest_difference(np.array([1.0] * 9 + [np.inf]), 1))
    assert statistics.smallest_difference(np.ones(10), 1) == 0


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_intervals_cover_95_percent_of_the_samples(draw):
    """4,000 samples: two standard errors of the simulation are 0.7 %. The median of differences of a pair is 0."""
    generator = np.random.default_rng(7)
    center = {"normal": 0.0, "lognormal": 1.0}[draw]
    covered = np.zeros(2)
    for _ in range(4000):
        first, second = getattr(generator, draw)(size=(2, 10))
        for i, (low, high, truth) in enumerate(
            [(*statistics.median_interval(first), center), (*statistics.hodges_lehmann_interval(first - second), 0)]
        ):
            covered[i] += low <= truth <= high
    assert (covered / 4000 >= 0.95 - 0.007).all()


def verdicts(generator, studies, shift, min_difference, comparisons=1):
    """The verdicts of made-up studies with ten seeds, whose variants have the baseline's mean and a shift."""
    found = []
    for _ in range(studies):
        baseline, *others = generator.normal(size=(comparisons + 1, 10))
        pairs = [statistics.compare(other + shift, baseline) for other in others]
        p_holm = statistics.holm([pair.p for pair in pairs])
        of_study = [
            statistics.verdict(pair, p, comparisons, min_difference, False)[0]
            for pair, p in zip(pairs, p_holm, strict=True)
        ]
        found.append(set(of_study))
    return found


def test_of_400_studies_of_identical_variants_at_most_29_find_one_better_or_worse():
    """29 is the 97.5 % point of the binomial of 400 studies with 5 % each."""
    found = verdicts(np.random.default_rng(11), 400, shift=0, min_difference=0.0, comparisons=3)
    assert sum(bool(each & {"better", "worse"}) for each in found) <= 29


def test_a_difference_of_min_difference_is_rarely_called_equivalent():
    """At the border the rate is 2.5 % by the interval; 400 studies: 97.5 % point 16."""
    found = verdicts(np.random.default_rng(12), 400, shift=2.0, min_difference=2.0)
    assert sum("equivalent" in each for each in found) <= 16
    within = verdicts(np.random.default_rng(13), 400, shift=0, min_difference=2.0)
    assert sum("equivalent" in each for each in within) >= 360


@pytest.mark.parametrize("comparisons", [1, 11])
def test_the_smallest_difference_is_shown_in_80_percent_of_studies(comparisons):
    """Differences of two normal values have the sd sqrt(2); 400 studies: a standard error is 2 %."""
    shift = {1: 1.02, 11: 1.66}[comparisons] * math.sqrt(2)
    generator = np.random.default_rng(14)
    rejected = 0
    for _ in range(400):
        baseline, other = generator.normal(size=(2, 10))
        rejected += statistics.compare(other + shift, baseline).p <= 0.05 / comparisons
    assert rejected / 400 == pytest.approx(0.8, abs=0.05)


def test_a_comparison_is_paired_by_seed():
    found = statistics.compare(np.array([2.0, 3.5, 4.0, 6.0]), np.array([1.0, 3.0, 4.5, 2.0]))
    assert list(found.differences) == [1, 0.5, -0.5, 4]
    assert found.estimate == 0.875  # of -0.5, 0, 0.25, 0.5, 0.75, 1, 1.75, 2.25, 2.5, 4
    assert (found.p, found.p_better) == (0.375, 0.25)  # by enumeration: 6 of 16


def test_equal_decimal_differences_are_ties_whatever_their_last_binary_digit():
    found = statistics.compare(np.array([4.6, 1.3]), np.array([3.8, 0.5]))
    assert (found.estimate, found.p) == (0.8, 0.5)
    assert math.isnan(found.low)
    tiny = statistics.compare(np.array([3e-300, 1e-310]), np.array([1e-300, 0]))
    assert tiny.differences == pytest.approx([2e-300, 0], rel=1e-9, abs=0)  # 10 to the power of 310 is infinite


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_seed_that_diverged_is_the_largest_difference(higher_is_better):
    worse = -1 if higher_is_better else 1
    values = -worse * np.array([1.0, 2, 3, 4, 5, 6, 7, np.nan])
    found = statistics.compare(values, np.zeros(8), higher_is_better)
    assert found.p == pytest.approx(scipy.stats.wilcoxon([-1, -2, -3, -4, -5, -6, -7, 100], method="exact").pvalue)
    assert found.differences[-1] == worse * np.inf
    assert sorted(found[2:4], key=abs) == [-worse * 6, worse * np.inf]  # K = 4: -7, -6.5, -6, -6


def test_seeds_that_diverge_in_both_variants_have_no_difference():
    found = statistics.compare(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))
    assert (found.p, found.estimate, found.p_better, found.equal) == (1.0, 0.0, 0.5, 2)


@pytest.mark.parametrize(
    ("differences", "p_holm", "comparisons", "min_difference", "expected"),
    [
        (np.linspace(-0.5, -1.4, 10), 0.02, 11, 0.1, ("better", "")),
        (np.linspace(0.5, 1.4, 10), 0.02, 11, 0.1, ("worse", "")),
        (np.linspace(0.04, 0.05, 10), 0.02, 11, 0.1, ("equivalent", "")),
        (np.zeros(10), 1, 11, 0, ("equivalent", "the same for every seed")),
        (np.linspace(0.5, 1.4, 10), 0.06, 11, 0.1, ("undecided", "alone yes, among 11 comparisons no")),
        (np.linspace(-0.9, 1, 10), 1, 11, 0.1, ("undecided", "")),
        (np.linspace(0.05, 0.15, 10), 0.02, 1, 0.12, ("undecided", "a difference, but perhaps within 0.12")),
        (np.ones(8), 0.09, 11, 0, ("undecided", "8 seeds: no p below 0.086; 11 comparisons need 9")),
        (np.ones(5), 0.0625, 1, 2, ("undecided", "5 seeds: no p below 0.062; 1 comparison needs 6")),
        (np.ones(1), 1, 1, 2, ("undecided", "1 seed: 1 comparison needs 6")),
        ([1, 1, 1, 1, 1, 0.5, -1, 0.5, 0, 2], 0.04, 1, 0, ("undecided", "ties: test and interval disagree")),
    ],
)
def test_the_verdict_is_the_first_that_holds(differences, p_holm, comparisons, min_difference, expected):
    found = statistics.compare(np.array(differences), np.zeros(len(differences)))
    assert statistics.verdict(found, float(p_holm), comparisons, float(min_difference), False) == expected
    if expected[0] in ("better", "worse"):
        turned = statistics.compare(-np.array(differences), np.zeros(len(differences)), True)
        assert statistics.verdict(turned, float(p_holm), comparisons, float(min_difference), True) == expected
