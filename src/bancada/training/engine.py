"""The training loop: all seeds of a variant at once, each with the bits that it would have alone.

One update is a forward pass, a loss, a backward pass, and a step of torch.optim on the flat tensor of all parameters.
No sum, no norm and no kernel's choice of a formula depends on more than one seed (see networks/stacked.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import unwrap
from types import MethodType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiplicativeLR, StepLR

from bancada.networks.losses import LOSSES, LossFunction
from bancada.networks.saved import HISTORY_COLUMNS, TrainingResult
from bancada.networks.settings import LayerSpec
from bancada.networks.stacked import Parameters, StackedNetwork, filled
from bancada.networks.start import State
from bancada.training import settings as options

CHUNK_ROWS = 4096  # rows that are evaluated at once, to limit the memory
GATHERED = 2**24  # numbers in the batches that are gathered at once, to limit the memory

Order = Callable[[int], Int64[Tensor, "seed row"]]  # takes the epoch, returns the order of the rows for each seed
Progress = Callable[["History"], None]  # called after every epoch


@dataclass(frozen=True)
class EncodedRows:
    """Rows as inputs and encoded targets of a network: float32, or float64 to study rounding errors."""

    features: Float[Tensor, "feature row"]
    targets: Float[Tensor, "output row"]

    def __len__(self) -> int:
        return self.features.shape[1]


@torch.inference_mode()
def train_stack(
    layers: Sequence[LayerSpec],
    settings: options.Train,
    rows: EncodedRows,
    validation: EncodedRows,
    starts: Sequence[State],
    order: Order,
    dropout: Sequence[torch.Generator],
    device: str = "cpu",
    progress: Progress = lambda history: None,
) -> TrainingResult:
    """Train one network per start. If the loss of a seed is not finite, the seed has diverged; the others go on."""
    seeds = len(starts)
    if seeds == 1:  # torch has other matrix kernels for one seed: train a copy of it as a second one
        starts, dropout = [*starts] * 2, [dropout[0], torch.Generator()]
    parameters, loss = Parameters(starts, device), LOSSES[settings.loss]
    batches = Batches(rows, settings.batch_size, parameters.seeds, order, device)
    network = StackedNetwork(layers, parameters, batches.width, dropout)
    evaluation = Evaluation(layers, parameters, validation)
    optimizer = _optimizer(settings, parameters.flat)
    schedule = _schedule(settings, optimizer)
    each_update = settings.schedule.name != "none" and settings.schedule.every == "update"
    history = History(len(starts), settings.epochs, validated=len(validation) > 0)
    for epoch in range(settings.epochs):
        chunk_losses = []
        for chunk in batches.epoch(epoch):
            outputs = torch.empty_like(chunk.targets, memory_format=torch.contiguous_format)
            for features, targets, weight, row_count, kept in zip(*chunk, outputs, strict=True):
                network.batch(weight, row_count)
                output = network.forward(features)
                kept.copy_(output)
                network.backward(loss.gradient(output, targets, weight))
                if settings.clip_norm:
                    clip(parameters, settings.clip_norm)
                lr = float(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if schedule and each_update:
                    schedule.step()
            share = loss.share(outputs, chunk.targets, chunk.weights[:, None, None])
            chunk_losses.append(share.contiguous().sum((2, 3)).cpu().numpy().astype(np.float64))
        if schedule and not each_update:
            schedule.step()
        losses, row_counts = np.concatenate(chunk_losses), np.array(batches.rows)  # [batch, seed], [batch]
        train_loss = (losses * row_counts[:, None]).sum(axis=0) / row_counts.sum()
        history.add(train_loss, losses[-1], evaluation.loss(loss), lr)
        progress(history)
        if not history.active():
            break
    return history.result(parameters.state(), seeds)


class Chunk(NamedTuple):
    """Consecutive batches, gathered from the table of rows."""

    features: Float[Tensor, "batch seed feature place"]
    targets: Float[Tensor, "batch seed output place"]
    weights: Float[Tensor, "batch place"]  # 1 / rows of the batch, or 0 for a place that fills the batch up
    rows: list[int]


class Batches:
    """The batches of training rows, in each seed's own order.

    Every batch has `width` places, a multiple of 16. Places that it does not need are filled with zeros.
    """

    def __init__(self, rows: EncodedRows, batch_size: int | str, seeds: int, order: Order, device: str) -> None:
        size = len(rows) if batch_size == "full" else int(batch_size)
        count = -(-len(rows) // size)
        self.order, self.features = order, len(rows.features)
        self.rows = [min(size, len(rows) - size * batch) for batch in range(count)]
        self.width = filled(size)
        table = torch.cat([rows.features, rows.targets])
        self.table = torch.cat([table, table.new_zeros(len(table), 1)], 1).to(device)
        self.size = size
        self.in_order = torch.full((seeds, count * size), len(rows))
        self.places = torch.full((seeds, count, self.width), len(rows))
        self.last: Tensor | None = None
        self.at_once = max(1, GATHERED // (seeds * self.width * len(table)))
        pad = torch.nn.functional.pad
        self.weights = torch.stack([pad(self.table.new_full((n,), 1 / n), (0, self.width - n)) for n in self.rows])

    def epoch(self, epoch: int) -> Iterator[Chunk]:
        """Yield all batches in turn, as many at a time as GATHERED allows."""
        order = self.order(epoch)
        if order is not self.last:
            self.last = order
            self.in_order[:, : order.shape[1]] = order
            self.places[:, :, : self.size] = self.in_order.view(len(self.places), -1, self.size)
        for start in range(0, len(self.rows), self.at_once):
            now = slice(start, start + self.at_once)
            places = self.places[:, now]
            gathered = self.table.index_select(1, places.reshape(-1).to(self.table.device))
            gathered = gathered.view(len(self.table), *places.shape).permute(2, 1, 0, 3)
            yield Chunk(
                gathered[:, :, : self.features], gathered[:, :, self.features :], self.weights[now], self.rows[now]
            )


class Evaluation:
    """The networks in evaluation mode on fixed rows, the same for every seed, in chunks of at most CHUNK_ROWS."""

    def __init__(self, layers: Sequence[LayerSpec], parameters: Parameters, rows: EncodedRows) -> None:
        self.count, self.seeds = len(rows), parameters.seeds
        self.chunks: list[_Chunk] = []
        networks: dict[int, StackedNetwork] = {}
        for start in range(0, self.count, CHUNK_ROWS):
            features, targets = (part[:, start : start + CHUNK_ROWS] for part in (rows.features, rows.targets))
            n = features.shape[1]
            pad = (0, filled(n) - n)
            weight = torch.nn.functional.pad(features.new_full((n,), 1 / self.count), pad)
            observed = torch.nn.functional.pad(targets, pad).expand(self.seeds, -1, -1)
            network = networks.setdefault(filled(n), StackedNetwork(layers, parameters, filled(n)))
            spread = torch.nn.functional.pad(features, pad).expand(self.seeds, -1, -1)
            device = parameters.flat.device
            self.chunks.append(_Chunk(network, spread.to(device), observed.to(device), weight.to(device)))

    def loss(self, loss: LossFunction) -> Float64[np.ndarray, " seed"]:
        """Return the mean loss of each seed; NaN if there are no rows."""
        total = np.full(self.seeds, 0.0 if self.count else np.nan)
        for chunk in self.chunks:
            share = loss.share(chunk.network.forward(chunk.features), chunk.targets, chunk.weight)
            total += share.sum((1, 2)).cpu().numpy()
        return total


@dataclass(frozen=True)
class _Chunk:
    network: StackedNetwork
    features: Float[Tensor, "seed feature place"]
    targets: Float[Tensor, "seed output place"]
    weight: Float[Tensor, " place"]


class History:
    """The losses and learning rates so far, and the epochs in which seeds diverged."""

    def __init__(self, seeds: int, epochs: int, validated: bool) -> None:
        self.columns = {name: np.full((seeds, epochs), np.nan) for name in HISTORY_COLUMNS}
        self.diverged: dict[int, int] = {}
        self.seeds, self.epochs, self.validated = seeds, 0, validated

    def add(self, train_loss: np.ndarray, last_batch_loss: np.ndarray, validation_loss: np.ndarray, lr: float) -> None:
        """Add an epoch: losses [seed], and the learning rate. A seed whose loss is not finite has diverged."""
        active = self.active()
        for name, values in zip(HISTORY_COLUMNS, (train_loss, last_batch_loss, validation_loss), strict=False):
            self.columns[name][active, self.epochs] = values[active]
        self.columns["lr"][active, self.epochs] = lr
        finite = np.isfinite(train_loss) & (np.isfinite(validation_loss) | (not self.validated))
        self.diverged |= {seed: self.epochs for seed in active if not finite[seed]}
        self.epochs += 1

    def active(self) -> list[int]:
        """Return the positions of the seeds that have not diverged."""
        return [seed for seed in range(self.seeds) if seed not in self.diverged]

    def mean_loss(self) -> float:
        """Return the mean training loss in the last epoch over the seeds that have not diverged."""
        active = self.active()
        return float(self.columns["train_loss"][active, self.epochs - 1].mean()) if active else float("nan")

    def result(self, weights: State, seeds: int) -> TrainingResult:
        """Return the result of the first `seeds` seeds. The weights of diverged seeds are NaN."""
        for seed in self.active():
            if not all(value[seed].isfinite().all() for value in weights.values()):
                self.diverged[seed] = self.epochs - 1
        for value in weights.values():
            value[sorted(self.diverged)] = torch.nan
        return TrainingResult(
            {name: value[:seeds].numpy().copy() for name, value in weights.items()},
            {name: column[:seeds, : self.epochs] for name, column in self.columns.items()},
            {seed: epoch for seed, epoch in sorted(self.diverged.items()) if seed < seeds},
        )


def clip(parameters: Parameters, norm: float) -> None:
    """Scale the gradient of each seed down to `norm` if its norm over all parameters is larger. Pascanu et al. 2013."""
    gradients = parameters.gradients.values()
    squared = torch.stack([(g * g).flatten(1).sum(1) for g in gradients]).sum(0)
    factor = (norm * torch.rsqrt(squared)).clamp_(max=1)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


def _optimizer(settings: options.Train, flat: Tensor) -> Optimizer:
    """Return torch.optim's optimizer without the hooks around a step, which cost more time than its arithmetic.

    Adam is fused, because the square root of the other one is rounded differently by different CPUs. SGD is not fused,
    because that is faster.
    """
    _leave_compiler_out()
    chosen = settings.optimizer
    optimizer: Optimizer
    if isinstance(chosen, options.Adam):
        betas = (chosen.betas[0], chosen.betas[1])
        optimizer = Adam([flat], settings.lr, betas, chosen.eps, chosen.weight_decay, fused=True)
    else:
        optimizer = SGD([flat], settings.lr, chosen.momentum, weight_decay=chosen.weight_decay, foreach=False)
    optimizer.step = MethodType(unwrap(type(optimizer).step), optimizer)  # type: ignore[method-assign]  # of this object only
    return optimizer


def _leave_compiler_out() -> None:
    """Keep torch.optim from importing torch's compiler, which takes seconds; nothing is compiled here."""
    method = unwrap(Optimizer.add_param_group)
    setattr(method, "__dynamo_disable", method)


def _schedule(settings: options.Train, optimizer: Optimizer) -> LRScheduler | None:
    schedule = settings.schedule
    if isinstance(schedule, options.StepSchedule):
        return StepLR(optimizer, schedule.step_size, schedule.gamma)
    if not isinstance(schedule, options.InverseTime):
        return None
    decay = schedule.decay
    for group in optimizer.param_groups:  # lesson 5 also multiplies before the first update
        group["lr"] /= 1 + decay
    return MultiplicativeLR(optimizer, lambda k: 1 / (1 + decay * (k + 1)))
