"""MLflow models of networks of the user's own and of torch's: the files go with the model, and nothing else changes.
Expected numbers are those of the same modules, called directly."""

import json
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc.scoring_server import invocations
from safetensors.numpy import save_file
from servers import served_model
from toy import NOBODY, evaluate, train_variant, write_leaderboard

from bancada.base import files, tables, user_code
from bancada.base.lockfile import dvc_md5
from bancada.base.tables import Table
from bancada.networks import saved
from bancada.networks.preparation import Preparation
from bancada.networks.saved import SavedVariant
from bancada.networks.settings import Network
from bancada.networks.start import sequential
from bancada.tracking import models
from bancada.tracking.record import Recorder
from bancada.tracking.serving import ServedModel
from bancada.tracking.store import open_store

SEEDS, ROWS = [111, 112, 113], 1500  # more than one chunk
FEATURES = [f"pixel {i}" for i in range(16)]
CLASSES = ["azul", "branco", "verde"]
MEAN, STD = np.linspace(1, 2, 16), np.linspace(0.5, 3, 16)
BLOCKS = """
from torch import nn
class Body(nn.Sequential):
    def __init__(self, channels):
        super().__init__(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.GELU(), nn.Dropout(0.5), nn.Flatten())
"""
NET = """
import torch
from torch import nn
from models.blocks import Body
class Net(nn.Module):
    def __init__(self, outputs, channels=2):
        super().__init__()
        self.body, self.head = Body(channels), nn.Linear(4 * channels, outputs)
        self.register_buffer("shift", torch.randn(outputs))
    def forward(self, rows):
        from .late import halved
        return halved(self.head(self.body(rows))) + self.shift
"""
OWN = {"net.py": NET, "blocks.py": BLOCKS, "late.py": "import numpy\ndef halved(x): return x / 2\n"}


def write_files(contents: dict[str, str], folder: str = "src/models") -> None:
    for name, text in contents.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def raw_rows(count: int = ROWS) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    return pd.DataFrame(draw.normal(MEAN, STD, (count, 16)), columns=FEATURES)


def by_hand(name: str, args: dict[str, Any], shape: list[int]) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """State dictionaries of the seeds, with numbers in all of it, and the outputs [seed, row, output] of raw_rows."""
    scaled = torch.from_numpy(((raw_rows().to_numpy() - MEAN) / STD).astype(np.float32)).reshape(-1, *shape)
    user_code.forget()  # of an evaluation before
    sys.path.insert(0, str(Path("src").absolute()))
    states, outputs = [], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        one = getattr(import_module("models.net"), name)(**args)
        with torch.no_grad():
            for key, value in one.state_dict().items():
                value.copy_(torch.rand(value.shape) + 0.5 if "running" in key else value + 1)
            states.append({key: value.numpy().copy() for key, value in one.state_dict().items()})
            outputs.append(one.eval()(scaled).double().numpy())
    sys.path.pop(0)
    for module in [module for module in sys.modules if module.partition(".")[0] == "models"]:
        del sys.modules[module]
    return states, np.stack(outputs)


def trained(
    variant: str = "toy_tanh",
    contents: dict[str, str] = OWN,
    loss: str = "CrossEntropyLoss",
    outputs: int = 3,
    classes: list[str] = CLASSES,
    **network: Any,
) -> np.ndarray:
    """Write the user's files and a model folder of three seeds. Return the outputs [seed, row, output]."""
    write_files(contents)
    args = {"outputs": outputs}
    states, expected = by_hand("Net", args, [1, 4, 4])
    train_variant(variant, code=json.dumps(contents), loss=loss, early_stopping={"patience": 2})
    code = files.code("train", variant)
    described = json.loads(code.read_text())
    described["modules"] |= {f"models.{name.removesuffix('.py').replace('/', '.')}": "f" for name in contents}
    described["packages"] |= {"scikit-learn": "1.2.3"}
    code.write_text(json.dumps(described))
    folder = files.model("toy", variant)
    run = json.loads((folder / "run.json").read_text())
    del run["recipe"]["layers"]
    run["recipe"] |= {"module": {"file": "src/models/net.py", "name": "Net", "args": args}, "engine": "torch"}
    targets = ["species"] if classes else ["price", "rent"][:outputs]
    run |= {"feature_names": FEATURES, "shape": [1, 4, 4], "target_names": targets, "classes": classes}
    run |= {"outputs": outputs, "parameters": 47, "kept": {str(seed): 3 for seed in SEEDS}}
    (folder / "run.json").write_text(json.dumps(run))
    stacked = {name: np.stack([state[name] for state in states]) for name in states[0]}
    save_file(stacked | {"input_mean": MEAN, "input_std": STD}, folder / "weights.safetensors")
    table = tables.Table(raw_rows().to_numpy(), np.zeros((ROWS, len(targets))), FEATURES, targets, [])
    tables.write(table, files.split("toy") / "train.parquet")
    return expected


def logged(bench: Path) -> dict[str, Path]:
    """Record the study's variants. Return the folders of their models."""
    variants = [path.name for path in sorted(files.models("toy").iterdir())]
    write_leaderboard(dict.fromkeys(variants, "2.5"), best_seeds=dict.fromkeys(variants, SEEDS[1]))
    store = open_store(bench)
    recorder = Recorder(store, NOBODY)
    recorder.write_study("toy")
    assert recorder.failed == {}
    found = store.client.search_logged_models([store.client.get_experiment_by_name("toy").experiment_id])
    return {model.name: bench / "mlartifacts/toy/models" / model.model_id / "artifacts" for model in found}


@pytest.fixture
def alone(bench: Path) -> Path:
    """The bench with one variant."""
    shutil.rmtree(files.model("toy", "toy_adam"))
    scores = (files.evaluation("toy") / "scores.csv").read_text().splitlines()
    (files.evaluation("toy") / "scores.csv").write_text("\n".join(scores[:3]) + "\n")
    board = (files.evaluation("toy") / "leaderboard.csv").read_text().splitlines()
    (files.evaluation("toy") / "leaderboard.csv").write_text("\n".join(board[:2]) + "\n")
    return bench


def names(outputs: np.ndarray) -> list[str]:
    return [CLASSES[i] for i in outputs.argmax(1)]


def test_a_users_network_is_served_with_its_files_from_anywhere_and_leaves_nothing_in_the_process(alone: Path) -> None:
    flags = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled)
    outputs = trained()[1]  # the best seed's
    [folder] = logged(alone).values()
    elsewhere = shutil.copytree(folder, alone.parent / "elsewhere")
    shutil.rmtree("src")
    shutil.rmtree(folder)
    modules, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    state = torch.get_rng_state()
    loaded = mlflow.pyfunc.load_model(str(elsewhere))
    shuffled = raw_rows()[FEATURES[::-1]]
    assert loaded.predict(shuffled)["species"].tolist() == names(outputs)
    assert len(set(names(outputs))) > 1
    assert loaded.predict(shuffled[7:8])["species"].tolist() == names(outputs)[7:8]  # a batch of one
    assert not [name for name in set(sys.modules) - modules if name.partition(".")[0] in ("models", "sources")]
    assert (sys.path, sys.meta_path) == (path, finders)
    assert torch.equal(torch.get_rng_state(), state)
    now = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled)
    assert now == flags
    held = {file.relative_to(elsewhere / "data/network").as_posix() for file in elsewhere.rglob("data/network/**/*.*")}
    assert held >= {f"src/models/{name}" for name in OWN}
    assert not list(elsewhere.rglob("*.pyc")) + list(elsewhere.rglob("*.pkl"))


def test_a_package_that_the_files_import_is_required_with_its_version_in_the_lock(alone: Path) -> None:
    trained(contents=OWN | {"late.py": "from sklearn.utils import check_array\ndef halved(x): return x / 2\n"})
    [folder] = logged(alone).values()
    required = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in required] == [
        *("mlflow", "numpy", "pandas", "safetensors", "scikit-learn", "torch"),
    ]
    assert "scikit-learn==1.2.3" in required


def test_files_that_nobody_imports_stay_out_and_data_files_go_with_the_model(alone: Path) -> None:
    trained()
    write_files({"mine.py": "x = 1", "table.csv": "1,2", "pack/__init__.py": "", "pack/other.py": ""})
    [folder] = logged(alone).values()
    held = {file.name for file in (folder / "data/network/src").rglob("*") if file.is_file()}
    assert held == {*OWN, "table.csv"}


def test_a_model_is_left_out_while_the_files_are_not_those_of_the_training(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained()
    entry = {"code": {"deps": [{"path": "src", "md5": dvc_md5(Path("src"))}]}}
    Path("dvc.lock").write_text(json.dumps({"stages": entry}))
    Path("src/models/late.py").write_text("def halved(x): return x / 3\n")
    assert logged(alone) == {}
    assert (
        "the model of toy/toy_tanh is left out: src is not the one that it was trained with" in capsys.readouterr().out
    )
    write_files(OWN)
    assert logged(alone).keys() == {"toy_tanh"}


SCORES = [[2.0, 0.0], [-1.0, 1.0]]
HALVES = [[0.880797, 0.119203], [0.119203, 0.880797]]


@pytest.mark.parametrize(
    ("loss", "layers", "outputs", "expected"),
    [
        ("CrossEntropyLoss", [], SCORES, HALVES),
        ("cross_entropy", [], SCORES, HALVES),
        ("NLLLoss", ["LogSoftmax"], np.log(HALVES).tolist(), HALVES),
        ("BCEWithLogitsLoss", [], [[2.0], [-2.0]], [[0.119203, 0.880797], [0.880797, 0.119203]]),
        ("BCELoss", ["Sigmoid"], [[0.25], [0.75]], [[0.75, 0.25], [0.25, 0.75]]),
        ("cross_entropy", ["softmax"], HALVES, HALVES),
        ("BCEWithLogitsLoss", [], SCORES, None),  # one yes or no for each class: they need not sum to 1
        ("MultiMarginLoss", [], SCORES, None),
        ("mse", ["tanh"], [[0.5], [-0.5]], None),
    ],
)
def test_scores_of_two_and_nought_are_served_as_the_probabilities_that_the_loss_means(
    loss: str, layers: list[str], outputs: list[list[float]], expected: list[list[float]] | None, tmp_path: Path
) -> None:
    """Row 15 of the traps. exp(2) / (exp(2) + exp(0)) = 0.8808."""
    network = Network.model_validate({"layers": [2, *layers], "loss": loss})
    variant = SavedVariant(
        "toy", network, "torch", 1, len(outputs[0]), [1], ["a"], [1], ["c"], ["n", "y"], {}, {}, {}, Preparation()
    )
    rule = models.probability_rule(variant)
    if expected is None:
        assert rule is None
        return
    assert rule is not None
    described = {"feature_names": ["a"], "target_names": ["c"], "classes": ["n", "y"], "threshold": None}
    described |= {"shape": [1], "outputs": len(outputs[0]), "bits": "portable"}
    for path in models.COPIED:
        shutil.copy(path, tmp_path)
    served = ServedModel(described | {"probabilities": rule, "layers": []}, {}, tmp_path)
    served.network = [lambda inputs: torch.tensor(outputs)]
    found = served.predict(pd.DataFrame({"a": [0.0, 1.0]}), {"probabilities": True})
    np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert list(found.columns) == ["n", "y"]


def test_probabilities_are_asked_for_by_a_parameter_of_the_signature(alone: Path) -> None:
    outputs = trained()[1]
    loaded = mlflow.pyfunc.load_model(str(logged(alone)["toy_tanh"]))
    found = loaded.predict(raw_rows(), params={"probabilities": True})
    assert list(found.columns) == CLASSES
    np.testing.assert_allclose(found.to_numpy(), torch.from_numpy(outputs).softmax(1).numpy(), rtol=1e-5)
    body = {"dataframe_split": raw_rows(2).to_dict(orient="split", index=False), "params": {"probabilities": True}}
    answer = invocations(json.dumps(body), "application/json", loaded, loaded.metadata.get_input_schema())
    assert list(json.loads(answer.response)["predictions"][0]) == CLASSES


def test_numbers_are_those_of_the_evaluation_to_the_last_bit(alone: Path) -> None:
    trained(loss="SmoothL1Loss", outputs=2, classes=[])
    loaded = mlflow.pyfunc.load_model(str(logged(alone)["toy_tanh"]))
    stored = saved.load(files.model("toy", "toy_tanh"))
    rows = Table(raw_rows().to_numpy(), np.empty((len(raw_rows()), 0)), FEATURES, stored.target_names, [])
    evaluated = stored.outputs(rows)[1]
    np.testing.assert_array_equal(loaded.predict(raw_rows()).to_numpy(), evaluated)
    assert loaded.predict(raw_rows(0)).shape == (0, 2)
    assert loaded.metadata.get_params_schema() is None


def test_layers_of_torch_in_yaml_are_served_as_they_are_evaluated(alone: Path) -> None:
    """Lazy layers have their size from the weights."""
    conv = {"Conv2d": {"in_channels": 1, "out_channels": 2, "kernel_size": 3}}
    layers = [conv, {"BatchNorm2d": {"num_features": 2}}, "GELU", "Flatten", {"LazyLinear": {"out_features": 4}}]
    train_variant("toy_tanh", loss="HuberLoss")
    folder = files.model("toy", "toy_tanh")
    run = json.loads((folder / "run.json").read_text())
    described = Network.model_validate({"layers": [*layers, "batch_norm", "tanh", 2], "loss": "HuberLoss"})
    run["recipe"] |= {"layers": described.model_dump(exclude_none=True)["layers"], "engine": "torch"}
    run |= {"feature_names": FEATURES, "shape": [1, 4, 4], "target_names": ["a", "b"], "classes": []}
    (folder / "run.json").write_text(json.dumps(run | {"outputs": 2, "parameters": 1}))
    torch.manual_seed(3)
    nets = [sequential(described.layers or [], [1, 4, 4]).eval() for _ in SEEDS]
    stacked = {key: np.stack([net.state_dict()[key].numpy() for net in nets]) for key in nets[0].state_dict()}
    save_file(stacked, folder / "weights.safetensors")
    table = tables.Table(raw_rows().to_numpy(), np.zeros((ROWS, 2)), FEATURES, ["a", "b"], [])
    tables.write(table, files.split("toy") / "train.parquet")
    loaded = mlflow.pyfunc.load_model(str(logged(alone)["toy_tanh"]))
    with torch.no_grad():
        expected = nets[1](torch.tensor(raw_rows().to_numpy(), dtype=torch.float32).reshape(-1, 1, 4, 4)).numpy()
    np.testing.assert_allclose(loaded.predict(raw_rows()).to_numpy(), expected, rtol=1e-4, atol=1e-6)


CONSTANT = """
import random
import mlflow
from .bloques import value
from torch import nn
class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.weight = nn.Parameter(nn.init.zeros_(nn.Linear(1, 1).weight))
    def forward(self, rows):
        assert random.random() < 1 and mlflow.pyfunc
        from . import late
        return self.weight * rows.flatten(1)[:, :1] * 0 + value + late.more
"""


def test_two_models_whose_files_have_the_same_names_each_run_their_own_code(alone: Path) -> None:
    """Rows 12 and 32 of the traps; `mlflow.py` and `random.py` hide no library."""
    other, folders = {"random.py": "", "mlflow.py": ""}, dict[str, Path]()
    for variant, value in {"toy_tanh": 1.0, "toy_adam": 2.0}.items():
        contents = {"net.py": CONSTANT, "bloques.py": f"value = {value}", "late.py": f"more = {value * 10}"}
        trained(variant, contents | other, loss="MSELoss", outputs=1, classes=[])
        if variant == "toy_adam":
            evaluate()  # now of both
        folders |= logged(alone)
    shutil.rmtree("src")
    for order in (("toy_tanh", "toy_adam"), ("toy_adam", "toy_tanh")):
        loaded = {variant: mlflow.pyfunc.load_model(str(folders[variant])) for variant in order}
        found = {variant: model.predict(raw_rows(2))["price"].tolist() for variant, model in loaded.items()}
        assert found == {"toy_tanh": [11.0] * 2, "toy_adam": [22.0] * 2}


@pytest.mark.long
def test_a_users_network_is_served_over_http_with_probabilities(alone: Path, tmp_path: Path) -> None:
    outputs = trained()[1]
    [folder] = logged(alone).values()
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree("src")
    with served_model(str(elsewhere), tmp_path / "log") as post:
        sent = {"dataframe_split": raw_rows().to_dict(orient="split", index=False)}
        assert post(sent) == {"predictions": [{"species": name} for name in names(outputs)]}
        found = post(sent | {"params": {"probabilities": True}})["predictions"]
    np.testing.assert_allclose(pd.DataFrame(found)[CLASSES], torch.from_numpy(outputs).softmax(1).numpy(), rtol=1e-5)
