"""A training of the kernel as plain PyTorch has it: torch.nn, autograd, torch.optim, torch.optim.lr_scheduler.

The start, the order of the rows and the masks of dropout are the kernel's.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from kernel_cases import Case
from numba import njit
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiplicativeLR, StepLR

from bancada.networks import kernel
from bancada.networks.kernel import compiled, draws

random_words = draws.random_words


@njit(**compiled.OPTIONS)
def draw_masks(seed, layer, batch, epoch, rows, words):
    """Write the random words of dropout: uint32 [unit, row], and room for three more rows."""
    for unit in range(len(words)):
        random_words((seed, draws.MASK, layer), (unit, batch, epoch), rows, words[unit])


class Masked(nn.Module):
    """Dropout with the kernel's masks."""

    def __init__(self, rate: float, layer: int, seed: int) -> None:
        super().__init__()
        self.rate, self.layer, self.seed = rate, layer, seed
        self.now = (0, 0)  # batch, epoch

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        rows, units = h.shape
        words = np.zeros((units, rows + 3), np.uint32)
        draw_masks(self.seed, self.layer, *self.now, rows, words)
        limit = np.float64(np.float32(self.rate)) * 2**32
        dropped = torch.from_numpy(np.less(words[:, :rows].T, limit))
        return h.masked_fill(dropped, 0) / (1 - self.rate)


MODULES: dict[str, Callable[[int], nn.Module]] = {
    "tanh": lambda units: nn.Tanh(),
    "relu": lambda units: nn.ReLU(),
    "sigmoid": lambda units: nn.Sigmoid(),
    "softmax": lambda units: nn.Softmax(1),
    "batch_norm": nn.BatchNorm1d,
}


def modules(case: Case, features: int, seed: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for i, layer in enumerate(case.specs):
        if layer.kind == "linear":
            made.append(nn.Linear(features, layer.width, bias=layer.bias is not False))
            features = layer.width
        else:
            made.append(Masked(layer.rate, i, seed) if layer.kind == "dropout" else MODULES[layer.kind](features))
    return nn.Sequential(*made)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "half_mse": lambda y, t, reduction: nn.functional.mse_loss(y, t, reduction=reduction) / 2,
    "l1": nn.functional.l1_loss,
    "bce": nn.functional.binary_cross_entropy,
    "cross_entropy": lambda y, t, reduction: nn.functional.cross_entropy(y, t.argmax(1), reduction=reduction),
}


def mean_loss(case: Case, y: Tensor, t: Tensor, weights: Tensor) -> Tensor:
    """The mean over rows and outputs; with weights, as torch.nn.CrossEntropyLoss has it with those of classes."""
    if not len(weights):
        return LOSSES[case.loss](y, t, reduction="mean")
    of_row = LOSSES[case.loss](y, t, reduction="none").reshape(len(y), -1).mean(1)
    return (of_row * weights).sum() / weights.sum()


def optimizer(case: Case, asked: kernel.Settings, network: nn.Module) -> Optimizer:
    if case.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), asked.rate, asked.momentum, 0, asked.weight_decay, nesterov=asked.nesterov
        )
    made = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[case.optimizer]
    return made(network.parameters(), asked.rate, (asked.beta1, asked.beta2), asked.eps, asked.weight_decay)


def schedule(case: Case, asked: kernel.Settings, optimizer: Optimizer) -> LRScheduler:
    if case.schedule == "step":
        return StepLR(optimizer, asked.step_size, asked.gamma)
    if case.schedule == "cosine":
        return CosineAnnealingLR(optimizer, asked.period, asked.lowest)
    if case.schedule == "inverse_time":
        optimizer.param_groups[0]["lr"] /= 1 + asked.decay  # lesson 5 multiplies before the first update, too
        return MultiplicativeLR(optimizer, lambda k: 1 / (1 + asked.decay * (k + 1)))
    return MultiplicativeLR(optimizer, lambda k: 1.0)


class ByTorch:
    """One network while it is trained, in float32 or float64."""

    def __init__(self, case: Case, asked: kernel.Settings, begin: dict[str, np.ndarray], dtype: torch.dtype) -> None:
        self.case, self.asked, self.dtype = case, asked, dtype
        self.network = modules(case, case.features, case.seed)
        counts = {name: value for name, value in self.network.state_dict().items() if "num_batches" in name}
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in begin.items()} | counts)
        self.network.to(dtype)
        self.optimizer = optimizer(case, asked, self.network)
        self.schedule = schedule(case, asked, self.optimizer)

    def named(self) -> dict[str, np.ndarray]:
        state = self.network.state_dict()
        return {name: value.numpy().copy() for name, value in state.items() if "num_batches" not in name}

    def train(self, rows: kernel.Rows, validation: kernel.Rows) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the parameters and running statistics, and the history as the kernel has it."""
        learn, watch = ([torch.from_numpy(part).to(self.dtype) for part in table] for table in (rows, validation))
        history: list[list[float]] = []
        best, best_epoch, kept = math.inf, -1, self.named()
        for epoch in range(self.asked.epochs):
            if self.asked.patience and epoch - 1 - best_epoch >= self.asked.patience:
                break
            history.append([*self._epoch(epoch, *learn)])
            self.network.eval()
            with torch.no_grad():
                held_out = mean_loss(self.case, self.network(watch[0]), watch[1], watch[2][:0]).item()
            history[-1].insert(2, held_out)
            if self.asked.patience == 0 or held_out < best - self.asked.min_delta:
                best, best_epoch, kept = held_out, epoch, self.named()
        return kept, np.array(history)

    def _epoch(self, epoch: int, x: Tensor, t: Tensor, weights: Tensor) -> tuple[float, float, float]:
        """Return the mean loss, the last batch's, and the learning rate of the last update."""
        self.network.train()
        count, total = len(x), 0.0
        order = np.arange(count)
        if self.asked.batch:
            order = kernel.order_of_rows(self.case.seed, 0 if self.case.order == "fixed" else epoch, count)
        for batch, chosen in enumerate(torch.from_numpy(order).split(self.asked.batch or count)):
            for module in self.network:
                if isinstance(module, Masked):
                    module.now = batch, epoch
            self.optimizer.zero_grad()
            loss = mean_loss(
                self.case, self.network(x[chosen]), t[chosen], weights[chosen] if len(weights) else weights
            )
            loss.backward()
            if self.asked.clip_norm:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.asked.clip_norm)
            rate = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            if self.asked.every_update:
                self.schedule.step()
            total += loss.item() * len(chosen)
        if not self.asked.every_update:
            self.schedule.step()
        return total / count, loss.item(), rate
