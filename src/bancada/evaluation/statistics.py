"""Statistics over seeds: the median and its interval, and paired comparisons of variants. Functions of arrays alone.

A missing value, such as that of a diverged seed, is NaN here and an empty cell in the files. It is never dropped: it
counts as the worst possible value, which is infinite, so that there is no mean, but there may be a median. The
intervals and tests of this module take such infinite values.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from bancada.base.tables import as_written
from bancada.networks.metrics import Values

LEVEL = 0.95  # of all intervals
SIGNIFICANCE = 0.05
POWER = 0.8
EXACT_POWER = 25  # seeds, above which the power of the signed-rank test is that of its normal approximation
DRAWS = 2000
MOST_DECIMALS = 300  # 10 to a larger power is infinite

Interval = tuple[float, float]  # NaN where there is none
NO_INTERVAL: Interval = (math.nan, math.nan)


class Summary(NamedTuple):
    """Statistics over seeds; NaN if there is none."""

    mean: float
    std: float
    median: float
    median_low: float
    median_high: float
    num_seeds: int


class PairedDifference(NamedTuple):
    """A variant minus the baseline, paired by seed. With a diverged seed, each of the numbers may be infinite."""

    differences: Values
    estimate: float
    low: float
    high: float
    p: float
    p_better: float
    floor: float  # no p of one comparison with so many seeds can be smaller

    @property
    def equal(self) -> int:
        """The number of seeds without a difference."""
        return int(np.count_nonzero(self.differences == 0))


def epochs_to_converge(losses: Float64[np.ndarray, " epoch"]) -> int:
    """Return after how many epochs the loss had made 99 % of its whole decrease.

    The decrease goes from the loss of the first epoch to the lowest of all epochs, and is measured on the running
    minimum: the lowest loss so far (E_opt(t) in Prechelt 1998, "Early Stopping - But When?", section 2). The last 1 %
    does not count, as in the settling time of control theory with its 1 % band. A loss that never decreases has
    converged after the first epoch.
    """
    lowest = np.fmin.accumulate(np.where(np.isfinite(losses), losses, np.inf))
    first, last = lowest[np.isfinite(lowest)][[0, -1]]
    return int(np.argmax(lowest <= last + 0.01 * (first - last))) + 1


def worst(higher_is_better: bool) -> float:
    """Return the worst possible value of a metric."""
    return -math.inf if higher_is_better else math.inf


def summary(values: Values, higher_is_better: bool = False) -> Summary:
    """Return mean, standard deviation (n - 1), and the median with its interval.

    If a value is missing, there is no mean. One seed has no standard deviation. Equal values have no interval, for they
    do not show how different another seed could be.
    """
    costs = np.where(np.isfinite(values), values, worst(higher_is_better))
    mean = float(values.mean()) if np.isfinite(values).all() else math.nan
    std = float(values.std(ddof=1)) if math.isfinite(mean) and len(values) > 1 else math.nan
    if np.all(values == values[0]):
        mean, std = float(values[0]), 0.0 if len(values) > 1 else math.nan
    found = [median(costs), *(NO_INTERVAL if np.all(costs == costs[0]) else median_interval(costs))]
    middle, low, high = (each if math.isfinite(each) else math.nan for each in found)
    return Summary(mean, std, middle, low, high, len(values))


def median(values: Float64[np.ndarray, " value"]) -> float:
    """Return the median, where values may be infinite; the mean of both infinities is 0."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return 0.0 if low == -high else float((low + high) / 2)


def median_ranks(count: int) -> tuple[int, float]:
    """Return the rank l of the interval from the l-th smallest to the l-th largest value, and its coverage.

    It is the narrowest with a coverage of at least 95 %; l is 0 if there is none, for 5 values or less. Hollander &
    Wolfe, "Nonparametric Statistical Methods", chapter 3: the interval of the sign test.
    """
    return _narrowest(np.array([math.comb(count, i) / 2**count for i in range(count // 2 + 1)]))


def _narrowest(chances: Float64[np.ndarray, " sum"]) -> tuple[int, float]:
    """Return how many of the lowest sums may be left out on each side, and the coverage that remains."""
    beyond = np.cumsum(chances)
    rank = int(np.searchsorted(beyond, (1 - LEVEL) / 2, side="right"))
    return rank, 1 - 2 * float(beyond[rank - 1]) if rank else 1.0


def median_interval(values: Values) -> Interval:
    """Return the exact order-statistic interval of the median. See median_ranks."""
    return _inner(values, median_ranks(len(values))[0])


def _inner(values: Float64[np.ndarray, " value"], rank: int) -> Interval:
    """Return the value of this rank from below and the one from above."""
    ordered = np.sort(values)
    return (float(ordered[rank - 1]), float(ordered[-rank])) if rank else NO_INTERVAL


def sign_sums(steps: Sequence[int] | Int64[np.ndarray, " step"]) -> Float64[np.ndarray, " sum"]:
    """Return the probability of each sum of the positive steps if each has either sign with probability 1/2."""
    chances = np.ones(1)
    for step in steps:
        chances = (np.pad(chances, (0, step)) + np.pad(chances, (step, 0))) / 2
    return chances


def walsh_averages(differences: Values) -> Float64[np.ndarray, " pair"]:
    """Return (d_i + d_j) / 2 of all pairs with i <= j. That of an infinite difference to either side is 0."""
    first, second = np.triu_indices(len(differences))
    with np.errstate(invalid="ignore"):
        averages = (differences[first] + differences[second]) / 2
    return np.where(np.isnan(averages), 0.0, averages)


def hodges_lehmann(differences: Values) -> float:
    """Return the median of the Walsh averages.

    Hodges & Lehmann 1963, "Estimates of Location Based on Rank Tests".
    """
    return median(walsh_averages(differences))


@cache
def walsh_ranks(count: int) -> tuple[int, float]:
    """Return the rank K of the Walsh averages that bound the interval, and its coverage; 0 for 5 differences or less.

    K is the largest k with P(W <= k - 1) <= 0.025 for the signed-rank sum W. Hollander & Wolfe, section 3.3.
    """
    return _narrowest(sign_sums(range(1, count + 1)))


def hodges_lehmann_interval(differences: Values) -> Interval:
    """Return the exact interval of the Hodges-Lehmann difference. See walsh_ranks."""
    return _inner(walsh_averages(differences), walsh_ranks(len(differences))[0])


def signed_rank_p(differences: Values) -> float:
    """Return the exact two-sided p of Wilcoxon's signed-rank test; 1 if all differences are 0.

    Wilcoxon 1945, "Individual Comparisons by Ranking Methods". Ties get their mean rank. Zeros are ranked with the
    others, and then have no sign (Pratt 1959, "Remarks on Zeros and Ties in the Wilcoxon Signed Rank Procedures").
    Given the ranks, each sign has probability 1/2: the distribution is exact with ties and zeros, too; scipy's is not.
    """
    from scipy.stats import rankdata  # takes long to load

    steps = np.rint(2 * rankdata(np.abs(differences))).astype(np.int64)  # twice a mean rank is a whole number
    chances = sign_sums(steps[differences != 0])
    positive = int(steps[differences > 0].sum())
    return min(1.0, 2 * min(float(chances[: positive + 1].sum()), float(chances[positive:].sum())))


def smallest_p(num_seeds: int, comparisons: int) -> float:
    """Return the smallest Holm-corrected p of the signed-rank test: in every comparison all signs are the same."""
    return min(1.0, math.ldexp(2 * comparisons, -num_seeds))


def seeds_needed(comparisons: int) -> int:
    """Return how many seeds these comparisons need for the smallest p to be 0.05 at most."""
    return math.ceil(math.log2(2 * comparisons / SIGNIFICANCE))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the corrected p-values. Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = largest
    return corrected


def clopper_pearson(count: int, total: int) -> Interval:
    """Return the exact 95 % interval of a share: `count` of `total`. Raise ValueError for 0 of 0.

    Clopper & Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial".
    """
    from scipy.special import betaincinv

    if not 0 <= count <= total or not total:
        raise ValueError(f"{count} of {total} is no share")
    outside = (1 - LEVEL) / 2
    low = float(betaincinv(count, total - count + 1, outside)) if count else 0.0
    return low, float(betaincinv(count + 1, total - count, 1 - outside)) if count < total else 1.0


def p_better(differences: Values, higher_is_better: bool = False) -> float:
    """Return the share of seeds on which the variant is better than the baseline; ties count half.

    Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks".
    """
    signs = np.sign(differences) * (1 if higher_is_better else -1)
    return float((1 + signs.mean()) / 2)


def corrected_resampled_t(differences: Values, train_rows: int, test_rows: int) -> tuple[float, float, float, float]:
    """Return the mean difference over splits of one table, its 95 % interval and the two-sided p.

    The splits share rows, so that their differences are not independent: the variance of the mean is that of the
    differences times 1 / n + test rows / training rows. Nadeau & Bengio 2003, "Inference for the Generalization Error",
    equation 8. With one split, or without spread, there are no interval and no p.
    """
    from scipy.special import stdtr, stdtrit

    count, mean = len(differences), float(differences.mean())
    spread = float(differences.std(ddof=1)) if count > 1 and np.isfinite(differences).all() else 0.0
    if spread == 0:
        return mean, *NO_INTERVAL, math.nan
    error = spread * math.sqrt(1 / count + test_rows / train_rows)
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - half, mean + half, 2 * float(stdtr(count - 1, -abs(mean) / error))


def smallest_difference(differences: Values, comparisons: int) -> float:
    """Return the smallest shift of such differences that the signed-rank test would show in 80 % of studies.

    The test is at 0.05 / comparisons; the studies are resamples of the differences around their Hodges-Lehmann centre,
    each with a new sign. NaN where no p can be small enough, and with a diverged seed. This is what these seeds can
    show, not the power at the difference seen, which says no more than p (Hoenig & Heisey 2001, "The Abuse of Power").
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    count = len(differences)
    if smallest_p(count, comparisons) > SIGNIFICANCE or not np.isfinite(differences).all():
        return math.nan
    generator = np.random.default_rng(0)
    centred = differences - hodges_lehmann(differences)
    drawn = generator.choice(centred, (DRAWS, count)) * generator.choice([-1.0, 1.0], (DRAWS, count))
    tail = SIGNIFICANCE / comparisons / 2
    exact = np.cumsum(sign_sums(range(1, count + 1))) if count <= EXACT_POWER else np.ones(1)
    most = int(np.searchsorted(exact, tail * (1 + 1e-9), side="right")) - 1

    def power(shift: float) -> float:
        ranks = rankdata(np.abs(drawn + shift), axis=1)
        negative = np.where(drawn + shift < 0, ranks, 0).sum(axis=1)
        if count <= EXACT_POWER:
            return float((np.minimum(negative, ranks.sum(axis=1) - negative) <= most).mean())
        sd = np.sqrt((ranks**2).sum(axis=1) / 4)  # with the correction for ties
        return float((np.abs(negative - ranks.sum(axis=1) / 2) >= -ndtri(tail) * sd).mean())

    low, high = 0.0, 2 * float(np.abs(centred).max())
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def compare(values: Values, baseline: Values, higher_is_better: bool = False) -> PairedDifference:
    """Return the paired difference over seeds. If a seed diverged in one of the two, its difference is infinite."""
    differences = paired(values, baseline, higher_is_better)
    low, high = hodges_lehmann_interval(differences)
    estimate, low, high = (as_written(each) for each in (hodges_lehmann(differences), low, high))
    share, floor = p_better(differences, higher_is_better), smallest_p(len(differences), 1)
    return PairedDifference(differences, estimate, low, high, signed_rank_p(differences), share, floor)


def compare_splits(
    values: Values, baseline: Values, train_rows: int, test_rows: int, higher_is_better: bool = False
) -> PairedDifference:
    """Return the paired difference over splits of one table. See corrected_resampled_t."""
    differences = paired(values, baseline, higher_is_better)
    *found, p = corrected_resampled_t(differences, train_rows, test_rows)
    estimate, low, high = (as_written(each) for each in found)
    return PairedDifference(differences, estimate, low, high, p, p_better(differences, higher_is_better), 0.0)


def paired(values: Values, baseline: Values, higher_is_better: bool = False) -> Values:
    """Return values - baseline without the last binary digits, so that 4.6 - 3.8 and 1.3 - 0.5 are a tie.

    A seed that diverged in one of the two has an infinite difference, one that diverged in both has none.
    """
    missing, of_baseline = ~np.isfinite(values), ~np.isfinite(baseline)
    both = np.where(missing, 0.0, values), np.where(of_baseline, 0.0, baseline)
    largest = float(np.max(np.abs(both)))
    decimals = min(11 - math.floor(math.log10(largest)), MOST_DECIMALS) if largest > 0 else 0
    bad = worst(higher_is_better)
    differences = np.round(both[0] - both[1], decimals)
    found: Values = np.select([missing & of_baseline, missing, of_baseline], [0.0, bad, -bad], differences)
    return found


def verdict(
    found: PairedDifference, p_holm: float, comparisons: int, min_difference: float, higher_is_better: bool
) -> tuple[str, str]:
    """Return `equivalent`, `better`, `worse` or `undecided`, the first that holds, and the reason if it needs one.

    `equivalent`: the whole interval lies within +-min_difference (Lakens 2017, "Equivalence Tests"). `better`, `worse`:
    the corrected p is below 0.05, the interval lies on one side of 0, and the estimate is larger than min_difference.
    """
    seeds, estimate, low, high = len(found.differences), *found[1:4]
    if max(abs(low), abs(high)) <= min_difference:
        return "equivalent", "the same for every seed" if found.equal == seeds else ""
    least, apart = min(1.0, comparisons * found.floor), low > 0 or high < 0
    if least > SIGNIFICANCE:
        least_p = f"{seeds} seeds: no p below {least:.2g}; " if seeds > 1 else "1 seed: "
        compared = f"{comparisons} comparisons need" if comparisons > 1 else "1 comparison needs"
        return "undecided", f"{least_p}{compared} {seeds_needed(comparisons)}"
    if math.isnan(low):  # of re-split tables
        lacking = "spread" if np.isfinite(found.differences).all() else "value for some seeds"
        return "undecided", "1 split: no test" if seeds == 1 else f"no {lacking}, no test"
    if apart != (found.p < SIGNIFICANCE):
        return "undecided", "ties: test and interval disagree"
    if p_holm >= SIGNIFICANCE:
        return "undecided", f"alone yes, among {comparisons} comparisons no" if apart else ""
    if abs(estimate) <= min_difference:
        return "undecided", f"a difference, but perhaps within {min_difference:g}"
    return "better" if (estimate > 0) == higher_is_better else "worse", ""


def thinned(count: int, points: int) -> Int64[np.ndarray, " kept"]:
    """Return at most `points` of the positions 0 to count - 1, with the first and the last; denser at the beginning."""
    if count <= points:
        return np.arange(count)
    half = points // 2
    early = np.rint(np.exp(np.linspace(0, math.log(count), half))).astype(np.int64) - 1
    even = np.rint(np.linspace(0, count - 1, points - half)).astype(np.int64)
    return np.unique(np.concatenate([early, even]))


def percentiles(values: Float[np.ndarray, "seed point"]) -> Float[np.ndarray, "3 point"]:
    """Return the 10th, 50th and 90th percentile over seeds; the 10th and 90th by the nearest rank.

    A missing value counts as the largest, and a percentile that falls on a missing value is missing.
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=0)
    last = len(values) - 1
    middle = (ordered[last // 2] + ordered[(last + 1) // 2]) / 2
    picked = np.stack([ordered[math.floor(0.1 * last + 0.5)], middle, ordered[math.ceil(0.9 * last - 0.5)]])
    return np.where(np.isfinite(picked), picked, np.nan)
