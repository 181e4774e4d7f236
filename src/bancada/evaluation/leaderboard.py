"""A study's leaderboard: its variants in order, and the verdict of a paired test between each of them and the baseline.

The verdicts are:
`baseline`                         the variant that the others are compared with
`better`, `worse`                  the Holm-corrected p is below 0.05, and the mean difference is larger than
                                   `min_difference`
`no difference shown`              anything else, also if the interval of the difference lies within +-min_difference
`not defined`                      the metric is not defined for the variant or for the baseline, such as R2 of one row
`better (deterministic)`, `worse (deterministic)`
                                   neither variant depends on the seed: there is nothing to test, and the difference is
                                   the same for every seed
Intervals and tests are about other training seeds on the same data set, not about other data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bancada.base.tables import as_written
from bancada.evaluation.statistics import PairedDifference, compare, holm, summary
from bancada.networks.metrics import HIGHER_IS_BETTER, OF_WEIGHTS, Values

if TYPE_CHECKING:
    from rich.table import Table

SIGNIFICANCE = 0.05
WIDTH = 120  # letters in a line of the terminal

Cell = str | int | float | bool | None
Row = dict[str, Any]  # a Cell for each of COLUMNS

COLUMNS = (
    *("rank", "variant", "engine", "parameters", "split", "metric"),
    *("mean", "std", "median", "ci95_low", "ci95_high"),
    *("best_seed", "best", "worst_seed", "worst", "epochs_to_converge", "diverged_seeds", "num_seeds"),
    *("deterministic", "difference", "difference_low", "difference_high", "p_holm", "verdict", "note"),
)


@dataclass(frozen=True)
class Entry:
    """A variant in the leaderboard, with the values of the study's metric on the main split, one for each seed."""

    variant: str
    engine: str
    parameters: int  # of one network
    values: Values
    epochs_to_converge: float  # median over seeds; NaN if it is unknown
    diverged_seeds: int
    deterministic: bool  # all seeds have the same weights: the start is given and batches are not shuffled
    infinite_seeds: int = 0  # those that did not diverge, but gave outputs or a value that are not finite
    overruled: str = ""  # which learning rate the `lr` at the top of params.yaml replaced, in words

    @property
    def undefined_seeds(self) -> int:
        """The number of seeds for which the metric is not defined."""
        return int(np.count_nonzero(~np.isfinite(self.values))) - self.diverged_seeds - self.infinite_seeds

    def missing(self) -> dict[str, str]:
        """Return why seeds have no value, such as {"diverged": "2 of 10"}; empty if all have one."""
        counted = {
            "diverged": self.diverged_seeds,
            "not finite": self.infinite_seeds,
            "not defined": self.undefined_seeds,
        }
        return {why: f"{count} of {len(self.values)}" for why, count in counted.items() if count}


def leaderboard(
    entries: Sequence[Entry], split: str, metric: str, seeds: list[int], baseline: str | None, min_difference: float
) -> list[Row]:
    """Return one row for each variant, best first. Variants with diverged seeds follow those that have a mean."""
    higher = metric in HIGHER_IS_BETTER
    costs = {e.variant: np.where(np.isfinite(e.values), -e.values if higher else e.values, math.inf) for e in entries}
    keys = {variant: _order(of_seeds) for variant, of_seeds in costs.items()}
    judged = _judge(entries, baseline, min_difference, higher)
    rows = []
    for entry in sorted(entries, key=lambda entry: keys[entry.variant]):
        over_seeds = summary(entry.values, higher)
        best, last = np.argsort(costs[entry.variant], kind="stable")[[0, -1]]
        rank = 1 + sum(key < keys[entry.variant] for key in keys.values())  # equal variants share a rank
        defined = not entry.undefined_seeds
        *verdict, note = judged[entry.variant]
        cells = (
            *(rank if defined else None, entry.variant, entry.engine, entry.parameters, split, metric),
            *over_seeds[:5],
            *(seeds[best] if math.isfinite(entry.values[best]) else None, float(entry.values[best])),
            *(seeds[last] if defined else None, float(entry.values[last])),
            *(entry.epochs_to_converge, entry.diverged_seeds, len(seeds)),
            *(entry.deterministic if len(seeds) > 1 else None, *verdict),
            "; ".join(filter(None, [*_notes_on_spread(entry, metric, over_seeds.std), note, entry.overruled])),
        )
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def _order(costs: Values) -> tuple[int, float]:
    """Return a key to sort variants by: the number of missing values, which cost infinity, then the mean or median."""
    missing = int(np.count_nonzero(np.isinf(costs)))
    return missing, as_written(float(np.median(costs) if missing else np.mean(costs)))


def _notes_on_spread(entry: Entry, metric: str, std: float) -> list[str]:
    sentences = {
        "diverged": "{} seeds diverged: no mean",
        "not finite": "{} seeds gave numbers that are not finite: no mean",
        "not defined": metric + " is not defined on these rows, for {} seeds",
    }
    notes = [sentences[why].format(count) for why, count in entry.missing().items()]
    seeds = len(entry.values)
    if seeds == 1 or entry.deterministic or std == 0:
        reason = "one seed" if seeds == 1 else "deterministic" if entry.deterministic else "the same for every seed"
        notes.append(f"{reason}: no interval")
    return notes


def smallest_p(num_seeds: int, comparisons: int) -> float:
    """Return the smallest Holm-corrected p of the signed-rank test: in every comparison all signs are the same."""
    return min(1.0, math.ldexp(2 * comparisons, -num_seeds))


def _judge(entries: Sequence[Entry], baseline: str | None, min_difference: float, higher: bool) -> dict[str, list[Any]]:
    """Return for each variant: difference, difference_low, difference_high, p_holm, verdict, note."""
    judged: dict[str, list[Any]] = {entry.variant: [None, None, None, None, "", ""] for entry in entries}
    base = next((entry for entry in entries if entry.variant == baseline), None)
    if base is None:
        return judged
    judged[base.variant] = [None, None, None, None, "baseline", ""]
    others = [entry for entry in entries if entry is not base]
    judged |= {e.variant: [None, None, None, None, "not defined", ""] for e in others}
    defined = [e for e in others if not (e.undefined_seeds or base.undefined_seeds)]
    compared = {e.variant: compare(e.values, base.values, higher) for e in defined}
    deterministic = len(base.values) > 1 and base.deterministic  # one seed cannot show it
    tested = [e.variant for e in defined if not (e.deterministic and deterministic)]
    p_holm = dict(zip(tested, holm([compared[variant].p for variant in tested]), strict=True))
    least = smallest_p(len(base.values), len(tested))
    for variant, found in compared.items():
        p = p_holm.get(variant)
        verdict, note = _verdict(found, p, min_difference, higher)
        if p is not None and least > SIGNIFICANCE:
            note = f"too few seeds to show a difference: p cannot be below {least:.2g}"
        judged[variant] = [found.difference, found.low, found.high, p, verdict, note]
    return judged


def _verdict(found: PairedDifference, p_holm: float | None, min_difference: float, higher: bool) -> tuple[str, str]:
    """Return the verdict and, if it needs one, a note. `p_holm` is None if neither variant depends on the seed."""
    size = found.difference if math.isfinite(found.difference) else found.median
    word = "better" if (size > 0) == higher else "worse"
    if p_holm is None:
        matters = abs(size) > min_difference
        return f"{word} (deterministic)" if matters else "no difference shown", "neither depends on the seed: no test"
    low, high = (found.low, found.high) if math.isfinite(found.low) else (size, size)
    if max(abs(low), abs(high)) <= min_difference and p_holm < SIGNIFICANCE:
        return "no difference shown", f"too small to matter: within {min_difference:g}"
    if p_holm < SIGNIFICANCE and abs(size) > min_difference and np.sign(size) == found.ranks:
        return word, ""
    return "no difference shown", ""


def format_leaderboard(rows: Sequence[dict[str, str]], study: str) -> str:
    """Return leaderboard.csv, as csv.DictReader reads it, as a table for a terminal. EXPLANATION says what it shows."""
    from rich.console import Console

    exponent = _common_exponent(rows)
    console = Console(width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    table = _table(rows, 10.0**exponent, networks=True)
    if console.measure(table).maximum == WIDTH:  # it is as wide as the terminal, or wider
        table = _table(rows, 10.0**exponent, networks=False)
    with console.capture() as captured:
        for part in (_heading(rows[0], study, exponent), table, *_grouped_notes(rows)):
            console.print(part, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _table(rows: Sequence[dict[str, str]], unit: float, networks: bool) -> "Table":
    """Return the table. `networks`: with the engine and the number of parameters beside each variant."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    beside = {"engine": "engine", "parameters": "params"} if networks else {}
    numbers = ("mean", "±95 %", "sd", "best", "worst", "epochs", "div.", "diff.", "±95 %", "p")
    for name in ("#", "variant", *beside.values(), *numbers):
        table.add_column(name, justify="left" if name in ("variant", "engine") else "right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row in rows:
        table.add_row(row["rank"], row["variant"], *(row[name] for name in beside), *_shown(row, unit))
    return table


EXPLANATION = """\
±95 %: half the 95 % interval, over training seeds on one data set. epochs: to converge, median over seeds. div.: seeds
that diverged. *: the median, because a seed has no value. diff.: to the baseline, paired by seed. p: exact
signed-rank test, Holm-corrected over the study. n. d.: not defined. params: numbers that a network learns, where the
table has room for them."""


ROWS_OF = {  # the name of a main split in titles, with the reason if it is not the test rows
    "test": "test rows",
    "validation": "validation rows (there are no test rows)",
    "train": "training rows (nothing is held out)",
}


def measured_on(metric: str, split: str) -> str:
    """Return in words what a metric is about: the weights, or the rows of the main split."""
    return "of the learned weights" if metric in OF_WEIGHTS else f"on the {ROWS_OF[split]}"


def better(metric: str) -> str:
    """Return in words which values of a metric are better."""
    return f"{'higher' if metric in HIGHER_IS_BETTER else 'lower'} is better"


def _heading(row: dict[str, str], study: str, exponent: int) -> str:
    unit = f", in units of 1e{exponent}" if exponent else ""
    seeds = "1 seed" if row["num_seeds"] == "1" else f"{row['num_seeds']} seeds"
    metric = row["metric"]
    return f"{study}: {metric}{unit} ({better(metric)}) {measured_on(metric, row['split'])}, {seeds}"


def _grouped_notes(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return each note once, after the variants that it is about; notes about the whole study have no names."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            notes.setdefault(note, []).append(row["variant"])
    of_all = ("too few seeds", "one seed")
    return [note if note.startswith(of_all) else f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _common_exponent(rows: Sequence[dict[str, str]]) -> int:
    """Return a power of ten to divide by if all values are tiny or huge, otherwise 0."""
    largest = max(abs(float(row["mean"] or row["median"] or 0)) for row in rows)
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return exponent if exponent < -2 or exponent > 4 else 0


def _shown(row: dict[str, str], unit: float) -> list[str]:
    """Return numbers and verdict for the terminal, with the median in place of a mean where a seed has no value."""

    def short(key: str, sign: str = "") -> str:
        return _short(float(row[key]) / unit, sign) if row[key] else ""

    def half(low: str, high: str) -> str:
        return _short((float(row[high]) - float(row[low])) / 2 / unit) if row[low] else ""

    nothing = "none" if row["rank"] else "n. d."
    return [
        short("mean") or (f"{short('median')}*" if row["median"] else nothing),
        half("ci95_low", "ci95_high"),
        short("std"),
        short("best") or nothing,
        short("worst") or nothing,
        f"{float(row['epochs_to_converge']):.0f}" if row["epochs_to_converge"] else "",
        row["diverged_seeds"],
        short("difference", sign="+"),
        half("difference_low", "difference_high"),
        f"{float(row['p_holm']):.3f}" if row["p_holm"] else "",
        row["verdict"],
    ]


def _short(number: float, sign: str = "") -> str:
    if number == 0:
        return "0"
    if 0.01 <= abs(number) < 1e5:
        return f"{number:{sign}.{2 if abs(number) < 100 else 1}f}"
    return f"{number:{sign}.1e}".replace("e-0", "e-").replace("e+0", "e")
