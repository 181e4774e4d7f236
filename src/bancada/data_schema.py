"""What params.yaml may say of data: the kinds of sources, and the split."""

import math
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from bancada.model import Finite, Model, NotNegative, Positive, Rows


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


def _rising(interval: list[float]) -> list[float]:
    if interval[0] >= interval[1]:
        raise ValueError("must be [low, high]")
    return interval


Interval = Annotated[list[Finite], Field(min_length=2, max_length=2), AfterValidator(_rising)]
SourceFile = Annotated[str, AfterValidator(_in_sources)]
Columns = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]


class DataShape(NamedTuple):
    """What is known of a data set before it is made. `classes` is 0 for numbers to predict, `rows` 0 where unknown."""

    features: int
    targets: int
    classes: int
    rows: int


class HalfMoons(Model):
    """Lesson 3. Two interlocking half rings; classes +1 (upper) and -1 (lower), half of the rows each."""

    kind: Literal["half_moons"]
    rows: Annotated[Rows, Field(ge=2)]
    radius: Positive
    distance: Finite
    width: NotNegative
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=2, targets=1, classes=2, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return ["x", "y"]


class LinearData(Model):
    """Lesson 5. X standard normal, y = X weights + bias + noise."""

    kind: Literal["linear"]
    rows: Rows
    weights: Annotated[list[Finite], Field(min_length=1)]
    bias: Finite
    noise_std: NotNegative
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=len(self.weights), targets=1, classes=0, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return [f"x{i}" for i in range(1, len(self.weights) + 1)]


class Table(Model):
    """A CSV file in data/sources. `features` null: every column that is neither a target nor in `ignore`."""

    kind: Literal["table", "csv"]
    path: SourceFile
    targets: Columns
    task: Literal["regression", "classification"]
    features: Columns | None = None
    ignore: list[str] = []
    rows: Rows | None = None  # the first so many; null: all

    @model_validator(mode="after")
    def _one_target_for_classes(self) -> Self:
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


class Sklearn(Model):
    """A data set that comes with scikit-learn."""

    kind: Literal["sklearn"]
    name: Literal["wine", "iris", "breast_cancer", "digits", "diabetes"]

    def shape(self) -> DataShape | None:
        return {
            "wine": DataShape(13, 1, 3, 178),
            "iris": DataShape(4, 1, 3, 150),
            "breast_cancer": DataShape(30, 1, 2, 569),
            "digits": DataShape(64, 1, 10, 1797),
            "diabetes": DataShape(10, 1, 0, 442),
        }[self.name]

    def feature_names(self) -> list[str] | None:
        return None


class Classification(Model):
    """Lesson 2. A synthetic table with given class counts; with `path` set, a real CSV with the same columns."""

    kind: Literal["classification"]
    class_counts: Annotated[dict[int, Rows], Field(min_length=2)]
    features: Annotated[Columns, Field(min_length=2)]
    target: str
    seed: Annotated[int, Field(ge=0)]
    path: SourceFile | None = None

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.target in self.features:
            raise ValueError(f"'{self.target}' is both a feature and the target")
        return self

    def shape(self) -> DataShape | None:
        rows = 0 if self.path else sum(self.class_counts.values())
        return DataShape(len(self.features), 1, len(self.class_counts), rows)

    def feature_names(self) -> list[str] | None:
        return self.features


class HousePrices(Model):
    """Lesson 4. Price (thousands) against rooms: a line with noise, and a few houses sold far below it."""

    kind: Literal["house_prices"]
    rows: Rows
    outliers: Annotated[int, Field(ge=0)]  # how many of the rows
    price_per_room: Finite
    price_at_zero: Finite
    noise_std: NotNegative
    outlier_price: Finite
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=1, targets=1, classes=0, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return ["rooms"]


Source = Annotated[HalfMoons | LinearData | Table | Sklearn | Classification | HousePrices, Field(discriminator="kind")]


class Split(Model):
    """Rows (whole numbers) or fractions for each part. `validation: test` lets the held-out rows serve as both."""

    train: Annotated[int | float, Field(gt=0)]
    validation: Annotated[int | float, Field(ge=0)] | Literal["test"] = 0
    test: Annotated[int | float, Field(ge=0)] = 0
    stratify: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # scikit-learn takes no larger one

    def counts(self, rows: int) -> tuple[int, int, int]:
        """Rows of (train, validation, test), which add up to `rows`; validation is 0 where the test rows serve as both.

        Held-out parts round up, as scikit-learn's train_test_split does. ValueError where the parts do not add up.
        """
        if self.validation == "test" and not self.test:
            raise ValueError("validation: test needs rows for test")
        parts = [self.train, 0 if self.validation == "test" else self.validation, self.test]
        if any(isinstance(part, float) for part in parts):
            if any(isinstance(part, int) and part > 0 for part in parts):
                raise ValueError("write all parts as rows or all as fractions")
            if not math.isclose(sum(parts), 1, abs_tol=1e-9):
                raise ValueError(f"the fractions add up to {sum(parts):g}, not to 1")
            validation, test = (math.ceil(round(part * rows, 6)) for part in parts[1:])
            train = rows - validation - test
        else:
            train, validation, test = (int(part) for part in parts)
            if sum(parts) != rows:
                hint = "; all of them are 1.0, not 1" if parts == [1, 0, 0] else ""
                raise ValueError(f"the parts add up to {sum(parts)}, but the data have {rows} rows{hint}")
        if train < 1:
            raise ValueError(f"no training rows are left of {rows}")
        return train, validation, test
