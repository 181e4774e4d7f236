"""Statistics over seeds: spread and interval of a variant's values, and paired tests between variants.

A missing value, such as that of a diverged seed, is NaN here and an empty cell in the files. It is never dropped: it
counts as the worst possible value, so that there is no mean, but there may be a median.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from bancada.networks.metrics import Values


class Summary(NamedTuple):
    """Statistics over seeds; NaN if there is none."""

    mean: float
    std: float
    median: float
    ci95_low: float
    ci95_high: float
    num_seeds: int


class PairedDifference(NamedTuple):
    """A variant minus the baseline, paired by seed: mean, 95 % interval, median, and Wilcoxon's signed-rank test."""

    difference: float
    low: float
    high: float
    median: float  # the difference of a diverged seed is infinite
    ranks: int  # the sign of the sum of signed ranks
    p: float  # exact


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
    """Return mean, standard deviation (n - 1), median and the 95 % interval of Student's t over seeds.

    If a value is missing, there is no mean, and the median counts it as the worst. One seed has no standard deviation
    and no interval. Equal values have a standard deviation of 0 but no interval, for they do not show how different
    another seed could be.
    """
    from scipy.special import stdtrit  # takes time to load: only if an interval is needed

    missing, count = ~np.isfinite(values), len(values)
    median = float(np.median(np.where(missing, worst(higher_is_better), values)))
    median = median if math.isfinite(median) else math.nan
    mean = std = half = math.nan
    complete = not missing.any()
    if complete and np.all(values == values[0]):  # also if there is only one
        mean, std = float(values[0]), 0.0 if count > 1 else math.nan
    elif complete:
        mean, std = float(values.mean()), float(values.std(ddof=1))
        half = float(stdtrit(count - 1, 0.975)) * std / math.sqrt(count)
    return Summary(mean, std, median, mean - half, mean + half, count)


def signed_rank_p(differences: Values) -> float:
    """Return Wilcoxon's exact two-sided signed-rank p-value. Zeros are left out, as Wilcoxon did; if all are 0: 1.

    Ties get their mean rank, and the distribution is exact for them too: under the null hypothesis, each rank has
    either sign with probability 1/2. (scipy's exact distribution does not allow ties, and its permutation test takes
    2 ** n steps. The tests compare this with both.)
    """
    moved = differences[differences != 0]
    steps = np.rint(2 * mean_ranks(np.abs(moved))).astype(np.int64)  # twice a mean rank is a whole number
    chances = np.ones(1)  # the probability of each sum of the positive ranks
    for step in steps:
        chances = (np.pad(chances, (0, step)) + np.pad(chances, (step, 0))) / 2
    positive = int(steps[moved > 0].sum())
    return min(1.0, 2 * min(float(chances[: positive + 1].sum()), float(chances[positive:].sum())))


def mean_ranks(values: Values) -> Values:
    """Return the ranks from 1; ties get their mean rank. This is scipy.stats.rankdata, which takes long to import."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def holm(p_values: list[float]) -> list[float]:
    """Return the corrected p-values. Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = largest
    return corrected


def compare(values: Values, baseline: Values, higher_is_better: bool = False) -> PairedDifference:
    """Return the paired difference over seeds. If a seed diverged in one of the two, its difference is the largest."""
    missing, baseline_missing = ~np.isfinite(values), ~np.isfinite(baseline)
    differences = _decimal_difference(np.where(missing, 0.0, values), np.where(baseline_missing, 0.0, baseline))
    bad = worst(higher_is_better)
    differences = np.select([missing & baseline_missing, missing, baseline_missing], [0.0, bad, -bad], differences)
    finite = np.isfinite(differences)
    largest = float(np.max(np.abs(differences), where=finite, initial=0.0))
    ranked = np.where(finite, differences, np.sign(differences) * (2 * largest + 1))
    moved = ranked[ranked != 0]
    ranks = int(np.sign(np.sum(np.sign(moved) * mean_ranks(np.abs(moved)))))
    mean, _, _, low, high, _ = summary(np.where(missing | baseline_missing, np.nan, differences))
    return PairedDifference(mean, low, high, _median(differences), ranks, signed_rank_p(ranked))


def _decimal_difference(values: Values, baseline: Values) -> Values:
    """Return values - baseline without the last binary digits, so that 4.6 - 3.8 and 1.3 - 0.5 are a tie."""
    largest = float(np.max(np.abs([values, baseline])))
    decimals = 11 - math.floor(math.log10(largest)) if largest > 0 else 0
    difference: Values = np.round(values - baseline, decimals)
    return difference


def _median(differences: Values) -> float:
    """Return the median, where differences may be infinite; the mean of both infinities is 0."""
    low, high = np.sort(differences)[[(len(differences) - 1) // 2, len(differences) // 2]]
    return 0.0 if low == -high else float((low + high) / 2)


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
