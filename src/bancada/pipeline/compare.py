"""Two results compared number by number: how far is what was made now from what was committed?

    |made - committed| <= ABSOLUTE + RELATIVE * |committed|

for every number with a fraction. Names, texts, whole numbers, shapes, columns and keys must be the same. A NaN is the
same as a NaN, and an infinity as itself.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

# --- the tolerances: here, and nowhere else -------------------------------------------------------------------------

# What rounding makes of a training that goes well: on another CPU, with another version of a library. One that is at
# the edge of chaos exceeds them, and that is worth knowing.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
# Of a plot, the share of pixels that may have another colour: a line a hair's breadth beside its place.
PIXELS = 0.01
# Keys that tell where a training's inputs came from, and nothing of its result.
LEFT_OUT = MappingProxyType({"run.json": ("fingerprint", "versions")})

# --------------------------------------------------------------------------------------------------------------------


class Verdict(IntEnum):
    """The worst of several is their maximum."""

    SAME = 0
    WITHIN = 1
    DIFFERENT = 2

    def __str__(self) -> str:
        return ("same bits", "within tolerance", "different")[self]


@dataclass(frozen=True)
class Difference:
    """`problem`: what is no matter of numbers. `absolute_at` and `relative_at` name where the largest ones are."""

    verdict: Verdict
    problem: str = ""
    absolute: float = 0.0
    absolute_at: str = ""
    relative: float = 0.0
    relative_at: str = ""

    def __str__(self) -> str:
        said = [self.problem] if self.problem else []
        if self.absolute_at:
            share = f", {self.relative:.2g} relative ({self.relative_at})" if self.relative_at else ""
            said.append(f"at most {self.absolute:.2g} ({self.absolute_at}){share}")
        return "; ".join(said) or ("the same numbers in other bytes" if self.verdict else str(self.verdict))

    def within(self, name: str) -> "Difference":
        """The same, with the file's name before each place."""
        problem, absolute, relative = (
            f"{name}: {said}" if said else "" for said in (self.problem, self.absolute_at, self.relative_at)
        )
        return replace(self, problem=problem, absolute_at=absolute, relative_at=relative)


SAME = Difference(Verdict.SAME)


def different(problem: str) -> Difference:
    return Difference(Verdict.DIFFERENT, problem)


def worst(found: Iterable[Difference]) -> Difference:
    """The worst verdict, the largest differences, and the first problem of several."""
    found = [SAME, *found]
    farthest, most = max(found, key=lambda one: one.absolute), max(found, key=lambda one: one.relative)
    verdict = max(one.verdict for one in found)
    problems = [one.problem for one in found if one.problem and one.verdict == verdict]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return replace(
        farthest,
        verdict=verdict,
        problem=problems[0] + more if problems else "",
        relative=most.relative,
        relative_at=most.relative_at,
    )


def compare(committed: Path, made: Path) -> Difference:
    """Of two files, or of two folders file by file."""
    if committed.is_dir() and made.is_dir():
        files = [
            path.relative_to(folder) for folder in (committed, made) for path in folder.rglob("*") if path.is_file()
        ]
        return worst(compare(committed / name, made / name).within(name.as_posix()) for name in sorted(set(files)))
    if not (committed.is_file() and made.is_file()):
        return different("is new" if made.exists() else "was not made")
    if committed.read_bytes() == made.read_bytes():
        return SAME
    kind = KINDS.get(made.suffix)
    if kind is None:
        return different("other bytes, of a kind that is not compared number by number")
    try:
        found = worst(kind(committed, made))
    except (ValueError, OSError, SyntaxError, csv.Error) as error:  # SyntaxError: Pillow's, for a broken PNG
        return different(f"cannot be read: {next(iter(str(error).splitlines()), '')[:200]}")
    return replace(found, verdict=max(found.verdict, Verdict.WITHIN))


def numbers(committed: np.ndarray, made: np.ndarray, name: str) -> Difference:
    """Of two arrays. The place of the largest differences is told as name[index]."""
    if committed.shape != made.shape or committed.dtype != made.dtype:
        return different(f"{name}: {_shape(made)}, was {_shape(committed)}")
    if not np.issubdtype(made.dtype, np.floating):
        count = int(np.count_nonzero(committed != made))
        return different(f"{name}: {count} of {made.size} values that must be equal are not") if count else SAME
    before, now = committed.astype(np.float64), made.astype(np.float64)
    same = (before == now) | (np.isnan(before) & np.isnan(now))
    if same.all():
        return SAME
    with np.errstate(all="ignore"):
        gap = np.where(same, 0.0, np.abs(now - before))
        share = np.where(same | (before == 0), 0.0, gap / np.abs(before))  # beside a zero there is no share
    if not np.isfinite(gap).all():
        return different(f"{name}: not finite on one side alone")
    fits = (same | (gap <= ABSOLUTE + RELATIVE * np.abs(before))).all()
    verdict = Verdict.WITHIN if fits else Verdict.DIFFERENT
    return Difference(verdict, "", float(gap.max()), _place(name, gap), float(share.max()), _place(name, share))


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"


def _place(name: str, sizes: np.ndarray) -> str:
    """Of the largest; empty where all are 0."""
    if not sizes.max():
        return ""
    index = np.unravel_index(int(sizes.argmax()), sizes.shape)
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _same_names(committed: Mapping[str, Any], made: Mapping[str, Any]) -> Difference:
    if committed.keys() == made.keys():
        return SAME
    more, less = (", ".join(sorted(a.keys() - b.keys()))[:100] for a, b in ((made, committed), (committed, made)))
    said = [f"{names} {how}" for names, how in ((more, "is new"), (less, "is gone")) if names]
    return different("; ".join(said))


# --- one function for each kind of file -----------------------------------------------------------------------------


def _safetensors(committed: Path, made: Path) -> Iterator[Difference]:
    from safetensors.numpy import load

    before, now = (_loaded(load, path) for path in (committed, made))
    yield _same_names(before, now)
    for name in sorted(before.keys() & now.keys()):
        yield numbers(before[name], now[name], name)


def _loaded(load: Any, path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError

    try:
        return dict(load(path.read_bytes()))
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _parquet(committed: Path, made: Path) -> Iterator[Difference]:
    import pyarrow.parquet as pq

    before, now = (pq.read_table(path, partitioning=None) for path in (committed, made))
    if before.schema.metadata != now.schema.metadata:
        yield different("its description of the columns is another")
    columns = [{name: table[name].to_numpy() for name in table.column_names} for table in (before, now)]
    yield _same_names(*columns)
    for name in before.column_names:
        if name in columns[1]:
            yield numbers(columns[0][name], columns[1][name], name)


def _csv(committed: Path, made: Path) -> Iterator[Difference]:
    before, now = (list(csv.reader(path.read_text("utf-8").splitlines(), strict=True)) for path in (committed, made))
    if [len(row) for row in before] != [len(row) for row in now] or before[:1] != now[:1]:
        yield different(f"{len(now)} lines of columns {','.join(now[0] if now else [])}, or not as long as they were")
        return
    for line, (old, new) in enumerate(zip(before, now, strict=True), start=1):
        for column, cell, other in zip(before[0], old, new, strict=True):
            if cell != other:
                yield _values(_number(cell), _number(other), f"line {line}, {column}")


def _json(committed: Path, made: Path) -> Iterator[Difference]:
    before, now = (dict(_leaves(json.loads(path.read_text("utf-8")))) for path in (committed, made))
    left_out = LEFT_OUT.get(made.name, ())
    before, now = (
        {key: one for key, one in leaves.items() if key.split(".")[0] not in left_out} for leaves in (before, now)
    )
    yield _same_names(before, now)
    for key in before.keys() & now.keys():
        yield _values(before[key], now[key], key)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """What a JSON holds, by keys with dots; an empty list or mapping is a value of its own."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _leaves(one, f"{key}.{name}" if key else str(name))
    if not inner:
        yield key, value


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _values(before: Any, now: Any, name: str) -> Difference:
    """Of two numbers or texts; a number with a fraction may come out whole."""
    kinds = {type(before), type(now)}
    if float in kinds and kinds <= {float, int}:
        return numbers(np.array(before, np.float64), np.array(now, np.float64), name)
    if type(before) is type(now) and before == now:
        return SAME
    return different(f"{name}: {_short(now)}, was {_short(before)}")


def _short(value: Any) -> str:
    return json.dumps(value)[:60]


def _png(committed: Path, made: Path) -> Iterator[Difference]:
    from PIL import Image

    with Image.open(committed) as one, Image.open(made) as other:
        if (one.size, one.mode) != (other.size, other.mode):
            yield different(f"{other.size[0]}x{other.size[1]} {other.mode}, was {one.size[0]}x{one.size[1]} {one.mode}")
            return
        before, now = (np.asarray(image.convert("RGBA"), dtype=np.int16) for image in (one, other))
    changed = (before != now).any(axis=2)
    if changed.any():
        share, most = float(changed.mean()), int(np.abs(now - before).max())
        said = f"{changed.sum()} of {changed.size} pixels ({100 * share:.2g} %), by up to {most} of 255"
        yield Difference(Verdict.WITHIN if share <= PIXELS else Verdict.DIFFERENT, said)


KINDS = MappingProxyType(
    {".safetensors": _safetensors, ".parquet": _parquet, ".csv": _csv, ".json": _json, ".png": _png}
)
