"""Rows that a function of the user's makes, in a Python file below src/sources.

`python -m bancada.data.sources.python KEY` prints digests of the rows that a second call makes of the source whose keys
are read from standard input as JSON: so a source is found to depend on more than its arguments.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from bancada.base import BadInput, stage, user_code
from bancada.base.cells import text_of
from bancada.base.refusals import bad, several, wrong_key
from bancada.base.settings import Args
from bancada.base.tables import Table
from bancada.data import reads, sources, texts
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
    file: Annotated[str, AfterValidator(_importable)]  # a Python file below src/sources
    name: Annotated[str, Field(min_length=1)]  # of the function
    args: Args = {}  # what it is called with, beside `seed`
    seed: Seed = 0  # what it is called with
    targets: Columns = ["target"]  # columns of the DataFrame

    @model_validator(mode="after")
    def _no_keys_of_text(self) -> "Python":
        if "seed" in self.args:
            raise wrong_key("args.seed", "is source.seed, beside args")
        if wrong := [key for key in texts.OF_TEXT if getattr(self, key) is not None]:
            raise wrong_key(wrong[0], "is for files of text; a function returns numbers and texts")
        return self

    def make(self, key: str) -> Table:
        """Call the function once, and return its rows. Raise BadInput that names the file, and a line or a row."""
        with reads.only_sources(SRC, self.file):
            function = user_code.load(SRC, self.file, self.name, "sources")
            returned = user_code.call(function, {"seed": self.seed, **copy.deepcopy(self.args)}, self.file)
        import pandas as pd  # takes half a second

        if isinstance(returned, pd.DataFrame):
            return self.table_of(self._texts(returned))
        if isinstance(returned, Mapping) and returned.keys() - FOR_SPLIT == {"inputs", "target"}:
            return self._of_arrays(returned, key)
        what = f"a mapping of {', '.join(map(str, returned)) or 'nothing'}" if isinstance(returned, Mapping) else ""
        right = 'a pandas DataFrame, or {"inputs": array, "target": array}, with "groups" or "order" where needed'
        raise self._bad(f"returned {what or f'an object of type {type(returned).__name__}'}; must be {right}")

    def refuse_changing(self, table: Table, key: str) -> None:
        """Raise BadInput if the second call in another process, where sets have another order, makes another table."""
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
        first, second = table.digests(), json.loads(done.stdout)
        if differ := [name for name in first | second if first.get(name) != second.get(name)]:
            raise self._bad(f"another call with the same arguments differs in {several(differ, 1)}; {WHY}")

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"{self.file}: {self.name}: {problem}")

    def _texts(self, frame: Any) -> texts.Texts:
        """Return the columns of a DataFrame, or of a mapping of arrays."""
        names, made = list[str](), list[Any]()
        for name, column in frame.items():
            names.append(str(name))
            try:
                made.append(pa.array(_alike(column), from_pandas=True))
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise self._bad(f"column '{name}' cannot be stored: {' '.join(map(str, error.args))}") from None
        return texts.of_arrow(Path(self.file), pa.table(made, names), self.ignore)

    def _of_arrays(self, returned: Mapping[str, Any], key: str) -> Table:
        """Return the table of arrays, by the rules for a DataFrame that has a column for each number of a row."""
        for name in ("features", "ignore", "words", "numbers", "missing"):
            if getattr(self, name):
                raise bad(f"{key}.{name}", None, f"is for columns; {self.file} returns arrays")
        arrays = {name: self._array(name, value) for name, value in returned.items()}
        rows, target = arrays.pop("inputs"), arrays.pop("target")
        if rows.dtype.kind not in NUMBERS:
            raise self._bad(
                f"inputs holds {rows.dtype}, not numbers; astype(float) makes numbers of what looks like it"
            )
        for place in np.argwhere(~np.isfinite(rows))[:1].tolist():
            raise self._bad(f"inputs{place} = {rows[tuple(place)]:g}: must be a finite number")
        shapes = {"inputs": rows.shape, "target": target.shape} | {name: array.shape for name, array in arrays.items()}
        beside = [array for array in arrays.values() if array.ndim > 1]
        if target.ndim > 2 or beside or len({shape[0] for shape in shapes.values()}) > 1:
            told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            right = "inputs [row, ...], target [row] or [row, target], groups and order [row]"
            raise self._bad(f"returned the shapes {told}; must be {right}, with as many rows")
        features = _names("inputs", rows.shape[1:])
        targets = self.targets if "targets" in self.model_fields_set else _names("target", target.shape[1:])
        target = target.reshape(len(target), -1)
        if len(targets) != target.shape[1] or (self.has_classes and len(targets) > 1):
            most = "one, of classes" if self.has_classes else f"as many as {key}.targets names"
            raise self._bad(f"returned {target.shape[1]} targets; must be {most}")
        for row in np.flatnonzero(target % 1)[:1] if self.has_classes and target.dtype.kind == "f" else ():
            raise self._bad(f"target[{row}] = {target[row, 0]:g}: is no class; texts and whole numbers are")
        if both := {*targets} & {*features, *arrays}:
            raise self._bad(f"'{min(both)}' is both a target and another column; name the target otherwise")
        columns = dict(zip([*features, *targets], [*rows.reshape(len(rows), -1).T, *target.T], strict=True)) | arrays
        described = self.model_copy(update={"features": features, "targets": targets})
        made = described.table_of(self._texts(columns))
        return replace(made, row_shape=list(rows.shape[1:]) if rows.ndim > 2 else None)

    def _array(self, name: str, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except Exception as error:  # of rows that differ, of a tensor that needs gradients, or the user's own
            raise self._bad(f"{name}: {user_code.explained(error, SRC)}; {STACK}") from None
        if array.ndim == 0 or array.size == 0:
            raise self._bad(f"{name} has the shape {list(array.shape)}; must be [row, ...]; {STACK}")
        return array


def _names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return a name for each number of a row, such as inputs[0, 3]."""
    return [f"{name}{list(place)}" for place in np.ndindex(shape)] if shape not in ((), (1,)) else [name]


def _alike(column: Any) -> Any:
    """Return a column of a DataFrame with texts in place of numbers where it has both, as in a file."""
    if column.dtype != object or not all(isinstance(cell, str | Number) for cell in column if cell is not None):
        return column
    return [None if cell != cell else text_of(cell) if isinstance(cell, Number) else cell for cell in column]


SOURCE = Python

if __name__ == "__main__":
    with stage.told_errors():
        with redirect_stdout(sys.stderr):  # what the user's function prints is no part of the answer
            source = sources.load(json.load(sys.stdin), sys.argv[1])
            made = [source.table(sys.argv[1]) for _ in range(2)][1]
        print(json.dumps(made.digests()))
