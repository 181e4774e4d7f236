"""The keys of params.yaml about data: the source, of one of the kinds in `sources/`, and the split."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from bancada.base.refusals import one_line
from bancada.base.settings import Count, Settings
from bancada.base.tables import Table, as_written


def _in_sources(path: str) -> str:
    parts = PurePosixPath(path).parts
    if parts[:2] != ("data", "sources") or len(parts) < 3 or ".." in parts or "\0" in path:
        raise ValueError("must lie in data/sources, where DVC notices when the file changes")
    return path


def _distinct(names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is named twice")
    return names


SourceFile = Annotated[str, AfterValidator(_in_sources)]
Columns = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
Seed = Annotated[int, Field(ge=0)]
Vary = list[Literal["seed", "data"]]
_rounded = np.vectorize(as_written, otypes=[np.float64])
MOST_LABELS = 8  # in a message


class DataShape(NamedTuple):
    """The shape of what a network learns from. `classes` is 0 if targets are numbers; 0 features or rows: unknown."""

    features: int
    targets: int
    classes: int
    rows: int
    labels: Sequence[int | str] = ()  # of the classes, where they are known

    def named_classes(self) -> str:
        """Return how many classes there are, and the first ones by name."""
        names = ", ".join(map(one_line, self.labels[:MOST_LABELS]))
        return f"{self.classes} classes" + f" ({names}{', ...' * (self.classes > MOST_LABELS)})" * bool(names)


def _seed_first(vary: Vary) -> Vary:
    if vary not in (["seed"], ["seed", "data"]):
        raise ValueError("must be [seed] or [seed, data]")
    return vary


class Source(Settings, ABC):
    """Where a study's rows come from: a `kind`, its own keys, and these. Random numbers come from its seed."""

    # Each module in `sources/` has one subclass as its SOURCE, and is named like the kind.

    computed: ClassVar[bool] = True  # otherwise numbers are taken as they stand in a file, or as the user made them
    kind: str  # one of the kinds below
    # the shape of a row, such as [1, 8, 8] of a picture; null: a plain list
    shape: Annotated[list[Count], Field(min_length=1)] | None = None
    # with `data`, replica `i` has draw `i` of the data: a seed of the source, or of the split, that is larger by `i`
    vary: Annotated[Vary, AfterValidator(_seed_first)] = ["seed"]

    @abstractmethod
    def make(self, key: str) -> Table:
        """Return the table. If that is impossible, raise BadInput that names a file and line, or a key below `key`."""

    def table(self, key: str) -> Table:
        """Return the table with its rows in `shape`, which the split checks. Raise BadInput as `make` does.

        Numbers that are computed have 9 significant digits: the last digit of a cosine is not the same on every CPU.
        """
        made = self.unrounded(key)
        if not self.computed:
            return made
        targets = made.targets if made.classes else _rounded(made.targets)
        return replace(made, features=_rounded(made.features), targets=targets)

    def unrounded(self, key: str) -> Table:
        """Return `table` with all digits, which takes less time."""
        made = self.make(key)
        # Where no key names the features, they are all columns but those of the split.
        asides = made.asides or ([] if getattr(self, "features", None) is not None else None)
        return replace(made, row_shape=self.shape or made.row_shape, asides=asides)

    def refuse_changing(self, table: Table, key: str) -> None:
        """Raise BadInput if the source would make another table than this one, should it be asked again."""

    @property
    def has_seed(self) -> bool:
        """Whether another seed makes other rows; otherwise they are a table that can be split in another way."""
        return "seed" in type(self).model_fields

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class; otherwise targets are numbers."""
        return getattr(self, "task", "regression") == "classification"


def _form_of_dates(form: str) -> str:
    datetime.strptime(datetime(2000, 1, 1).strftime(form), form)  # raises ValueError for a code that it does not know
    return form


class Split(Settings):
    """Which rows are for training, validation and test: numbers of rows (`1000`) or fractions (`0.6`).

    At most one of `stratify`, `groups`, `order` and `copies` may be set.
    """

    train: Annotated[int | float, Field(gt=0)]  # rows, or a fraction; all three alike
    # `test`: the test rows are both, and no seed is chosen by them
    validation: Annotated[int | float, Field(ge=0)] | Literal["test"] = 0
    test: Annotated[int | float, Field(ge=0)] = 0  # read by the evaluation alone
    stratify: bool = False  # each class has the same share of each part
    # a column; rows with the same cell fall into one part, and the parts are fractions of the groups
    groups: str | None = None
    order: str | None = None  # a column; the first rows in its order are for training, the last ones for the test
    # of dates in that column, such as "%d/%m/%Y"; null: numbers or ISO dates
    order_format: Annotated[str, AfterValidator(_form_of_dates)] | None = None
    copies: Literal["together"] | None = None  # rows with the same features fall into one part
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of the draw; scikit-learn takes none above this limit

    @model_validator(mode="after")
    def _one_way(self) -> "Split":
        asked = {"groups": self.groups, "order": self.order, "copies": self.copies, "stratify": self.stratify or None}
        ways = [key for key, value in asked.items() if value is not None]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} exclude each other; keep one of them")
        if self.order_format and not self.order:
            raise ValueError("order_format needs order, the name of a column of dates")
        if self.grouped and any(isinstance(part, int) and part for part in (self.train, self.validation, self.test)):
            raise ValueError(f"with {ways[0]}, the parts are fractions of the groups, such as train: 0.8, test: 0.2")
        return self

    @property
    def column(self) -> str | None:
        """The column that the parts depend on, which is no feature unless `source.features` names it."""
        return self.groups or self.order

    @property
    def grouped(self) -> bool:
        """Whether the parts are fractions of groups, so that their numbers of rows are known only once it is done."""
        return bool(self.groups or self.copies)

    def counts(self, rows: int, unit: str = "rows") -> tuple[int, int, int]:
        """Return the numbers of rows, or of groups (train, validation, test), which add up to `rows`.

        validation is 0 if the test rows are both. Validation and test rows are rounded up, as in scikit-learn's
        train_test_split. Raise ValueError if the parts do not add up.
        """
        if self.validation == "test" and not self.test:
            raise ValueError("validation: test needs rows for test")
        parts = [self.train, 0 if self.validation == "test" else self.validation, self.test]
        if any(isinstance(part, float) for part in parts):
            if any(isinstance(part, int) and part > 0 for part in parts):
                raise ValueError("write all parts as rows or all as fractions")
            if not math.isclose(sum(parts), 1, abs_tol=1e-9):
                raise ValueError(f"the fractions add up to {sum(parts):g}, not to 1")
            parts = [part * rows for part in parts]
        elif sum(parts) != rows:
            hint = "; all of them are 1.0, not 1" if parts == [1, 0, 0] else ""
            raise ValueError(f"the parts add up to {sum(parts)}, but the data have {rows} rows{hint}")
        validation, test = (math.ceil(round(part, 6)) for part in parts[1:])
        train = rows - validation - test
        if train < 1:
            raise ValueError(f"no training {unit} are left of {rows}")
        return train, validation, test
