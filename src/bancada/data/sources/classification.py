"""A synthetic table of classes. Lesson 2."""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from bancada.base.settings import Count
from bancada.base.tables import Table
from bancada.data.settings import Columns, Seed, Source

# The mean distance between the means of two classes, in standard deviations of a class. With it, a small network is
# wrong about a third of the test rows of `quality`, as it is with the real wines.
CLASS_DISTANCE = 1.6


class Classification(Source):
    """Lesson 2: a synthetic table with given numbers of rows by class."""

    task: ClassVar[str] = "classification"
    kind: Literal["classification"]
    class_counts: Annotated[dict[int, Count], Field(min_length=2)]  # rows of each class
    features: Annotated[Columns, Field(min_length=2)]  # names of the columns
    target: str  # the name of the class's column
    seed: Seed  # of the random numbers

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> "Classification":
        if self.target in self.features:
            raise ValueError(f"'{self.target}' is both a feature and the target")
        return self

    def make(self, key: str) -> Table:
        """Draw the rows in random order, each class normal with sd 1 around its own random mean."""
        labels = sorted(self.class_counts)
        rng = np.random.default_rng(self.seed)
        index = rng.permutation(np.repeat(np.arange(len(labels)), [self.class_counts[label] for label in labels]))
        size = len(self.features)
        means = rng.normal(0, CLASS_DISTANCE / math.sqrt(2 * size), (len(labels), size))
        features = means[index] + rng.standard_normal((len(index), size))
        return Table(features, index[:, None], self.features, [self.target], labels)


SOURCE = Classification
