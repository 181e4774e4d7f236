"""Synthetic rows for linear regression: targets that depend linearly on the features, with noise. Lesson 5."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bancada.base.settings import Count, Finite, NotNegative
from bancada.base.tables import Table
from bancada.data.settings import Seed, Source


class LinearData(Source):
    """Lesson 5: y = X weights + bias + noise, with X standard normal and the noise normal with sd `noise_std`."""

    kind: Literal["linear"]
    rows: Count  # how many
    weights: Annotated[list[Finite], Field(min_length=1)]  # the true ones, one for each feature
    bias: Finite  # the true one
    noise_std: NotNegative  # standard deviation of the noise
    seed: Seed  # of the random numbers

    def make(self, key: str) -> Table:
        """Draw the features, then the noise."""
        rng = np.random.default_rng(self.seed)
        features = rng.standard_normal((self.rows, len(self.weights)))
        noise = self.noise_std * rng.standard_normal(self.rows)
        # One weight after another, because the order of the sums in a matrix product depends on the CPU.
        terms = (weight * column for weight, column in zip(self.weights, features.T, strict=True))
        target = sum(terms) + self.bias + noise
        names = [f"x{i}" for i in range(1, len(self.weights) + 1)]
        return Table(features, target[:, None], names, ["y"], [])


SOURCE = LinearData
