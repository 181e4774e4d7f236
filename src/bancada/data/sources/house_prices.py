"""Synthetic prices of houses by their number of rooms, a few of them far too low. Lesson 4."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from bancada.base.settings import Count, Finite, NotNegative
from bancada.base.tables import Table
from bancada.data.settings import Seed, Source

# The range of the number of rooms, and the least number of rooms of an outlier: there, outliers pull the line down.
ROOMS = (5.5, 9.0)
BIG_HOUSE = 6.5


class HousePrices(Source):
    """Lesson 4: the price, in thousands, is linear in the number of rooms, with normal noise and a few outliers."""

    kind: Literal["house_prices"]
    rows: Count  # how many houses
    outliers: Annotated[int, Field(ge=0)]  # how many of them are sold far too cheaply
    price_per_room: Finite  # in thousands
    price_at_zero: Finite  # the line's value at no room
    noise_std: NotNegative  # standard deviation of the noise
    outlier_price: Finite  # what an outlier is sold for
    seed: Seed  # of the random numbers

    @model_validator(mode="after")
    def _no_more_outliers_than_rows(self) -> "HousePrices":
        if self.outliers > self.rows:
            raise ValueError(f"outliers = {self.outliers}: more than the {self.rows} rows")
        return self

    def make(self, key: str) -> Table:
        """Draw which rows are outliers, then the numbers of rooms, then the noise. An outlier costs `outlier_price`."""
        rng = np.random.default_rng(self.seed)
        outlier = rng.permutation(self.rows) < self.outliers
        rooms = np.round(rng.uniform(np.where(outlier, BIG_HOUSE, ROOMS[0]), ROOMS[1]), 1)
        price = np.where(outlier, self.outlier_price, self.price_at_zero + self.price_per_room * rooms)
        price = price + self.noise_std * rng.standard_normal(self.rows)
        return Table(rooms[:, None], price[:, None], ["rooms"], ["price_thousands"], [])


SOURCE = HousePrices
