"""What the engines draw for a seed, so that two variants of one seed see the same batches whichever engine they have.

Starts and orders of rows are numbers of their own address (networks/kernel), without a state. torch's and the user's
modules draw from generators, which are seeded by a number for each purpose.
"""

import numpy as np
from jaxtyping import Int64

from bancada.networks import kernel
from bancada.training.settings import Train

DROPOUT, MODULE = range(2, 4)  # MODULE: what a module of the user's, and classes of torch, begin with


def number(seed: int, purpose: int) -> int:
    """Return the number that a generator is seeded with.

    Two variants therefore draw the same dropouts, however many numbers their starts draw.
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def order(train: Train, seed: int, epoch: int, rows: int) -> Int64[np.ndarray, " row"]:
    """Return the order of the rows in an epoch.

    It is a new one in every epoch or, with batch_order: fixed, always the same. Full batches are not shuffled.
    """
    if train.batch_size == "full":
        return np.arange(rows)
    return kernel.order_of_rows(seed, 0 if train.batch_order == "fixed" else epoch, rows)
