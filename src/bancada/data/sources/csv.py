"""Tables in CSV files. Messages about a file name the line, as an editor counts it, and the column."""

import csv
import io
import math
from array import array
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import model_validator

from bancada.base.refusals import BadInput, did_you_mean, shown
from bancada.base.settings import LARGEST, Count
from bancada.base.tables import Table
from bancada.data import labels
from bancada.data.settings import Columns, DataShape, Source, SourceFile

MOST_NAMED = 100  # lines in a message


class CsvFile(Source):
    """A CSV file in data/sources. `features` null: every column that is neither a target nor in `ignore`."""

    kind: Literal["table", "csv"]
    path: SourceFile
    targets: Columns
    task: Literal["regression", "classification"]
    features: Columns | None = None
    ignore: list[str] = []
    rows: Count | None = None  # read only the first rows, this many; null: all

    @model_validator(mode="after")
    def _one_target_for_classes(self) -> "CsvFile":
        if self.task == "classification" and len(self.targets) != 1:
            raise ValueError("classification takes one target column")
        for name in self.targets:
            if name in (self.features or []):
                raise ValueError(f"'{name}' is both a feature and a target")
        return self

    def table_shape(self) -> DataShape | None:
        """Return the shape if the file need not be read for it: targets are numbers, and `features` are given."""
        if self.task == "classification" or self.features is None:
            return None
        return DataShape(features=len(self.features), targets=len(self.targets), classes=0, rows=self.rows or 0)

    def feature_names(self) -> list[str] | None:
        """Return `features`."""
        return self.features

    @property
    def may_have_words(self) -> bool:
        """Whether features may be words."""
        return True

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class."""
        return self.task == "classification"

    def make(self, key: str, known: list[int] | None = None) -> Table:
        """Read the columns that the keys below `key` of params.yaml name. `known`: the only allowed labels.

        Raise BadInput, with the file's name, line and column, for what cannot be used.
        """
        path = Path(self.path)
        header, rows_of_file = read(path)
        features = self.features or [name for name in header if name not in (*self.targets, *self.ignore)]
        check_header(path, header, [*features, *self.targets, *self.ignore])
        if not features:
            raise BadInput(f"{path}: line 1: no column is left to be a feature")
        columns: dict[str, Any] = {name: array("d") for name in (*features, *self.targets)}
        if self.has_classes:
            columns[self.targets[0]] = []
        lines = []
        for line, row in islice(rows_of_file, self.rows):
            lines.append(line)
            for name, values in columns.items():
                values.append(number(path, line, row, name) if isinstance(values, array) else row[name])
        rows = len(lines)
        if not rows:
            raise BadInput(f"{path}: no rows below the header")
        if self.rows and rows < self.rows:
            raise BadInput(f"{path}: {rows} rows, but {key}.rows = {self.rows}")
        inputs = np.column_stack([columns[name] for name in features])
        if not self.has_classes:
            return Table(inputs, np.column_stack([columns[name] for name in self.targets]), features, self.targets, [])
        classes, index = self._classes(columns[self.targets[0]], lines, key, known)
        return Table(inputs, index[:, None], features, self.targets, classes)

    def _classes(
        self, texts: list[str], lines: list[int], key: str, known: list[int] | None
    ) -> tuple[list[int] | list[str], Int64[np.ndarray, " row"]]:
        """Return the sorted classes, and the index of each row's class."""
        column = f"column '{self.targets[0]}'"
        places = [f"{lines[i]} ({texts[i] or 'empty'})" for i in labels.missing(texts)]
        if places:
            more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
            count = f"{len(places)} row{'s have' if len(places) > 1 else ' has'} no label"
            where = f"line{'s' * (len(places) > 1)} {', '.join(places[:MOST_NAMED])}{more}"
            raise BadInput(f"{self.path}: {column}: {count}: {where}; take them out, or give them a class")
        label = labels.labels_of(texts)
        classes = known or sorted(set(label.values()))
        place = {str(name): i for i, name in enumerate(classes)}
        for line, text in zip(lines, texts, strict=True):
            if str(label[text]) not in place:
                problem = f"is no class of {key}.class_counts: {', '.join(place)}"
                raise BadInput(f"{self.path}: line {line}, {column}{shown(text)}: {problem}")
        if len(classes) < 2:
            raise BadInput(f"{self.path}: {column} has one class, {classes[0]}; at least two are needed")
        return classes, np.array([place[str(label[text])] for text in texts], dtype=np.int64)


def read(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the header, and the rows below it: each one's line and its cells by column. Raise BadInput."""
    records = _records(path)
    _, header = next(records, (1, []))
    if not header:
        raise BadInput(f"{path}: is empty")
    return header, (_by_column(path, line, cells, header) for line, cells in records)


def _by_column(path: Path, line: int, cells: list[str], header: list[str]) -> tuple[int, dict[str, str]]:
    if len(cells) != len(header):
        raise BadInput(f"{path}: line {line}: {len(cells)} cells, but the header has {len(header)} columns")
    return line, dict(zip(header, cells, strict=True))


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number, from 1, and the cells of the header and of each row that is not empty.

    pandas is not used, because it fills short rows and skips empty lines: the line of a cell would be unknown.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Excel writes a byte order mark at the start
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}: line {line}: not a text in UTF-8") from None
    except OSError as error:
        hint = "; `dvc pull` fetches it" if path.with_name(f"{path.name}.dvc").exists() else ""
        raise BadInput(f"{path}: {error.strerror}{hint}") from None
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1  # where the next row begins; a quoted cell may have several lines
    except csv.Error as error:
        raise BadInput(f"{path}: line {line}: {error}") from None


def check_header(path: Path, header: list[str], needed: list[str]) -> None:
    """Raise BadInput where a needed column is missing, has no name or comes twice."""
    if len(header) == 1 < len(needed):
        raise BadInput(f"{path}: line 1: one column only; commas separate columns")
    for name in needed:
        if name not in header:
            raise BadInput(f"{path}: line 1: no column '{name}'{did_you_mean(name, header, 0.6)}")
        if not name:
            raise BadInput(f"{path}: line 1: column {header.index(name) + 1} has no name")
        if header.count(name) > 1:
            raise BadInput(f"{path}: line 1: there are two columns '{name}'")


def number(path: Path, line: int, row: Mapping[str, str], name: str) -> float:
    """Return the number of a cell. Raise BadInput if there is none that a network can take."""
    return finite(f"{path}: line {line}, column '{name}'", row[name])


def finite(where: str, cell: str) -> float:
    """Return the number that a text is. Raise BadInput, which begins with `where`, as `number` does."""
    problem = ""
    try:
        found = float(cell.replace("_", "?"))  # Python would read 1_000
    except ValueError:
        found, problem = math.nan, "must be a number" if cell else "is empty"
    if not problem and not math.isfinite(found):
        problem = "must be a finite number"
    elif abs(found) > LARGEST:
        problem = f"must not be beyond {LARGEST:.3g}, the largest number that a network can take"
    if problem:
        raise BadInput(f"{where}{shown(cell)}: {problem}")
    return found


SOURCE = CsvFile
