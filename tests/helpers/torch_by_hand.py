"""A variant in a few words, and its training as a plain PyTorch loop with the same start and the same batches."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bancada.networks import kernel
from bancada.networks.saved import Trained
from bancada.training import probing, torch_engine
from bancada.training.replica import Data, Replica, Rows
from bancada.training.settings import Common, TrainingKeys, Variant

SEED, ROWS = 111, 10
WHERE = {key: f"variants.mine.train.{key}" for key in ("loss", "optimizer", "schedule", "init")}
COMMON = Common(seed=SEED, num_seeds=1, lr=None, engine="torch", device="cpu")
TRAIN = {"loss": "mse", "lr": 0.01, "epochs": 2, "batch_size": 4}


def keys(layers: list[Any] | None = None, **train: Any) -> TrainingKeys:
    layers = layers or [3, "tanh", 1]
    return TrainingKeys("mine", Variant(study="toy", layers=layers, train=train), TRAIN, COMMON)


def replica(layers: list[Any] | None = None, **train: Any) -> Replica:
    return Replica(keys(layers, **train).recipe(), SEED)


def numbers(rows: int = ROWS, shape: tuple[int, ...] = (2,)) -> Data:
    """Return rows whose target is the sine of the sum of the features; the first ones are the validation rows, too."""
    x = np.random.default_rng(1).normal(size=(rows, *shape)).astype(np.float32)
    y = np.sin(x.reshape(rows, -1).sum(1, keepdims=True)).astype(np.float64)
    return Data(Rows(x, y), Rows(x[:5], y[:5]), 0)


def classes(count: int = 2, rows: int = ROWS, shape: tuple[int, ...] = (2,)) -> Data:
    x = numbers(rows, shape).train.inputs
    y = np.arange(rows)[:, None] % count
    return Data(Rows(x, y), Rows(x[:5], y[:5]), count)


def trained(asked: Replica, data: Data) -> Trained:
    """Try a first batch and train, as the stage does. Raise BadInput where something does not fit."""
    probing.probe(asked, data, WHERE)
    return torch_engine.train(asked, data, lambda epoch, row: None)


def by_hand(
    asked: Replica,
    data: Data,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Callable[[list[Tensor]], Optimizer],
    schedule: Callable[[Optimizer], Any] | None = None,
    every: str = "epoch",
    targets: Callable[[np.ndarray], Tensor] = lambda y: torch.from_numpy(y).float(),
) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Return the weights, and the training loss, validation loss and last learning rate of each epoch."""
    model = copy.deepcopy(torch_engine.Training(asked, data).model)
    x, y = torch.from_numpy(data.train.inputs), targets(data.train.targets)
    held_out, of_held_out = torch.from_numpy(data.validation.inputs), targets(data.validation.targets)
    made = optimizer(list(model.parameters()))
    planned = schedule(made) if schedule else None
    history = []
    for epoch in range(asked.recipe.train.epochs):
        total, lr = 0.0, math.nan
        model.train()
        order = torch.from_numpy(kernel.order_of_rows(SEED, epoch, len(x)))
        for chosen in order.split(asked.recipe.train.batch_size):
            made.zero_grad()
            value = loss(model(x[chosen]), y[chosen])
            value.backward()
            lr = made.param_groups[0]["lr"]
            made.step()
            total += value.item() * len(chosen)
            if planned and every == "update":
                planned.step()
        model.eval()
        with torch.no_grad():
            held_out_loss = loss(model(held_out), of_held_out).item()
        if planned and every == "epoch":
            planned.step(*([held_out_loss] if isinstance(planned, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
        history.append([total / len(x), held_out_loss, lr])
    return model.state_dict(), history


def same(found: Trained, expected: tuple[dict[str, Tensor], list[list[float]]]) -> None:
    weights, history = expected
    assert found.weights.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(found.weights[name], value.numpy(), err_msg=name)
    columns = np.stack([found.history[name] for name in ("train_loss", "validation_loss", "lr")], axis=1)
    np.testing.assert_allclose(columns, history, rtol=1e-6)
    assert np.isfinite(columns).all()


def module(forward: Callable[[Tensor], Tensor]) -> type[nn.Module]:
    """Return a class of modules with one parameter, which its outputs do not depend on."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, rows: Tensor) -> Tensor:
            return forward(rows) + 0 * self.unused

    return Given
