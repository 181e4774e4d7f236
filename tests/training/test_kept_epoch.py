"""Early stopping, and which epoch's network is kept. The validation losses are scripted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import Bench, Keeper, cut, data, data_of, differences, nobody, recipe, recipe_of

from bancada.base import user_code
from bancada.networks import torch_network
from bancada.networks.encoding import encoding
from bancada.networks.saved import Trained
from bancada.training import checkpoint, torch_engine
from bancada.training.replica import Data, Replica, Rows

SCRIPTED = """\
import torch
from torch import nn
class Scripted(nn.Module):
    def __init__(self, losses):
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 1), nn.BatchNorm1d(1)
        self.register_buffer("losses", torch.tensor(losses))
        self.register_buffer("updates", torch.tensor(0))
    def forward(self, rows):
        if self.training:
            self.updates += 1
            return self.norm(self.linear(rows))
        if not self.updates:
            return self.norm(self.linear(rows))
        return self.losses[self.updates - 1].expand(len(rows), 1)
"""
INPUTS = np.random.default_rng(1).random((8, 2)).astype(np.float32)
ROWS = Data(Rows(INPUTS, np.zeros((8, 1))), Rows(INPUTS, np.zeros((8, 1))), 0)


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    (own.root / "src/models/scripted.py").write_text(SCRIPTED)
    yield
    user_code.forget()


def scripted(losses: list[float], patience: int, epochs: int = 0, min_delta: float = 0.0) -> Replica:
    """One update an epoch. The L1 loss of outputs against zeros is the output."""
    module = {"file": "src/models/scripted.py", "name": "Scripted", "args": {"losses": losses}}
    stopping = {"patience": patience, "min_delta": min_delta}
    asked = {"loss": "L1Loss", "lr": 0.1, "epochs": epochs or len(losses), "batch_size": "full"}
    return Replica(recipe({"module": module}, asked | {"early_stopping": stopping}), 111)


class Spy(Keeper):
    """Keeps the network as it was before each update, by the number of updates."""

    def __init__(self, path: Path, cut_after: int = 0) -> None:
        super().__init__(path, cut_after)
        self.models: dict[int, dict[str, bytes]] = {}

    def write(self, state: Any) -> None:
        model = state()["model"]
        self.models[int(model["updates"])] = {name: value.numpy().tobytes() for name, value in model.items()}
        super().write(state)


def of(trained: Trained) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in trained.weights.items()}


def test_the_best_epochs_weights_and_statistics_are_kept_and_not_those_of_the_last(own: Bench) -> None:
    """With patience 2, 0.40, 0.10, 0.20, 0.30 ends after epoch 4."""
    spy = Spy(own.root / "a.state")
    trained = torch_engine.train(scripted([0.4, 0.1, 0.2, 0.3, 0.05, 0.6], 2), ROWS, nobody, spy)
    assert trained.history["validation_loss"] == pytest.approx([0.4, 0.1, 0.2, 0.3])
    assert trained.kept == 1
    assert of(trained) == spy.models[2]
    assert all(of(trained)[name] != spy.models[3][name] for name in ("linear.weight", "norm.running_mean"))
    assert trained.weights["norm.num_batches_tracked"] == 2


def test_the_best_epochs_weights_are_kept_also_at_the_limit_of_epochs_and_after_a_cut(own: Bench) -> None:
    one = scripted([0.4, 0.2, 0.3, 0.35], patience=10)
    spy = Spy(own.root / "a.state")
    trained = torch_engine.train(one, ROWS, nobody, spy)
    assert (trained.kept, len(trained.history["lr"])) == (1, 4)
    assert of(trained) == spy.models[2]
    for after in (2, 3, 4):
        keeper = Keeper(own.root / f"{after}.state", after)
        cut(one, ROWS, keeper)
        assert differences(torch_engine.train(one, ROWS, nobody, keeper), trained) == []


def test_patience_is_counted_on_after_a_cut(own: Bench) -> None:
    """Cut after epoch 3, and after 4: with patience 3 it stops after epoch 5, and the best is epoch 2."""
    one, path = scripted([0.5, 0.3, 0.31, 0.32, 0.33, 0.2], patience=3), own.root / "a.state"
    cut(one, ROWS, Keeper(path, 4))
    at = checkpoint.read(path)["at"]
    assert (at.epoch - 1 - at.best_epoch, at.best) == (1, pytest.approx(0.3))
    cut(one, ROWS, Keeper(path, 2))
    trained = torch_engine.train(one, ROWS, nobody, Keeper(path))
    assert (len(trained.history["lr"]), trained.kept) == (5, 1)


def test_a_worse_epoch_after_a_cut_does_not_take_the_place_of_the_best(own: Bench) -> None:
    one, spy = scripted([0.5, 0.2, 0.35, 0.3, 0.4], patience=5), Spy(own.root / "a.state", 3)
    cut(one, ROWS, spy)
    cut(one, ROWS, Keeper(spy.path, 3))
    trained = torch_engine.train(one, ROWS, nobody, Keeper(spy.path))
    assert (len(trained.history["lr"]), trained.kept) == (5, 1)
    assert of(trained) == spy.models[2]


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs", "kept"),
    [
        ([1.0, 0.96, 0.92, 0.88, 0.84], 3, 0.1, 5, 3),  # the reference is the last improvement, not the last epoch
        ([1.0, 0.75, 0.75, 0.75], 2, 0.25, 3, 0),  # an improvement is more than min_delta
        ([0.5, 0.5, 0.5, 0.4], 2, 0.0, 3, 0),  # a tie is none
    ],
)
def test_what_counts_as_an_improvement(
    losses: list[float], patience: int, min_delta: float, epochs: int, kept: int
) -> None:
    trained = torch_engine.train(scripted(losses, patience, min_delta=min_delta), ROWS, nobody)
    assert (len(trained.history["lr"]), trained.kept) == (epochs, kept)


@pytest.mark.parametrize("name", ["cnn", "buffers", "lstm"])
def test_the_kept_weights_give_the_recorded_loss_of_their_epoch_exactly(name: str) -> None:
    """By what evaluates them later: buffers, statistics and masks are those of the epoch, none is drawn anew."""
    asked = recipe_of(name, epochs=6, early_stopping={"patience": 9})
    rows = data_of(name)
    trained = torch_engine.train(Replica(asked, 111), rows, nobody)
    user_code.forget()
    torch.manual_seed(5)
    stacked = {key: value[None] for key, value in trained.weights.items()}
    outputs = torch_network.outputs_of_seeds(asked.network, stacked, rows.validation.inputs)
    code = encoding(None, asked.train.loss, trained.outputs, rows.classes)
    loss = torch_network.losses_of_seeds(asked.train.loss, outputs, rows.validation.targets, code)
    assert loss == trained.history["validation_loss"][trained.kept]


def test_a_row_alone_gets_what_it_gets_among_others() -> None:
    asked, rows = recipe_of("cnn"), data()
    weights = {key: value[None] for key, value in torch_engine.train(Replica(asked, 111), rows, nobody).weights.items()}
    among, alone = (
        torch_network.outputs_of_seeds(asked.network, weights, rows.validation.inputs[:n])[0] for n in (9, 1)
    )
    np.testing.assert_allclose(alone[0], among[0], rtol=0, atol=1e-6)
