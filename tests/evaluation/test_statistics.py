import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from trained import trained_by

from bancada.evaluation import statistics
from bancada.evaluation.candidates import Candidate
from bancada.networks import metrics

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


def test_the_summary_is_scipys_student_interval():
    values = np.array([1.3, 3.8, 4.6, 11.5, 5.4])
    found = statistics.summary(values)
    low, high = scipy.stats.t.interval(0.95, 4, values.mean(), scipy.stats.sem(values))
    assert (found.ci95_low, found.ci95_high) == pytest.approx((low, high), rel=1e-12)
    assert (found.mean, found.std, found.median) == pytest.approx((5.32, np.std(values, ddof=1), 4.6))
    assert found.num_seeds == 5


def test_one_seed_has_no_spread_and_no_interval():
    found = statistics.summary(np.array([2.5]))
    assert (found.mean, found.median) == (2.5, 2.5)
    assert np.isnan([found.std, found.ci95_low, found.ci95_high]).all()


def test_values_without_spread_have_no_interval():
    found = statistics.summary(np.full(10, 0.1))
    assert (found.mean, found.std, found.median) == (0.1, 0.0, 0.1)
    assert np.isnan([found.ci95_low, found.ci95_high]).all()


def test_a_diverged_seed_leaves_no_mean_and_counts_as_the_worst_in_the_median():
    values = np.array([3.0, np.nan, 1.0])
    errors, r2 = statistics.summary(values), statistics.summary(values, higher_is_better=True)
    assert (errors.median, r2.median) == (3.0, 1.0)
    assert np.isnan([errors.mean, errors.std, errors.ci95_low, errors.ci95_high]).all()
    assert math.isnan(statistics.summary(np.array([3.0, np.nan])).median)


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
    ],
)
def test_with_ties_and_zeros_the_p_is_that_of_all_permutations_of_the_signs(differences):
    given = np.array(differences, float)
    moved = given[given != 0]
    ranks = scipy.stats.rankdata(np.abs(moved))

    def statistic(signed, axis):
        return np.sum(np.sign(signed) * ranks, axis=axis)

    expected = scipy.stats.permutation_test(
        (moved,), statistic, permutation_type="samples", n_resamples=np.inf, vectorized=True
    ).pvalue
    assert statistics.signed_rank_p(given) == pytest.approx(expected, rel=1e-12)


def test_no_difference_at_all_has_p_one():
    assert statistics.signed_rank_p(np.zeros(10)) == 1.0


def test_ten_seeds_on_one_side_have_the_smallest_p_there_is():
    assert statistics.signed_rank_p(np.arange(1.0, 11)) == statistics.signed_rank_p(np.ones(10)) == 2 / 2**10


def test_holm_by_hand():
    # sorted 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.9 * 1; never below the one before
    assert statistics.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert statistics.holm([]) == []
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]


def test_a_comparison_is_paired_by_seed():
    values, baseline = np.array([2.0, 3.5, 4.0, 6.0]), np.array([1.0, 3.0, 4.5, 2.0])
    found = statistics.compare(values, baseline)
    test = scipy.stats.ttest_rel(values, baseline).confidence_interval(0.95)
    assert (found.difference, found.low, found.high) == pytest.approx((1.25, test.low, test.high))
    assert found.p == pytest.approx(
        scipy.stats.wilcoxon([1, 0.5, -0.5, 4], method=scipy.stats.PermutationMethod()).pvalue
    )
    assert found.ranks == 1


def test_equal_decimal_differences_are_ties_whatever_their_last_binary_digit():
    found = statistics.compare(np.array([4.6, 1.3]), np.array([3.8, 0.5]))
    assert (found.difference, found.p) == (0.8, 0.5)
    assert math.isnan(found.low)


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_seed_that_diverged_is_the_largest_difference_and_leaves_no_mean(higher_is_better):
    worse = -1 if higher_is_better else 1
    baseline = np.zeros(8)
    values = -worse * np.array([1.0, 2, 3, 4, 5, 6, 7, np.nan])
    found = statistics.compare(values, baseline, higher_is_better)
    by_hand = scipy.stats.wilcoxon([-1, -2, -3, -4, -5, -6, -7, 100], method="exact").pvalue
    assert found.p == pytest.approx(by_hand)
    assert math.isnan(found.difference)
    assert found.ranks == -worse
    assert found.median == -3.5 * worse


def test_seeds_that_diverge_in_both_variants_do_not_count():
    found = statistics.compare(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))
    assert (found.p, found.ranks, found.median) == (1.0, 0, 0.0)
    assert math.isnan(found.difference)
