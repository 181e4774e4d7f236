"""The random streams of a replica: one for each purpose, so that two variants of one seed see the same batches."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from bancada.training.settings import Train

START, ORDER, DROPOUT, MODULE = range(4)  # MODULE: what a module of the user's, and classes of torch, begin with


def number(seed: int, purpose: int) -> int:
    """Return the number that the generator of a seed and a purpose is seeded with.

    Two variants therefore see the same batches, however many numbers their starts or dropouts draw.
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(seed: int, purpose: int) -> torch.Generator:
    """Return a generator for a seed and a purpose."""
    return torch.Generator().manual_seed(number(seed, purpose))


def order(train: Train, rows: int, generator: torch.Generator) -> Callable[[], Int64[Tensor, " row"]]:
    """Return a function that gives the order of the rows in the next epoch.

    It is a new one in every epoch or, with batch_order: fixed, always the same. Full batches are not shuffled.
    """
    if train.batch_size == "full":
        once = torch.arange(rows)
    elif train.batch_order == "fixed":
        once = torch.randperm(rows, generator=generator)
    else:
        return lambda: torch.randperm(rows, generator=generator)
    return lambda: once
