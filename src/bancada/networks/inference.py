"""What trained networks put out, and the loss of that, in plain numpy: an evaluation need not wait for torch to load.

In double precision from the float32 weights; tests/test_inference.py holds it against torch.nn. One seed after another,
so that a seed's bits cannot depend on how many seeds stand beside it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64

from bancada.networks.settings import BATCH_NORM_EPS, LayerSpec, Loss

CHUNK_ROWS = 4096  # rows that are in memory at once between the layers

Weights = Mapping[str, Float[np.ndarray, "..."]]  # by nn.Sequential's names: "0.weight"
Activation = Float64[np.ndarray, "unit row"]


# --- layers, in evaluation mode -------------------------------------------------------------------------------------


def outputs(
    layers: Sequence[LayerSpec], weights: Weights, features: Float[np.ndarray, "feature row"]
) -> Float64[np.ndarray, "seed row output"]:
    """What the networks of all seeds put out; `weights` hold [seed, ...]. NaN where the weights of a seed are."""
    rows, seeds = features.shape[1], len(next(iter(weights.values())))
    chunks = [features[:, at : at + CHUNK_ROWS].astype(np.float64) for at in range(0, rows, CHUNK_ROWS)]
    of_seeds = []
    for seed in range(seeds):
        own = {name: value[seed].astype(np.float64) for name, value in weights.items()}
        of_seeds.append(np.concatenate([_forward(layers, own, chunk).T for chunk in chunks]))
    return np.ascontiguousarray(np.stack(of_seeds))  # sums go by the layout in memory


def _forward(
    layers: Sequence[LayerSpec], weights: Weights, h: Float64[np.ndarray, "feature row"]
) -> Float64[np.ndarray, "output row"]:
    with np.errstate(all="ignore"):  # a diverged seed's weights are NaN
        for i, layer in enumerate(layers):
            if layer.kind == "linear":
                h = _linear(weights, f"{i}", h)
            elif layer.kind == "batch_norm":
                h = _batch_norm(weights, f"{i}", h)
            elif layer.kind != "dropout":
                h = ACTIVATIONS[layer.kind](h)
    return h


def _linear(weights: Weights, name: str, h: Float64[np.ndarray, "unit_in row"]) -> Float64[np.ndarray, "unit_out row"]:
    product: Float64[np.ndarray, "unit_out row"] = weights[f"{name}.weight"] @ h
    if f"{name}.bias" in weights:
        product += weights[f"{name}.bias"][:, None]
    return product


def _batch_norm(weights: Weights, name: str, h: Activation) -> Activation:
    """With the running mean and variance, as torch.nn.BatchNorm1d outside training."""
    scale, shift, mean, var = (
        weights[f"{name}.{part}"][:, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    normal: Activation = (h - mean) / np.sqrt(var + BATCH_NORM_EPS) * scale + shift
    return normal


def relu(h: Activation) -> Activation:
    positive: Activation = np.maximum(h, 0)
    return positive


def sigmoid(h: Activation) -> Activation:
    """1 / (1 + exp(-h)), written so that no exponential overflows."""
    small = np.exp(-np.abs(h))
    chance: Activation = np.where(h < 0, small, 1) / (1 + small)
    return chance


def softmax(h: Activation) -> Activation:
    """Over the units of a row."""
    share: Activation = np.exp(h - h.max(axis=0))
    share /= share.sum(axis=0)
    return share


ACTIVATIONS: dict[str, Callable[[Activation], Activation]] = {
    "tanh": np.tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "softmax": softmax,
}


# --- losses ---------------------------------------------------------------------------------------------------------

Outputs = Float64[np.ndarray, "seed row output"]
Observed = Float64[np.ndarray, "row output"]  # encoded, as the outputs should be
Losses = Float64[np.ndarray, " seed"]


def loss(kind: Loss, output: Outputs, observed: Float[np.ndarray, "output row"]) -> Losses:
    """The training loss of each seed over these rows; NaN where its outputs are."""
    with np.errstate(all="ignore"):  # a diverged seed's outputs are NaN, and may be infinite
        return LOSSES[kind](output, observed.T.astype(np.float64))


def mse(output: Outputs, observed: Observed) -> Losses:
    squares: Losses = np.square(output - observed).mean(axis=(1, 2))
    return squares


def half_mse(output: Outputs, observed: Observed) -> Losses:
    return mse(output, observed) / 2


def l1(output: Outputs, observed: Observed) -> Losses:
    distances: Losses = np.abs(output - observed).mean(axis=(1, 2))
    return distances


def bce(output: Outputs, observed: Observed) -> Losses:
    """Of probabilities against 0 and 1; logarithms end at -100, as in torch.nn.BCELoss."""
    log_yes, log_no = np.maximum(np.log(output), -100), np.maximum(np.log(1 - output), -100)
    means: Losses = (observed * log_yes + (1 - observed) * log_no).mean(axis=(1, 2))
    return -means


def cross_entropy(output: Outputs, observed: Observed) -> Losses:
    """-log softmax(output) at the observed class; `observed` holds 1 for it and 0 for the others."""
    below = output - output.max(axis=2, keepdims=True)
    log_share = below - np.log(np.exp(below).sum(axis=2, keepdims=True))
    means: Losses = (observed * log_share).sum(axis=2).mean(axis=1)
    return -means


LOSSES: dict[Loss, Callable[[Outputs, Observed], Losses]] = {
    "mse": mse,
    "half_mse": half_mse,
    "l1": l1,
    "bce": bce,
    "cross_entropy": cross_entropy,
}
