"""Tables in files, CSV or parquet. Messages about a file name the line, as an editor counts it, and the column."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from bancada.base.refusals import BadInput
from bancada.base.settings import Count
from bancada.base.tables import Table
from bancada.data import columns, labels, texts
from bancada.data.reading import Reading
from bancada.data.settings import Columns, Source, SourceFile


class Described(Source, Reading):
    """Columns of a table, and what they are. `features` null: all that are neither a target nor in `ignore`.

    Where `features` are given, the other columns that are not in `ignore` are kept for the split.
    """

    computed: ClassVar[bool] = False
    targets: Columns  # the columns to predict
    task: Literal["regression", "classification"]  # numbers or classes
    features: Columns | None = None  # null: every column that is neither a target nor in `ignore`
    ignore: list[str] = []  # columns that are not read

    @model_validator(mode="after")
    def _columns_have_one_use(self) -> "Described":
        if self.task == "classification" and len(self.targets) != 1:
            raise ValueError("classification takes one target column")
        uses = {"a feature": self.features or [], "in ignore": self.ignore, "in words": self.words}
        for use, other in (*((use, "a target") for use in uses), ("a feature", "in ignore")):
            if both := set(uses[use]) & set(uses.get(other, self.targets)):
                raise ValueError(f"'{min(both)}' is both {use} and {other}")
        return self

    def table_of(self, found: texts.Texts) -> Table:
        """Return the columns that the keys name, as `make` does."""
        features = self.features or []
        columns.refuse_unknown(found, [*self.ignore, *self.words, *self.numbers, *features, *self.targets])
        used, counts = {*self.targets, *self.ignore}, Counter(found.header)
        features = features or [name for name in found.header if name not in used]
        if not features:
            raise BadInput(f"{columns.header_of(found)}no column is left to be a feature")
        used.update(features)
        # A column that no key can name is not kept.
        asides = [name for name, count in counts.items() if name and count == 1 and name not in used]
        kinds: dict[str, columns.Kind] = {**dict.fromkeys(features, "feature"), **dict.fromkeys(asides, "aside")}
        of_target: columns.Kind = "label" if self.has_classes else "target"
        made = columns.cells(found, self, {**kinds, **dict.fromkeys(self.targets, of_target)})
        inputs, targets = (np.column_stack([made[name].values for name in names]) for names in (kinds, self.targets))
        words = {name: words for name in kinds if (words := made[name].words) is not None}
        marks = [mark for mark in self.missing or [] if mark]
        table = Table(inputs, targets, list(kinds), self.targets, [], words=words, asides=asides, missing=marks)
        return self._with_classes(table, made[self.targets[0]], found) if self.has_classes else table

    def _with_classes(self, table: Table, cells: columns.Cells, found: texts.Texts) -> Table:
        """Return the table with the sorted classes, and the index of each row's class as its target."""
        words = cells.words or []
        label = labels.labels_of(words)
        classes = sorted(label.values())
        if len(classes) < 2:
            only = f"column '{self.targets[0]}' has one class, {classes[0]}"
            raise BadInput(f"{found.path}: {only}; at least two are needed")
        place = {name: i for i, name in enumerate(classes)}
        index = np.array([place[label[word]] for word in words])[cells.values.astype(np.int64)]
        return replace(table, targets=index[:, None], classes=classes)


class CsvFile(Described):
    """A table in data/sources."""

    kind: Literal["table", "csv"]
    path: SourceFile  # a file in data/sources
    rows: Count | None = None  # read only so many rows, the first; null: all

    def make(self, key: str) -> Table:
        """Read the columns that the keys below `key` of params.yaml name.

        Raise BadInput, with the file's name, line and column, for what cannot be used.
        """
        found = texts.read(Path(self.path), self, self.rows, self.ignore)
        if self.rows and len(found.lines) < self.rows:
            raise BadInput(f"{self.path}: {len(found.lines)} rows, but {key}.rows = {self.rows}")
        return self.table_of(found)


SOURCE = CsvFile
