"""What an update and an epoch do: modes of layers, uneven batches, gradients that are cut or are not finite."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import Bench, nobody, recipe

from bancada.base import BadInput, user_code
from bancada.networks import torch_network
from bancada.networks.saved import Trained
from bancada.training import probing, torch_engine
from bancada.training.replica import Data, Replica, Rows

HEAD = (
    "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
)


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    yield
    user_code.forget()


def of_file(body: str, **train: Any) -> Replica:
    """`body`: lines of the constructor and further methods, indented as there."""
    user_code.forget()
    Path("src/models/net.py").write_text(HEAD + body)
    asked = {"loss": "L1Loss", "lr": 0.1, "epochs": 2, "batch_size": 4} | train
    return Replica(recipe({"module": {"file": "src/models/net.py", "name": "Net"}}, asked), 111)


def numbers(inputs: Any, targets: Any) -> Data:
    rows = Rows(np.asarray(inputs, np.float32), np.asarray(targets, np.float64).reshape(-1, 1))
    return Data(rows, rows, 0)


def train(one: Replica, rows: Data) -> Trained:
    return torch_engine.train(one, rows, nobody)


EIGHT_ONES_AND_A_TEN = numbers(np.zeros((9, 1)), [1.0] * 8 + [10.0])
ZEROS = (
    "        self.w = nn.Parameter(torch.zeros(1))\n    def forward(self, rows):\n        return 0 * self.w * rows\n"
)


@pytest.mark.parametrize("size", [9, 4, 1])
def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """(8 * 1 + 10) / 9 is 2; the mean of the means of three batches would be 4."""
    monkeypatch.setattr(torch_network, "CHUNK_ROWS", size)
    trained = train(of_file(ZEROS, batch_size=size), EIGHT_ONES_AND_A_TEN)
    assert trained.history["train_loss"] == pytest.approx([2.0, 2.0], abs=1e-6)
    assert trained.history["validation_loss"] == pytest.approx([2.0, 2.0], abs=1e-6)


def test_a_layer_that_the_user_keeps_in_evaluation_mode_stays_there_and_dropout_is_on_in_training_alone() -> None:
    """Who freezes a layer does so in `train`: each epoch calls it, so `eval()` in the constructor alone is undone."""
    body = """\
        self.frozen, self.undone, self.head = nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.5)
        self.undone.eval()
        self.eval()
    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self
    def forward(self, rows):
        DROPPED.append((self.training, bool((self.dropout(torch.ones(100)) == 0).any())))
        return self.head(self.undone(self.frozen(rows)))
DROPPED = []
"""
    draw = np.random.default_rng(1).random((12, 3)) + 5
    trained = train(of_file(body), numbers(draw, draw.sum(1)))
    assert trained.weights["frozen.running_mean"].tolist() == [0, 0, 0]
    assert trained.weights["frozen.num_batches_tracked"] == 0
    assert trained.weights["undone.num_batches_tracked"] == 6
    seen = user_code.load(Path("src"), "src/models/net.py", "Net").forward.__globals__["DROPPED"]
    assert len([training for training, _ in seen if training]) == 6
    assert all(training == dropped for training, dropped in seen)


def test_without_validation_rows_every_epoch_still_begins_in_training_mode() -> None:
    body = "        self.head, self.norm = nn.Linear(1, 1), nn.BatchNorm1d(1)\n        self.eval()\n"
    rows = numbers(np.arange(8.0)[:, None], np.arange(8.0))
    nothing = Rows(np.zeros((0, 1), np.float32), np.zeros((0, 1)))
    one = of_file(f"{body}    def forward(self, rows):\n        return self.head(self.norm(rows))\n", epochs=3)
    trained = train(one, Data(rows.train, nothing, 0))
    assert trained.weights["norm.num_batches_tracked"] == 6
    assert np.isnan(trained.history["validation_loss"]).all()


def test_a_gradient_is_cut_to_its_norm() -> None:
    """One row [3, 4] far below its target has the gradient -[3, 4]: of norm 5, and with clip_norm 1 -[0.6, 0.8]."""
    body = "        self.head = nn.Linear(2, 1, bias=False)\n        nn.init.zeros_(self.head.weight)\n"
    one = of_file(
        f"{body}    def forward(self, rows):\n        return self.head(rows)\n",
        lr=1.0,
        epochs=1,
        batch_size=1,
        clip_norm=1.0,
    )
    trained = train(one, numbers([[3, 4]], [1e6]))
    assert trained.weights["head.weight"] == pytest.approx(np.array([[0.6, 0.8]]), abs=1e-6)


def test_a_gradient_that_is_not_finite_ends_the_replica_naming_batch_and_parameter() -> None:
    """In epoch 2, batch 3. The losses of epoch 1 are there, and no weights that a later step made NaN."""
    body = """\
        self.scale, self.head = nn.Parameter(torch.ones(1)), nn.Linear(1, 1)
        self.register_buffer("updates", torch.tensor(0))
    def forward(self, rows):
        self.updates += self.training
        if self.updates == 8 and self.training:
            self.scale.register_hook(lambda gradient: gradient * float("inf"))
        return self.head(rows * self.scale)
"""
    one = of_file(body, clip_norm=1.0, epochs=5)
    trained = train(one, numbers(np.arange(20.0)[:, None], np.arange(20.0)))
    assert (trained.diverged, trained.note) == (1, "batch 3: the gradient of scale is not finite")
    assert np.isfinite(trained.history["train_loss"][0]) and len(trained.history["train_loss"]) == 2
    assert all(np.isnan(value).all() for name, value in trained.weights.items() if name != "updates")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_ends_the_replica_in_that_epoch_and_stays_what_it_is(value: str) -> None:
    body = f"""\
        self.head = nn.Linear(1, 1)
        self.register_buffer("updates", torch.tensor(0))
    def forward(self, rows):
        self.updates += self.training
        return self.head(rows) * (float("{value}") if self.updates == 3 else 1)
"""
    rows = numbers(np.arange(4.0)[:, None], np.arange(4.0))
    trained = train(of_file(body, epochs=6), rows)
    assert trained.diverged == 2
    assert np.isfinite(trained.history["train_loss"][:2]).all()
    assert str(trained.history["train_loss"][2]) == value


def test_numpys_numbers_in_a_network_differ_from_seed_to_seed() -> None:
    body = """\
        self.head = nn.Linear(1, 1)
        self.register_buffer("drawn", torch.zeros(3, dtype=torch.float64))
    def forward(self, rows):
        if self.training:
            import numpy, random
            self.drawn[:] = torch.tensor([numpy.random.rand(), random.random(), float(torch.rand(1))])
        return self.head(rows)
"""
    rows, one = numbers(np.arange(4.0)[:, None], np.arange(4.0)), of_file(body)
    drawn = [train(Replica(one.recipe, seed), rows).weights["drawn"].tolist() for seed in (1, 2, 3, 1)]
    assert len({number for three in drawn[:3] for number in three}) == 9
    assert drawn[3] == drawn[0]


def test_what_a_network_would_lose_or_draw_anew_is_refused() -> None:
    body = """\
        self.head, self.mask = nn.Linear(8, 1), torch.rand(8) > 0.5
    def forward(self, rows):
        return self.head(rows * self.mask)
"""
    rows = numbers(np.random.default_rng(1).random((8, 8)), np.arange(8.0))
    with pytest.raises(BadInput, match=r"other outputs once it is loaded from its state_dict: .*register_buffer"):
        probing.probe(of_file(body), rows, dict.fromkeys(("loss", "optimizer", "schedule", "init"), "train"))


def test_a_network_that_loses_the_axis_of_a_single_row_is_refused() -> None:
    body = (
        "        self.head = nn.Linear(1, 1)\n    def forward(self, rows):\n        return self.head(rows).squeeze()\n"
    )
    two = body.replace("nn.Linear(1, 1)", "nn.Linear(1, 2)")
    with pytest.raises(
        BadInput, match=r"^variants.x: src/models/net.py: Net: gives \[2\] for 2 rows, not \[row, output\]$"
    ):
        train(of_file(body), numbers(np.arange(9.0)[:, None], np.arange(9.0)))
    with pytest.raises(
        BadInput, match=r"^variants.x: src/models/net.py: Net: gives \[2\] for 1 rows, not \[row, output\]$"
    ):
        train(of_file(two), numbers(np.arange(9.0)[:, None], np.arange(9.0)))


def test_batch_norm_on_a_last_batch_of_one_row_is_told_in_one_line() -> None:
    """As in PyTorch's own loop, no row is left out, and no batch is made larger."""
    body = "        self.head, self.norm = nn.Linear(1, 1), nn.BatchNorm1d(1)\n"
    body += "    def forward(self, rows):\n        return self.norm(self.head(rows))\n"
    with pytest.raises(
        BadInput, match=r"src/models/net\.py:8: in Net\.forward: ValueError: Expected more than 1 value"
    ):
        train(of_file(body), numbers(np.arange(9.0)[:, None], np.arange(9.0)))


def test_the_switches_that_a_users_file_sets_do_not_reach_the_training() -> None:
    body = """\
        self.head = nn.Linear(1, 1)
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(False)
    def forward(self, rows):
        return self.head(rows)
"""
    train(of_file(body), numbers(np.arange(9.0)[:, None], np.arange(9.0)))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.mkldnn.enabled
    assert torch.get_default_dtype() == torch.float32
