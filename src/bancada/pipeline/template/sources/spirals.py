"""Two spirals that wind around each other: an example of data that a function makes."""

import numpy as np


def make(seed: int, rows: int, turns: float = 1.5, noise_std: float = 0.3) -> dict[str, object]:
    """Return the places of points [row, 2], and on which spiral each lies."""
    draw = np.random.default_rng(seed)
    second = draw.integers(0, 2, rows)
    radius = 1 + 9 * np.sqrt(draw.uniform(size=rows))
    angle = 2 * np.pi * turns * radius / 10 + np.pi * second
    places = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return {
        "inputs": places + noise_std * draw.standard_normal(places.shape),
        "target": np.where(second, "second", "first"),
    }
