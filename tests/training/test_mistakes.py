"""Networks of a user's own that cannot be kept, used or trained are refused before a training; others are not."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import Bench, all_trained, recipe
from torch_by_hand import WHERE, classes, numbers, replica

from bancada.base import BadInput, user_code
from bancada.base.tables import Table
from bancada.training import fit, probing, processes
from bancada.training.replica import Data, Lost, Replica, Rows
from bancada.training.settings import TrainingKeys, Variant

FILE = """\
import random

import numpy as np
import torch
from torch import nn

CALLS = {"count": 0}


class Base(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, outputs)
        self.prepare()

    def prepare(self):
        pass

    def forward(self, rows):
        return self.last(self.first(rows).relu())


"""
OTHER = "learns something else where its training was cut off and goes on: what it learns must be in parameters"
LOST = "gives other outputs once it is loaded from its state_dict"
# The body of a class that inherits from Base: what is said of it. Line 24 is the first of the body.
REFUSED = {
    # what is beside state_dict
    "    def prepare(self): self.mask = torch.rand(8) > 0.5\n"
    "    def forward(self, rows): return self.last(self.first(rows) * self.mask)": LOST,
    "    def prepare(self): self.masks = {'a': torch.rand(8)}\n"
    "    def forward(self, rows): return self.last(self.first(rows) * self.masks['a'])": LOST,
    "    def prepare(self): self.layers = [nn.Linear(8, 8)]\n"
    "    def forward(self, rows): return self.last(self.layers[0](self.first(rows)))": LOST,
    "    def prepare(self):\n        mask = torch.rand(8)\n        self.act = lambda h: h * mask\n"
    "    def forward(self, rows): return self.last(self.act(self.first(rows)))": LOST,
    "    def prepare(self): self.register_buffer('at', torch.rand(2), persistent=False)\n"
    "    def forward(self, rows): return super().forward(rows + self.at)": LOST,
    "    def prepare(self): self.steps = 0\n"
    "    def forward(self, rows):\n        self.steps += self.training\n"
    "        return super().forward(rows) * (1 + self.steps)": LOST,
    "    steps = 0\n    def forward(self, rows):\n        type(self).steps += self.training\n"
    "        return super().forward(rows) * (1 + self.steps)": f"{LOST}: what it learns must be in parameters",
    "    def forward(self, rows):\n        CALLS['count'] += self.training\n"
    "        return super().forward(rows) * (1 + CALLS['count'])": LOST,
    "    def prepare(self): self.draws = [np.random.default_rng(1)]\n"
    "    def forward(self, rows): return super().forward(rows + self.draws[0].random() * self.training)": OTHER,
    # what state_dict cannot be
    "    def get_extra_state(self): return {'a': 1}\n    def set_extra_state(self, state): pass": (
        "_extra_state in its state_dict is dict, which cannot be saved"
    ),
    "    def prepare(self): self.bfloat16()\n"
    "    def forward(self, rows): return super().forward(rows.bfloat16()).float()": (
        "first.weight in its state_dict is torch.bfloat16, which cannot be saved; keep it in float32"
    ),
    "    def forward(self, rows):\n        if not hasattr(self, 'more'): self.more = nn.Linear(2, 3)\n"
    "        return super().forward(rows) + self.more(rows)": (
        '=Unexpected key(s) in state_dict: "more.weight", "more.bias".'
    ),
    # what training mode alone shows
    "    def forward(self, rows):\n        found = super().forward(rows)\n"
    "        return (found, rows) if self.training else found": (
        "a first batch: gives a tuple in training mode, not a tensor [row, output]"
    ),
    "    def forward(self, rows): return super().forward(rows)[:, : 2 if self.training else 3]": (
        "a first batch: gives [4, 2] for 4 rows in training mode, not [row, 3]"
    ),
    "    def forward(self, rows): return super().forward(rows) * (float('nan') if self.training else 1)": (
        "a first batch: gives NaN in training"
    ),
    "    def prepare(self): self.requires_grad_(False)": "has no parameters that could be learned",
    # errors, whatever raises them
    "    def forward(self, rows): raise BaseException('odd')": "=net.py:24: in Net.forward: BaseException: odd",
    "    def forward(self, rows): raise KeyboardInterrupt": "=src/models/net.py:24: in Net.forward: KeyboardInterrupt",
    "    def __init__(self): pass": "=src/models/net.py: AttributeError: 'Net' object has no attribute '_modules'",
    "    def prepare(self): self.to('meta')": "=src/models/net.py: NotImplementedError: Cannot copy out of meta tensor",
    "    def parameters(self, recurse=True): raise ValueError('none')": "=net.py:24: in Net.parameters: ValueErr",
}
ACCEPTED = [
    "    def forward(self, rows):\n        self.seen = self.first(rows).relu()\n        return self.last(self.seen)",
    "    def prepare(self): self.batches, self.losses = 0, []\n    def forward(self, rows):\n"
    "        self.batches += 1\n        self.losses.append(rows.mean())\n        return super().forward(rows)",
    "    def prepare(self): self.register_buffer('at', torch.arange(2.0), persistent=False)\n"
    "    def forward(self, rows): return super().forward(rows + self.at)",
    "    def forward(self, rows): return super().forward(rows + torch.randn_like(rows) * np.random.rand())",
    "    def prepare(self): self.first = nn.LazyLinear(8)",
    "    def prepare(self): self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 8))",
    "    def prepare(self): self.double()\n    def forward(self, rows): return super().forward(rows.double())",
]


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the processes of the torch engine
    yield
    signal.signal(signal.SIGINT, before)
    user_code.forget()


def of_file(body: str, outputs: int = 3, **train: Any) -> Replica:
    Path("src/models/net.py").write_text(f"{FILE}class Net(Base):\n{body}\n")
    network = {"module": {"file": "src/models/net.py", "name": "Net", "args": {"outputs": outputs}}}
    if "__init__" in body:
        network["module"].pop("args")  # type: ignore[attr-defined]  # the value is a mapping
    asked = {"loss": "CrossEntropyLoss", "lr": 0.1, "epochs": 2, "batch_size": 4} | train
    return Replica(recipe(network, asked), 111)


def refusal(one: Replica, data: Data) -> str:
    with pytest.raises(BadInput) as refused:
        probing.probe(one, data, WHERE)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("body", REFUSED)
def test_a_network_that_cannot_be_kept_or_trained_is_refused_in_one_line_that_begins_with_where(body: str) -> None:
    said, line = REFUSED[body], refusal(of_file(body), classes(3))
    if said.startswith("="):
        assert said[1:] in line
        assert line.startswith("variants.x: ")
    else:
        assert line.startswith("variants.x: src/models/net.py: Net: ")
        assert said in line


@pytest.mark.parametrize("body", ACCEPTED)
def test_what_is_beside_state_dict_and_does_not_matter_is_not_refused(body: str) -> None:
    probing.probe(of_file(body), classes(3), WHERE)


# --- outputs that no decision fits ----------------------------------------------------------------------------------

ONE_SIDED = {  # what the module returns, and its loss; whether a threshold divides its outputs
    ("found.sigmoid()", "BCELoss"): "",
    ("found", "BCEWithLogitsLoss"): "",
    ("found", "MSELoss"): "",
    ("found.tanh()", "MSELoss"): "",
    ("found - 100", "MSELoss"): "",
    ("found.sigmoid()", "BCEWithLogitsLoss"): "never below 0",
    ("found.sigmoid()", "MSELoss"): "never below 0",
    ("found.relu()", "SoftMarginLoss"): "never below 0",
    ("nn.functional.softplus(found)", "MSELoss"): "never below 0",
    ("nn.functional.logsigmoid(found)", "BCEWithLogitsLoss"): "never above 0",
    ("found", "BCELoss"): "end in Sigmoid, or use BCEWithLogitsLoss",
    ("found.sigmoid()", "bce"): "a module takes BCEWithLogitsLoss, or BCELoss if it ends in a Sigmoid",
}


@pytest.mark.parametrize(("given", "loss"), ONE_SIDED)
def test_a_module_whose_one_output_cannot_be_on_both_sides_of_the_threshold_is_refused(given: str, loss: str) -> None:
    body = f"    def forward(self, rows):\n        found = super().forward(rows)\n        return {given}"
    one, said = of_file(body, 1, loss=loss), ONE_SIDED[given, loss]
    if said:
        assert said in refusal(one, classes(2))
    else:
        probing.probe(one, classes(2), WHERE)


@pytest.mark.parametrize(
    ("last", "loss", "said"),
    [
        ("Sigmoid", "BCEWithLogitsLoss", "never below 0"),
        ("ReLU", "SoftMarginLoss", "never below 0"),
        ("LogSigmoid", "BCEWithLogitsLoss", "never above 0"),
        ("Softplus", "MSELoss", "ends in softplus, which cannot reach targets from -1 to 1"),
        ("Hardsigmoid", "L1Loss", "ends in hardsigmoid, which cannot reach targets from -1 to 1"),
        ("ReLU6", "HuberLoss", "ends in relu6, which cannot reach targets from -1 to 1"),
    ],
)
def test_layers_of_torch_that_cannot_decide_for_both_classes_are_refused(last: str, loss: str, said: str) -> None:
    line = refusal(replica([4, "tanh", 1, last], loss=loss), classes(2))
    assert line.startswith("params.yaml: variants.mine.layers: ")
    assert said in line


@pytest.mark.parametrize(("last", "loss"), [("Sigmoid", "BCELoss"), ("ReLU", "MSELoss"), ("Tanh", "MSELoss")])
def test_layers_of_torch_whose_last_one_fits_the_classes_are_not_refused(last: str, loss: str) -> None:
    probing.probe(replica([4, "tanh", 1, last], loss=loss), classes(2), WHERE)


def test_numbers_that_the_last_layer_of_torch_cannot_reach_are_refused() -> None:
    assert "ends in sigmoid, which cannot reach targets from -" in refusal(replica([1, "Sigmoid"]), numbers())


def test_rows_of_one_sign_are_no_reason_to_refuse_a_network_that_ends_in_a_linear_layer() -> None:
    """A new linear layer gives one sign for all of them, half of the time."""
    y = np.arange(20)[:, None] % 2
    for seed in range(10):
        rows = Rows(np.random.default_rng(seed).uniform(100, 1000, (20, 2)).astype(np.float32), y)
        one = replica([1], loss="BCEWithLogitsLoss")
        probing.probe(Replica(one.recipe, seed), Data(rows, rows, 2), WHERE)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["ash", "birch", "cedar"], r"3 classes \(ash, birch, cedar\)"),
        (list(range(20)), r"20 classes \(0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\)"),
    ],
)
def test_a_wrong_number_of_outputs_is_told_with_the_names_of_the_classes(labels: list[Any], told: str) -> None:
    rows = Table(np.zeros((20, 2)), np.arange(20)[:, None] % len(labels), ["a", "b"], ["c"], labels)
    with pytest.raises(BadInput, match=rf"cross_entropy needs one output per class, not 5: there are {told}$"):
        fit.preparation(keys({"layers": [5]}, {"loss": "cross_entropy"}), rows)
    with pytest.raises(BadInput, match=rf"the output has 5 units, but there are {told}$"):
        fit.preparation(keys({"layers": [5]}, {"loss": "mse"}), rows)


# --- the start of parameters -----------------------------------------------------------------------------------------


def keys(variant: dict[str, Any], shared: dict[str, Any]) -> TrainingKeys:
    from torch_by_hand import COMMON, TRAIN

    return TrainingKeys("mine", Variant.model_validate({"study": "toy", **variant}), TRAIN | shared, COMMON)


NORMAL = {"init": {"name": "normal", "std": 0.1}}
MODULE = {"module": {"file": "src/models/net.py", "name": "Net"}}


@pytest.mark.parametrize("network", [MODULE, {"layers": [{"Linear": {"in_features": 2, "out_features": 1}}]}])
def test_a_start_that_starts_nothing_is_refused_in_the_variant_and_told_in_the_study(network: dict[str, Any]) -> None:
    shape = fit.DataShape(2, 1, 0, 10)
    with pytest.raises(BadInput, match=r"^params.yaml: variants.mine.train.init: has no effect: mine has no linear"):
        fit.refuse_misfit(keys({**network, "train": NORMAL}, {}), shape)
    shared = keys(network, NORMAL)
    fit.refuse_misfit(shared, shape)
    [line] = fit.doubts(shared)
    assert line.startswith("studies.toy.train.init has no effect: the variant has no linear layers")


def test_given_parameters_that_do_not_fit_between_layers_of_torch_are_refused_by_torch() -> None:
    given = {"name": "given", "weights": [[[1.0, 1.0]]], "biases": [[0.0]]}
    line = refusal(replica([{"Linear": {"in_features": 2, "out_features": 3}}, 1], init=given), numbers())
    assert line.startswith("params.yaml: variants.mine.layers: ")
    assert "size mismatch for weight" in line


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 3])
def test_a_process_that_ends_without_an_answer_is_lost_whatever_its_status(status: int) -> None:
    one = of_file(f"    def forward(self, rows):\n        import os\n        os._exit({status})")
    ended = f"its process ended with exit status {status}"
    with pytest.raises(Lost, match=ended) as lost:
        processes.try_first_batch(one, classes(3), WHERE)
    assert lost.value.filename == "variants.x: a first batch"
    [outcome] = all_trained(processes, [one], classes(3))
    assert isinstance(outcome, Lost)
    assert outcome.strerror == ended
