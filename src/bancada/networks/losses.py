"""The training losses and their gradients, in torch. inference.py computes the same losses in numpy.

The arguments are the outputs and the observed (encoded) targets, [..., seed, output, row], and the weight of each row:
1 / rows of the batch, or 0 for the rows that only fill the batch up.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bancada.networks.settings import Loss

Elementwise = Callable[[Tensor, Tensor, Tensor], Tensor]


class LossFunction(NamedTuple):
    """A loss and its gradient with respect to the outputs."""

    share: Elementwise  # of each output and row; their sum is the loss
    gradient: Elementwise


def mse(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the shares of the mean of (output - observed) ** 2 over rows and outputs."""
    error = output - observed
    return error * error * (weight / output.shape[-2])


def mse_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of mse."""
    return (output - observed).mul_(weight).mul_(2 / output.shape[-2])


def half_mse(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return half the shares of mse. Lesson 5."""
    return mse(output, observed, weight) / 2


def half_mse_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of half_mse."""
    return (output - observed).mul_(weight).mul_(1 / output.shape[-2])


def l1(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the shares of the mean of |output - observed| over rows and outputs."""
    return (output - observed).abs() * (weight / output.shape[-2])


def l1_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of l1."""
    return (output - observed).sign_().mul_(weight).mul_(1 / output.shape[-2])


def bce(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the shares of the binary cross-entropy of probabilities. Logarithms are at least -100, as in BCELoss."""
    log_yes, log_no = output.log().clamp_(min=-100), (1 - output).log_().clamp_(min=-100)
    return -(observed * log_yes + (1 - observed) * log_no) * weight


def bce_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of bce."""
    return (output - observed) / (output * (1 - output)).clamp_(min=1e-12) * weight


def cross_entropy(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the shares of the mean of -log softmax(output) at the observed class; `observed` is one-hot."""
    return -(observed * torch.log_softmax(output, -2)) * weight


def cross_entropy_gradient(output: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of cross_entropy."""
    return torch.softmax(output, -2).sub_(observed).mul_(weight)


LOSSES: dict[Loss, LossFunction] = {
    "mse": LossFunction(mse, mse_gradient),
    "half_mse": LossFunction(half_mse, half_mse_gradient),
    "l1": LossFunction(l1, l1_gradient),
    "bce": LossFunction(bce, bce_gradient),
    "cross_entropy": LossFunction(cross_entropy, cross_entropy_gradient),
}
