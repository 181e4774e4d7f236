"""The compiled engine: replicas of the small vocabulary in threads, by the loops of networks/kernel, without torch.

All replicas advance together, some epochs at a time: so all their curves grow, Ctrl-C waits for no more than such a
slice, and all are kept when the training is killed. How many epochs a slice has changes no byte.
"""

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from bancada.base import stage
from bancada.networks import kernel
from bancada.networks.encoding import encoding, loss_name, width
from bancada.networks.kernel.records import BEST_EPOCH, DIVERGED, DONE
from bancada.networks.saved import HISTORY_COLUMNS, History, Trained
from bancada.training import checkpoint
from bancada.training.replica import Data, Draws, Outcomes, Replica, Report, Rows
from bancada.training.settings import Recipe, Train

ROUND_S = 0.2  # the time in which every replica advances by one slice, if that is more than SLICE_S and an epoch
SLICE_S = 0.02  # below which calls would cost more than epochs


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Outcomes:
    """Train the replicas on all cores of this stage. Yield each result with its place."""
    kernel.ready()
    cores = stage.cores()
    recipes = {(id(one.recipe), one.draw): one.recipe for one in replicas.values()}
    tasks = {key: Task.of(recipe, data[key[1]]) for key, recipe in recipes.items()}
    running = {place: Running(place, tasks[id(one.recipe), one.draw], one) for place, one in replicas.items()}
    ready = SimpleQueue[Future[Running]]()
    with ThreadPoolExecutor(cores) as pool:

        def go_on(one: Running) -> None:  # behind all that wait
            slice_s = max(SLICE_S, ROUND_S * cores / len(running))
            pool.submit(one.advance, slice_s).add_done_callback(ready.put)

        try:
            for one in running.values():
                go_on(one)
            while running:
                one = ready.get().result()
                report.epochs(one.place, one.told, one.history(one.told))
                one.told = one.done()
                if kernel.ended(one.task.settings, one.at):
                    del running[one.place]
                    yield one.place, one.trained()
                else:
                    one.keeper.write(one.at._asdict)
                    go_on(one)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Task:
    """What the replicas of a recipe have in common, as the kernel takes it."""

    network: kernel.Network
    settings: kernel.Settings
    train: Train
    rows: kernel.Rows
    validation: kernel.Rows

    @classmethod
    def of(cls, recipe: Recipe, data: Data) -> "Task":
        """Return the network, the settings and the encoded rows."""
        layers, features = recipe.network.small_layers, math.prod(data.train.inputs.shape[1:])
        code = encoding(layers, recipe.train.loss, width(layers), data.classes)

        def encoded(rows: Rows) -> kernel.Rows:
            inputs = np.ascontiguousarray(rows.inputs.reshape(len(rows), features), np.float32)
            alike = np.zeros(0, np.float32)  # every row counts the same
            return kernel.Rows(inputs, np.ascontiguousarray(code.encode(rows.targets).T), alike)

        rows, settings = encoded(data.train), numbers(recipe.train, len(data.train))
        if recipe.train.class_weight:
            of_class, labels = data.class_weights()
            rows = rows._replace(weights=of_class[labels])
        return cls(kernel.network(layers, features), settings, recipe.train, rows, encoded(data.validation))


def numbers(train: Train, rows: int) -> kernel.Settings:
    """Return the keys of params.yaml as the kernel's numbers. `rows`: those of the training."""
    stopping = train.early_stopping
    optimizer, schedule = (part.model_dump(exclude={"name", "every"}) for part in (train.optimizer, train.schedule))
    if "betas" in optimizer:
        optimizer["beta1"], optimizer["beta2"] = optimizer.pop("betas")
    if "t_max" in schedule:
        steps = train.steps(math.ceil(rows / train.batch_rows(rows)))
        schedule = {"period": schedule["t_max"] or steps, "lowest": schedule["eta_min"]}
    return kernel.Settings(
        loss=kernel.LOSSES[loss_name(train.loss)],
        optimizer=kernel.OPTIMIZERS[train.optimizer.name],
        rate=train.lr,
        schedule=kernel.SCHEDULES[train.schedule.name],
        every_update=train.each_update(),
        clip_norm=train.clip_norm,
        batch=0 if train.batch_size == "full" else train.batch_size,
        order=kernel.ORDERS[train.batch_order],
        epochs=train.epochs,
        patience=stopping.patience if stopping else 0,
        min_delta=stopping.min_delta if stopping else 0.0,
        **optimizer,
        **schedule,
    )


class Running:
    """A replica under way. One thread at a time works on it."""

    def __init__(self, place: int, task: Task, replica: Replica) -> None:
        self.place, self.task, self.replica = place, task, replica
        self.told, self.pace_s = 0, 0.0  # epochs that were reported, and seconds for one
        self.keeper = checkpoint.Keeper(replica.state)
        self.at = kernel.start(task.network, task.train.init, replica.seed, task.settings)
        if kept := self.keeper.read():
            self.at = kernel.Place(**kept)
            print(f"seed {replica.seed} goes on after epoch {self.done()}", flush=True)

    def done(self) -> int:
        """Return how many epochs it has been trained for."""
        return int(self.at.progress[DONE])

    def history(self, first: int) -> History:
        """Return the epochs from `first` on."""
        return dict(zip(HISTORY_COLUMNS, self.at.history[first : self.done()].T.copy(), strict=True))

    def advance(self, slice_s: float) -> "Running":
        """Train for about so many seconds: one epoch at least, and one at first."""
        task, begin, before = self.task, time.perf_counter(), self.done()
        until = before + max(1, int(slice_s / self.pace_s) if self.pace_s else 1)
        kernel.train(task.network, task.settings, self.replica.seed, task.rows, task.validation, self.at, until)
        self.pace_s = (time.perf_counter() - begin) / max(1, self.done() - before)
        return self

    def trained(self) -> Trained:
        """Return its result."""
        network = self.task.network
        weights, note = kernel.named(network, self.at), kernel.note(network, self.at)
        diverged, kept = (int(epoch) if epoch >= 0 else None for epoch in self.at.progress[[DIVERGED, BEST_EPOCH]])
        kept = kept if diverged is None else None
        return Trained(weights, self.history(0), network.parameters, network.outputs, diverged, kept, note)
