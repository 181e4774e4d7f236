"""Statistics over seeds: spread and interval of a variant's values, and paired tests between variants.

A value that is missing (a diverged seed has none) is NaN here and an empty cell in the files. It is never dropped: it
counts as the worst there is, so that a mean is not given but a median may be.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from bancada.networks.metrics import Values


@dataclass(frozen=True)
class Score:
    """One metric of one variant on one split, a value for each seed."""

    variant: str
    split: str
    metric: str
    values: Values


@dataclass(frozen=True)
class Summary:
    """Figures over seeds; NaN where there is none."""

    mean: float
    std: float
    median: float
    ci95_low: float
    ci95_high: float
    num_seeds: int


@dataclass(frozen=True)
class PairedDifference:
    """A variant minus the baseline, seed by seed. `ranks` is the sign of the signed-rank sum, `p` its exact p-value."""

    difference: float
    low: float
    high: float
    median: float  # a diverged seed counts as an infinite difference
    ranks: int
    p: float


def epochs_to_converge(losses: Float64[np.ndarray, " epoch"]) -> int:
    """After how many epochs the loss had made 99 % of the fall it made in all.

    The fall goes from the first epoch's loss to the lowest of any epoch, and what falls is the running minimum: the
    loss of the weights that one would have kept by then (E_opt(t) in Prechelt 1998, "Early Stopping - But When?",
    section 2). That 1 % of the way is near enough is the settling time of control theory, with its 1 % band.
    A loss that never falls has converged after the first epoch.
    """
    lowest = np.fmin.accumulate(np.where(np.isfinite(losses), losses, np.inf))
    first, last = lowest[np.isfinite(lowest)][[0, -1]]
    return int(np.argmax(lowest <= last + 0.01 * (first - last))) + 1


def by_seed(
    seed: Int64[np.ndarray, " entry"], values: Float64[np.ndarray, " entry"], seeds: list[int]
) -> Float64[np.ndarray, "seed epoch"]:
    """A column of a history, whose rows go by seed and then by epoch; NaN after a seed's last row."""
    lengths = [int(np.count_nonzero(seed == s)) for s in seeds]
    curves = np.full((len(seeds), max(lengths)), np.nan)
    for row, s, length in zip(curves, seeds, lengths, strict=True):
        row[:length] = values[seed == s]
    return curves


def as_written(value: float) -> float:
    """Rounded to the 9 significant digits that the files hold, so that whoever reads a file computes the same."""
    return float(f"{value:.9g}")


# --- figures over seeds ---------------------------------------------------------------------------------------------


def worst(higher_is_better: bool) -> float:
    return -math.inf if higher_is_better else math.inf


def summary(values: Values, higher_is_better: bool = False) -> Summary:
    """Mean, standard deviation (n - 1), median and 95 % Student-t interval over seeds.

    With a value missing there is no mean, and the median counts it as the worst. One seed has no standard deviation and
    no interval; values without spread have a standard deviation of 0 and no interval, for they hold no evidence of how
    far another seed would be off.
    """
    from scipy.special import stdtrit  # scipy and its start-up time only where an interval is wanted

    missing, count = ~np.isfinite(values), len(values)
    median = float(np.median(np.where(missing, worst(higher_is_better), values)))
    median = median if math.isfinite(median) else math.nan
    if missing.any():
        return Summary(math.nan, math.nan, median, math.nan, math.nan, count)
    if count == 1:
        return Summary(float(values[0]), math.nan, median, math.nan, math.nan, count)
    if np.all(values == values[0]):
        return Summary(float(values[0]), 0.0, median, math.nan, math.nan, count)
    mean, std = float(values.mean()), float(values.std(ddof=1))
    half = float(stdtrit(count - 1, 0.975)) * std / math.sqrt(count)
    return Summary(mean, std, median, mean - half, mean + half, count)


def signed_rank_p(differences: Values) -> float:
    """Wilcoxon's exact two-sided signed-rank p-value. Zeros are left out, as Wilcoxon did; all zero: 1.

    Ties get their mean rank and the exact distribution that goes with it: every sign is as likely as its opposite,
    whatever the ranks. (scipy's exact distribution knows no ties, and its permutations are 2 ** n. The tests hold this
    against both.)
    """
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    ranks = mean_ranks(np.abs(moved))
    whole = np.array_equal(ranks, np.rint(ranks))
    steps = np.rint(ranks if whole else 2 * ranks).astype(np.int64)  # mean ranks are halves: twice them is whole
    chances = np.ones(1)  # of each sum of the positive ranks
    for step in steps:
        gap = np.zeros(step)
        chances = (np.concatenate([chances, gap]) + np.concatenate([gap, chances])) / 2
    positive = int(steps[moved > 0].sum())
    return min(1.0, 2 * min(float(chances[: positive + 1].sum()), float(chances[positive:].sum())))


def mean_ranks(values: Values) -> Values:
    """From 1, equals share the mean of theirs: scipy.stats.rankdata, whose import takes longer than the whole test."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Values = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction. Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = largest
    return corrected


def compare(values: Values, baseline: Values, higher_is_better: bool = False) -> PairedDifference:
    """The paired difference over seeds. A seed that has diverged on one side alone is the largest difference of all."""
    missing, baseline_missing = ~np.isfinite(values), ~np.isfinite(baseline)
    differences = _decimal_difference(np.where(missing, 0.0, values), np.where(baseline_missing, 0.0, baseline))
    bad = worst(higher_is_better)
    differences[missing] = bad
    differences[baseline_missing] = -bad
    differences[missing & baseline_missing] = 0.0
    finite = np.isfinite(differences)
    largest = float(np.max(np.abs(differences), where=finite, initial=0.0))
    ranked = np.where(finite, differences, np.sign(differences) * (2 * largest + 1))
    over_seeds = summary(differences)
    incomplete = bool((missing | baseline_missing).any())  # a mean over the other seeds would drop these
    return PairedDifference(
        difference=math.nan if incomplete else over_seeds.mean,
        low=math.nan if incomplete else over_seeds.ci95_low,
        high=math.nan if incomplete else over_seeds.ci95_high,
        median=_median(differences),
        ranks=_rank_sum_sign(ranked),
        p=signed_rank_p(ranked),
    )


def _decimal_difference(values: Values, baseline: Values) -> Values:
    """values - baseline without the last binary digits: 4.6 - 3.8 and 1.3 - 0.5 are a tie, not two ranks."""
    largest = float(np.max(np.abs([values, baseline])))
    decimals = 11 - math.floor(math.log10(largest)) if largest > 0 else 0
    difference: Values = np.round(values - baseline, decimals)
    return difference


def _median(differences: Values) -> float:
    """The median where some may be infinite; halfway between the two infinities is 0."""
    low, high = np.sort(differences)[[(len(differences) - 1) // 2, len(differences) // 2]]
    return 0.0 if low == -high else float((low + high) / 2)


def _rank_sum_sign(differences: Values) -> int:
    moved = differences[differences != 0]
    return int(np.sign(np.sum(np.sign(moved) * mean_ranks(np.abs(moved)))))
