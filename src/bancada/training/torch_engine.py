"""One replica of any network, with plain PyTorch: nn.Module, autograd, torch.optim. This engine is the specification.

torch's global generator, number of threads and switches belong to the process, so replicas that run at the same time
need processes of their own.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bancada.base import BadInput, user_code
from bancada.base.refusals import PARAMS_FILE
from bancada.data.settings import DataShape
from bancada.networks import torch_network
from bancada.networks.encoding import OF_CLASS_INDEX, encoding, loss_name
from bancada.networks.portable import generator_states, restore, seed_all, settle
from bancada.networks.saved import HISTORY_COLUMNS, Trained
from bancada.networks.settings import Loss
from bancada.networks.start import draw
from bancada.training import fit, optimizers, streams
from bancada.training.checkpoint import Keeper
from bancada.training.replica import Data, Replica, history_of

EpochRow = dict[str, float]  # HISTORY_COLUMNS


def train(
    replica: Replica, data: Data, report: Callable[[int, EpochRow], None], keeper: Keeper | None = None
) -> Trained:
    """Train one replica. Raise BadInput, in one line, for what is wrong in the user's file or does not fit it."""
    training, keeper = Training(replica, data), keeper or Keeper(replica.state)
    if state := keeper.read():
        training.resume(state)
        print(f"seed {replica.seed} goes on after epoch {training.at.epoch}", flush=True)
    for epoch, row in enumerate(training.at.history):
        report(epoch, row)
    return training.run(report, keeper)


@dataclass
class Place:
    """Where a training stands: all of it that is no model, optimizer, schedule or generator."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    last_loss: float = math.nan
    lr: float = math.nan  # of the last update
    best: float = math.inf  # the validation loss of the last improvement
    best_epoch: int = -1
    diverged: int | None = None
    note: str = ""
    history: list[EpochRow] = field(default_factory=list)


class Training:
    """One replica while it is trained."""

    def __init__(self, replica: Replica, data: Data) -> None:
        self.recipe, self.asked, self.data = replica.recipe, replica.recipe.train, data
        self.at, self.device, self.best = Place(), replica.recipe.device, dict[str, Tensor]()
        self.seed, self.now = replica.seed, ""  # what is done at the moment, for messages
        seed_all(streams.number(replica.seed, streams.MODULE))
        with self.told():
            self._build()
        self._prepare_loss()
        self.optimizer = optimizers.optimizer(self.asked, self.parameters)
        updates = math.ceil(len(self.inputs) / self.asked.batch_rows(len(self.inputs)))
        self.schedule = optimizers.schedule(self.asked, self.optimizer, updates)
        seed_all(streams.number(replica.seed, streams.DROPOUT))

    def _build(self) -> None:
        self.model = torch_network.network(self.recipe.network, self.data.train.inputs.shape[1:])
        settle(self.asked.bits)  # the user's file may have set other switches
        if self.recipe.layers and isinstance(self.model, nn.Sequential):
            draw(self.model, self.recipe.layers, self.asked.init, self.seed)
        self.model.to(self.device)
        self.inputs, self.held_out = (
            torch.from_numpy(rows.inputs).to(self.device) for rows in (self.data.train, self.data.validation)
        )
        self.outputs = self._look()
        self.parameters = [value for value in self.model.parameters() if value.requires_grad]
        if not self.parameters:
            raise BadInput("has no parameters that could be learned")

    def _look(self) -> int:
        """Return the number of outputs of a row. Raise BadInput where the network gives no [row, output] that fits."""
        for rows in (self.inputs[:2], self.inputs[:1]):  # one row alone: `squeeze()` would lose its axis
            with torch.no_grad():
                self.model.eval()
                try:
                    output = self._output(rows.clone())  # it may change what it gets
                except RuntimeError as error:  # often of a first layer that expects another number of inputs
                    error.add_note(fit.a_row(self.recipe, rows.shape[1:]))
                    raise
            if not output.isfinite().all():
                raise BadInput("gives numbers that are not finite for the first training rows")
            sums = output.exp().sum(1)
            if loss_name(self.asked.loss) == "NLLLoss" and not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
                reason = f"NLLLoss takes logarithms of probabilities, but their exponentials sum to {sums[0]:.4g}"
                raise BadInput(f"{reason}, not 1; end in LogSoftmax, or use CrossEntropyLoss")
        data = self.data
        shape = DataShape(data.train.inputs[0].size, data.train.targets.shape[1], data.classes, len(data.train))
        if problem := fit.misfit(self.recipe, output.shape[1], shape):
            raise BadInput(problem)
        return int(output.shape[1])

    def _output(self, rows: Tensor) -> Tensor:
        """Return what the network gives for the rows. Raise BadInput if that is no [row, output]."""
        output = self.model(rows)
        how = " in training mode" if self.model.training else ""
        if not isinstance(output, Tensor):
            raise BadInput(f"gives a {type(output).__name__}{how}, not a tensor [row, output]")
        if output.ndim != 2 or len(output) != len(rows) or (how and output.shape[1] != self.outputs):
            right = f"[row, {self.outputs}]" if how else "[row, output]"
            raise BadInput(f"gives {list(output.shape)} for {len(rows)} rows{how}, not {right}")
        return output

    def _prepare_loss(self) -> None:
        data, asked = self.data, self.asked
        self.encoding = code = encoding(self.recipe.layers, asked.loss, self.outputs, data.classes)
        parts = (data.train, data.validation)
        encoded = (torch_network.observed(rows.targets, code, asked.loss) for rows in parts)
        self.targets, self.held_out_targets = (targets.to(self.device) for targets in encoded)
        self.loss = torch_network.loss_function(asked.loss)
        self.weighted = weighted_loss(asked.loss, data, self.device) if asked.class_weight else None

    def run(self, report: Callable[[int, EpochRow], None], keeper: Keeper | None) -> Trained:
        """Train to the last epoch, until the validation loss falls no more, or until the loss is not finite."""
        at, stopping = self.at, self.asked.early_stopping
        while at.epoch < self.asked.epochs and at.diverged is None:
            if stopping and at.epoch - 1 - at.best_epoch >= stopping.patience:
                break
            self.now = f"seed {self.seed}, epoch {at.epoch + 1}"
            self.epoch(keeper)
            report(at.epoch - 1, at.history[-1])
        return self._trained()

    def epoch(self, keeper: Keeper | None = None) -> None:
        """Train for one epoch."""
        at, stopping = self.at, self.asked.early_stopping
        self._learn(keeper)
        train_loss, validation_loss = at.loss_sum / len(self.inputs), self._validation_loss()
        row = (train_loss, at.last_loss, validation_loss, at.lr)
        at.history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        if at.note or not math.isfinite(train_loss) or (len(self.held_out) and not math.isfinite(validation_loss)):
            at.diverged = at.epoch
        elif stopping and validation_loss < at.best - stopping.min_delta:
            at.best, at.best_epoch = validation_loss, at.epoch
            self.best = self.weights()
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation_loss)
        elif self.schedule and not self.asked.each_update():
            self.schedule.step()
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0

    def _learn(self, keeper: Keeper | None) -> None:
        at = self.at
        self.model.train()
        size = self.asked.batch_rows(len(self.inputs))
        order = torch.from_numpy(streams.order(self.asked, self.seed, at.epoch, len(self.inputs)))
        for chosen in order.to(self.device).split(size)[at.batch :]:
            if keeper:
                keeper.write(self.state)
            at.lr = float(self.optimizer.param_groups[0]["lr"])
            alone = "; this batch has one row: choose another batch_size" if len(chosen) == 1 else ""
            with self.told(alone):
                at.last_loss = self._update(chosen)
            at.loss_sum += at.last_loss * len(chosen)
            at.batch += 1
            if at.note or not math.isfinite(at.loss_sum):
                return

    def _update(self, chosen: Tensor) -> float:
        """Learn from one batch. Return its loss."""
        self.optimizer.zero_grad()
        loss = self.loss_of(chosen)
        loss.backward()
        if self.asked.clip_norm:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.asked.clip_norm)
            if not norm.isfinite():  # the step would make every weight NaN
                self.at.note = f"batch {self.at.batch + 1}: the gradient of {self._not_finite()} is not finite"
                return loss.item()
        self.optimizer.step()
        if self.schedule and self.asked.each_update():
            self.schedule.step()
        return loss.item()

    def loss_of(self, chosen: Tensor) -> Tensor:
        """Return the mean loss of these training rows."""
        output, target = self._output(self.inputs[chosen]), self.targets[chosen]
        loss: Tensor = self.weighted(output, target, chosen) if self.weighted else self.loss(output, target)
        return loss

    def _not_finite(self) -> str:
        named = self.model.named_parameters()
        return next(name for name, value in named if value.grad is not None and not value.grad.isfinite().all())

    def _validation_loss(self) -> float:
        if not len(self.held_out):
            return math.nan
        with self.told():
            output = torch_network.outputs(self.model, self.held_out)
        return torch_network.mean_loss(self.loss, output, self.held_out_targets)

    def weights(self) -> dict[str, Tensor]:
        """Return the network's state_dict as it is now."""
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def _trained(self) -> Trained:
        at, weights = self.at, {name: value.numpy() for name, value in (self.best or self.weights()).items()}
        if at.diverged is None and not all(np.isfinite(value).all() for value in weights.values()):
            at.diverged = at.epoch - 1
        if at.diverged is not None:
            weights = {name: nothing(value) for name, value in weights.items()}
        count = sum(value.numel() for value in self.parameters)
        kept = at.best_epoch if self.best and at.diverged is None else None
        return Trained(weights, history_of(at.history), count, self.outputs, at.diverged, kept, at.note)

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on."""
        return {
            "at": self.at,
            "model": dict(self.model.state_dict()),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "random": generator_states(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.at, self.best = state["at"], state["best"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])  # after the schedule was made, which writes a rate into it
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        restore(state["random"])

    @contextmanager
    def told(self, way_out: str = "") -> Iterator[None]:
        """Raise what goes wrong in the user's code, or in torch because of it, as one line that begins with where."""
        module, key = self.recipe.module, f"variants.{self.recipe.variant}"
        name = f"{key}: {module.file}: {module.name}" if module else f"{PARAMS_FILE}: {key}.layers"
        try:
            with user_code.told(torch_network.SRC, module.file if module else "torch"):
                yield
        except BadInput as error:
            if str(error).startswith(PARAMS_FILE):
                raise
            now, known = f"{self.now}: " if self.now else "", str(error).startswith("src/")
            raise BadInput(f"{key if known else name}: {now}{error}{way_out}") from error


def weighted_loss(loss: Loss, data: Data, device: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a function of outputs, targets and rows: the mean loss of a batch in which every class counts the same.

    Losses of class indices get the weights of classes as torch.nn's argument `weight`.
    """
    weights, labels = data.class_weights()
    of_class = torch.from_numpy(weights).to(device)
    of_row = torch.from_numpy(weights[labels]).to(device)
    indexed = loss_name(loss) in OF_CLASS_INDEX
    single = torch_network.loss_function(loss, reduction="none", **({"weight": of_class} if indexed else {}))

    def mean(output: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
        rows: Tensor = single(output, target)
        weight = of_row[chosen]
        weighted = rows if indexed else rows.flatten(1).mean(1) * weight
        return weighted.sum() / weight.sum()

    return mean


def nothing(values: np.ndarray) -> np.ndarray:
    """Return NaN in the place of numbers; whole numbers, such as counts of batches, stay."""
    return np.full_like(values, np.nan) if np.issubdtype(values.dtype, np.inexact) else values
