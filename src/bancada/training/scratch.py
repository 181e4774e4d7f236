"""Linear regression written out in plain tensor operations, one seed after another: no nn, no torch.optim.

Lesson 1 (orchard5_scratch) and lesson 5 (line_scratch). The engine trains the same model with the library's parts;
tests/test_lessons.py shows that both end in the same weights.
"""

import math
from collections.abc import Iterator, Sequence

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
    """The same as engine.train_stack for a single linear layer; `starts` hold its "0.weight" and "0.bias"."""
    lines = [Line(settings, start) for start in starts]
    x, y = rows.features.T.contiguous(), rows.targets.T.contiguous()
    x_validation, y_validation = validation.features.T, validation.targets.T
    history = History(len(lines), settings.epochs, validated=len(validation) > 0)
    for epoch in range(settings.epochs):
        orders = order(epoch)
        losses = [line.epoch(x, y, orders[i]) for i, line in enumerate(lines)]
        train_loss, last_batch_loss = torch.tensor(losses, dtype=torch.float64).T.numpy()
        held_out = torch.tensor([line.loss(x_validation, y_validation).item() for line in lines], dtype=torch.float64)
        history.add(train_loss, last_batch_loss, held_out.numpy(), lines[0].lr)
        progress(history)
        if not history.there():
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
        error = x @ self.w.T + self.b - y
        half = 0.5 if self.settings.loss == "half_mse" else 1.0
        return half * (error * error).mean()

    def epoch(
        self, x: Float[Tensor, "row feature"], y: Float[Tensor, "row target"], order: Int64[Tensor, " row"]
    ) -> tuple[float, float]:
        """One pass over the rows in this order -> (mean loss over the rows, loss of the last batch)."""
        total = last = 0.0
        self.decay("epoch")
        for batch in self.batches(order):
            loss = self.loss(x[batch], y[batch])
            torch.autograd.backward(loss)
            self.update()
            last = loss.item()
            total += last * len(batch)
        return total / len(order), last

    def batches(self, order: Int64[Tensor, " row"]) -> Iterator[Int64[Tensor, " place"]]:
        size = len(order) if self.settings.batch_size == "full" else self.settings.batch_size
        for at in range(0, len(order), size):
            yield order[at : at + size]

    def update(self) -> None:
        """One step against the gradient, which is cut to clip_norm where that is set."""
        self.decay("update")
        assert self.w.grad is not None
        assert self.b.grad is not None
        length = math.sqrt(float((self.w.grad**2).sum() + (self.b.grad**2).sum()))
        clip = self.settings.clip_norm
        shrink = clip / length if clip and length > clip else 1.0
        with torch.no_grad():
            self.w -= self.lr * shrink * self.w.grad
            self.b -= self.lr * shrink * self.b.grad
            self.w.grad.zero_()
            self.b.grad.zero_()

    def decay(self, every: str) -> None:
        """Before update (or epoch) k = 1, 2, ... the rate is multiplied by 1 / (1 + decay k)."""
        schedule = self.settings.schedule
        if isinstance(schedule, InverseTime) and schedule.every == every:
            self.decays += 1
            self.lr *= 1 / (1 + schedule.decay * self.decays)
