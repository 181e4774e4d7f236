"""From targets to the numbers that a network learns, and from outputs to decisions.

A target must lie in the range of the last layer, so the loss and the last layer decide which numbers encode a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from bancada.networks.settings import Layer, LayerSpec, Loss, TorchPart

# Losses whose outputs are the probabilities of classes, or become them by softmax or by one sigmoid.
OF_PROBABILITIES = ("cross_entropy", "CrossEntropyLoss", "NLLLoss", "bce", "BCELoss", "BCEWithLogitsLoss")
UNDECIDED = -1  # in place of a class index, where an output is not finite

THRESHOLDS = {"signs": 0.0, "bits": 0.5, "logits": 0.0}  # by the kind of encoding, for a network with one output
# Losses of torch.nn whose decision rule is known. Those of numbers learn classes, too, as in lesson 3.
OF_NUMBERS = ("mse", "half_mse", "l1", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
OF_CLASS_INDEX = ("cross_entropy", "CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
OF_TWO_CLASSES = ("bce", "BCELoss", "BCEWithLogitsLoss", "SoftMarginLoss")


@dataclass(frozen=True)
class Encoding:
    """How targets are encoded for the loss, and how outputs are decoded.

    `numbers`: the targets themselves. `one_hot`: 1 for the observed class and `low` for the others, decoded by the
    largest output. With one output: `signs` are -1 (`low`) and +1, `bits` and `logits` 0 (`low`) and 1, decoded by one
    of THRESHOLDS.
    """

    kind: Literal["numbers", "signs", "bits", "logits", "one_hot"]
    classes: int = 0
    low: float = 0.0

    @property
    def threshold(self) -> float | None:
        """The output above which the second class is decided; None if that is not the rule."""
        return THRESHOLDS.get(self.kind)

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
        limit = self.threshold
        decided = outputs.argmax(axis=2, keepdims=True) if limit is None else outputs > limit
        return np.where(np.isfinite(outputs).all(axis=2, keepdims=True), decided, UNDECIDED).astype(np.int64)

    def scores(
        self, outputs: Float64[np.ndarray, "seed row output"], probabilities: bool
    ) -> Float64[np.ndarray, "seed row class"]:
        """Return a score for each class, by which rows are ordered. `probabilities`: the outputs are such already.

        Several outputs go through softmax; one output is the second class's score, and the first class's turned round.
        """
        if self.kind != "one_hot":
            return np.concatenate([-outputs, outputs], axis=2)
        if probabilities:
            return outputs
        with np.errstate(invalid="ignore"):
            powers = np.exp(outputs - outputs.max(axis=2, keepdims=True))
            scores: Float64[np.ndarray, "seed row class"] = powers / powers.sum(axis=2, keepdims=True)
        return scores


def encoding(layers: Sequence[Layer] | None, loss: Loss, outputs: int, classes: int) -> Encoding:
    """Return an encoding in the range of the last layer: -1 and 1 for tanh; 0 and 1 for sigmoid, relu and softmax.

    A module of the user's own, without `layers`, counts as one that ends in a linear layer.
    """
    if classes == 0:
        return Encoding("numbers")
    last, name = last_kind(layers), loss_name(loss)
    if outputs == classes:
        signs = (last == "tanh" and name in OF_NUMBERS) or name == "SoftMarginLoss"
        return Encoding("one_hot", classes, low=-1.0 if signs else 0.0)
    if name == "BCEWithLogitsLoss":
        return Encoding("logits")
    bits = last in ("sigmoid", "relu", "softmax") or name == "BCELoss"
    return Encoding("bits") if bits and name != "SoftMarginLoss" else Encoding("signs", low=-1.0)


def last_kind(layers: Sequence[Layer] | None) -> str:
    """Return the kind of the last layer, in small letters; an empty string for a module of the user's own."""
    last = layers[-1] if layers else None
    return last.name.lower() if isinstance(last, TorchPart) else last.kind if isinstance(last, LayerSpec) else ""


def loss_name(loss: Loss) -> str:
    """Return the name of a loss, ours or torch's."""
    return loss.name if isinstance(loss, TorchPart) else loss


def width(layers: Sequence[LayerSpec]) -> int:
    """Return the number of outputs of layers of the small vocabulary."""
    return [layer.width for layer in layers if layer.width][-1]
