"""Two interlocking half rings of points in the plane. Lesson 3."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from bancada.base.settings import Count, Finite, NotNegative, Positive
from bancada.base.tables import Table
from bancada.data.settings import Seed, Source


class HalfMoons(Source):
    """Lesson 3: two interlocking half rings; classes +1 (upper) and -1 (lower), each with half of the rows."""

    task: ClassVar[str] = "classification"
    kind: Literal["half_moons"]
    rows: Annotated[Count, Field(ge=2)]  # half of them in each ring
    radius: Positive  # of the middle of a ring
    distance: Finite  # between the rings; negative: one reaches into the other
    width: NotNegative  # of a ring
    seed: Seed  # of the random numbers

    def make(self, key: str) -> Table:
        """Draw angles a uniform in [0, pi) and radii r uniform in radius +- width / 2, first for the upper half ring.

        Upper (+1): (r cos a, r sin a). Lower (-1): (r cos a + radius, -r sin a - distance).
        """
        rng = np.random.default_rng(self.seed)

        def half_ring(rows: int) -> Float64[np.ndarray, "row 2"]:
            angle = rng.uniform(0, np.pi, rows)
            radius = rng.uniform(self.radius - self.width / 2, self.radius + self.width / 2, rows)
            return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

        counts = [self.rows - self.rows // 2, self.rows // 2]
        upper, lower = (half_ring(rows) for rows in counts)
        features = np.concatenate([upper, lower * [1, -1] + [self.radius, -self.distance]])
        index = np.repeat([1, 0], counts).astype(np.int64)
        return Table(features, index[:, None], ["x", "y"], ["moon"], [-1, 1])


SOURCE = HalfMoons
