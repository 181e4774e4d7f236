"""The outputs of trained networks, and their losses, in numpy: an evaluation need not wait for torch to load.

Computed in float64 from the float32 weights; the tests compare the results with torch.nn. One seed is computed after
another, so that the bits of a seed cannot depend on the number of seeds.

This file is also part of MLflow models of the small vocabulary, so it needs numpy and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

BATCH_NORM_EPS = 1e-5  # the default of torch.nn.BatchNorm1d
CHUNK_ROWS = 4096  # rows that pass through the layers at once, to limit the memory

Weights = Mapping[str, np.ndarray]  # by nn.Sequential's names: "0.weight"
Activation = np.ndarray  # [unit, row], float64


def outputs(layers: Sequence[Any], weights: Weights, features: np.ndarray) -> np.ndarray:
    """Return the outputs [seed, row, output] of all seeds' networks in evaluation mode.

    `layers` have a `kind`, `weights` are [seed, ...], and `features` [feature, row].
    They are NaN where weights are NaN, and where an input, or a number inside the network, is not finite.
    """
    rows, seeds = features.shape[1], len(next(iter(weights.values())))
    chunks = [features[:, at : at + CHUNK_ROWS].astype(np.float64) for at in range(0, max(1, rows), CHUNK_ROWS)]
    of_seeds = []
    for seed in range(seeds):
        own = {name: value[seed].astype(np.float64) for name, value in weights.items()}
        of_seeds.append(np.concatenate([_forward(layers, own, chunk).T for chunk in chunks]))
    return np.ascontiguousarray(np.stack(of_seeds))  # the layout in memory decides the order of later sums


def _forward(layers: Sequence[Any], weights: Weights, h: Activation) -> Activation:
    with np.errstate(all="ignore"):  # the weights of a diverged seed are NaN
        for i, layer in enumerate(layers):
            h = np.where(np.isfinite(h), h, np.nan)  # tanh, sigmoid and relu would make an infinity finite again
            if layer.kind == "linear":
                h = weights[f"{i}.weight"] @ h
                if f"{i}.bias" in weights:
                    h += weights[f"{i}.bias"][:, None]
            elif layer.kind == "batch_norm":
                h = _batch_norm(weights, f"{i}", h)
            elif layer.kind != "dropout":
                h = ACTIVATIONS[layer.kind](h)
    return np.where(np.isfinite(h), h, np.nan)


def _batch_norm(weights: Weights, name: str, h: Activation) -> Activation:
    """Normalize with the running mean and variance, as torch.nn.BatchNorm1d does in evaluation mode."""
    parts = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, var = (weights[f"{name}.{part}"][:, None] for part in parts)
    normal: Activation = (h - mean) / np.sqrt(var + BATCH_NORM_EPS) * scale + shift
    return normal


def sigmoid(h: Activation) -> Activation:
    """Return 1 / (1 + exp(-h)), written so that no exponential overflows."""
    small = np.exp(-np.abs(h))
    probability: Activation = np.where(h < 0, small, 1) / (1 + small)
    return probability


def softmax(h: Activation) -> Activation:
    """Return the softmax over the units of a row."""
    exponentials: Activation = np.exp(h - h.max(axis=0))
    exponentials /= exponentials.sum(axis=0)
    return exponentials


ACTIVATIONS: dict[str, Callable[[Activation], Activation]] = {
    "tanh": np.tanh,
    "relu": lambda h: np.maximum(h, 0),
    "sigmoid": sigmoid,
    "softmax": softmax,
}


Outputs = np.ndarray  # [seed, row, output]
Observed = np.ndarray  # [row, output], encoded, as the outputs should be
Losses = np.ndarray  # [seed]


def loss(kind: str, output: Outputs, observed: np.ndarray) -> Losses:
    """Return the training loss of each seed over these rows [output, row]; NaN outputs give NaN."""
    with np.errstate(all="ignore"):  # the outputs of a diverged seed are NaN or infinite
        return LOSSES[kind](output, observed.T.astype(np.float64))


def bce(output: Outputs, observed: Observed) -> Losses:
    """Return the binary cross-entropy of probabilities. Logarithms are at least -100, as in torch.nn.BCELoss."""
    log_yes, log_no = np.maximum(np.log(output), -100), np.maximum(np.log(1 - output), -100)
    means: Losses = (observed * log_yes + (1 - observed) * log_no).mean(axis=(1, 2))
    return -means


def cross_entropy(output: Outputs, observed: Observed) -> Losses:
    """Return the mean of -log softmax(output) at the observed class; `observed` is one-hot."""
    below = output - output.max(axis=2, keepdims=True)
    log_share = below - np.log(np.exp(below).sum(axis=2, keepdims=True))
    means: Losses = (observed * log_share).sum(axis=2).mean(axis=1)
    return -means


LOSSES: dict[str, Callable[[Outputs, Observed], Losses]] = {
    "mse": lambda output, observed: np.square(output - observed).mean(axis=(1, 2)),
    "half_mse": lambda output, observed: np.square(output - observed).mean(axis=(1, 2)) / 2,
    "l1": lambda output, observed: np.abs(output - observed).mean(axis=(1, 2)),
    "bce": bce,
    "cross_entropy": cross_entropy,
}
