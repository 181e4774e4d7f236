"""Two results compared number by number: how far is what was made now from what was committed?

    |made - committed| <= ABSOLUTE + RELATIVE * |committed|

must hold for every number with a fraction. Names, texts, whole numbers, shapes, columns and keys must be equal. A NaN
equals a NaN, and an infinity itself. The tolerances stand here and nowhere else: they allow the rounding of another CPU
or of another version of a library. A training at the edge of chaos exceeds them, and that is worth knowing.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bancada.base.notify import first_line

MOST_NAMED = 3
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
        return worst(_files(committed / name, made / name, f"{name}: ") for name in sorted(names))
    return _files(committed, made, "")


def _files(committed: Path, made: Path, where: str) -> Difference:
    """Compare two files. What is said of them begins with `where`."""
    if not (committed.is_file() and made.is_file()):
        return different(f"{where}{'is new' if made.exists() else 'was not made'}")
    if committed.read_bytes() == made.read_bytes():
        return SAME
    if made.suffix not in READERS:
        return different(f"{where}other bytes, of a kind that is not compared number by number")
    try:
        before, now = (READERS[made.suffix](path) for path in (committed, made))
    except (ValueError, OSError, SyntaxError, SafetensorError) as error:  # SyntaxError is Pillow's, for a broken PNG
        return different(f"{where}cannot be read: {first_line(error)}")
    if made.suffix == ".png":
        found = _pixels(before["pixels"], now["pixels"], f"{where}pixels")
    elif other := sorted(before.keys() ^ now.keys()):
        found = different(f"{where}on one side alone: {', '.join(other[:MOST_NAMED])}")
    else:
        found = worst(_arrays(before[name], now[name], f"{where}{name}") for name in before)
    return replace(found, verdict=max(found.verdict, Verdict.WITHIN))


def _arrays(committed: np.ndarray, made: np.ndarray, name: str) -> Difference:
    """Compare two arrays. The place of a number is called name[index]."""
    kinds = {committed.dtype.kind, made.dtype.kind}
    # In a text, numbers with a fraction may turn out whole.
    alike = committed.shape == made.shape and (committed.dtype == made.dtype or kinds == {"f", "i"})
    same = (committed == made) | (pd.isna(committed) & pd.isna(made)) if alike else np.array(False)
    if same.all():
        return SAME
    if not alike or "f" not in kinds:
        return different(f"{name}: {_described(made)}, was {_described(committed)}")
    before, now = committed.astype(np.float64), made.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(now - before))
        excess = np.where(same, 0.0, gap / (ABSOLUTE + RELATIVE * np.abs(before)))
    if not np.isfinite(gap).all():
        return different(f"{name}: not finite on one side alone")
    index = np.unravel_index(int(excess.argmax()), excess.shape)
    absolute, size = float(gap[index]), abs(float(before[index]))
    verdict = Verdict.WITHIN if excess[index] <= 1 else Verdict.DIFFERENT
    at = f"{name}[{', '.join(map(str, index))}]" if index else name
    return Difference(verdict, "", at, absolute, absolute / size if size else 0.0, float(excess[index]))


def _described(array: np.ndarray) -> str:
    values = " ".join(np.array2string(array, threshold=6).split())[:60]
    return f"{array.dtype} of shape {list(array.shape)}: {values}" if array.ndim else values


def _pixels(committed: np.ndarray, made: np.ndarray, name: str) -> Difference:
    if committed.shape != made.shape:
        return different(f"{name}: {_described(made)}, was {_described(committed)}")
    share = float((committed != made).any(axis=2).mean())
    return Difference(Verdict.WITHIN if share <= PIXELS else Verdict.DIFFERENT, f"{name}: {share:.2%} differ")


# --- what a file holds, by names ------------------------------------------------------------------------------------


def _json(path: Path) -> dict[str, np.ndarray]:
    return dict(_leaves(json.loads(path.read_text("utf-8"))))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the values of a JSON by keys with dots; an empty list or mapping is a value of its own."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _leaves(one, f"{key}.{name}" if key else str(name))
    if not inner:
        yield key, np.array(value, dtype=None if isinstance(value, int | float) else object)


def _parquet(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path, partitioning=None)
    described = np.array(str(table.schema.metadata), dtype=object)
    return {name: table[name].to_numpy() for name in table.column_names} | {"its description": described}


def _markup(path: Path) -> dict[str, np.ndarray]:
    """Return the numbers with a fraction, and the text around them without embedded pictures.

    The PNG files of the same plots are compared pixel by pixel.
    """
    pieces = re.split(r"(-?\d+\.\d+(?:e-?\d+)?)", re.sub(r"data:image/png;base64,[^\"]*", "", path.read_text("utf-8")))
    return {"numbers": np.array(pieces[1::2], dtype=float), "text": np.array("".join(pieces[::2]), dtype=object)}


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": load_file,
    ".parquet": _parquet,
    ".csv": lambda path: {str(name): column.to_numpy() for name, column in pd.read_csv(path).items()},
    ".json": _json,
    ".svg": _markup,
    ".html": _markup,
    ".png": lambda path: {"pixels": np.asarray(Image.open(path).convert("RGBA"))},
}
