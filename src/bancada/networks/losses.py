"""The losses that a network learns from, with their gradients. inference.py has their values in numpy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bancada.networks.settings import Loss

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
