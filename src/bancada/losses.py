"""Losses, and the target encoding and decision rule that belong to each.

A network never sees a label that it cannot reach: which numbers stand for a class follows from the loss and from what
the last layer can put out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from bancada.schema import LayerSpec, Loss

# Takes what the network puts out and what was observed, [..., seed, output, row], and each row's weight: 1 / rows of
# the batch, 0 for rows that only fill up.
Elementwise = Callable[[Tensor, Tensor, Tensor], Tensor]


class LossFunction(NamedTuple):
    share: Elementwise  # each element's share of the loss, which is their sum over outputs and rows
    gradient: Elementwise  # the loss's gradient by the output


def mse(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """The mean over rows and outputs of (output - observed) ** 2."""
    error = output - observed
    return error * error * (weight / output.shape[-2])


def mse_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    return (output - observed).mul_(weight).mul_(2 / output.shape[-2])


def half_mse(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Half of mse. Lesson 5."""
    return mse(output, observed, weight) / 2


def half_mse_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    return (output - observed).mul_(weight).mul_(1 / output.shape[-2])


def l1(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """The mean over rows and outputs of |output - observed|."""
    return (output - observed).abs() * (weight / output.shape[-2])


def l1_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    return (output - observed).sign_().mul_(weight).mul_(1 / output.shape[-2])


def bce(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities against 0 and 1; logarithms end at -100, as in torch.nn.BCELoss."""
    log_yes, log_no = output.log().clamp_(min=-100), (1 - output).log_().clamp_(min=-100)
    return -(observed * log_yes + (1 - observed) * log_no) * weight


def bce_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    return (output - observed) / (output * (1 - output)).clamp_(min=1e-12) * weight


def cross_entropy(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """-log softmax(output) at the observed class; `observed` holds 1 for it and 0 for the others."""
    return -(observed * torch.log_softmax(output, -2)) * weight


def cross_entropy_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    return torch.softmax(output, -2).sub_(observed).mul_(weight)


LOSSES: dict[Loss, LossFunction] = {
    "mse": LossFunction(mse, mse_gradient),
    "half_mse": LossFunction(half_mse, half_mse_gradient),
    "l1": LossFunction(l1, l1_gradient),
    "bce": LossFunction(bce, bce_gradient),
    "cross_entropy": LossFunction(cross_entropy, cross_entropy_gradient),
}


@dataclass(frozen=True)
class Encoding:
    """How labels become the numbers that an output is held against, and how an output becomes a label again.

    `numbers`: the targets themselves. `signs`: -1 and +1, decided by the sign. `bits`: 0 and 1, decided at 0.5.
    `one_hot`: `high` for the observed class and `low` for the others, decided by the largest output.
    """

    kind: Literal["numbers", "signs", "bits", "one_hot"]
    classes: int = 0
    low: float = 0.0

    def encode(self, targets: Shaped[np.ndarray, "row target"]) -> Float32[np.ndarray, "output row"]:
        """Targets (numbers, or class indices) as the network's output should be."""
        if self.kind == "numbers":
            return np.ascontiguousarray(targets.T, dtype=np.float32)
        if self.kind == "one_hot":
            return np.where(np.arange(self.classes)[:, None] == targets[:, 0], 1.0, self.low).astype(np.float32)
        return (targets.T * (2.0 if self.kind == "signs" else 1.0) - (self.kind == "signs")).astype(np.float32)

    def decide(
        self, outputs: Float32[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row 1"] | Float32[np.ndarray, "seed row target"]:
        """Class indices, or the numbers themselves."""
        if self.kind == "numbers":
            return outputs
        if self.kind == "one_hot":
            largest: Int64[np.ndarray, "seed row 1"] = outputs.argmax(axis=2, keepdims=True)
            return largest
        return (outputs > (0.0 if self.kind == "signs" else 0.5)).astype(np.int64)


def encoding(layers: Sequence[LayerSpec], loss: Loss, classes: int) -> Encoding:
    """The encoding that the last layer can reach: tanh -1 and 1; sigmoid, relu and softmax 0 and 1; others either."""
    if classes == 0:
        return Encoding("numbers")
    last = last_layer(layers)
    width = [layer.width for layer in layers if layer.width][-1]
    if width == classes:
        return Encoding("one_hot", classes, low=-1.0 if last == "tanh" and loss != "cross_entropy" else 0.0)
    return Encoding("bits" if last in ("sigmoid", "relu", "softmax") else "signs")


def last_layer(layers: Sequence[LayerSpec]) -> str:
    return [layer.kind for layer in layers if layer.kind != "dropout"][-1]


def out_of_reach(layers: Sequence[LayerSpec], encoded: Float32[np.ndarray, "output row"]) -> str | None:
    """Why the last layer cannot put out these numbers, or None."""
    last = last_layer(layers)
    low, high = {"tanh": (-1, 1), "sigmoid": (0, 1), "softmax": (0, 1), "relu": (0, np.inf)}.get(
        last, (-np.inf, np.inf)
    )
    if low <= encoded.min() and encoded.max() <= high:
        return None
    return f"ends in {last}, which cannot reach targets from {encoded.min():g} to {encoded.max():g}"
