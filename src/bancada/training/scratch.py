"""Linear regression written out in plain tensor operations, one seed after another: no torch.nn, no torch.optim.

Lesson 1 (orchard5_scratch) and lesson 5 (line_scratch). The torch engine trains the same model by the library's parts;
a test shows that both end with the same weights.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bancada.networks import kernel
from bancada.networks.encoding import loss_name
from bancada.networks.saved import HISTORY_COLUMNS, Trained
from bancada.training.replica import Data, Draws, Outcomes, Replica, Report
from bancada.training.settings import InverseTime, Train
from bancada.training.streams import order


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Outcomes:
    """Train one line for each replica, as the other engines train a linear layer."""
    for place, replica in replicas.items():
        yield place, train_line(replica, data[replica.draw])


def train_line(replica: Replica, data: Data) -> Trained:
    """Train one line. It has diverged if its loss is not finite."""
    recipe = replica.recipe
    x, y, x_validation, y_validation = (
        torch.from_numpy(values.astype(np.float32))
        for rows in (data.train, data.validation)
        for values in (rows.inputs, rows.targets)
    )
    line, history = Line(recipe.train, *start(replica, x.shape[1], y.shape[1])), list[tuple[float, ...]]()
    diverged = None
    while len(history) < recipe.train.epochs and diverged is None:
        now = torch.from_numpy(order(recipe.train, replica.seed, len(history), len(x)))
        losses = line.epoch(x, y, now)
        validation_loss = line.loss(x_validation, y_validation).item()
        history.append((*losses, validation_loss, line.lr))
        if not all(map(math.isfinite, (*losses, validation_loss) if len(x_validation) else losses)):
            diverged = len(history) - 1
    weights = {"0.weight": line.w.detach().numpy(), "0.bias": line.b.detach().numpy()}
    if diverged is not None:
        weights = {name: np.full_like(value, np.nan) for name, value in weights.items()}
    by_name = dict(zip(HISTORY_COLUMNS, np.array(history).T, strict=True))
    return Trained(weights, by_name, sum(value.size for value in weights.values()), y.shape[1], diverged)


def start(replica: Replica, features: int, targets: int) -> tuple[Tensor, Tensor]:
    """Return W [target, feature] and b [target] before the first update: given ones, or those that the seed draws."""
    linear = kernel.linear_starts({0: (features, targets, True)}, replica.recipe.train.init, replica.seed)
    weights, biases = linear[0]
    return torch.from_numpy(weights), torch.from_numpy(biases)


class Line:
    """y = x W^T + b, trained by gradient descent on the mean squared error or half of it."""

    def __init__(self, settings: Train, w: Tensor, b: Tensor) -> None:
        self.settings, self.lr, self.decays = settings, settings.lr, 0
        self.w, self.b = w.clone().requires_grad_(), b.clone().requires_grad_()

    def loss(self, x: Float[Tensor, "row feature"], y: Float[Tensor, "row target"]) -> Float[Tensor, ""]:
        """Return the loss over these rows."""
        error = x @ self.w.T + self.b - y
        half = 0.5 if loss_name(self.settings.loss) == "half_mse" else 1.0
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
        shrink = min(1.0, self.settings.clip_norm / (length + 1e-6)) if self.settings.clip_norm else 1.0
        with torch.no_grad():
            self.w -= self.lr * shrink * of_w
            self.b -= self.lr * shrink * of_b

    def decay(self, every: str) -> None:
        """Multiply the learning rate by 1 / (1 + decay * k) before update (or epoch) k = 1, 2, ..."""
        schedule = self.settings.schedule
        if isinstance(schedule, InverseTime) and schedule.every == every:
            self.decays += 1
            self.lr *= 1 / (1 + schedule.decay * self.decays)
