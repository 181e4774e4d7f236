"""Two interlocking half rings of points in the plane. Lesson 3."""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from bancada.base.settings import Count, Finite, NotNegative, Positive
from bancada.base.tables import Table
from bancada.data.settings import DataShape, Seed, Source


class HalfMoons(Source):
    """Lesson 3. Two interlocking half rings; classes +1 (upper) and -1 (lower), half of the rows each."""

    kind: Literal["half_moons"]
    rows: Annotated[Count, Field(ge=2)]
    radius: Positive
    distance: Finite
    width: NotNegative
    seed: Seed

    def shape(self) -> DataShape:
        return DataShape(features=2, targets=1, classes=2, rows=self.rows)

    def feature_names(self) -> list[str]:
        return ["x", "y"]

    def make(self, key: str) -> Table:
        """Two half rings, rows at uniform angles a in [0, pi) and radii r in radius +- width / 2. Lesson 3.

        Upper (+1): (r cos a, r sin a). Lower (-1): (r cos a + radius, -r sin a - distance).
        """
        rng = np.random.default_rng(self.seed)

        def half_ring(rows: int) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"]]:
            angle = rng.uniform(0, np.pi, rows)
            radius = rng.uniform(self.radius - self.width / 2, self.radius + self.width / 2, rows)
            return radius * np.cos(angle), radius * np.sin(angle)

        lower_rows = self.rows // 2
        upper_x, upper_y = half_ring(self.rows - lower_rows)
        lower_x, lower_y = half_ring(lower_rows)
        upper = np.stack([upper_x, upper_y], axis=1)
        lower = np.stack([lower_x + self.radius, -lower_y - self.distance], axis=1)
        index = np.repeat([1, 0], [len(upper), len(lower)]).astype(np.int64)
        return Table(np.concatenate([upper, lower]), index[:, None], ["x", "y"], ["moon"], [-1, 1])


SOURCE = HalfMoons
