"""A study's leaderboard: its variants in order, and what a paired test says about their difference from the baseline.

Verdicts, in these words:
`baseline`                         what the others are compared with
`better`, `worse`                  Holm-corrected p below 0.05, and the mean difference is larger than `min_difference`
`no difference shown`              anything else, also a difference whose whole interval lies within +-min_difference
`better (deterministic)`, `worse (deterministic)`
                                   neither of the two depends on the seed: there is nothing to test, and the difference
                                   is what every seed gives
Intervals and tests speak of training seeds on one data set, not of other data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bancada.evaluation.statistics import PairedDifference, as_written, compare, holm, summary, worst
from bancada.networks.metrics import HIGHER_IS_BETTER, OF_WEIGHTS, Values

SIGNIFICANCE = 0.05

Cell = str | int | float | bool | None

COLUMNS = (
    *("rank", "variant", "split", "metric", "mean", "std", "median", "ci95_low", "ci95_high"),
    *("best_seed", "best", "worst_seed", "worst", "epochs_to_converge", "diverged_seeds", "num_seeds"),
    *("deterministic", "difference", "difference_low", "difference_high", "p_holm", "verdict", "note"),
)


@dataclass(frozen=True)
class Entry:
    """A variant as the leaderboard sees it: its values of the study's metric on the main split, one for each seed."""

    variant: str
    values: Values
    epochs_to_converge: float  # median over seeds; NaN where there is none
    diverged_seeds: int
    deterministic: bool  # every seed ended in the same weights


def leaderboard(
    entries: Sequence[Entry], split: str, metric: str, seeds: list[int], baseline: str | None, min_difference: float
) -> list[dict[str, Cell]]:
    """One row for each variant, best first; variants of which a seed diverged come after all that have a mean."""
    higher = metric in HIGHER_IS_BETTER
    keys = {entry.variant: _order(entry.values, higher) for entry in entries}
    ordered = sorted(entries, key=lambda entry: keys[entry.variant])
    judged = _judged(entries, baseline, min_difference, higher)
    rows: list[dict[str, Cell]] = []
    for entry in ordered:
        over_seeds = summary(entry.values, higher)
        by_merit = np.argsort(_costs(entry.values, higher), kind="stable")
        best, last = int(by_merit[0]), int(by_merit[-1])
        row: dict[str, Cell] = {
            "rank": 1 + sum(key < keys[entry.variant] for key in keys.values()),  # equals share a rank
            "variant": entry.variant,
            "split": split,
            "metric": metric,
            "mean": over_seeds.mean,
            "std": over_seeds.std,
            "median": over_seeds.median,
            "ci95_low": over_seeds.ci95_low,
            "ci95_high": over_seeds.ci95_high,
            "best_seed": seeds[best],
            "best": float(entry.values[best]),
            "worst_seed": seeds[last],
            "worst": float(entry.values[last]),
            "epochs_to_converge": entry.epochs_to_converge,
            "diverged_seeds": entry.diverged_seeds,
            "num_seeds": len(seeds),
            "deterministic": entry.deterministic if len(seeds) > 1 else None,
            **judged[entry.variant],
        }
        notes = [*_notes_on_spread(entry, over_seeds.std), str(row["note"] or "")]
        rows.append(row | {"note": "; ".join(note for note in notes if note)})
    return rows


def smallest_p(num_seeds: int, comparisons: int) -> float:
    """The smallest Holm-corrected p that the signed-rank test can give: all seeds on one side, in every comparison."""
    return min(1.0, math.ldexp(2 * comparisons, -num_seeds))


def _costs(values: Values, higher_is_better: bool) -> Values:
    """The lower the better, a missing value the worst."""
    costs: Values = np.where(np.isfinite(values), -values if higher_is_better else values, math.inf)
    return costs


def _order(values: Values, higher_is_better: bool) -> tuple[int, float]:
    missing = int(np.count_nonzero(~np.isfinite(values)))
    over_seeds = summary(values, higher_is_better)
    figure = over_seeds.median if missing else over_seeds.mean
    figure = figure if math.isfinite(figure) else worst(higher_is_better)
    return missing, as_written(-figure if higher_is_better else figure)


def _notes_on_spread(entry: Entry, std: float) -> list[str]:
    notes = []
    if entry.diverged_seeds:
        notes.append(f"{entry.diverged_seeds} of {len(entry.values)} seeds diverged: no mean")
    if len(entry.values) == 1:
        notes.append("one seed: no interval")
    elif entry.deterministic:
        notes.append("deterministic: no interval")
    elif std == 0:
        notes.append("the same for every seed: no interval")
    return notes


def _judged(
    entries: Sequence[Entry], baseline: str | None, min_difference: float, higher: bool
) -> dict[str, dict[str, Cell]]:
    """For each variant its difference, p_holm, verdict and note."""
    nothing: dict[str, Cell] = {
        "difference": None,
        "difference_low": None,
        "difference_high": None,
        "p_holm": None,
        "verdict": "",
        "note": None,
    }
    judged = {entry.variant: dict(nothing) for entry in entries}
    base = next((entry for entry in entries if entry.variant == baseline), None)
    if base is None:
        return judged
    judged[base.variant]["verdict"] = "baseline"
    compared = {e.variant: compare(e.values, base.values, higher) for e in entries if e is not base}
    alike = len(base.values) > 1 and base.deterministic  # of one seed nobody can tell
    tested = [e.variant for e in entries if e is not base and not (e.deterministic and alike)]
    p_holm = dict(zip(tested, holm([compared[variant].p for variant in tested]), strict=True))
    least = smallest_p(len(base.values), len(tested))
    for variant, found in compared.items():
        p = p_holm.get(variant)
        verdict, note = _verdict(found, p, min_difference, higher)
        if p is not None and least > SIGNIFICANCE:
            note = f"too few seeds to show a difference: p cannot be below {least:.2g}"
        judged[variant] = {
            "difference": found.difference,
            "difference_low": found.low,
            "difference_high": found.high,
            "p_holm": p,
            "verdict": verdict,
            "note": note,
        }
    return judged


def _verdict(found: PairedDifference, p_holm: float | None, min_difference: float, higher: bool) -> tuple[str, str]:
    """The verdict and, where it is needed, why. `p_holm` None: neither variant depends on the seed."""
    known = math.isfinite(found.difference)
    size = found.difference if known else found.median
    sign = (size > 0) - (size < 0)
    words = "better" if (size > 0) == higher else "worse"
    if p_holm is None:
        matters = abs(size) > min_difference
        return f"{words} (deterministic)" if matters else "no difference shown", "neither depends on the seed: no test"
    low, high = (found.low, found.high) if math.isfinite(found.low) else (size, size)
    if max(abs(low), abs(high)) <= min_difference and p_holm < SIGNIFICANCE:
        return "no difference shown", f"too small to matter: within {min_difference:g}"
    if p_holm < SIGNIFICANCE and abs(size) > min_difference and sign == found.ranks:
        return words, ""
    return "no difference shown", ""


# --- for the terminal -----------------------------------------------------------------------------------------------


def format_leaderboard(rows: Sequence[dict[str, str]], title: str = "", width: int = 120) -> str:
    """leaderboard.csv, as csv.DictReader gives it, as a table for a terminal of 120 columns; EXPLANATION tells it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return f"{title}: no variants"
    exponent = _common_exponent(rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("#", "variant", "mean", "±95 %", "sd", "best", "worst", "epochs", "div.", "diff.", "±95 %", "p"):
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row in rows:
        table.add_row(*_shown(row, 10.0**exponent))
    console = Console(width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(_heading(rows[0], title, exponent), highlight=False, markup=False)
        console.print(table)
        for line in _grouped_notes(rows):
            console.print(line, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


EXPLANATION = """\
±95 %: half the 95 % interval, over training seeds on one data set. epochs: to converge, median over seeds. div.: seeds
that diverged. *: the median, where a diverged seed leaves no mean. diff.: from the baseline, paired by seed. p: exact
signed-rank test, Holm-corrected over the study."""


def rows_of(split: str) -> str:
    """What a main split is called; it says so where nothing better was held out."""
    return {
        "test": "test rows",
        "validation": "validation rows (there are no test rows)",
        "train": "training rows (nothing is held out)",
    }[split]


def _heading(row: dict[str, str], title: str, exponent: int) -> str:
    unit = f", in units of 1e{exponent}" if exponent else ""
    seeds = "1 seed" if row["num_seeds"] == "1" else f"{row['num_seeds']} seeds"
    better = "higher" if row["metric"] in HIGHER_IS_BETTER else "lower"
    where = "of the learned weights" if row["metric"] in OF_WEIGHTS else f"on the {rows_of(row['split'])}"
    said = f"{row['metric']}{unit} ({better} is better) {where}, {seeds}"
    return f"{title}: {said}" if title else said


def _grouped_notes(rows: Sequence[dict[str, str]]) -> list[str]:
    """Each note once, behind the variants that it is about; what holds for the whole study goes without names."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            notes.setdefault(note, []).append(row["variant"])
    of_all = ("too few seeds", "one seed")
    return [note if note.startswith(of_all) else f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _common_exponent(rows: Sequence[dict[str, str]]) -> int:
    """The power of ten that brings figures which are all tiny or all huge to a readable size, else 0."""
    figures = [abs(float(row["mean"] or row["median"] or 0)) for row in rows]
    largest = max(figures)
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return exponent if exponent < -2 or exponent > 4 else 0


def _shown(row: dict[str, str], unit: float) -> list[str]:
    """A row's cells for the terminal. Where a diverged seed leaves no mean, the median stands in its place."""

    def short(key: str, sign: bool = False) -> str:
        return _short(float(row[key]) / unit, sign) if row[key] else ""

    def half(low: str, high: str) -> str:
        return _short((float(row[high]) - float(row[low])) / 2 / unit) if row[low] else ""

    return [
        row["rank"],
        row["variant"],
        short("mean") or (f"{short('median')}*" if row["median"] else ""),
        half("ci95_low", "ci95_high"),
        short("std"),
        short("best") or "none",
        short("worst") or "none",
        f"{float(row['epochs_to_converge']):.0f}" if row["epochs_to_converge"] else "",
        row["diverged_seeds"],
        short("difference", sign=True),
        half("difference_low", "difference_high"),
        f"{float(row['p_holm']):.3f}" if row["p_holm"] else "",
        row["verdict"],
    ]


def _short(number: float, sign: bool = False) -> str:
    if 0 < abs(number) < 0.01 or abs(number) >= 1e5:
        return f"{number:{'+' if sign else ''}.1e}".replace("e-0", "e-").replace("e+0", "e")
    if number == 0:
        return "0"
    return f"{number:{'+' if sign else ''}.{2 if abs(number) < 100 else 1}f}"
