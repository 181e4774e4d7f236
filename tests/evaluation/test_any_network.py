"""Networks that are more than the small vocabulary are evaluated like all others, and like PyTorch does it by hand."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bancada.base import BadInput, files, tables, user_code
from bancada.base.params_file import ParamsFile
from bancada.data.split import divide
from bancada.evaluation import evaluate
from bancada.networks import saved, torch_network
from bancada.networks.encoding import encoding
from bancada.networks.settings import TorchPart
from bancada.pipeline import params as all_params
from bancada.training import index, replica, train

SEEDS = [7, 8, 9]
MODULE = """
import random
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, noise=False):
        super().__init__()
        self.noise = noise
        self.body = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.1))
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        if self.noise:
            x = x + random.random() + float(np.random.rand()) + torch.rand(1)
        return self.head(self.body(x))

class Once(Net):
    def forward(self, x):
        if len(x) == 40:
            raise ValueError("40 rows are too many")
        return super().forward(x)
"""
MOONS = {"kind": "half_moons", "rows": 60, "radius": 10, "distance": -4, "width": 6, "seed": 1}
LINE = {"kind": "linear", "rows": 12, "weights": [2, -3], "bias": 4, "noise_std": 0, "seed": 1}
MLP = {"layers": [3, "tanh", 2]}
NET = {"module": {"file": "src/models/net.py", "name": "Net"}}


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setitem(replica.ENGINES, "torch", "in_process")
    Path("src/models").mkdir(parents=True)
    Path("src/models/net.py").write_text(MODULE)
    yield
    user_code.forget()


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("bancada.evaluation.plots.PLOTS", {})


def given(variants, source=MOONS, metric="error_rate_percent", **study):
    """params.yaml with one study, whose rows are made and split 10, 10, 40."""
    train = {"loss": "cross_entropy", "optimizer": "adam", "lr": 0.05, "batch_size": 5, "epochs": 3}
    train |= {"standardize": True}
    split = {"train": 10, "validation": 10, "test": 40} if source is MOONS else {"train": 6, "test": 6}
    asked = {"source": source, "split": split, "metric": metric, "baseline": None, "train": train} | study
    common = {"seed": SEEDS[0], "num_seeds": len(SEEDS), "lr": None, "engine": None, "device": "cpu"}
    variants = {name: {"study": "study"} | keys for name, keys in variants.items()}
    raw = common | {"studies": {"study": asked}, "variants": variants}
    Path("params.yaml").write_text(json.dumps(raw))
    return ParamsFile(raw)


def run(params):
    """The stages generate, split, train, index and evaluate."""
    checked = all_params.load()
    table = checked.source("study").table("studies.study.source")
    split = checked.studies["study"].split
    for part, rows in divide(table, split).items():
        tables.write(rows, files.split("study") / f"{part}.parquet")
    for variant in params.raw["variants"]:
        train.main(params, variant)
    index.main(params, "study")
    evaluate.main(params, "study")


def read(name):
    with (files.evaluation("study") / name).open(newline="") as file:
        return list(csv.DictReader(file))


def values(variant, metric, split="test"):
    rows = read("per_seed.csv")
    return [row["value"] for row in rows if (row["variant"], row["metric"], row["split"]) == (variant, metric, split)]


def by_hand(variant, part="test"):
    """The outputs of each seed's Net, made and loaded in plain PyTorch, and the observed classes."""
    namespace = {}
    exec(MODULE, namespace)
    stored, rows = (
        load_file(files.model("study", variant) / "weights.safetensors"),
        tables.read(files.split("study") / f"{part}.parquet"),
    )
    x = (torch.from_numpy(rows.features) - stored.pop("input_mean")) / stored.pop("input_std")
    outputs = []
    for place in range(len(SEEDS)):
        net = namespace["Net"]()
        net.load_state_dict({name: value[place] for name, value in stored.items()})
        with torch.no_grad():
            outputs.append(net.eval()(x.float()))
    return outputs, torch.from_numpy(rows.targets[:, 0])


def test_a_module_beside_a_small_network_is_scored_as_by_hand():
    run(given({"small": MLP, "own": NET, "layers": {"layers": [4, "GELU", {"LayerNorm": {"normalized_shape": 4}}, 2]}}))
    outputs, classes = by_hand("own")
    wrong = [100 * float((output.argmax(1) != classes).double().mean()) for output in outputs]
    losses = [float(nn.functional.cross_entropy(output, classes)) for output in outputs]
    assert [float(value) for value in values("own", "error_rate_percent")] == pytest.approx(wrong)
    assert [float(value) for value in values("own", "loss")] == pytest.approx(losses, rel=1e-6)
    board = {row["variant"]: row for row in read("leaderboard.csv")}
    engines = {name: (row["engine"], int(row["parameters"])) for name, row in board.items()}
    # own: 2 * 4 + 4 linear, 2 * 4 batch norm, 4 * 2 + 2 linear; layers: the same with a LayerNorm
    assert engines == {"small": ("compiled", 9 + 8), "own": ("torch", 30), "layers": ("torch", 30)}
    drawn = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert drawn == {"loss", "leaderboard", "data", "decision_regions", "confusion"}


def test_new_inputs_are_decided_by_every_seed_of_a_module(undrawn):
    run(given({"own": NET}, predict=[[3.0, 1.0]]))
    stored = saved.load(files.model("study", "own"))
    inputs = tables.read(files.split("study") / "train.parquet").with_features(np.array([[3.0, 1.0]]))
    decided = [int(one) for one in stored.predict(inputs)[:, 0, 0]]
    shares = {row["target"]: float(row["mean"]) for row in read("predictions.csv")}
    assert shares == pytest.approx({"-1": decided.count(0) / 3, "1": decided.count(1) / 3})


def test_rows_that_pass_in_chunks_give_what_they_give_at_once(undrawn):
    run(given({"own": NET}, source=MOONS | {"rows": 3050}, split={"train": 10, "validation": 40, "test": 3000}))
    outputs, classes = by_hand("own")
    wrong = [100 * float((output.argmax(1) != classes).double().mean()) for output in outputs]
    assert [float(value) for value in values("own", "error_rate_percent")] == pytest.approx(wrong)


@pytest.mark.long
def test_an_evaluation_has_the_same_bytes_in_two_processes_though_the_module_draws_numbers():
    noisy = {"module": NET["module"] | {"args": {"noise": True}}}
    run(given({"small": MLP, "own": noisy}))
    folder = files.evaluation("study")

    def hashes():
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}

    here = hashes()
    command = [sys.executable, "-m", "bancada.evaluation.evaluate", "study"]
    subprocess.run(command, check=True)
    assert hashes() == here
    assert len(here) > 8


def test_a_variant_is_scored_alike_whichever_others_are_evaluated(undrawn):
    noisy = {"module": NET["module"] | {"args": {"noise": True}}}
    run(given({"own": noisy}))
    alone = values("own", "loss")
    run(given({"first": noisy, "own": noisy}))
    assert values("own", "loss") == alone


def test_an_evaluation_of_small_networks_alone_does_without_torch(undrawn):
    run(given({"small": MLP}))
    code = """
import sys
from bancada.base.params_file import read
from bancada.evaluation import evaluate
evaluate.main(read(), "study")
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("loss", ["BCELoss", "BCEWithLogitsLoss", "SoftMarginLoss", "bce"])
def test_a_seed_of_a_torch_network_that_diverged_is_an_empty_cell(loss, undrawn):
    layers = (
        [3, "Tanh", 1, "Sigmoid"]
        if loss == "BCELoss"
        else [3, "Tanh", 1, "sigmoid"]
        if loss == "bce"
        else [3, "Tanh", 1]
    )
    params = given({"own": {"layers": layers, "train": {"loss": loss}}})
    run(params)
    folder = files.model("study", "own")
    spoil(folder, seed=8, epoch=1)
    index.main(params, "study")
    evaluate.main(params, "study")
    assert [bool(value) for value in values("own", "loss")] == [True, False, True]
    [row] = read("leaderboard.csv")
    assert (row["diverged_seeds"], row["mean"]) == ("1", "")


def spoil(folder, seed, epoch):
    """Make a seed one that diverged, as the training leaves it."""
    weights = load_file(folder / "weights.safetensors")
    place = SEEDS.index(seed)
    for name, value in weights.items():
        if value.is_floating_point() and not name.startswith("input_"):
            value[place] = float("nan")
    save_file(weights, folder / "weights.safetensors")
    run_file = json.loads((folder / "run.json").read_text())
    run_file["diverged"] = {str(seed): epoch}
    (folder / "run.json").write_text(json.dumps(run_file))


def test_weights_are_compared_with_the_truth_for_one_linear_layer_whatever_its_loss(undrawn):
    keys = {"loss": "MSELoss", "standardize": False}
    run(given({"own": {"layers": [1], "train": keys}}, source=LINE, metric="weight_error_max"))
    stored = load_file(files.model("study", "own") / "weights.safetensors")["0.weight"][:, 0]
    expected = (stored - torch.tensor([2.0, -3.0])).abs().max(dim=1).values.tolist()
    assert [float(value) for value in values("own", "weight_error_max")] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("network", [{"layers": [1, "Identity"]}, {"layers": [3, "GELU", 1]}, NET])
def test_weights_of_other_networks_are_no_coefficients(network):
    given({"own": network | {"train": {"loss": "mse"}}}, source=LINE, metric="weight_error_max")
    with pytest.raises(BadInput, match="known for a single linear layer alone"):
        all_params.load()


def test_losses_that_differ_in_their_arguments_are_not_compared():
    smooth = {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
    given(
        {"own": NET | {"train": {"loss": smooth}}, "other": NET | {"train": {"loss": "CrossEntropyLoss"}}},
        metric="loss",
    )
    with pytest.raises(BadInput, match="cannot be compared"):
        all_params.load()


def test_an_error_of_the_module_that_only_the_evaluation_meets_is_one_line(undrawn):
    params = given({"own": {"module": NET["module"] | {"name": "Once"}}})
    with pytest.raises(BadInput, match=r"^src/models/net\.py:\d+: in Once\.forward: ValueError: 40 rows are too many$"):
        run(params)


def test_outputs_that_the_loss_cannot_take_are_one_line():
    code = encoding(None, TorchPart(name="BCELoss"), 1, 2)
    with pytest.raises(BadInput, match=r"^BCELoss: RuntimeError: all elements of input should be between 0 and 1$"):
        torch_network.losses_of_seeds(TorchPart(name="BCELoss"), np.full((1, 2, 1), 1.5), np.array([[0], [1]]), code)


def test_numbers_are_drawn_by_target_for_shaped_rows_and_early_stopping():
    layers = [{"Flatten": {"start_dim": 1}}, {"Linear": {"in_features": 4, "out_features": 3}}, "GELU", 1]
    source = {"kind": "linear", "rows": 40, "weights": [1, 2, 3, 4], "bias": 0, "noise_std": 0, "seed": 1}
    split = {"train": 20, "validation": 10, "test": 10}
    keys = {"source": source | {"shape": [2, 2]}, "split": split, "metric": "mse"}
    stopping = {"early_stopping": {"patience": 1}, "epochs": 30, "lr": 0.5}
    both = {"own": {"layers": layers, "train": stopping}, "small": {"layers": [3, "tanh", 1]}}
    run(given({name: one | {"train": {"loss": "mse"} | one.get("train", {})} for name, one in both.items()}, **keys))
    stored = saved.load(files.model("study", "own"))
    assert stored.shape == [2, 2]
    assert saved.load(files.model("study", "small")).shape == [4]
    drawn = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert drawn == {"loss", "leaderboard", "data", "predicted_vs_observed"}
    history = saved.read_history(files.model("study", "own"))
    ends = [int(history["epoch"][history["seed"] == seed].max()) for seed in SEEDS]
    assert all(end == stored.kept[seed] + 1 for end, seed in zip(ends, SEEDS, strict=True))
    assert [int(row["epoch"]) for row in read("loss.csv") if row["variant"] == "own"] == list(range(max(ends) + 1))


RECURRENT = """
from torch import nn

class Steps(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
        self.head = nn.Linear(3, outputs)

    def forward(self, x):
        steps, _ = self.lstm(x)
        mixed, _ = self.attention(steps, steps, steps)
        return self.head(mixed.mean(dim=1))
"""


@pytest.mark.parametrize(
    ("loss", "outputs", "last"),
    [
        ("cross_entropy", 2, None),
        ({"name": "CrossEntropyLoss", "label_smoothing": 0.1}, 2, None),
        ("NLLLoss", 2, {"LogSoftmax": {"dim": 1}}),
        ("MultiMarginLoss", 2, None),
        ("BCEWithLogitsLoss", 1, None),
        ("SoftMarginLoss", 1, None),
        ("HuberLoss", 2, "Tanh"),
        ("mse", 1, "Tanh"),
    ],
)
def test_the_loss_of_the_kept_epoch_comes_out_again_from_the_stored_weights(loss, outputs, last, undrawn):
    Path("src/models/steps.py").write_text(RECURRENT)
    module = {"module": {"file": "src/models/steps.py", "name": "Steps", "args": {"outputs": outputs}}}
    layers = {
        "layers": [{"Flatten": {"start_dim": 1}}, 4, "batch_norm", {"dropout": 0.2}, outputs, *([last] if last else [])]
    }
    keys = {"loss": loss, "early_stopping": {"patience": 2}, "epochs": 12, "class_weight": "balanced"}
    variants = {"layers": layers | {"train": keys}} | ({} if last else {"own": module | {"train": keys}})
    source = MOONS | {"shape": [2, 1], "rows": 62}
    run(given(variants, source=source, split={"train": 12, "validation": 10, "test": 40}))
    for variant in variants:
        stored = saved.load(files.model("study", variant))
        history = saved.read_history(files.model("study", variant))
        kept = [(history["seed"] == seed) & (history["epoch"] == stored.kept[seed]) for seed in SEEDS]
        expected = [float(history["validation_loss"][row][0]) for row in kept]
        assert [float(value) for value in values(variant, "loss", "validation")] == pytest.approx(expected, rel=1e-8)
