"""A training as a PyTorch tutorial has it, with the start and the batches of a replica."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bancada.networks import kernel
from bancada.networks.portable import seed_all, settle
from bancada.training import streams
from bancada.training.replica import Data, Replica, Rows


def by_hand(one: Replica, rows: Data) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Return the trained network's state, and its history."""
    asked, seed = one.recipe.train, one.seed
    settle("portable")
    seed_all(streams.number(seed, streams.MODULE))
    network = imported(one.recipe.module.file, one.recipe.module.name)(**one.recipe.module.args)
    seed_all(streams.number(seed, streams.DROPOUT))
    loss_of = getattr(nn, asked.loss.name)(**asked.loss.args)
    optimizer = getattr(torch.optim, asked.optimizer.name)(network.parameters(), lr=asked.lr, **asked.optimizer.args)
    schedule = None
    if asked.schedule.name != "none":
        args = dict(asked.schedule.args)
        if asked.schedule.name == "OneCycleLR":
            args["total_steps"] = asked.epochs * -(-len(rows.train) // asked.batch_size)
        schedule = getattr(torch.optim.lr_scheduler, asked.schedule.name)(optimizer, **args)
    (x, y), (held_out, observed) = (tensors(part, rows.classes) for part in (rows.train, rows.validation))
    history: dict[str, list[float]] = {"train_loss": [], "last_batch_loss": [], "validation_loss": [], "lr": []}
    for epoch in range(asked.epochs):
        network.train()
        total = 0.0
        for batch in torch.from_numpy(kernel.order_of_rows(seed, epoch, len(x))).split(asked.batch_size):
            rate = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad()
            loss = loss_of(network(x[batch]), y[batch])
            loss.backward()
            if asked.clip_norm:
                nn.utils.clip_grad_norm_(network.parameters(), asked.clip_norm)
            optimizer.step()
            if asked.schedule.name == "OneCycleLR":
                schedule.step()
            total += loss.item() * len(batch)
        network.eval()
        with torch.no_grad():
            validation_loss = loss_of(network(held_out), observed).item()
        if asked.schedule.name == "ReduceLROnPlateau":
            schedule.step(validation_loss)
        elif schedule and asked.schedule.name != "OneCycleLR":
            schedule.step()
        for name, value in zip(history, (total / len(x), loss.item(), validation_loss, rate), strict=True):
            history[name].append(value)
    return network.state_dict(), history


def imported(file: str, name: str) -> Any:
    """As Python imports any package, not by the code under test."""
    package = ModuleType("models")
    package.__path__ = [str(Path("src/models").resolve())]
    sys.modules["models"] = package
    try:
        return getattr(importlib.import_module(f"models.{Path(file).stem}"), name)
    finally:
        for found in [found for found in sys.modules if found.partition(".")[0] == "models"]:
            del sys.modules[found]


def tensors(of: Rows, classes: int) -> tuple[Tensor, Tensor]:
    y = torch.from_numpy(of.targets[:, 0]) if classes else torch.from_numpy(of.targets).float()
    return torch.from_numpy(of.inputs), y
