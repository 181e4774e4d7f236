"""A synthetic table of classes, or a real CSV file in its place. Lesson 2."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from bancada.base.settings import Count
from bancada.base.tables import Table
from bancada.data.settings import Columns, DataShape, Seed, Source, SourceFile
from bancada.data.sources.csv import CsvFile

# The mean distance between the means of two classes, in standard deviations of a class. With it, a small network is
# wrong about a third of the test rows of `quality`, as it is with the real wines.
CLASS_DISTANCE = 1.6


class Classification(Source):
    """Lesson 2: a synthetic table with given numbers of rows by class, or, with `path`, a CSV file of such a table."""

    kind: Literal["classification"]
    class_counts: Annotated[dict[int, Count], Field(min_length=2)]  # rows of each class
    features: Annotated[Columns, Field(min_length=2)]  # names of the columns
    target: str  # the name of the class's column
    seed: Seed  # of the random numbers
    path: SourceFile | None = None  # the real table, a CSV file in data/sources, in place of a made one

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> "Classification":
        if self.target in self.features:
            raise ValueError(f"'{self.target}' is both a feature and the target")
        return self

    def table_shape(self) -> DataShape:
        """Return the shape. The number of rows of a CSV file is unknown."""
        rows = 0 if self.path else sum(self.class_counts.values())
        return DataShape(len(self.features), 1, len(self.class_counts), rows, sorted(self.class_counts))

    def feature_names(self) -> list[str]:
        """Return the names of the columns."""
        return self.features

    @property
    def computed(self) -> bool:
        """Whether there is no file."""
        return self.path is None

    @property
    def has_seed(self) -> bool:
        """Whether there is no file."""
        return self.path is None

    def make(self, key: str) -> Table:
        """Draw the rows in random order, each class normal with sd 1 around its own random mean.

        With `path`, return the columns of these names from the file instead; its labels must be among `class_counts`.
        """
        labels, targets = sorted(self.class_counts), [self.target]
        if self.path is not None:
            file = CsvFile(kind="csv", task="classification", path=self.path, features=self.features, targets=targets)
            return file.make(key, labels).only(self.features)
        rng = np.random.default_rng(self.seed)
        index = rng.permutation(np.repeat(np.arange(len(labels)), [self.class_counts[label] for label in labels]))
        size = len(self.features)
        means = rng.normal(0, CLASS_DISTANCE / math.sqrt(2 * size), (len(labels), size))
        features = means[index] + rng.standard_normal((len(index), size))
        return Table(features, index[:, None], self.features, targets, labels)


SOURCE = Classification
