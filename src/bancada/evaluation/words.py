"""What an evaluation says in words: titles, the leaderboard for a terminal, and a sentence for each study."""

import csv
import math
import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bancada.base import files
from bancada.evaluation.entry import SPLITS
from bancada.evaluation.statistics import median_ranks, smallest_p, walsh_ranks
from bancada.networks.metrics import HIGHER_IS_BETTER, METRICS, OF_WEIGHTS
from bancada.networks.unknown import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Texts = dict[str, str]  # a row of a CSV file
Cells = list[list[str]]  # a table
WIDTH, NARROW = 120, 80  # letters in a line of the widest and the narrowest terminal that boards are made for
# The columns that are left out, one after another, where a line has no room for all.
LEFT_OUT = ("params", "engine", "sd", "epochs", "mean", "min", "max", "p", "P(better)", "board", "validation")
SENTENCES, SHORT = ("reason", "asked"), 24  # columns of sentences; names of so many letters are not folded
PLURAL = re.compile(r"(?:(?<=seed)|(?<=set)|(?<=split))s\b")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

EXPLANATION = (
    "95 %: exact intervals, of the median over seeds, of the share of seeds that fail, and of the difference. failed: "
    "seeds that diverged, are not better than the majority class or the mean, or are beyond the study's limit. "
    "difference: to the baseline, paired by seed (Hodges-Lehmann). p: exact signed-rank test, alone and after Holm's "
    "correction. P(better): share of seeds on which the variant is better. epochs: to converge. params: numbers that a "
    "network learns. n. d.: not defined."
)

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


def over_replicas(num_seeds: int, over: str) -> str:
    """Return such as "10 seeds on one data set"; one has no plural, as in "1 data set and seed"."""
    return f"{num_seeds} {PLURAL.sub('', over) if num_seeds == 1 else over}"


def report(boards: Sequence[str], studies: Sequence[str]) -> str:
    """Return the leaderboards of some studies, not wider than the terminal, and a sentence for each of `studies`.

    A study that is not evaluated is left out.
    """
    width = terminal_width()
    rows = {study: found for study in studies if (found := read(study, "leaderboard"))}
    asked = [study for study in boards if study in rows]
    shown = [format_leaderboard(rows[study], study, read(study, "reference"), width) for study in asked]
    told = [printed([EXPLANATION], width)] * bool(shown)
    sentences = printed([f"{study}: {sentence(board)}" for study, board in rows.items()], width)
    return "\n\n".join(["", *shown, *told, sentences] if rows else [])


def terminal_width() -> int:
    """Return how many letters a line may have; WIDTH where there is no terminal."""
    return min(WIDTH, max(NARROW, shutil.get_terminal_size((WIDTH, 0)).columns))


def read(study: str, table: str) -> list[Texts]:
    """Return the rows of a table of the study's evaluation; none where the file is missing."""
    path = files.evaluation(study) / f"{table}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Board(NamedTuple):
    """A study's leaderboard in texts. The first row of a table has the names of its columns."""

    title: str
    values: Cells
    differences: Cells  # without a row where nothing is compared
    remarks: list[str]


def board(rows: Sequence[Texts], study: str, references: Sequence[Texts] = ()) -> Board:
    """Return what leaderboard.csv and reference.csv, as csv.DictReader reads them, say. EXPLANATION explains it."""
    first, exponent = rows[0], _common_exponent(rows)
    unit = f", in units of 1e{exponent}" if exponent else ""
    over = over_replicas(int(first["num_seeds"]), first["over"])
    measured = f"({better(first['metric'])}) {measured_on(first['metric'], first['split'])}"
    compared = any(row["verdict"] for row in rows if row["verdict"] != "baseline")
    return Board(
        f"{study}: {first['metric']}{unit} {measured}, over {over}",
        _values(rows, 10.0**exponent),
        _differences(rows, 10.0**exponent) if compared else [],
        [*_of_references(references, 10.0**exponent), *_remarks(rows)],
    )


def format_leaderboard(rows: Sequence[Texts], study: str, references: Sequence[Texts] = (), width: int = WIDTH) -> str:
    """Return the leaderboard as tables for a terminal."""
    shown = board(rows, study, references)
    of_references, others = shown.remarks[: bool(references)], shown.remarks[bool(references) :]
    differences = [as_table(shown.differences, width)] if shown.differences else []
    return printed([shown.title, as_table(shown.values, width), *of_references, *differences, *others], width)


def printed(parts: Sequence["str | Table"], width: int) -> str:
    """Return texts and tables as lines of a terminal, of at most so many letters."""
    console = _console(width)
    with console.capture() as captured:
        for part in parts:
            console.print(part, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _console(width: int) -> "Console":
    from rich.console import Console

    return Console(width=width, color_system=None, force_terminal=False, legacy_windows=False)


def _values(rows: Sequence[Texts], unit: float) -> Cells:
    numbers = ("median", "95 %", "mean", "sd", "min", "max", "failed", "95 %", "epochs")
    table = [["#", "variant", "engine", "params", *numbers]]
    for row in rows:
        failed = [f"{100 * float(row[key]):.0f}" if row[key] else "" for key in ("failed_low", "failed_high")]
        cells = (
            *(row[key] for key in ("rank", "variant", "engine", "parameters")),
            short(row["median"], unit) or "n. d.",
            interval(row, "median", unit),
            *(short(row[key], unit) for key in ("mean", "sd", "min", "max")),
            *(row["failed_seeds"], f"{failed[0]} to {failed[1]} %" if failed[0] else ""),
            f"{float(row['epochs_to_converge']):.0f}" if row["epochs_to_converge"] else "",
        )
        table.append(list(cells))
    return table


def _differences(rows: Sequence[Texts], unit: float) -> Cells:
    base = next(row["variant"] for row in rows if row["verdict"] == "baseline")
    table = [[f"minus {base}", "difference", "95 %", "p", "p Holm", "P(better)", "verdict", "reason"]]
    for row in rows:
        if row["variant"] != base:
            cells = (
                *(row["variant"], short(row["difference"], unit, "+"), interval(row, "difference", unit)),
                *(f"{float(row[key]):.3f}" if row[key] else "" for key in ("p", "p_holm")),
                f"{float(row['p_better']):.2f}" if row["p_better"] else "",
                *(row["verdict"], row["reason"]),
            )
            table.append(list(cells))
    return table


def as_table(cells: Cells, width: int, words: Sequence[str] = ("variant", "engine", "verdict", "reason")) -> "Table":
    """Return a table for a terminal, without those columns of LEFT_OUT that a line of this width has no room for.

    Its first column and those in `words` hold texts, the others numbers.
    """
    for left_out in LEFT_OUT:
        if _console(10 * WIDTH).measure(_whole_table(cells, words)).minimum <= width:
            break
        if left_out in cells[0]:
            place = cells[0].index(left_out)  # of the first one: the column of results may have the same name
            cells = [[*row[:place], *row[place + 1 :]] for row in cells]
    return _whole_table(cells, words)


def _whole_table(cells: Cells, words: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(cells[0]):
        text, widest = i == 0 or name in words, max(len(row[i]) for row in cells)
        folds = name in SENTENCES or (text and widest > SHORT)  # where a line has no room for all columns
        least = 0 if folds else widest
        table.add_column(name, justify="left" if text else "right", no_wrap=not folds, min_width=least, overflow="fold")
    for row in cells[1:]:
        table.add_row(*row)
    return table


def _of_references(references: Sequence[Texts], unit: float) -> list[str]:
    shown = [f"{each['reference']} {short(each['value'], unit) or each['note'] or 'n. d.'}" for each in references]
    return [f"for reference: {', '.join(shown)}"] if shown else []


def _remarks(rows: Sequence[Texts]) -> list[str]:
    """Return what is to be said of all variants, and each note once, after the variants that it is about."""
    first, count = rows[0], int(rows[0]["num_seeds"])
    (rank, of_median), (_, of_difference) = median_ranks(count), walsh_ranks(count)
    intervals = "none of the median and of differences: that takes 6 seeds"
    if rank:
        values = f"from value {rank} to {count + 1 - rank} of {count} (covers {100 * of_median:.1f} %)"
        intervals = f"the median's {values}, the difference's covers {100 * of_difference:.1f} %"
    compared = int(next((row["comparisons"] for row in rows if row["comparisons"]), "0"))
    tests = [f"intervals: {intervals}"]
    if first["over"] == SPLITS:
        tests = ["splits share rows: differences are means, by the corrected resampled t; medians have no interval"]
    elif compared:
        comparisons = f"{counted(compared, 'comparison')} with {counted(count, 'seed')} give{'s' * (compared == 1)}"
        tests.append(f"{comparisons} no p below {smallest_p(count, compared):.2g} (Holm)")
    champion = next((row["variant"] for row in rows if row["champion"] == "true"), "none")
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            notes.setdefault(note, []).append(row["variant"])
    grouped = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
    return [*tests, f"best seed of a variant: {first['best_seed_is']}; champion: {champion}", *grouped]


def sentence(rows: Sequence[Texts]) -> str:
    """Return what the study shows, in a sentence that a person can repeat."""
    base = next((row["variant"] for row in rows if row["verdict"] == "baseline"), "")
    others = [row for row in rows if row["variant"] != base]
    by = {verdict: [row["variant"] for row in others if _verdict(row) == verdict] for verdict in VERDICTS}
    if not base or not others:
        first, label = rows[0], METRICS[rows[0]["metric"]].label
        median = f"the median {label} of {first['variant']} is {short(first['median']) or 'not defined'}"
        return f"{median}; nothing is compared" + " with it" * (len(rows) == 1)
    if any(_verdict(row) == DIVERGED for row in rows if row["variant"] == base):
        return f"{base}, which the others are compared with, {DIVERGED}"
    told = [
        f"{_listed(by[word], len(others))} {_is(rows[0]['metric'], word, len(by[word]), base)}"
        for word in VERDICTS
        if by[word]
    ]
    return "; ".join(told) + _limits(others)


DIVERGED = "diverged with every seed"  # so there is no number to speak of, whatever the verdict is
VERDICTS = ("better", "worse", DIVERGED, "equivalent", "not defined", "undecided")


def _verdict(row: Texts) -> str:
    return DIVERGED if row["diverged_seeds"] == row["num_seeds"] else row["verdict"]


def _is(metric: str, verdict: str, count: int, base: str) -> str:
    """Return such as "makes fewer errors than BASE", of one or more variants."""
    if verdict == DIVERGED:
        return verdict
    if verdict not in ("better", "worse"):
        return f"{'is' if count == 1 else 'are'} {verdict}" + f" to {base}" * (verdict == "equivalent")
    lower = (verdict == "better") != (metric in HIGHER_IS_BETTER)
    if metric == "error_rate_percent":
        return f"make{'s' * (count == 1)} {'fewer' if lower else 'more'} errors than {base}"
    return f"{'has' if count == 1 else 'have'} a {'lower' if lower else 'higher'} {METRICS[metric].label} than {base}"


def _limits(others: Sequence[Texts]) -> str:
    """Return which differences these seeds cannot show, where a comparison is undecided."""
    undecided = [row for row in others if _verdict(row) == "undecided"]
    if not undecided:
        return ""
    shown = [float(row["smallest_difference"]) for row in undecided if row["smallest_difference"]]
    seeds = int(undecided[0]["num_seeds"])
    over = over_replicas(seeds, undecided[0]["over"]).removesuffix(" on one data set").partition(" ")[2]
    these = f"with {'these ' * (seeds > 1)}{_number(seeds)} {over}"
    if not shown:
        return f": {these}, no difference can be shown" if "no p below" in undecided[0]["reason"] or seeds == 1 else ""
    low, high = (f"{value:.2g}" for value in (min(shown), max(shown)))
    points = f" point{'s' * (high != '1')}" if undecided[0]["metric"] == "error_rate_percent" else ""
    which = f"below {low}{points}" + f" ({high} for the most scattered)" * (low != high)
    return f": {these}, differences {which} cannot be shown"


def _listed(names: Sequence[str], others: int) -> str:
    if len(names) > 3:
        return "all others" if len(names) == others else f"{_number(len(names))} of the others"
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + (names[-1] if names else "")


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _common_exponent(rows: Sequence[Texts]) -> int:
    """Return a power of ten to divide by if all medians are tiny or huge, otherwise 0."""
    largest = max(abs(float(row["median"])) if _is_number(row["median"]) else 0.0 for row in rows)
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return exponent if exponent < -2 or exponent > 4 else 0


def _is_number(cell: str) -> bool:
    return bool(cell) and not cell[-1].isalpha()


def interval(row: Texts, of: str, unit: float = 1.0) -> str:
    """Return such as "1.2 to 3.4"; an empty text where there is none."""
    low, high = (short(row[f"{of}_{end}"], unit) for end in ("low", "high"))
    return f"{low} to {high}" if low else ""


def short(cell: str, unit: float = 1.0, sign: str = "", digits: int = 3) -> str:
    """Return a number with a few digits, if need be in powers of ten; a word or an empty cell as it is."""
    if not _is_number(cell):
        return cell
    number = float(cell) / unit
    if 10**digits <= abs(number) < 1e5:
        return f"{number:{sign}.0f}"
    return "0" if number == 0 else f"{number:{sign}.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
