"""A study's leaderboard: its variants in order, and a paired comparison of each of them with the baseline.

`statistics.py` says what the numbers mean. The verdicts are those of `statistics.verdict`, and
`baseline`      the variant that the others are compared with
`not defined`   the metric is not defined for the variant or for the baseline, such as R2 of one row
Where two variants have the same values for every seed, there is nothing to test: the difference and `min_difference`
alone decide, and the reason is `deterministic`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bancada.base.tables import as_written
from bancada.evaluation import statistics
from bancada.evaluation.chosen import choose
from bancada.evaluation.entry import Entry, Terms

Cell = str | int | float | bool | None
Row = dict[str, Any]  # a Cell for each of COLUMNS

OF_ENTRY = ("variant", "engine", "parameters", "epochs_to_converge", "diverged_seeds")
COMPARED = (
    *("difference", "difference_low", "difference_high", "p", "p_holm", "p_better", "verdict", "reason"),
    *("smallest_difference", "comparisons"),
)
COLUMNS = (
    *("rank", "variant", "engine", "parameters", "split", "metric"),
    *("median", "median_low", "median_high", "mean", "sd", "min", "max", "failed_seeds", "failed_low", "failed_high"),
    *COMPARED,
    *("num_seeds", "over", "epochs_to_converge", "diverged_seeds", "best_seed", "best_seed_is", "champion", "note"),
)


def leaderboard(entries: Sequence[Entry], terms: Terms) -> list[Row]:
    """Return one row for each variant, best first: by the median, then by the mean."""
    keys = {entry.variant: _order(entry, terms) for entry in entries}
    comparisons, choice = _compare(entries, terms), choose(entries, terms)
    rows = []
    for entry in sorted(entries, key=lambda entry: keys[entry.variant]):
        row = dict.fromkeys(COLUMNS) | {
            "rank": 1 + sum(key < keys[entry.variant] for key in keys.values()),  # equal variants share a rank
            **{key: getattr(entry, key) for key in OF_ENTRY},
            **{"split": terms.split, "metric": terms.metric},
            **{"num_seeds": len(terms.seeds), "over": terms.replicas.over},
            **(_of_values(entry, terms) if not entry.undefined_seeds else {"rank": None}),
            **comparisons[entry.variant],
            "best_seed": choice.seeds[entry.variant],
            "best_seed_is": choice.how,
            "champion": entry.variant == choice.champion,
            "note": "; ".join(filter(None, [*_notes(entry, terms), entry.overruled, entry.searched])),
        }
        rows.append(row)
    return rows


def _order(entry: Entry, terms: Terms) -> tuple[float, float, int]:
    """Return a key to sort variants by: median, mean, and the number of missing values, which cost infinity."""
    costs = terms.costs(entry.values)
    missing = int(np.count_nonzero(np.isinf(costs))) + len(costs) * bool(entry.undefined_seeds)
    return as_written(statistics.median(costs)), as_written(float(costs.mean())), missing


def _of_values(entry: Entry, terms: Terms) -> Row:
    """Return the statistics of a variant's values. Where one falls on a seed without a value, it says so."""
    values, failed = terms.as_ranked(entry.values), int(entry.failed(terms).sum())
    spread = not terms.replicas.resplit and not np.all(values == values[0])
    low, high = statistics.median_interval(values) if spread else statistics.NO_INTERVAL
    found = {"median": statistics.median(values), "median_low": low, "median_high": high}
    found |= {"min": values.min(), "max": values.max()}
    over_seeds, share = statistics.summary(entry.values), statistics.clopper_pearson(failed, len(values))
    row: Row = {name: as_word(float(value), entry) for name, value in found.items()}
    row |= {"mean": over_seeds.mean, "sd": over_seeds.std}
    return row | {"failed_seeds": failed, "failed_low": share[0], "failed_high": share[1]}


def as_word(value: float, *entries: Entry) -> float | str:
    """Return the value; for an infinite one, why it is: `diverged` or `not finite`."""
    return next(why for entry in entries for why in entry.missing()) if math.isinf(value) else value


def _notes(entry: Entry, terms: Terms) -> list[str]:
    seeds = "seed" if len(entry.values) == 1 else "seeds"
    sentences = {
        "diverged": f"{{}} {seeds} diverged: no mean",
        "not finite": f"{{}} {seeds} gave numbers that are not finite: no mean",
        "not defined": f"{terms.metric} is not defined on these rows, for {{}} {seeds}",
    }
    return [sentences[why].format(count) for why, count in entry.missing().items()]


def _compare(entries: Sequence[Entry], terms: Terms) -> dict[str, Row]:
    """Return COMPARED for each variant; all are tested against the baseline, and Holm's correction counts them all."""
    base = next((entry for entry in entries if entry.variant == terms.baseline), None)
    if base is None:
        return {entry.variant: {} for entry in entries}
    others = [entry for entry in entries if entry is not base]
    rows = compared([(entry, base) for entry in others], terms)
    return {base.variant: {"verdict": "baseline"}} | dict(zip([e.variant for e in others], rows, strict=True))


def compared(pairs: Sequence[tuple[Entry, Entry]], terms: Terms) -> list[Row]:
    """Return COMPARED for each pair: the first against the second. Holm's correction counts them all."""
    found = {
        i: _difference(entry, base, terms)
        for i, (entry, base) in enumerate(pairs)
        if not (entry.undefined_seeds or base.undefined_seeds)
    }
    rows = [_without_test(found[i], terms) if i in found else {"verdict": "not defined"} for i in range(len(pairs))]
    tested = [i for i in found if not (_constant(pairs[i][0]) and _constant(pairs[i][1]))]
    p_holm = statistics.holm([1.0 if math.isnan(found[i].p) else found[i].p for i in tested])
    for i, corrected in zip(tested, p_holm, strict=True):
        rows[i] = _tested(pairs[i], found[i], corrected, len(tested), terms)
    return rows


def _tested(pair: tuple[Entry, Entry], of: statistics.PairedDifference, p_holm: float, count: int, terms: Terms) -> Row:
    """Return COMPARED for a pair, one of `count` that were tested."""
    word, reason = statistics.verdict(of, p_holm, count, terms.min_difference, terms.higher_is_better)
    if not any(np.isfinite(entry.values).any() for entry in pair):
        word, reason = "undecided", "every seed of both diverged"
    untested = of.equal == len(of.differences)
    asked = word == "undecided" and not untested and not terms.replicas.resplit
    shown = statistics.smallest_difference(of.differences, count) if asked else math.nan
    complete = np.isfinite(of.differences).all()
    if 0 < of.equal < len(of.differences):
        reason = "; ".join(filter(None, [reason, f"equal on {of.equal} of {len(of.differences)} seeds"]))
    cells = (
        of.estimate if complete else math.nan,
        *(as_word(bound, *pair) for bound in (of.low, of.high)),
        *(math.nan if untested else p for p in (of.p, p_holm)),
        *(of.p_better, word, reason, shown, count),
    )
    return dict(zip(COMPARED, cells, strict=True))


def _difference(entry: Entry, base: Entry, terms: Terms) -> statistics.PairedDifference:
    if terms.replicas.resplit:
        return statistics.compare_splits(entry.values, base.values, *terms.replicas.resplit, terms.higher_is_better)
    return statistics.compare(entry.values, base.values, terms.higher_is_better)


def _constant(entry: Entry) -> bool:
    """Return whether all seeds, of which there are several, have the same value."""
    return len(entry.values) > 1 and bool(np.isfinite(entry.values[0]) and np.ptp(entry.values) == 0)


def _without_test(found: statistics.PairedDifference, terms: Terms) -> Row:
    better = (found.estimate > 0) == terms.higher_is_better
    equivalent = abs(found.estimate) <= terms.min_difference
    word = "equivalent" if equivalent else "better" if better else "worse"
    shown = {"difference": found.estimate, "p_better": found.p_better, "verdict": word}
    return shown | {"reason": "deterministic: the same for every seed"}
