"""Linear regression written out in plain tensor operations, one seed after another: no torch.nn, no torch.optim.

Lesson 1 (orchard5_scratch) and lesson 5 (line_scratch). The engine trains the same model with the library's parts; a
test shows that both end with the same weights.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bancada.networks.saved import TrainingResult
from bancada.networks.start import State
from bancada.training.engine import EncodedRows, History, Order, Progress
from bancada.training.settings import InverseTime, Train


def train_lines(
    settings: Train,
    rows: EncodedRows,
    validation: EncodedRows,
    starts: Sequence[State],
    order: Order,
    progress: Progress = lambda history: None,
) -> TrainingResult:
    """Train one line per start, which holds "0.weight" and "0.bias", as engine.train_stack trains a linear layer."""
    lines = [Line(settings, start) for start in starts]
    x, y = rows.features.T.contiguous(), rows.targets.T.contiguous()
    x_validation, y_validation = validation.features.T, validation.targets.T
    history = History(len(lines), settings.epochs, validated=len(validation) > 0)
    for epoch in range(settings.epochs):
        orders = order(epoch)
        losses = [line.epoch(x, y, orders[i]) for i, line in enumerate(lines)]
        train_loss, last_batch_loss = np.array(losses).T
        validation_loss = np.array([line.loss(x_validation, y_validation).item() for line in lines])
        history.add(train_loss, last_batch_loss, validation_loss, lines[0].lr)
        progress(history)
        if not history.active():
            break
    weights = {
        "0.weight": torch.stack([line.w.detach() for line in lines]),
        "0.bias": torch.stack([line.b.detach() for line in lines]),
    }
    return history.result(weights, len(lines))


class Line:
    """y = x W^T + b, trained by gradient descent on the mean squared error or half of it."""

    def __init__(self, settings: Train, start: State) -> None:
        self.settings, self.lr, self.decays = settings, settings.lr, 0
        self.w = start["0.weight"].clone().requires_grad_()
        self.b = start["0.bias"].clone().requires_grad_()

    def loss(self, x: Float[Tensor, "row feature"], y: Float[Tensor, "row target"]) -> Float[Tensor, ""]:
        """Return the loss over these rows."""
        error = x @ self.w.T + self.b - y
        half = 0.5 if self.settings.loss == "half_mse" else 1.0
        return half * (error * error).mean()

    def epoch(
        self, x: Float[Tensor, "row feature"], y: Float[Tensor, "row target"], order: Int64[Tensor, " row"]
    ) -> tuple[float, float]:
        """Train on all rows in this order. Return the mean loss over the rows, and the loss of the last batch."""
        size = len(order) if self.settings.batch_size == "full" else self.settings.batch_size
        total = last = 0.0
        self.decay("epoch")
        for batch in torch.split(order, size):
            loss = self.loss(x[batch], y[batch])
            self.update(torch.autograd.grad(loss, (self.w, self.b)))
            last = loss.item()
            total += last * len(batch)
        return total / len(order), last

    def update(self, gradients: Sequence[Tensor]) -> None:
        """Take one step against the gradients of w and b; scale them down to the norm clip_norm, if that is set."""
        self.decay("update")
        of_w, of_b = gradients
        length = math.sqrt(float((of_w**2).sum() + (of_b**2).sum()))
        clip = self.settings.clip_norm
        shrink = clip / length if clip and length > clip else 1.0
        with torch.no_grad():
            self.w -= self.lr * shrink * of_w
            self.b -= self.lr * shrink * of_b

    def decay(self, every: str) -> None:
        """Multiply the learning rate by 1 / (1 + decay * k) before update (or epoch) k = 1, 2, ..."""
        schedule = self.settings.schedule
        if isinstance(schedule, InverseTime) and schedule.every == every:
            self.decays += 1
            self.lr *= 1 / (1 + schedule.decay * self.decays)
