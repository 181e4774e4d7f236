"""Two results compared number by number: how far is what was made now from what was committed?

    |made - committed| <= ABSOLUTE + RELATIVE * |committed|

must hold for every number with a fraction. Names, texts, whole numbers, shapes, columns and keys must be equal. A NaN
equals a NaN, and an infinity itself. The tolerances stand here and nowhere else: they allow the rounding of another CPU
or of another version of a library. A training at the edge of chaos exceeds them, and that is worth knowing.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

RELATIVE, ABSOLUTE = 1e-4, 1e-6
PIXELS = 0.01  # the share of a plot's pixels that may have another colour: a line a hair's breadth beside its place


class Verdict(IntEnum):
    """The worst of several verdicts is their maximum."""

    SAME = 0
    WITHIN = 1
    DIFFERENT = 2

    def __str__(self) -> str:
        return ("same bits", "within tolerance", "different")[self]


@dataclass(frozen=True)
class Difference:
    """How far two results are apart: a `problem` in words, or the number that is farthest from its tolerance."""

    verdict: Verdict
    problem: str = ""  # what is no difference of two numbers
    at: str = ""  # the place of that number
    absolute: float = 0.0
    relative: float = 0.0
    excess: float = 0.0  # its difference divided by the tolerance: above 1 it is `different`

    def __str__(self) -> str:
        share = f", {self.relative:.2g} relative" if self.relative else ""
        number = f"{self.absolute:.2g}{share} at {self.at}" if self.at else ""
        words = "; ".join(filter(None, (self.problem, number)))
        return words or ("the same numbers in other bytes" if self.verdict else str(self.verdict))

    def within(self, name: str) -> "Difference":
        """Return the same difference with the file's name before its place."""
        problem, at = (f"{name}: {text}" if text else "" for text in (self.problem, self.at))
        return replace(self, problem=problem, at=at)


SAME = Difference(Verdict.SAME)


def different(problem: str) -> Difference:
    """Return a difference that no tolerance allows."""
    return Difference(Verdict.DIFFERENT, problem)


def worst(found: Iterable[Difference]) -> Difference:
    """Return the worst verdict, its first problem and how many more there are, and the farthest number of all."""
    found = [SAME, *found]
    verdict = max(one.verdict for one in found)
    problems = [one.problem for one in found if one.problem and one.verdict == verdict]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    farthest = max(found, key=lambda one: one.excess)
    return replace(farthest, verdict=verdict, problem=problems[0] + more if problems else "")


def compare(committed: Path, made: Path) -> Difference:
    """Compare two files, or two folders file by file."""
    if committed.is_dir() and made.is_dir():
        folders = (committed, made)
        names = {path.relative_to(top) for top in folders for path in top.rglob("*") if path.is_file()}
        return worst(compare(committed / name, made / name).within(name.as_posix()) for name in sorted(names))
    if not (committed.is_file() and made.is_file()):
        return different("is new" if made.exists() else "was not made")
    if committed.read_bytes() == made.read_bytes():
        return SAME
    try:
        if made.suffix == ".png":
            found = _pictures(committed, made)
        elif made.suffix in READERS:
            before, now = (READERS[made.suffix](path) for path in (committed, made))
            found = worst(_by_name(before, now))
        else:
            return different("other bytes, of a kind that is not compared number by number")
    # SyntaxError is Pillow's, for a broken PNG.
    except (ValueError, OSError, SyntaxError, SafetensorError, csv.Error) as error:
        return different(f"cannot be read: {next(iter(str(error).splitlines()), '')[:200]}")
    return replace(found, verdict=max(found.verdict, Verdict.WITHIN))


def _by_name(committed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Difference]:
    more, less = (", ".join(sorted(a.keys() - b.keys()))[:100] for a, b in ((made, committed), (committed, made)))
    if more or less:
        yield different("; ".join(f"{names} {how}" for names, how in ((more, "is new"), (less, "is gone")) if names))
    for name in committed.keys() & made.keys():
        before, now = committed[name], made[name]
        if isinstance(before, np.ndarray):
            yield _arrays(before, now, name)
        elif {type(before), type(now)} in ({float}, {float, int}):  # a number with a fraction may turn out whole
            yield _arrays(np.array(before, np.float64), np.array(now, np.float64), name)
        elif type(before) is not type(now) or before != now:
            yield different(f"{name}: {json.dumps(now)[:60]}, was {json.dumps(before)[:60]}")


def _arrays(committed: np.ndarray, made: np.ndarray, name: str) -> Difference:
    """Compare two arrays. The place of a number is called name[index]."""
    if committed.shape != made.shape or committed.dtype != made.dtype:
        shapes = [f"{array.dtype} of shape {list(array.shape)}" for array in (made, committed)]
        return different(f"{name}: {shapes[0]}, was {shapes[1]}")
    if not np.issubdtype(made.dtype, np.floating):
        count = int(np.count_nonzero(committed != made))
        return different(f"{name}: {count} of {made.size} values that must be equal are not") if count else SAME
    before, now = committed.astype(np.float64), made.astype(np.float64)
    same = (before == now) | (np.isnan(before) & np.isnan(now))
    if same.all():
        return SAME
    with np.errstate(all="ignore"):
        gap = np.where(same, 0.0, np.abs(now - before))
        excess = np.where(same, 0.0, gap / (ABSOLUTE + RELATIVE * np.abs(before)))
    if not np.isfinite(gap).all():
        return different(f"{name}: not finite on one side alone")
    index = np.unravel_index(int(excess.argmax()), excess.shape)
    absolute, size = float(gap[index]), abs(float(before[index]))
    verdict = Verdict.WITHIN if excess[index] <= 1 else Verdict.DIFFERENT
    at = f"{name}[{', '.join(map(str, index))}]" if index else name
    return Difference(verdict, "", at, absolute, absolute / size if size else 0.0, float(excess[index]))


def _pictures(committed: Path, made: Path) -> Difference:
    with Image.open(committed) as one, Image.open(made) as other:
        if (one.size, one.mode) != (other.size, other.mode):
            sizes = [f"{image.size[0]}x{image.size[1]} {image.mode}" for image in (other, one)]
            return different(f"{sizes[0]}, was {sizes[1]}")
        before, now = (np.asarray(image.convert("RGBA"), dtype=np.int16) for image in (one, other))
    changed = (before != now).any(axis=2)
    if not changed.any():
        return SAME
    share, most = float(changed.mean()), int(np.abs(now - before).max())
    problem = f"{changed.sum()} of {changed.size} pixels ({100 * share:.2g} %), by up to {most} of 255"
    return Difference(Verdict.WITHIN if share <= PIXELS else Verdict.DIFFERENT, problem)


# --- what a file holds, by names ------------------------------------------------------------------------------------


def _parquet(path: Path) -> Mapping[str, Any]:
    table = pq.read_table(path, partitioning=None)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return columns | {"its description": str(table.schema.metadata)}


def _csv(path: Path) -> Mapping[str, Any]:
    header, *rows = csv.reader(path.read_text("utf-8").splitlines(), strict=True)
    cells = {(i, name): cell for i, row in enumerate(rows, 2) for name, cell in zip(header, row, strict=True)}
    return {f"line {i}, {name}": _number(cell) for (i, name), cell in cells.items()}


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _json(path: Path) -> Mapping[str, Any]:
    return dict(_leaves(json.loads(path.read_text("utf-8"))))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a JSON by keys with dots; an empty list or mapping is a value of its own."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _leaves(one, f"{key}.{name}" if key else str(name))
    if not inner:
        yield key, value


READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": load_file,
    ".parquet": _parquet,
    ".csv": _csv,
    ".json": _json,
}
