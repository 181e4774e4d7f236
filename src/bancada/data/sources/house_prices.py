"""Prices of houses by their number of rooms, a few of them sold far too low. Lesson 4."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from bancada.base.settings import Count, Finite, NotNegative
from bancada.base.tables import Table
from bancada.data.settings import DataShape, Seed, Source

# The range of rooms, and the size from which a house may be sold too low: there such sales pull the line down.
ROOMS = (5.5, 9.0)
BIG_HOUSE = 6.5


class HousePrices(Source):
    """Lesson 4. Price (thousands) against rooms: a line with noise, and a few houses sold far below it."""

    kind: Literal["house_prices"]
    rows: Count
    outliers: Annotated[int, Field(ge=0)]  # how many of the rows
    price_per_room: Finite
    price_at_zero: Finite
    noise_std: NotNegative
    outlier_price: Finite
    seed: Seed

    @model_validator(mode="after")
    def _no_more_outliers_than_rows(self) -> "HousePrices":
        if self.outliers > self.rows:
            raise ValueError(f"outliers = {self.outliers}: more than the {self.rows} rows")
        return self

    def shape(self) -> DataShape:
        return DataShape(features=1, targets=1, classes=0, rows=self.rows)

    def feature_names(self) -> list[str]:
        return ["rooms"]

    def make(self, key: str) -> Table:
        """Price against rooms: a line with noise; some of the big houses are sold at about outlier_price. Lesson 4."""
        rng = np.random.default_rng(self.seed)
        outlier = rng.permutation(self.rows) < self.outliers
        low, high = ROOMS
        rooms = np.round(rng.uniform(np.where(outlier, BIG_HOUSE, low), high), 1)
        price = np.where(outlier, self.outlier_price, self.price_at_zero + self.price_per_room * rooms)
        price = price + self.noise_std * rng.standard_normal(self.rows)
        return Table(rooms[:, None], price[:, None], ["rooms"], ["price_thousands"], [])


SOURCE = HousePrices
