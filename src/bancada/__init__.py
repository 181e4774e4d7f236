"""bancada: PyTorch experiments whose figures hold twice."""

from bancada import pins

pins.apply()
