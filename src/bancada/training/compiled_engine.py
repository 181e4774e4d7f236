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
from bancada.networks.saved import HISTORY_COLUMNS, Trained
from bancada.training import checkpoint
from bancada.training.replica import Data, Draws, Replica, Report, Results, Rows
from bancada.training.settings import Recipe, Train

ROUND_S = 0.2  # the time in which every replica advances by one slice, if that is more than SLICE_S and an epoch
SLICE_S = 0.02  # below which calls would cost more than epochs
TELL_S = 0.1  # between two reports about epochs


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Results:
    """Train the replicas on all cores of this stage. Yield each result with its place."""
    kernel.ready()
    cores = stage.cores()
    recipes = {(id(one.recipe), one.draw): one.recipe for one in replicas.values()}
    tasks = {key: Task.of(recipe, data[key[1]]) for key, recipe in recipes.items()}
    running = {place: Running(place, tasks[id(one.recipe), one.draw], one) for place, one in replicas.items()}
    ready, told, told_s = SimpleQueue[Future[Running]](), 0, time.monotonic()
    with ThreadPoolExecutor(cores) as pool:

        def go_on(one: Running) -> None:  # behind all that wait
            slice_s = max(SLICE_S, ROUND_S * cores / len(running))
            pool.submit(one.advance, slice_s).add_done_callback(ready.put)

        try:
            for one in running.values():
                go_on(one)
            while running:
                one = ready.get().result()
                one.passed = one.done()
                if kernel.ended(one.task.settings, one.at):
                    del running[one.place]
                    yield one.place, one.trained()
                else:
                    one.keeper.write(one.at._asdict)
                    go_on(one)
                if running and time.monotonic() - told_s >= TELL_S:
                    told, told_s = _tell(report, running, told), time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)


def _tell(report: Report, running: Mapping[int, "Running"], first: int) -> int:
    """Tell the epochs from `first` that every replica under way has passed. Return the next one."""
    after = min(one.passed for one in running.values())
    if after > first:
        histories = np.stack([one.at.history[first:after] for one in running.values()])  # [place, epoch, column]
        losses = {name: histories[:, :, column] for column, name in enumerate(HISTORY_COLUMNS)}
        report.epochs([*running], first, losses)
    return max(first, after)


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
    stopping, optimizer, schedule = train.early_stopping, train.optimizer.model_dump(), train.schedule.model_dump()
    for options in (optimizer, schedule):
        options.pop("name")
    if "betas" in optimizer:
        optimizer["beta1"], optimizer["beta2"] = optimizer.pop("betas")
    if "t_max" in schedule:
        steps = train.steps(math.ceil(rows / train.batch_rows(rows)))
        schedule = {"period": schedule["t_max"] or steps, "lowest": schedule["eta_min"]}
    schedule.pop("every", None)
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
        self.pace_s, self.keeper = 0.0, checkpoint.Keeper(replica.state)  # pace: of an epoch
        self.at = kernel.start(task.network, task.train.init, replica.seed, task.settings)
        if kept := self.keeper.read():
            self.at = kernel.Place(**kept)
            print(f"seed {replica.seed} goes on after epoch {self.done()}", flush=True)
        self.passed = self.done()  # epochs, when no thread last worked on it

    def done(self) -> int:
        """Return how many epochs it has been trained for."""
        return int(self.at.progress[DONE])

    def advance(self, slice_s: float) -> "Running":
        """Train for about so many seconds: one epoch at least, and one at first."""
        task, begin, before = self.task, time.perf_counter(), self.done()
        until = before + max(1, int(slice_s / self.pace_s) if self.pace_s else 1)
        kernel.train(task.network, task.settings, self.replica.seed, task.rows, task.validation, self.at, until)
        self.pace_s = (time.perf_counter() - begin) / max(1, self.done() - before)
        return self

    def trained(self) -> Trained:
        """Return its result."""
        network, done = self.task.network, self.done()
        weights, note = kernel.named(network, self.at), kernel.note(network, self.at)
        history = dict(zip(HISTORY_COLUMNS, self.at.history[:done].T.copy(), strict=True))
        diverged, kept = (int(epoch) if epoch >= 0 else None for epoch in self.at.progress[[DIVERGED, BEST_EPOCH]])
        kept = kept if diverged is None else None
        return Trained(weights, history, network.parameters, network.outputs, diverged, kept, note)
