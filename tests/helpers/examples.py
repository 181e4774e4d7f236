"""Five networks of a user's own, in tests/examples/models, each with a training and with rows; and a bench for them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from bancada.base import files, tables
from bancada.networks.saved import Trained
from bancada.networks.settings import Layers
from bancada.training import checkpoint
from bancada.training.replica import Data, Replica, Report, Rows
from bancada.training.settings import Recipe, Train

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/examples/models"
IMAGES, SEQUENCES = (1, 8, 8), (8, 2)  # the shapes of a row
SEED = 111


def example(file: str, name: str, shape: tuple[int, ...], train: dict[str, Any], **args: Any) -> dict[str, Any]:
    module = {"file": f"src/models/{file}.py", "name": name, "args": args}
    classes = 4 if shape == IMAGES else 0
    return {"module": module, "shape": shape, "classes": classes, "train": {"epochs": 3, "batch_size": 16} | train}


EXAMPLES: dict[str, dict[str, Any]] = {
    "cnn": example(
        "cnn",
        "CNN",
        IMAGES,
        {
            "loss": "CrossEntropyLoss",
            "optimizer": {"name": "AdamW", "weight_decay": 0.01},
            "lr": 0.01,
            "schedule": {"name": "OneCycleLR", "max_lr": 0.01},
        },
    ),
    "lstm": example(
        "sequence",
        "SequenceLSTM",
        SEQUENCES,
        {
            "loss": "MSELoss",
            "optimizer": {"name": "Adam"},
            "lr": 0.01,
            "schedule": {"name": "ReduceLROnPlateau", "patience": 1},
        },
    ),
    "residual": example(
        "residual",
        "ResidualMLP",
        IMAGES,
        {
            "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.05},
            "optimizer": {"name": "SGD", "momentum": 0.9, "nesterov": True},
            "lr": 0.05,
            "schedule": {"name": "CosineAnnealingLR", "T_max": 10},
            "clip_norm": 1.0,
        },
        features=64,
    ),
    "buffers": example(
        "buffers", "Buffers", IMAGES, {"loss": "CrossEntropyLoss", "optimizer": "RMSprop", "lr": 0.01}, features=64
    ),
    "attention": example(
        "sequence", "SequenceAttention", SEQUENCES, {"loss": "HuberLoss", "optimizer": "RAdam", "lr": 0.003}
    ),
}


def rows(shape: tuple[int, ...], count: int, seed: int) -> Rows:
    """Images with a bright stripe, whose place is the class; or sequences, of whose numbers two are to be added."""
    draw = np.random.default_rng(seed)
    if shape == IMAGES:
        labels, images = draw.integers(0, 4, count), draw.random((count, *shape))
        images[np.arange(count), 0, 2 * labels] += 0.5
        return Rows(images.astype(np.float32), labels[:, None])
    numbers, marks = draw.random((count, shape[0])), np.zeros((count, shape[0]))
    for marked in marks:
        marked[draw.choice(shape[0], 2, replace=False)] = 1
    sequences = np.stack([numbers, marks], axis=2).astype(np.float32)
    return Rows(sequences, (numbers * marks).sum(1, keepdims=True))


def data(shape: tuple[int, ...] = IMAGES, classes: int = 4, train: int = 70, validation: int = 30) -> Data:
    """70 rows: in batches of 16, the last has 6."""
    return Data(rows(shape, train, 1), rows(shape, validation, 2), classes)


def data_of(name: str, **counts: int) -> Data:
    return data(EXAMPLES[name]["shape"], EXAMPLES[name]["classes"], **counts)


def recipe(network: Mapping[str, Any], train: Mapping[str, Any], engine: str = "torch") -> Recipe:
    """`network`: either its module or its layers."""
    given = dict(network)
    if "layers" in given:
        given["layers"] = TypeAdapter(Layers).validate_python(given["layers"])
    asked = Train.model_validate(dict(train))
    return Recipe(
        study="s", variant="x", scratch=False, train=asked, seeds=[SEED], device="cpu", engine=engine, **given
    )


def recipe_of(name: str, **train: Any) -> Recipe:
    return recipe({"module": EXAMPLES[name]["module"]}, EXAMPLES[name]["train"] | train)


def replica_of(name: str, seed: int = SEED, **train: Any) -> Replica:
    return Replica(recipe_of(name, **train), seed)


def differences(one: Trained, other: Trained) -> list[str]:
    """The names of what is not the same, byte by byte."""
    assert one.weights.keys() == other.weights.keys()
    found = []
    for part in ("weights", "history"):
        for name, value in getattr(one, part).items():
            of = getattr(other, part)[name]
            if (value.dtype, value.shape, value.tobytes()) != (of.dtype, of.shape, of.tobytes()):
                found.append(f"{part} {name}")
    plain = ("diverged", "kept", "parameters", "outputs", "note")
    return found + [name for name in plain if getattr(one, name) != getattr(other, name)]


# --- a bench --------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Bench":
    """A folder with the examples as src/models, and DVC's folder, as the current one."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("DVC_", "BANCADA_"))]:
        monkeypatch.delenv(name)
    made = Bench(tmp_path / "a bench")
    monkeypatch.chdir(made.root)
    return made


class Bench:
    """A folder in which the stage train@X runs as DVC would start it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(MODELS, root / "src/models", ignore=shutil.ignore_patterns("__pycache__"))
        (root / ".dvc").mkdir()

    def write(self, names: list[str], num_seeds: int = 2, code: str = "f0", **train: Any) -> None:
        """Write params.yaml, the rows, and data/code. `train`: keys that all of these variants have instead."""
        params: dict[str, Any] = {"seed": SEED, "num_seeds": num_seeds, "lr": None, "engine": None, "device": "cpu"}
        params |= {"studies": {}, "variants": {}}
        for name in names:
            of = EXAMPLES[name]
            params["studies"][f"of_{name}"] = {"source": {}, "split": {}, "train": of["train"] | train}
            params["variants"][name] = {"study": f"of_{name}", "module": of["module"]}
            self.write_rows(f"of_{name}", data_of(name))
            self.write_code(name, code)
        with (self.root / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(params, file)

    def write_rows(self, study: str, made: Data) -> None:
        for part, of in {"train": made.train, "validation": made.validation}.items():
            flat = of.inputs.reshape(len(of), -1).astype(np.float64)
            names = [f"x{i}" for i in range(flat.shape[1])]
            classes = list(range(made.classes))
            table = tables.Table(flat, of.targets, names, ["y"], classes, list(of.inputs.shape[1:]))
            tables.write(table, self.root / files.split(study) / f"{part}.parquet")

    def write_code(self, name: str, code: str) -> None:
        path = self.root / files.code("train", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"modules": {}, "packages": {"torch": "2"}, "of": code}) + "\n")

    def command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "bancada.training.train", name]

    def environment(self, **variables: str) -> dict[str, str]:
        ours = {"BANCADA_TRACKING": "off", "PYTHONPATH": str(ROOT / "src")}
        return {key: value for key, value in os.environ.items() if not key.startswith("BANCADA_")} | ours | variables

    def start(self, name: str, **variables: str) -> "subprocess.Popen[str]":
        """Start the stage, in a process group of its own."""
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = self.environment(**variables)
        return subprocess.Popen(self.command(name), cwd=self.root, env=env, start_new_session=True, **piped)

    def train(self, name: str, **variables: str) -> str:
        """Run the stage to its end. Return what it printed."""
        process = self.start(name, **variables)
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
        return out

    def model(self, name: str) -> dict[str, bytes]:
        """The content of every file of the model's folder."""
        return {path.name: path.read_bytes() for path in (self.root / files.model(f"of_{name}", name)).iterdir()}

    def entries(self) -> set[str]:
        """The suffixes of what is in the store, and the names of what has none of its own."""
        folder = self.root / ".dvc/tmp/bancada/replicas"
        return {path.suffix for path in folder.iterdir()} if folder.exists() else set()


# --- a training that is cut off ------------------------------------------------------------------------------------


class Cut(Exception):
    """In the place of a kill."""


class Keeper(checkpoint.Keeper):
    """Keeps every state, and raises Cut after the Nth; `given`: how many it has kept."""

    path: Path

    def __init__(self, path: Path, cut_after: int = 0) -> None:
        super().__init__(path)
        self.cut_after, self.given = cut_after, 0

    def write(self, state: Callable[[], Any]) -> None:
        self.given += 1
        checkpoint.write(self.path, state())
        if self.given == self.cut_after:
            raise Cut


def cut(one: Replica, rows: Data, keeper: Keeper) -> None:
    """Train until the keeper raises."""
    from bancada.training import torch_engine  # for seconds; conftest.py imports this file

    with pytest.raises(Cut):
        torch_engine.train(one, rows, nobody, keeper)


def all_trained(engine: Any, replicas: Sequence[Replica], rows: Data, report: Any = None) -> list[Trained]:
    """What an engine gives, in the order of the replicas."""
    found = dict(engine.train(dict(enumerate(replicas)), {0: rows}, report or Report()))
    return [found[place] for place in range(len(replicas))]


def nobody(epoch: int, row: dict[str, float]) -> None:
    """A report to nobody."""
