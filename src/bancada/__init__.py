"""bancada: PyTorch experiments whose figures hold twice."""

import gc

from bancada import pins

pins.apply()
gc.set_threshold(100_000)  # torch loads hundreds of thousands of objects that stay; looking through them often is slow
