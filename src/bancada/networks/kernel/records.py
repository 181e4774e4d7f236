"""What the compiled functions take: networks, settings, rows and trainings as numbers and arrays."""

from typing import NamedTuple

import numpy as np

f32, f64, i32, u64 = np.float32, np.float64, np.int32, np.uint64

LINEAR, TANH, RELU, SIGMOID, SOFTMAX, DROPOUT, BATCH_NORM = range(7)  # kinds of layers
KINDS = dict(zip(("linear", "tanh", "relu", "sigmoid", "softmax", "dropout", "batch_norm"), range(7), strict=True))
MSE, HALF_MSE, L1, BCE, CROSS_ENTROPY = range(5)
LOSSES = {"mse": MSE, "half_mse": HALF_MSE, "l1": L1, "bce": BCE, "cross_entropy": CROSS_ENTROPY}
SGD, ADAM, ADAMW = range(3)
OPTIMIZERS = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW}
CONSTANT, STEP, INVERSE_TIME, COSINE = range(4)
SCHEDULES = {"none": CONSTANT, "step": STEP, "inverse_time": INVERSE_TIME, "cosine": COSINE}
SHUFFLED, FIXED = range(2)  # the order of the rows: anew in every epoch, or once
ORDERS = {"shuffled": SHUFFLED, "fixed": FIXED}

PARAMETERS, GRADIENTS, MEMORY_1, MEMORY_2, BEST = range(5)  # lines of the state; an optimizer has two memories
TRAIN_LOSS, LAST_BATCH_LOSS, VALIDATION_LOSS, RATE = range(4)  # columns of the history
# Places of the progress: the epochs that are done; the lowest validation loss and its epoch, or -1; the epoch in which
# the training diverged, or -1, and the batch whose gradient had no finite norm, or -1; the learning rate of the last
# update; the powers of Adam's betas after it.
DONE, BEST_LOSS, BEST_EPOCH, DIVERGED, BAD_BATCH, LAST_RATE, POWER_1, POWER_2 = range(8)

FILL = 32  # rows, and the places of a line of the state, are filled up to a multiple of it
ZERO, HALF, ONE, TWO, NAN = f32(0), f32(0.5), f32(1), f32(2), f32(np.nan)
ONE_64, NAN_64 = f64(1), f64(np.nan)
NONE, EACH = np.int64(0), np.int64(1)  # an index and a step: numba compiles anew for each literal 0 and 1


class Layers(NamedTuple):
    """A network as numbers: one entry for each layer."""

    kind: np.ndarray  # int64
    inputs: np.ndarray  # int64, units before it
    outputs: np.ndarray  # int64, units after it
    at: np.ndarray  # int64, where its parameters begin: weights [out, in] then biases [out]; or scales then shifts
    bias: np.ndarray  # bool
    rate: np.ndarray  # float32, the share of units that dropout zeroes
    statistics: np.ndarray  # int64, where its running means and then its running variances begin


class Settings(NamedTuple):
    """How a network is trained."""

    loss: int  # of LOSSES
    optimizer: int  # of OPTIMIZERS
    rate: float  # the learning rate before any schedule
    batch: int  # rows; 0: all at once, in the order in which they are
    epochs: int
    order: int = SHUFFLED  # of ORDERS
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    schedule: int = CONSTANT  # of SCHEDULES
    every_update: bool = False  # the schedule counts updates, or else epochs
    step_size: int = 1  # of the step schedule
    gamma: float = 1.0  # of the step schedule
    decay: float = 0.0  # of inverse time
    period: int = 1  # of the cosine: torch's T_max
    lowest: float = 0.0  # of the cosine: torch's eta_min
    clip_norm: float = 0.0  # the gradient's largest norm; 0: no clipping
    patience: int = 0  # of early stopping, in epochs; 0: none
    min_delta: float = 0.0  # of early stopping


class Rows(NamedTuple):
    """Data as a network takes them."""

    inputs: np.ndarray  # float32 [row, feature]
    targets: np.ndarray  # float32 [row, output]
    weights: np.ndarray  # float32 [row]; [0]: every row counts the same


class Place(NamedTuple):
    """Where a training stands: all that it needs to go on, and nothing else. Written in place."""

    state: np.ndarray  # float32 [line, place]: PARAMETERS, GRADIENTS, ...; BEST with early stopping alone
    statistics: np.ndarray  # float32 [line, place]: batch norm's running ones; with early stopping, the best epoch's
    history: np.ndarray  # float64 [epoch, column]: TRAIN_LOSS, ...; NaN where no epoch was
    progress: np.ndarray  # float64 [8]: DONE, ...


class Room(NamedTuple):
    """Arrays to work in, for a batch or a chunk of rows; nothing in them is carried from one to the next."""

    values: np.ndarray  # float32 [layer, unit, row]: what enters the layer; behind the last, the outputs
    grads: np.ndarray  # float32 [layer, unit, row]: the loss's gradients by them
    kept: np.ndarray  # float32 [layer, unit, row]: masks of dropout, normal values of batch norm
    factors: np.ndarray  # float32 [layer, unit]: 1 / sd of batch norm
    turned: np.ndarray  # float32 [row, unit]: a layer's values, turned over
    target: np.ndarray  # float32 [output, row]
    of_row: np.ndarray  # float32 [line, row]: WEIGHT, SHARE, LARGEST, EXPONENTIALS, BAD
    p: np.ndarray  # float32: for sums
    words: np.ndarray  # uint32: random words
    order: np.ndarray  # int64 [row], of the training rows
    in_order: np.ndarray  # int64 [row], of the validation rows
