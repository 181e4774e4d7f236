"""The training loop: all seeds of a variant at once, each with the bits that it would have alone.

One update is a forward pass, a loss, a backward pass, and a step of torch.optim on the flat tensor of all parameters.
No sum, no norm and no kernel's choice of a formula depends on more than one seed (see networks/stacked.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import unwrap
from types import MethodType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import SGD, Adam, Optimizer

from bancada.networks.encoding import encoding, loss_name, width
from bancada.networks.losses import LOSSES, LossFunction
from bancada.networks.saved import HISTORY_COLUMNS
from bancada.networks.settings import LayerSpec
from bancada.networks.stacked import Parameters, StackedNetwork, filled
from bancada.networks.start import State, start
from bancada.training import settings as options
from bancada.training.optimizers import each_update, schedule
from bancada.training.replica import Data, Replica, Report, Rows, Trained
from bancada.training.streams import DROPOUT, ORDER, START, stream
from bancada.training.streams import order as order_of

CHUNK_ROWS = 4096  # rows that are evaluated at once, to limit the memory
GATHERED = 2**24  # numbers in the batches that are gathered at once, to limit the memory

Order = Callable[[int], Int64[Tensor, "seed row"]]  # takes the epoch, returns the order of the rows for each seed


@dataclass(frozen=True)
class EncodedRows:
    """Rows as inputs and encoded targets of a network: float32, or float64 to study rounding errors."""

    features: Float[Tensor, "feature row"]
    targets: Float[Tensor, "output row"]

    def __len__(self) -> int:
        return self.features.shape[1]


def train(replicas: Sequence[Replica], data: Data, report: Report) -> list[Trained]:
    """Train the replicas, which have one recipe. Each has generators of its own: for its start, batches and dropout."""
    recipe = replicas[0].recipe
    layers = recipe.network.small_layers
    rows, validation = encoded(recipe, data)
    starts, orders, dropouts = (
        [stream(replica.seed, purpose) for replica in replicas] for purpose in (START, ORDER, DROPOUT)
    )
    begin = [start(layers, [len(rows.features)], recipe.train.init, generator) for generator in starts]
    order = together([order_of(recipe.train, len(rows), generator) for generator in orders])
    return train_stack(layers, recipe.train, rows, validation, begin, order, dropouts, report)


def encoded(recipe: options.Recipe, data: Data) -> tuple["EncodedRows", "EncodedRows"]:
    """Return the training and the validation rows as inputs and encoded targets of the network."""
    layers = recipe.network.small_layers
    encode = encoding(layers, recipe.train.loss, width(layers), data.classes).encode

    def of(rows: Rows) -> EncodedRows:
        inputs = torch.from_numpy(np.ascontiguousarray(rows.inputs.T))
        return EncodedRows(inputs, torch.from_numpy(encode(rows.targets)))

    return of(data.train), of(data.validation)


def together(orders: Sequence[Callable[[], Tensor]]) -> Order:
    """Return the orders of all seeds as one function of the epoch."""
    return lambda epoch: torch.stack([draw() for draw in orders])


@torch.inference_mode()
def train_stack(
    layers: Sequence[LayerSpec],
    settings: options.Train,
    rows: EncodedRows,
    validation: EncodedRows,
    starts: Sequence[State],
    order: Order,
    dropout: Sequence[torch.Generator],
    report: Report,
) -> list[Trained]:
    """Train one network per start. If the loss of a seed is not finite, the seed has diverged; the others go on."""
    seeds = len(starts)
    if seeds == 1:  # torch has other matrix kernels for one seed: train a copy of it as a second one
        starts, dropout = [*starts] * 2, [dropout[0], torch.Generator()]
    parameters, loss = Parameters(starts), LOSSES[loss_name(settings.loss)]
    batches = Batches(rows, settings.batch_size, parameters.seeds, order)
    network = StackedNetwork(layers, parameters, batches.width, dropout)
    evaluation = EvaluatedRows(layers, parameters, validation)
    optimizer = _optimizer(settings, parameters.flat)
    rates, every_update = schedule(settings, optimizer, batches.count), each_update(settings)
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
                if rates and every_update:
                    rates.step()
            share = loss.share(outputs, chunk.targets, chunk.weights[:, None, None])
            chunk_losses.append(share.contiguous().sum((2, 3)).numpy().astype(np.float64))
        if rates and not every_update:
            rates.step()
        losses = np.concatenate(chunk_losses)  # [batch, seed]
        train_loss = np.average(losses, axis=0, weights=batches.row_counts)
        history.add(train_loss, losses[-1], evaluation.loss(loss), lr)
        report.epoch(range(seeds), epoch, {name: column[:seeds, epoch] for name, column in history.columns.items()})
        if not history.active():
            break
    trained = history.results(parameters.state(), seeds, len(rows.targets))
    for place, one in enumerate(trained):
        report.ended(place, one)
    return trained


class Chunk(NamedTuple):
    """Consecutive batches, gathered from the table of rows."""

    features: Float[Tensor, "batch seed feature place"]
    targets: Float[Tensor, "batch seed output place"]
    weights: Float[Tensor, "batch place"]  # 1 / rows of the batch, or 0 for a place that fills the batch up
    row_counts: list[int]


class Batches:
    """The batches of training rows, in each seed's own order.

    Every batch has `width` places, a multiple of 16. Places that it does not need are filled with zeros.
    """

    def __init__(self, rows: EncodedRows, batch_size: int | str, seeds: int, order: Order) -> None:
        self.rows, self.seeds, self.order = len(rows), seeds, order
        self.size = self.rows if batch_size == "full" else int(batch_size)
        self.count, self.width = math.ceil(self.rows / self.size), filled(self.size)
        self.row_counts = [min(self.size, self.rows - self.size * batch) for batch in range(self.count)]
        self.parts = [len(rows.features), len(rows.targets)]
        columns = torch.cat([rows.features, rows.targets])
        self.table = pad(columns, (0, 1))  # one more column, of zeros, fills batches up
        self.at_once = max(1, GATHERED // (seeds * self.width * len(self.table)))
        weights = [pad(columns.new_full((n,), 1 / n), (0, self.width - n)) for n in self.row_counts]
        self.weights = torch.stack(weights)

    def epoch(self, epoch: int) -> Iterator[Chunk]:
        """Yield all batches in turn, as many at a time as GATHERED allows."""
        order = self.order(epoch).expand(self.seeds, -1)
        order = pad(order, (0, self.count * self.size - self.rows), value=self.rows)
        order = pad(order.reshape(self.seeds, self.count, self.size), (0, self.width - self.size), value=self.rows)
        for first in range(0, self.count, self.at_once):
            now = slice(first, first + self.at_once)
            places = order[:, now]
            gathered = self.table.index_select(1, places.reshape(-1)).view(-1, *places.shape).permute(2, 1, 0, 3)
            features, targets = torch.split(gathered, self.parts, 2)
            yield Chunk(features, targets, self.weights[now], self.row_counts[now])


class EvaluatedRows:
    """The networks in evaluation mode on fixed rows, the same for every seed, in chunks of at most CHUNK_ROWS."""

    def __init__(self, layers: Sequence[LayerSpec], parameters: Parameters, rows: EncodedRows) -> None:
        self.count, self.seeds = len(rows), parameters.seeds
        width = min(CHUNK_ROWS, filled(max(1, self.count)))
        self.network = StackedNetwork(layers, parameters, width)
        weights = rows.features.new_full((1, self.count), 1 / max(1, self.count))
        table = torch.cat([rows.features, rows.targets, weights])
        sizes = [len(rows.features), len(rows.targets), 1]
        chunks = torch.split(pad(table, (0, -self.count % width)), width, 1) if self.count else ()
        self.chunks = [torch.split(chunk.contiguous(), sizes) for chunk in chunks]

    def loss(self, loss: LossFunction) -> Float64[np.ndarray, " seed"]:
        """Return the mean loss of each seed; NaN if there are no rows."""
        total = np.full(self.seeds, 0.0 if self.count else np.nan)
        for features, targets, weight in self.chunks:
            outputs = self.network.forward(features.expand(self.seeds, -1, -1))
            total += loss.share(outputs, targets, weight).sum((1, 2)).numpy()
        return total


class History:
    """The losses and learning rates so far, and the epochs in which seeds diverged."""

    def __init__(self, seeds: int, epochs: int, validated: bool) -> None:
        self.columns = {name: np.full((seeds, epochs), np.nan) for name in HISTORY_COLUMNS}
        self.diverged: dict[int, int] = {}
        self.seeds, self.epochs, self.validated = seeds, 0, validated

    def add(self, train_loss: np.ndarray, last_batch_loss: np.ndarray, validation_loss: np.ndarray, lr: float) -> None:
        """Add an epoch: losses [seed], and the learning rate. A seed whose loss is not finite has diverged."""
        active = self.active()
        added = (train_loss, last_batch_loss, validation_loss, np.full(self.seeds, lr))
        for name, values in zip(HISTORY_COLUMNS, added, strict=True):
            self.columns[name][active, self.epochs] = values[active]
        finite = np.isfinite(train_loss) & (np.isfinite(validation_loss) | (not self.validated))
        self.diverged |= {seed: self.epochs for seed in active if not finite[seed]}
        self.epochs += 1

    def active(self) -> list[int]:
        """Return the positions of the seeds that have not diverged."""
        return [seed for seed in range(self.seeds) if seed not in self.diverged]

    def results(self, weights: State, seeds: int, outputs: int) -> list[Trained]:
        """Return the results of the first `seeds` seeds. The weights of diverged seeds are NaN."""
        for seed in self.active():
            if not all(value[seed].isfinite().all() for value in weights.values()):
                self.diverged[seed] = self.epochs - 1
        for value in weights.values():
            value[sorted(self.diverged)] = torch.nan
        parameters = sum(value[0].numel() for name, value in weights.items() if "running" not in name)
        return [
            Trained(
                weights={name: value[seed].numpy().copy() for name, value in weights.items()},
                history={
                    name: column[seed, : self.diverged.get(seed, self.epochs - 1) + 1]
                    for name, column in self.columns.items()
                },
                parameters=parameters,
                outputs=outputs,
                diverged=self.diverged.get(seed),
            )
            for seed in range(seeds)
        ]


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
    # torch.optim imports torch's compiler, which takes seconds, unless it is disabled: nothing is compiled here
    method = unwrap(Optimizer.add_param_group)
    setattr(method, "__dynamo_disable", method)
    chosen = settings.optimizer
    optimizer: Optimizer
    if isinstance(chosen, options.Adam):
        betas = (chosen.betas[0], chosen.betas[1])
        optimizer = Adam([flat], settings.lr, betas, chosen.eps, chosen.weight_decay, fused=True)
    elif isinstance(chosen, options.SGD):
        optimizer = SGD([flat], settings.lr, chosen.momentum, weight_decay=chosen.weight_decay, foreach=False)
    else:
        raise TypeError(f"{chosen.name} is trained by the torch engine")
    optimizer.step = MethodType(unwrap(type(optimizer).step), optimizer)  # type: ignore[method-assign]  # of this object only
    return optimizer
