"""The engine against a plain PyTorch loop with the same start and batches, and each seed for any number of seeds."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from bancada.networks.saved import TrainingResult
from bancada.networks.settings import Layers, LayerSpec, TorchInit
from bancada.networks.start import State, sequential, start
from bancada.training.engine import EncodedRows, train_stack
from bancada.training.replica import Silent, together
from bancada.training.settings import Train

ROWS, FEATURES = 70, 3
HIDDEN = [5, "tanh", 1]


def specs(stack: list[object]) -> list[LayerSpec]:
    return TypeAdapter(Layers).validate_python(stack)


def settings(**changed: Any) -> Train:
    plain = {"loss": "mse", "lr": 0.1, "epochs": 6, "batch_size": 32}  # 70 rows: batches of 32, 32 and 6
    return Train.model_validate(plain | changed)


def table(outputs: int = 1, rows: int = ROWS, seed: int = 1) -> EncodedRows:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(FEATURES, rows, generator=generator)
    y = torch.stack([(x.sum(0) * (i + 1)).sin() for i in range(outputs)])
    return EncodedRows(x, y)


def starts(layers: list[LayerSpec], seeds: range) -> list[State]:
    return [start(layers, [FEATURES], TorchInit(name="torch"), torch.Generator().manual_seed(i)) for i in seeds]


def shuffles(seeds: range, rows: int = ROWS) -> Callable[[int], torch.Tensor]:
    """Return orders that depend on the seed and the epoch alone."""

    def order(epoch: int) -> torch.Tensor:
        return torch.stack(
            [torch.randperm(rows, generator=torch.Generator().manual_seed(97 * s + epoch)) for s in seeds]
        )

    return order


def dropouts(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 + i) for i in seeds]


def run(
    stack: list[object], asked: Train, seeds: range, data: EncodedRows | None = None, **others: Any
) -> TrainingResult:
    data, layers = data or table(), specs(stack)
    validation = others.get("validation", table(len(data.targets), 21, seed=2))
    return trained(layers, asked, data, validation, starts(layers, seeds), shuffles(seeds), dropouts(seeds))


def trained(*args: Any) -> TrainingResult:
    return together(train_stack(*args, Silent()))


LOSSES = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "half_mse": lambda p, y: nn.functional.mse_loss(p, y) / 2}


def plain_loop(
    stack: list[object], asked: Train, seed: int, data: EncodedRows, validation: EncodedRows
) -> tuple[nn.Module, dict[str, list[float]]]:
    """As a textbook has it: one network, torch.nn's layers and losses, torch.optim, DataLoader-like batches."""
    network, loss_of = sequential(specs(stack), [FEATURES]), LOSSES[asked.loss]
    network.load_state_dict(starts(specs(stack), range(seed, seed + 1))[0], strict=False)
    chosen = asked.optimizer
    if chosen.name == "adam":
        optimizer = torch.optim.Adam(
            network.parameters(), asked.lr, tuple(chosen.betas), chosen.eps, chosen.weight_decay
        )
    else:
        optimizer = torch.optim.SGD(network.parameters(), asked.lr, chosen.momentum, weight_decay=chosen.weight_decay)
    rate = asked.lr
    x, y = data.features.T, data.targets.T
    size = len(x) if asked.batch_size == "full" else asked.batch_size
    history: dict[str, list[float]] = {"train_loss": [], "last_batch_loss": [], "validation_loss": [], "lr": []}
    updates = 0
    for epoch in range(asked.epochs):
        order, total = shuffles(range(seed, seed + 1))(epoch)[0], 0.0
        network.train()
        for batch in order.split(size):
            if asked.schedule.name == "step":
                done = updates if asked.schedule.every == "update" else epoch
                optimizer.param_groups[0]["lr"] = asked.lr * asked.schedule.gamma ** (done // asked.schedule.step_size)
            if asked.schedule.name == "inverse_time" and (
                asked.schedule.every == "update" or updates == epoch * math.ceil(len(x) / size)
            ):
                k = updates if asked.schedule.every == "update" else epoch
                rate *= 1 / (1 + asked.schedule.decay * (k + 1))
                optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss = loss_of(network(x[batch]), y[batch])
            loss.backward()
            if asked.clip_norm:
                nn.utils.clip_grad_norm_(network.parameters(), asked.clip_norm)
            optimizer.step()
            updates += 1
            total += loss.item() * len(batch)
        network.eval()
        with torch.no_grad():
            held_out = loss_of(network(validation.features.T), validation.targets.T).item()
        for name, value in zip(
            history, (total / len(x), loss.item(), held_out, optimizer.param_groups[0]["lr"]), strict=True
        ):
            history[name].append(value)
    return network, history


CASES: dict[str, tuple[list[object], dict[str, Any]]] = {
    "sgd": (HIDDEN, {}),
    "momentum and weight decay": (HIDDEN, {"optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01}}),
    "adam": (HIDDEN, {"optimizer": {"name": "adam", "betas": [0.8, 0.99], "eps": 1e-6}, "lr": 0.01}),
    "adam with weight decay": (HIDDEN, {"optimizer": {"name": "adam", "weight_decay": 0.1}, "lr": 0.01}),
    "step per epoch": (HIDDEN, {"schedule": {"name": "step", "step_size": 2, "gamma": 0.5}}),
    "step per update": (HIDDEN, {"schedule": {"name": "step", "step_size": 4, "gamma": 0.5, "every": "update"}}),
    "inverse time per update": (HIDDEN, {"schedule": {"name": "inverse_time", "decay": 0.05}}),
    "inverse time per epoch": (HIDDEN, {"schedule": {"name": "inverse_time", "decay": 0.3, "every": "epoch"}}),
    "clipping": (HIDDEN, {"clip_norm": 0.2, "lr": 0.5}),
    "full batches": (HIDDEN, {"batch_size": "full"}),
    "one batch of all rows": (HIDDEN, {"batch_size": 70}),
    "l1": (HIDDEN, {"loss": "l1"}),
    "half mse": (HIDDEN, {"loss": "half_mse"}),
    "batch norm": ([{"linear": 5, "bias": False}, "batch_norm", "tanh", 1], {}),
    "deep": ([6, "relu", 5, "sigmoid", 4, "tanh", 1], {}),
}


@pytest.mark.parametrize(("stack", "changed"), CASES.values(), ids=CASES.keys())
def test_each_seed_has_the_weights_and_the_history_of_a_plain_loop(
    stack: list[object], changed: dict[str, Any]
) -> None:
    asked, data, validation = settings(**changed), table(), table(rows=21, seed=2)
    training = run(stack, asked, range(3), data, validation=validation)
    for seed in range(3):
        network, history = plain_loop(stack, asked, seed, data, validation)
        for name, value in network.state_dict().items():
            if "num_batches" not in name:
                torch.testing.assert_close(torch.from_numpy(training.weights[name][seed]), value, rtol=2e-4, atol=2e-5)
        for name, values in history.items():
            np.testing.assert_allclose(training.history[name][seed], values, rtol=2e-4, atol=1e-6, err_msg=name)


EVERY_KIND: dict[str, tuple[list[object], dict[str, Any]]] = {
    **CASES,
    "softmax": ([5, "softmax", 1], {}),
    "dropout": ([7, "tanh", {"dropout": 0.3}, 5, "relu", {"dropout": 0.5}, 1], {}),
    "wide": ([64, "relu", 32, "tanh", 1], {"optimizer": "adam", "lr": 0.01}),
    "bce": ([5, "tanh", 1, "sigmoid"], {"loss": "bce"}),
    "cross entropy": ([5, "tanh", 3], {"loss": "cross_entropy"}),
    "batches of five": ([3, "sigmoid", 1, "sigmoid"], {"batch_size": 5, "optimizer": {"name": "sgd", "momentum": 0.9}}),
}


@pytest.mark.parametrize(("stack", "changed"), EVERY_KIND.values(), ids=EVERY_KIND.keys())
def test_a_seed_gets_the_same_bits_for_any_number_of_seeds(stack: list[object], changed: dict[str, Any]) -> None:
    asked = settings(**changed)
    data = table()
    if asked.loss == "bce":
        data = EncodedRows(data.features, (data.targets > 0).float())
    if asked.loss == "cross_entropy":
        data = EncodedRows(
            data.features, nn.functional.one_hot((data.features[0] > 0) + 1 * (data.features[1] > 0), 3).T.float()
        )
    of_seeds = {n: run(stack, asked, range(n), data, validation=data) for n in (1, 2, 8, 32)}
    other_place = run(stack, asked, range(5, 8), data, validation=data)
    for n in (1, 2, 8):
        for name, value in of_seeds[n].weights.items():
            assert np.array_equal(value, of_seeds[32].weights[name][:n]), (n, name)
        for name, column in of_seeds[n].history.items():
            np.testing.assert_array_equal(column, of_seeds[32].history[name][:n], err_msg=f"{n} {name}")
    for name, value in other_place.weights.items():
        assert np.array_equal(value, of_seeds[32].weights[name][5:8]), name


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    asked = settings(optimizer="adam")
    one = run(HIDDEN, asked, range(4))
    torch.set_num_threads(2)
    try:
        two = run(HIDDEN, asked, range(4))
    finally:
        torch.set_num_threads(1)
    assert all(np.array_equal(value, two.weights[name]) for name, value in one.weights.items())


def test_a_seed_that_diverges_is_recorded_with_its_epoch_and_the_others_keep_their_bits() -> None:
    layers, asked, data = specs([1]), settings(epochs=4), table()
    sound, seeds = starts(layers, range(3)), range(3)
    broken = [sound[0], {"0.weight": torch.full((1, 3), 1e30), "0.bias": torch.zeros(1)}, sound[2]]
    expected = trained(layers, asked, data, data, sound, shuffles(seeds), dropouts(seeds))
    got = trained(layers, asked, data, data, broken, shuffles(seeds), dropouts(seeds))
    assert got.diverged == {1: 0}  # (1e30)^2 is beyond float32 at once
    assert np.isnan(got.weights["0.weight"][1]).all()
    assert np.isnan(got.history["train_loss"][1, 1:]).all()
    for place in (0, 2):
        assert np.array_equal(got.weights["0.weight"][place], expected.weights["0.weight"][place])
        np.testing.assert_array_equal(got.history["train_loss"][place], expected.history["train_loss"][place])


def test_a_learning_rate_of_1000_diverges_in_every_seed_and_ends_early() -> None:
    training = run([1], settings(lr=1000.0, epochs=500), range(2))
    assert set(training.diverged) == {0, 1}
    assert training.history["train_loss"].shape[1] == max(training.diverged.values()) + 1 < 100


def test_without_validation_rows_the_validation_loss_is_missing_and_nothing_diverges() -> None:
    empty = EncodedRows(torch.zeros(FEATURES, 0), torch.zeros(1, 0))
    training = run(HIDDEN, settings(), range(2), validation=empty)
    assert np.isnan(training.history["validation_loss"]).all()
    assert not training.diverged


def test_more_rows_than_are_evaluated_at_once_give_the_same_loss() -> None:
    many = table(rows=10_000, seed=3)
    training = run(HIDDEN, settings(epochs=1), range(2), validation=many)
    network = sequential(specs(HIDDEN), [FEATURES])
    network.load_state_dict({name: torch.from_numpy(value[1]) for name, value in training.weights.items()})
    expected = nn.functional.mse_loss(network(many.features.T), many.targets.T).item()
    assert training.history["validation_loss"][1, 0] == pytest.approx(expected, rel=1e-5)


MEMORY = """
import resource, sys
import bancada, torch
sys.path.insert(0, "tests/training")
from test_engine import HIDDEN, run, settings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

run(HIDDEN, settings(epochs=50), range(10))
before = peak()
run(HIDDEN, settings(epochs=3000), range(10))
print(peak() - before)
"""


def test_memory_does_not_grow_with_epochs_beyond_the_history() -> None:
    """3000 epochs of ten seeds are 1 MB of history, held at most three times over."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 6_000  # KiB
