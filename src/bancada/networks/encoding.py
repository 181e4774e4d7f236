"""The numbers that stand for the data: features scaled, targets encoded, and outputs decided into targets again.

A network never sees a label that it cannot reach: which numbers stand for a class follows from the loss and from what
the last layer can put out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from bancada.networks.settings import LayerSpec, Loss

SCALING = ("input_mean", "input_std")  # [feature], kept beside the weights where inputs are standardised


def scaled(
    features: Float64[np.ndarray, "row feature"], scaling: Mapping[str, np.ndarray]
) -> Float32[np.ndarray, "feature row"]:
    """Raw features as the network takes them: standardised where `scaling` holds a mean and a standard deviation."""
    if scaling:
        mean, std = (scaling[name] for name in SCALING)
        features = (features - mean) / std
    return features.T.astype(np.float32, order="C")


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
        self, outputs: Float64[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row 1"] | Float64[np.ndarray, "seed row target"]:
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
    last = layers[-1].kind
    width = [layer.width for layer in layers if layer.width][-1]
    if width == classes:
        return Encoding("one_hot", classes, low=-1.0 if last == "tanh" and loss != "cross_entropy" else 0.0)
    return Encoding("bits" if last in ("sigmoid", "relu", "softmax") else "signs")
