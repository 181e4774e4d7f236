"""From features to inputs, from targets to the numbers that a network learns, and from outputs to decisions.

A target must lie in the range of the last layer, so the loss and the last layer decide which numbers encode a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from bancada.networks.settings import LayerSpec, Loss

UNDECIDED = -1  # in place of a class index, where an output is not finite

# Arrays [feature] that are stored with the weights of networks whose inputs are standardized.
SCALING = ("input_mean", "input_std")


def input_scaling(features: Float64[np.ndarray, "row feature"], standardize: bool) -> dict[str, np.ndarray]:
    """Return the mean and standard deviation of each feature over the training rows; sd 1 for a constant feature.

    Empty if inputs are not standardized.
    """
    varies = np.ptp(features, axis=0) > 0  # by rounding errors, the sd of a constant 0.1 is 4e-17
    values = (features.mean(axis=0), np.where(varies, features.std(axis=0), 1.0))
    return dict(zip(SCALING, values, strict=True)) if standardize else {}


def scaled(
    features: Float64[np.ndarray, "row feature"], scaling: Mapping[str, np.ndarray]
) -> Float32[np.ndarray, "feature row"]:
    """Return the features as inputs of a network: in float32, and standardized by `scaling` if that is not empty.

    An input that float32 cannot hold is infinite.
    """
    with np.errstate(over="ignore"):
        if scaling:
            mean, std = (scaling[name] for name in SCALING)
            features = (features - mean) / std
        return features.T.astype(np.float32, order="C")


@dataclass(frozen=True)
class Encoding:
    """How targets are encoded for the loss, and how outputs are decoded.

    `numbers`: the targets themselves. `signs`: -1 (`low`) and +1, decoded by the sign. `bits`: 0 (`low`) and 1, decoded
    by a threshold of 0.5. `one_hot`: 1 for the observed class and `low` for the others, decoded by the largest output.
    """

    kind: Literal["numbers", "signs", "bits", "one_hot"]
    classes: int = 0
    low: float = 0.0

    def encode(self, targets: Shaped[np.ndarray, "row target"]) -> Float32[np.ndarray, "output row"]:
        """Return the outputs that a perfect network would have for these targets (numbers, or class indices).

        A number that float32 cannot hold is infinite.
        """
        if self.kind == "numbers":
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(targets.T, dtype=np.float32)
        high = np.arange(self.classes)[:, None] == targets.T if self.kind == "one_hot" else targets.T == 1
        return np.where(high, 1.0, self.low).astype(np.float32)

    def decide(
        self, outputs: Float64[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row 1"] | Float64[np.ndarray, "seed row target"]:
        """Return the decided class indices, UNDECIDED where an output is not finite, or the predicted numbers."""
        if self.kind == "numbers":
            return outputs
        one_hot = self.kind == "one_hot"
        decided = outputs.argmax(axis=2, keepdims=True) if one_hot else outputs > (self.low + 1) / 2
        return np.where(np.isfinite(outputs).all(axis=2, keepdims=True), decided, UNDECIDED).astype(np.int64)


def encoding(layers: Sequence[LayerSpec], loss: Loss, classes: int) -> Encoding:
    """Return an encoding in the range of the last layer: -1 and 1 for tanh; 0 and 1 for sigmoid, relu and softmax."""
    if classes == 0:
        return Encoding("numbers")
    last = layers[-1].kind
    width = [layer.width for layer in layers if layer.width][-1]
    if width == classes:
        return Encoding("one_hot", classes, low=-1.0 if last == "tanh" and loss != "cross_entropy" else 0.0)
    return Encoding("bits") if last in ("sigmoid", "relu", "softmax") else Encoding("signs", low=-1.0)
