"""Rows that a function of the user's makes, in a Python file below src/sources.

`python -m bancada.data.sources.python KEY` prints digests of the rows that a source makes, whose keys are read from
standard input as JSON: a second process is how a source is found to depend on more than its arguments.
"""

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from pydantic import AfterValidator, Field, model_validator

from bancada.base import BadInput, user_code
from bancada.base.refusals import bad, wrong_key
from bancada.base.settings import LARGEST, Args
from bancada.base.tables import Table
from bancada.data import columns, reads, sources, texts
from bancada.data.settings import Columns, Seed
from bancada.data.sources.csv import Described

SRC = Path("src")
FOR_SPLIT = {"groups", "order"}  # columns beside the inputs
NUMBERS = "fiub"  # numpy's kinds: floats, whole numbers, true and false
STACK = "np.stack(rows) makes one of a list of rows that have the same shape"
WHY = "random numbers that do not come from `seed`, the time, or the order of a set are usual reasons"


def _importable(file: str) -> str:
    user_code.module_name(file, "sources")
    return file


class Python(Described):
    """The rows that `name(seed, **args)` returns, a function in a `file` below src/sources.

    Either a pandas DataFrame, whose columns are described as those of a CSV file, or a mapping of arrays: `inputs`,
    [row, *shape], and `target`, [row] or [row, target]. It may also have `groups` or `order`, [row], for the split.
    """

    kind: Literal["python"]
    file: Annotated[str, AfterValidator(_importable)]
    name: Annotated[str, Field(min_length=1)]
    args: Args = {}
    seed: Seed = 0
    targets: Columns = ["target"]

    @model_validator(mode="after")
    def _no_keys_of_text(self) -> "Python":
        if "seed" in self.args:
            raise wrong_key("args.seed", "is source.seed, beside args")
        if wrong := [key for key in texts.OF_TEXT if getattr(self, key) is not None]:
            raise wrong_key(wrong[0], "is for files of text; a function returns numbers and texts")
        return self

    def table_shape(self) -> None:
        """Return None: the shape is known only when the table is made."""
        return

    def make(self, key: str) -> Table:
        """Call the function once, and return its rows. Raise BadInput that names the file, and a line or a row."""
        with reads.only_sources(SRC, self.file):
            function = user_code.load(SRC, self.file, self.name, "sources")
            returned = user_code.call(function, {"seed": self.seed, **copy.deepcopy(self.args)}, self.file)
        import pandas as pd  # takes half a second

        if isinstance(returned, pd.DataFrame):
            return self.table_of(self._texts(returned), key)
        if isinstance(returned, Mapping) and returned.keys() - FOR_SPLIT == {"inputs", "target"}:
            return self._with_asides(self._of_arrays(returned["inputs"], returned["target"], key), returned)
        what = f"a mapping of {', '.join(map(str, returned)) or 'nothing'}" if isinstance(returned, Mapping) else ""
        right = 'a pandas DataFrame, or {"inputs": array, "target": array}, with "groups" or "order" where needed'
        raise self._bad(f"returned {what or f'an object of type {type(returned).__name__}'}; must be {right}")

    def refuse_changing(self, table: Table, key: str) -> None:
        """Raise BadInput if a second call, or one in another process, does not make the same table."""
        first = digests(table)
        self._compare(first, digests(self.table(key)), "a second call")
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, key],
            input=self.model_dump_json(exclude_unset=True),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise BadInput(reason if reason.startswith("src/") else f"{self.file}: in a second process: {reason}")
        self._compare(first, json.loads(done.stdout), "a call in another process")

    def _compare(self, first: dict[str, str], second: dict[str, str], who: str) -> None:
        differ = [name for name in first | second if first.get(name) != second.get(name)]
        if differ:
            more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
            raise self._bad(f"{who} with the same arguments differs in {differ[0]}{more}; {WHY}")

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"{self.file}: {self.name}: {problem}")

    def _texts(self, frame: Any) -> texts.Texts:
        """Return the columns of a DataFrame, or of a mapping of lists and arrays."""
        names, made = list[str](), list[Any]()
        for name, column in frame.items():
            names.append(str(name))
            try:
                made.append(
                    pa.array(column if isinstance(column, list | np.ndarray) else _alike(column), from_pandas=True)
                )
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise self._bad(f"column '{name}' cannot be stored: {' '.join(map(str, error.args))}") from None
        return texts.of_arrow(Path(self.file), pa.table(made, names), self.ignore)

    def _of_arrays(self, inputs: Any, target: Any, key: str) -> Table:
        for name in ("features", "ignore", "words", "numbers", "missing"):
            if getattr(self, name):
                raise bad(f"{key}.{name}", None, f"is for columns; {self.file} returns arrays")
        rows = self._finite("inputs", self._array("inputs", inputs))
        observed = self._array("target", target)
        if observed.ndim > 2:
            raise self._bad(f"target has the shape {list(observed.shape)}; must be [row] or [row, target]")
        if self.has_classes and observed.ndim == 2 and observed.shape[1] > 1:
            raise self._bad(f"target has the shape {list(observed.shape)}; classes must be [row]")
        if len(rows) != len(observed):
            raise self._bad(f"inputs has {len(rows)} rows, but target has {len(observed)}")
        observed = observed.reshape(len(observed), -1)
        names = self.targets if "targets" in self.model_fields_set else _names("target", observed.shape[1:])
        if len(names) != observed.shape[1]:
            raise self._bad(f"returned {observed.shape[1]} targets, but {key}.targets names {len(names)}")
        shape = list(rows.shape[1:]) if rows.ndim > 2 else None
        table = Table(
            rows.reshape(len(rows), -1), np.empty((len(rows), 0)), _names("inputs", rows.shape[1:]), names, [], shape
        )
        if self.has_classes:
            return self._labelled(table, observed, key)
        return replace(table, targets=self._finite("target", observed))

    def _with_asides(self, table: Table, returned: Mapping[str, Any]) -> Table:
        """Return the table with the columns for the split."""
        for name in sorted(returned.keys() & FOR_SPLIT):
            if name in table.target_names:
                raise self._bad(f"'{name}' is both a target and a column for the split; name the target otherwise")
            cells = self._array(name, returned[name])
            if cells.shape != (len(table),):
                raise self._bad(f"{name} has the shape {list(cells.shape)}; must be one for each of {len(table)} rows")
            found = columns.cells(self._texts({name: cells}), self, {name: "aside"})[name]
            table = replace(
                table,
                features=np.column_stack([table.features, found.values]),
                feature_names=[*table.feature_names, name],
                words={**table.words, name: found.words} if found.words is not None else table.words,
                asides=[*(table.asides or ()), name],
            )
        return table

    def _array(self, name: str, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except Exception as error:  # of rows that differ, of a tensor that needs gradients, or the user's own
            ragged = _ragged(value) if isinstance(error, ValueError) else None
            raise self._bad(f"{name}: {ragged or user_code.explained(error, SRC)}") from None
        if array.ndim == 0:
            raise self._bad(f"{name} is a {type(value).__name__}, not an array; {STACK}")
        if array.size == 0:
            raise self._bad(f"{name} has the shape {list(array.shape)}, which holds no rows")
        for cell in array.flat if array.dtype == object else ():
            if isinstance(cell, Collection) and not isinstance(cell, str):
                raise self._bad(f"{name} holds objects of type {type(cell).__name__}, and is no array; {STACK}")
        return array

    def _finite(self, name: str, array: np.ndarray) -> Float64[np.ndarray, "..."]:
        if array.dtype.kind not in NUMBERS:
            odd = [type(cell).__name__ for cell in array.flat if not isinstance(cell, Number)]
            held = f"objects of type {(odd or ['object'])[0]}" if array.dtype == object else array.dtype
            raise self._bad(f"{name} holds {held}, not numbers; astype(float) makes numbers of what looks like them")
        numbers = np.array(array, dtype=np.float64)  # a copy, which the function cannot change later
        for place in np.argwhere(~(np.abs(numbers) <= LARGEST))[:1].tolist():
            value = numbers[tuple(place)]
            problem = f"must not be beyond {LARGEST:.3g}" if np.isfinite(value) else "must be a finite number"
            raise self._bad(f"{name}{place} = {value:g}: {problem}")
        return numbers

    def _labelled(self, table: Table, target: np.ndarray, key: str) -> Table:
        """Return the table with the labels as classes, by the rules for a column of labels."""
        for row in np.flatnonzero(target % 1)[:1] if target.dtype.kind == "f" else ():
            raise self._bad(f"target[{row}] = {target[row, 0]:g}: is no class; texts and whole numbers are")
        found = self._texts({table.target_names[0]: target[:, 0].tolist()})
        labels = columns.cells(found, self, dict.fromkeys(table.target_names, "label"))
        return self._with_classes(table, labels[table.target_names[0]], found, key, None)


def _names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return a name for each number of a row, such as inputs[0, 3]."""
    return [f"{name}{list(place)}" for place in np.ndindex(shape)] if shape not in ((), (1,)) else [name]


def _alike(column: Any) -> Any:
    """Return a Series with texts in place of numbers where it has both, as in a file."""
    if column.dtype == object:
        of_text = {isinstance(cell, str) for cell in column.dropna() if isinstance(cell, str | Number)}
        if len(of_text) == 2:
            whole = column.map(lambda cell: int(cell) if isinstance(cell, float) and cell.is_integer() else cell)
            return whole.map(lambda cell: str(cell) if isinstance(cell, Number) else cell, na_action="ignore")
    return column


def _ragged(rows: Any) -> str | None:
    """Return which row differs from the first, if that is wrong with rows that are no array."""
    shapes = list[Any]()
    for row in rows if isinstance(rows, list | tuple) else ():
        try:
            shapes.append(np.shape(row))
        except Exception:  # whatever the user's own `__array__` raises
            return f"row {len(shapes)} is no array, for its parts differ in shape"
    others = [(i, list(shape)) for i, shape in enumerate(shapes) if shape != shapes[0]]
    return f"row {others[0][0]} has the shape {others[0][1]}, but row 0 has {list(shapes[0])}" if others else None


def digests(table: Table) -> dict[str, str]:
    """Return a digest of each column, of arrays as a whole, and of what the columns are."""
    words = [table.words.get(name) for name in table.asides or ()]
    kinds = [table.feature_names, table.target_names, table.classes, table.row_shape, table.asides, words]
    found = {"its columns, classes or shape": hashlib.blake2b(json.dumps(kinds).encode())}
    if table.row_shape:
        found["inputs"] = hashlib.blake2b(table.features.tobytes())
    for name, cells in zip(table.feature_names, table.features.T, strict=True) if not table.row_shape else ():
        known = json.dumps(table.words.get(name)).encode()
        found[f"column '{name}'"] = hashlib.blake2b(known + cells.tobytes())
    for name, values in zip(table.target_names, table.targets.T, strict=True):
        found[f"target '{name}'"] = hashlib.blake2b(values.tobytes())
    return {name: digest.hexdigest() for name, digest in found.items()}


SOURCE = Python

if __name__ == "__main__":
    try:
        with redirect_stdout(sys.stderr):  # what the user's function prints is no part of the answer
            made = sources.load(json.load(sys.stdin), sys.argv[1]).table(sys.argv[1])
        print(json.dumps(digests(made)))
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
