"""The global generators of torch, numpy and Python, from which a module may draw."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(number: int) -> None:
    """Seed them all."""
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


def states() -> dict[str, Any]:
    """Return their states."""
    found = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def restore(found: Mapping[str, Any]) -> None:
    """Set them to these states."""
    torch.set_rng_state(found["torch"])
    np.random.set_state(found["numpy"])
    random.setstate(found["python"])
    if "cuda" in found:
        torch.cuda.set_rng_state(found["cuda"])


@contextmanager
def same_draws() -> Iterator[None]:
    """Seed them, for a module that draws even when it is evaluated. Afterwards, put them back."""
    before = states()
    seed_all(0)
    yield
    restore(before)
