"""Trainings of every layer, loss, optimizer, schedule and start, for the tests of the kernel."""

import hashlib
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from bancada.networks import kernel
from bancada.networks.settings import Init, Layers, LayerSpec

FEATURES, ROWS = 2, 120  # ROWS: three batches of 50, of which the last is smaller
MOONS = [3, "tanh", 5, "tanh", 5, "tanh", 2, "tanh", 1, "tanh"]
NORMED = [{"linear": 3, "bias": False}, "batch_norm", "tanh", {"linear": 5, "bias": False}, "batch_norm", "tanh", 1]
GIVEN = {
    "name": "given",
    "weights": [[[0.5, -0.25], [0.75, 0.125], [-0.5, 0.25]], [[0.5, -0.75, 0.25]]],
    "biases": [[0.1, -0.2, 0.3], [0.0]],
}


@dataclass(frozen=True)
class Case:
    """A training as a person would write it."""

    layers: list[Any]
    targets: str  # signs, bits, classes (one-hot) or numbers
    loss: str = "mse"
    optimizer: str = "sgd"
    rate: float = 0.1
    batch: int = 50
    order: str = "shuffled"
    schedule: str = "none"
    more: dict[str, Any] = field(default_factory=dict)  # other fields of kernel.Settings
    init: Any = "torch"
    weighted: bool = False

    seed = 7  # no fields: all cases have the same
    features = FEATURES

    @property
    def specs(self) -> list[LayerSpec]:
        """The layers."""
        return TypeAdapter(Layers).validate_python(self.layers)

    @property
    def start(self) -> Init:
        """The initial parameters."""
        return TypeAdapter(Init).validate_python(self.init)

    def network(self) -> kernel.Network:
        """Return the network."""
        return kernel.network(self.specs, FEATURES)

    def settings(self, epochs: int) -> kernel.Settings:
        """Return how it is trained."""
        return kernel.Settings(
            loss=kernel.LOSSES[self.loss],
            optimizer=kernel.OPTIMIZERS[self.optimizer],
            rate=self.rate,
            batch=self.batch,
            epochs=epochs,
            order=kernel.ORDERS[self.order],
            schedule=kernel.SCHEDULES[self.schedule],
            **self.more,
        )

    def start_at(self, seed: int, epochs: int) -> kernel.Place:
        """Return the place of a training before its first epoch."""
        return kernel.start(self.network(), self.start, seed, self.settings(epochs))

    def train(self, place: kernel.Place, seed: int, epochs: int, until: int, count: int = ROWS) -> kernel.Place:
        """Train on `count` rows to an epoch, with half as many held out. Return `place`, which it writes into."""
        rows, held_out = self.rows(count), self.rows(count // 2, seed=1)
        kernel.train(self.network(), self.settings(epochs), seed, rows, held_out, place, until)
        return place

    def rows(self, count: int, seed: int = 0) -> kernel.Rows:
        """Return two half-moons, in float32 and of size about 1."""
        rng = np.random.default_rng(seed)
        angle, radius = np.pi * rng.random(count), rng.uniform(0.7, 1.3, count)
        up = np.arange(count) % 3 > 0  # the second class has half as many rows
        x = np.where(up, radius * np.cos(angle), 1 + radius * np.cos(angle))
        y = np.where(up, radius * np.sin(angle), 0.4 - radius * np.sin(angle))
        inputs = np.stack([x, y], 1).astype(np.float32)
        targets = {
            "signs": np.where(up, 1.0, -1.0)[:, None],
            "bits": up[:, None],
            "classes": np.stack([up, ~up], 1),
            "numbers": inputs @ [[2.0], [-3.4]] + 0.42,
        }[self.targets]
        weights = np.where(up, 0.75, 1.5) if self.weighted else np.zeros(0)
        return kernel.Rows(inputs, targets.astype(np.float32), weights.astype(np.float32))


CASES = {
    "tanh": Case(MOONS, "signs"),
    "relu": Case([3, "relu", 5, "relu", 2, "relu", 1, "tanh"], "signs"),
    "sigmoid": Case([3, "sigmoid", 5, "sigmoid", 1, "sigmoid"], "bits", rate=0.5),
    "softmax": Case([5, "softmax", 2, "softmax"], "classes", rate=0.5),
    "dropout": Case([3, "tanh", {"dropout": 0.1}, 5, "tanh", 1, "tanh"], "signs"),
    "batch norm, last batch smaller": Case(NORMED, "signs", batch=48),
    "half mse, inverse time by update, fixed": Case(
        [1],
        "numbers",
        "half_mse",
        batch=32,
        order="fixed",
        schedule="inverse_time",
        more={"decay": 0.001, "every_update": True},
    ),
    "l1, adam": Case([4, "relu", 1], "numbers", "l1", "adam", 0.02, 40),
    "bce": Case([*MOONS[:-1], "sigmoid"], "bits", "bce"),
    "bce, class weights": Case([4, "tanh", 1, "sigmoid"], "bits", "bce", weighted=True),
    "cross entropy": Case(MOONS[:-3], "classes", "cross_entropy"),
    "cross entropy, class weights, full": Case([4, "tanh", 2], "classes", "cross_entropy", batch=0, weighted=True),
    "momentum, weight decay": Case(MOONS, "signs", rate=0.05, more={"momentum": 0.9, "weight_decay": 0.001}),
    "nesterov, cosine by epoch": Case(
        MOONS,
        "signs",
        rate=0.05,
        schedule="cosine",
        more={"momentum": 0.9, "nesterov": True, "period": 7, "lowest": 0.001},
    ),
    "adam, weight decay, betas": Case(
        MOONS, "signs", optimizer="adam", rate=0.01, more={"weight_decay": 0.01, "beta1": 0.8, "beta2": 0.99}
    ),
    "adamw, cosine by update": Case(
        MOONS,
        "signs",
        optimizer="adamw",
        rate=0.01,
        schedule="cosine",
        more={"weight_decay": 0.1, "period": 12, "every_update": True},
    ),
    "step by epoch": Case(MOONS, "signs", schedule="step", more={"step_size": 2, "gamma": 0.5}),
    "step by update": Case(MOONS, "signs", schedule="step", more={"step_size": 3, "gamma": 0.5, "every_update": True}),
    "clipped": Case(MOONS, "signs", more={"clip_norm": 0.05}),
    "wide, odd sizes": Case([33, "tanh", 17, "relu", 2], "classes", "cross_entropy", batch=37),
    "xavier": Case(MOONS, "signs", init="xavier_normal"),
    "normal": Case([3, "tanh", 1], "signs", init={"name": "normal", "std": 0.2}),
    "given": Case([3, "tanh", 1], "signs", init=GIVEN),
    "diverges": Case([3, "relu", 1], "numbers", rate=1e9),
    "diverges where it is clipped": Case([3, "relu", 1], "numbers", rate=1e30, more={"clip_norm": 1.0}),
    "early stopping": Case(NORMED, "signs", rate=0.5, more={"patience": 2, "min_delta": 0.01}),
}

# Held against torch, too, but too many or too wide for plain Python.
MORE = {
    "tanh, large rate": Case(MOONS, "signs", rate=0.5),
    "mse, class weights": Case([4, "tanh", 1], "signs", weighted=True),
    "half mse, class weights": Case([4, "tanh", 2], "classes", "half_mse", weighted=True),
    "l1, class weights": Case([4, "tanh", 1, "tanh"], "signs", "l1", weighted=True),
    "cross entropy, class weights": Case([4, "tanh", 2], "classes", "cross_entropy", weighted=True),
    "cross entropy of softmax": Case([5, "relu", 2, "softmax"], "classes", "cross_entropy", rate=0.5),
    "bce of two outputs": Case([5, "relu", 2, "sigmoid"], "classes", "bce", "adam", 0.01),
    "softmax inside": Case([6, "softmax", 4, "tanh", 1], "numbers", rate=0.05),
    "half mse of two outputs": Case([5, "relu", 2], "classes", "half_mse"),
    "no biases": Case([{"linear": 5, "bias": False}, "tanh", {"linear": 1, "bias": False}], "signs"),
    "dropout of inputs and units": Case([{"dropout": 0.2}, 16, "relu", {"dropout": 0.5}, 1], "numbers", rate=0.01),
    "dropout and batch norm": Case([8, "batch_norm", "relu", {"dropout": 0.3}, 2], "classes", "cross_entropy"),
    "batch norm last, adam": Case([{"linear": 2, "bias": False}, "batch_norm"], "classes", "mse", "adam", 0.01, 30),
    "cosine by update, shorter": Case(
        [3, "tanh", 1], "signs", schedule="cosine", more={"period": 3, "lowest": 0.01, "every_update": True}
    ),
    "cosine by epoch, shorter, adam": Case(
        [3, "tanh", 1], "signs", optimizer="adam", rate=0.01, schedule="cosine", more={"period": 1}
    ),
    "inverse time by epoch": Case([3, "tanh", 1], "signs", schedule="inverse_time", more={"decay": 0.3}),
    "momentum, step by update, clipped": Case(
        [3, "relu", 1],
        "numbers",
        rate=0.02,
        schedule="step",
        more={"momentum": 0.5, "step_size": 4, "gamma": 0.3, "every_update": True, "clip_norm": 0.5},
    ),
    "nesterov, weight decay": Case(
        [3, "tanh", 1], "signs", rate=0.05, more={"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}
    ),
    "adam, large eps": Case([3, "tanh", 1], "signs", optimizer="adam", rate=0.05, more={"eps": 1e-3}),
    "adamw, class weights": Case([4, "relu", 2], "classes", "cross_entropy", "adamw", 0.01, weighted=True),
    "early stopping, validation of batch norm, adam": Case(
        NORMED, "signs", optimizer="adam", rate=0.05, more={"patience": 1}
    ),
    "wide, full batches, adam": Case([64, "relu", 64, "tanh", 2], "classes", "cross_entropy", "adam", 0.01, 0),
    "wide, small batches": Case([100, "tanh", 50, "sigmoid", 2], "classes", "mse", batch=5),
}


def leaves(name: str, seed: int, epochs: int) -> bytes:
    """Train a case, and return all that it leaves, as bytes: parameters, statistics, history and outputs."""
    case = CASES[name]
    place = case.train(case.start_at(seed, epochs), seed, epochs, epochs)
    weights = kernel.named(case.network(), place)
    kept = [*weights.values(), place.history, place.progress]
    return b"".join(value.tobytes() for value in kept) + outputs(case, weights).tobytes()


def outputs(case: Case, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return the outputs for rows that were not trained with."""
    return kernel.outputs(case.network(), weights, case.rows(40, seed=2).inputs)


if __name__ == "__main__":  # python kernel_cases.py SEED EPOCHS
    for case in CASES:
        print(case, hashlib.sha256(leaves(case, *map(int, sys.argv[1:]))).hexdigest(), sep="\t")
