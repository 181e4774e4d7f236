"""The losses that a network learns from, with their gradients. inference.py has their values in numpy."""

from collections.abc import Callable

import torch
from torch import Tensor

from bancada.schema import Loss

# A loss takes what the network puts out and what was observed, both [seed, output, row], and each row's weight
# (1 / rows of the batch; 0 for rows that only fill up). It returns each element's share of the loss, whose sum over
# outputs and rows is the loss, and the loss's gradient by the output.
LossFunction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def mse(output: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over rows and outputs of (output - observed) ** 2."""
    error, weight = output - observed, weight / output.shape[1]
    weighted = error * weight
    return error * weighted, weighted * 2


def half_mse(output: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Half of mse. Lesson 5."""
    error, weight = output - observed, weight / output.shape[1]
    weighted = error * weight
    return error * weighted * 0.5, weighted


def l1(output: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over rows and outputs of |output - observed|."""
    error, weight = output - observed, weight / output.shape[1]
    return error.abs() * weight, error.sign() * weight


def bce(output: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of probabilities against 0 and 1; logarithms end at -100, as in torch.nn.BCELoss."""
    log_yes, log_no = output.log().clamp_(min=-100), (1 - output).log_().clamp_(min=-100)
    share = -(observed * log_yes + (1 - observed) * log_no) * weight
    return share, (output - observed) / (output * (1 - output)).clamp_(min=1e-12) * weight


def cross_entropy(output: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """-log softmax(output) at the observed class; `observed` holds 1 for it and 0 for the others."""
    log_share = torch.log_softmax(output, 1)
    return -(observed * log_share) * weight, (log_share.exp() - observed) * weight


LOSSES: dict[Loss, LossFunction] = {
    "mse": mse,
    "half_mse": half_mse,
    "l1": l1,
    "bce": bce,
    "cross_entropy": cross_entropy,
}
