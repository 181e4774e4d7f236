"""Tables in CSV files."""

import csv
import io
import math
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from bancada.base.refusals import BadInput, did_you_mean
from bancada.base.settings import LARGEST, Count
from bancada.base.tables import Table
from bancada.data.settings import Columns, DataShape, Source, SourceFile


class CsvFile(Source):
    """A CSV file in data/sources. `features` null: every column that is neither a target nor in `ignore`."""

    kind: Literal["table", "csv"]
    path: SourceFile
    targets: Columns
    task: Literal["regression", "classification"]
    features: Columns | None = None
    ignore: list[str] = []
    rows: Count | None = None  # the first so many; null: all

    @model_validator(mode="after")
    def _one_target_for_classes(self) -> "CsvFile":
        if self.task == "classification" and len(self.targets) != 1:
            raise ValueError("classification takes one target column")
        for name in self.targets:
            if name in (self.features or []):
                raise ValueError(f"'{name}' is both a feature and a target")
        return self

    def shape(self) -> DataShape | None:
        """Known only for numbers with named features: classes are counted when the file is read."""
        if self.task == "classification" or self.features is None:
            return None
        return DataShape(features=len(self.features), targets=len(self.targets), classes=0, rows=self.rows or 0)

    def feature_names(self) -> list[str] | None:
        return self.features

    @property
    def has_classes(self) -> bool:
        return self.task == "classification"

    def make(self, key: str) -> Table:
        return read_csv(self, key)


def read_csv(source: CsvFile, key: str, known: list[int] | None = None) -> Table:
    """Return the named columns of a CSV file, its first `rows` rows or all. `known`: the only labels that are allowed.

    Raise BadInput, which names the file, the line as an editor counts it, and the column.
    """
    path = Path(source.path)
    records = _records(path)
    _, header = next(records)
    features = source.features or [name for name in header if name not in (*source.targets, *source.ignore)]
    _check_header(path, header, [*features, *source.targets, *source.ignore])
    if not features:
        raise BadInput(f"{path}: line 1: no column is left to be a feature")
    classes = source.task == "classification"
    columns = [header.index(name) for name in ([*features] if classes else [*features, *source.targets])]
    label_column = header.index(source.targets[0])
    numbers, labels = array("d"), []
    for line, cells in islice(records, source.rows):
        if len(cells) != len(header):
            raise BadInput(f"{path}: line {line}: {len(cells)} cells, but the header has {len(header)} columns")
        column = 0
        try:
            for column in columns:
                numbers.append(_number(cells[column]))
            if classes:
                column = label_column
                labels.append(_label(cells[column], known, key))
        except ValueError as error:
            shown = f" = {' '.join(cells[column].split())[:60]}" if cells[column] else ""
            raise BadInput(f"{path}: line {line}, column '{header[column]}'{shown}: {error}") from None
    found = np.array(numbers, dtype=np.float64).reshape(-1, len(columns))
    if not len(found):
        raise BadInput(f"{path}: no rows below the header")
    if source.rows and len(found) < source.rows:
        raise BadInput(f"{path}: {len(found)} rows, but {key}.rows = {source.rows}")
    if not classes:
        return Table(found[:, : len(features)], found[:, len(features) :], features, source.targets, [])
    names, index = _classes(labels, known)
    if len(names) < 2:
        raise BadInput(f"{path}: column '{source.targets[0]}' has one class, {names[0]}; at least two are needed")
    return Table(found, index, features, source.targets, names)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line (from 1) and the cells of the header and of each row; empty lines are none.

    csv and not pandas, which fills short rows up and drops empty lines, and so cannot say in which line a cell is.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")  # Excel begins its files with a byte order mark
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}: line {line}: not a text in UTF-8") from None
    except OSError as error:
        hint = "; `dvc pull` fetches it" if path.with_name(f"{path.name}.dvc").exists() else ""
        raise BadInput(f"{path}: {error.strerror}{hint}") from None
    reader, line, empty = csv.reader(io.StringIO(text, newline=""), strict=True), 1, True
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                yield line, [cell.strip() for cell in cells]
                empty = False
            line = reader.line_num + 1  # a quoted cell may go over several lines: the next row's first
    except csv.Error as error:
        raise BadInput(f"{path}: line {line}: {error}") from None
    if empty:
        raise BadInput(f"{path}: is empty")


def _check_header(path: Path, header: list[str], needed: list[str]) -> None:
    if len(header) == 1:
        raise BadInput(f"{path}: line 1: one column only; commas separate columns")
    for name in needed:
        if name not in header:
            raise BadInput(f"{path}: line 1: no column '{name}'{did_you_mean(name, header)}")
        if not name:
            raise BadInput(f"{path}: line 1: column {header.index(name) + 1} has no name")
        if header.count(name) > 1:
            raise BadInput(f"{path}: line 1: column '{name}' is there twice")


def _number(cell: str) -> float:
    """ValueError says what is wrong."""
    try:
        number = float(cell) if "_" not in cell else None
    except ValueError:
        number = None
    if number is None:
        raise ValueError("must be a number" if cell else "is empty")
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    if abs(number) > LARGEST:
        raise ValueError(f"must not be beyond {LARGEST:.3g}, the largest number that a network can take")
    return number


def _label(cell: str, known: list[int] | None, key: str) -> int | str:
    """A whole number or a word. ValueError where it is no class."""
    label: int | str = cell
    try:
        number = float(cell)
    except ValueError:
        if not cell:
            raise ValueError("is empty") from None
    else:
        if not (number.is_integer() and abs(number) <= 2**53):
            raise ValueError("is no class (a whole number or a word)")
        label = int(number)
    if known is not None and label not in known:
        raise ValueError(f"is no class of {key}.class_counts: {', '.join(map(str, known))}")
    return label


def _classes(labels: list[int | str], known: list[int] | None) -> tuple[list[int] | list[str], Any]:
    """The sorted classes (words where one of them is a word) and each label's index among them."""
    whole = [label for label in labels if isinstance(label, int)]
    if len(whole) == len(labels):
        numbers = known or sorted(set(whole))
        return numbers, np.searchsorted(numbers, whole).astype(np.int64)[:, None]
    words, index = np.unique([str(label) for label in labels], return_inverse=True)
    return [str(word) for word in words], index.astype(np.int64)[:, None]


SOURCE = CsvFile
