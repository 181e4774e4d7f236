"""Sources of one's own: images and sequences from the function to predictions; in clones and experiments."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clones import PARAMS, executed, run, succeeds
from committed import BANCADA, commit, edit
from safetensors.torch import load_file

from bancada.base import files, tables, user_code
from bancada.base.params_file import ParamsFile
from bancada.data import generate, split
from bancada.evaluation import evaluate
from bancada.pipeline import params as all_params
from bancada.pipeline import predict
from bancada.training import index, replica, train

SOURCE = """
import numpy as np

def images(seed, rows):
    draw = np.random.default_rng(seed)
    labels, made = draw.integers(0, 3, rows), draw.random((rows, 1, 8, 8))
    made[np.arange(rows), 0, 2 * labels] += 0.5
    return {"inputs": made, "target": [["azul", "branco", "verde"][label] for label in labels]}

def sequences(seed, rows):
    made = np.random.default_rng(seed).random((rows, 50, 3))
    return {"inputs": made, "target": np.stack([made[:, -1, 0], made.mean((1, 2))], axis=1)}
"""
NETS = """
from torch import nn

class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    def forward(self, images):
        assert images.shape[1:] == (1, 8, 8)
        return self.body(images)

class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    def forward(self, steps):
        assert steps.shape[1:] == (50, 3)
        return self.head(self.lstm(steps)[0][:, -1])
"""
KINDS: dict[str, dict[str, Any]] = {
    "images": {"net": "Image", "shape": (1, 8, 8), "task": "classification", "loss": "CrossEntropyLoss"},
    "sequences": {"net": "Sequence", "shape": (50, 3), "task": "regression", "loss": "MSELoss"},
}


@pytest.fixture(params=["images", pytest.param("sequences", marks=pytest.mark.long)])
def kind(request, tmp_path, monkeypatch):
    """A folder in which all five stages have run, and the name of its source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setitem(replica.ENGINES, "torch", "in_process")
    monkeypatch.setattr("bancada.evaluation.plots.PLOTS", {})
    for name, text in {"src/sources/made.py": SOURCE, "src/models/net.py": NETS, "dvc.yaml": ""}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    of = KINDS[request.param]
    source = {"kind": "python", "file": "src/sources/made.py", "name": request.param, "args": {"rows": 40}, "seed": 3}
    study = {"source": source | {"task": of["task"]}, "split": {"train": 20, "validation": 10, "test": 10}}
    study |= {"train": {"loss": of["loss"], "optimizer": "adam", "lr": 0.01, "batch_size": 8, "epochs": 2}}
    study |= {"metric": "loss", "baseline": None}
    own = {"study": "study", "module": {"file": "src/models/net.py", "name": of["net"]}}
    raw = {"seed": 7, "num_seeds": 2, "lr": None, "engine": None, "device": "cpu"}
    raw |= {"studies": {"study": study}, "variants": {"own": own}}
    Path("params.yaml").write_text(json.dumps(raw))
    all_params.load()
    generate.main(ParamsFile(raw), "study")
    split.main(ParamsFile(raw), "study")
    train.main(ParamsFile(raw), "own")
    index.main(ParamsFile(raw), "study")
    evaluate.main(ParamsFile(raw), "study")
    yield request.param
    user_code.forget()


def by_hand(kind: str, rows: np.ndarray) -> list[np.ndarray]:
    """The outputs of each seed's module, loaded in plain PyTorch."""
    namespace: dict[str, Any] = {}
    exec(NETS, namespace)
    stored = load_file(files.model("study", "own") / "weights.safetensors")
    outputs = []
    for place in range(2):
        net = namespace[KINDS[kind]["net"]]()
        net.load_state_dict({name: value[place] for name, value in stored.items()})
        with torch.no_grad():
            outputs.append(net.eval()(torch.from_numpy(rows).float()).double().numpy())
    return outputs


def test_rows_of_any_shape_are_scored_and_predicted_as_by_hand(kind):
    namespace: dict[str, Any] = {}
    exec(SOURCE, namespace)
    made = namespace[kind](3, 40)
    shape, classes = KINDS[kind]["shape"], ["azul", "branco", "verde"]
    held_out = tables.read(files.split("study") / "test.parquet")
    rows = held_out.features.reshape(-1, *shape)
    places = [np.flatnonzero((made["inputs"] == row).all(axis=tuple(range(1, rows.ndim))))[0] for row in rows]
    targets = [made["target"][place] for place in places]  # each held-out row is one that the function made
    outputs = by_hand(kind, rows)
    observed = torch.tensor([classes.index(one) for one in targets] if kind == "images" else np.array(targets))
    loss = torch.nn.CrossEntropyLoss() if kind == "images" else torch.nn.MSELoss()
    expected = [float(loss(torch.from_numpy(output), observed)) for output in outputs]
    with (files.evaluation("study") / "per_seed.csv").open(newline="") as file:
        scores = [row for row in csv.DictReader(file) if (row["metric"], row["split"]) == ("loss", "test")]
    assert [float(row["value"]) for row in scores] == pytest.approx(expected, rel=1e-5)
    trained = predict.load("own")
    best = outputs[[7, 8].index(trained.best_seed)]
    predicted = trained.predict(rows)
    if kind == "images":
        assert predicted["target"].tolist() == [classes[place] for place in best.argmax(1)]
    else:
        assert predicted.to_numpy() == pytest.approx(best, rel=1e-5)


WAVES = """\
  waves:
    source: {kind: python, file: src/sources/waves.py, name: make, args: {rows: 20}, task: regression}
    split: {train: 0.5, test: 0.5, groups: day}
    metric: mse
    train: {loss: mse, lr: 0.1, batch_size: full, epochs: 2}
variants:
  waves_linear: {study: waves, layers: [1]}
"""
OWN = {
    "src/sources/waves.py": """
import pandas as pd
from .parts import scale
def make(seed, rows):
    return pd.DataFrame({"x": range(rows), "day": [row // 3 for row in range(rows)], "target": [scale()] * rows})
""",
    "src/sources/parts.py": """
from pathlib import Path
def scale():
    return float(Path("data/sources/scale.txt").read_text())
""",
    "data/sources/scale.txt": "2.5",
}


@pytest.mark.long
def test_a_source_runs_in_a_clone_and_in_a_temporary_experiment_with_the_files_that_stand_there(repository, tmp_path):
    off = {"BANCADA_TRACKING": "off"}
    Path("params.yaml").write_text(PARAMS.replace("variants:\n", WAVES))
    for name, text in OWN.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    succeeds(repository, *BANCADA, "repro", **off)
    assert set(tables.read(files.raw("waves")).targets[:, 0]) == {2.5}
    commit(repository)
    more = executed(
        succeeds(repository, "dvc", "exp", "run", "--temp", "-S", "studies.waves.source.args.rows=30", **off)
    )
    rerun = {"code", "generate@waves", "split@waves", "train@waves_linear", "index@waves", "evaluate@waves", "report"}
    assert "generate@waves" in more and set(more) <= rerun
    clone = tmp_path / "a clone"
    succeeds(repository, "git", "clone", "-q", str(repository), str(clone))
    succeeds(clone, *BANCADA, "repro", "generate@waves", "split@waves", **off)
    assert succeeds(clone, "git", "status", "--porcelain") == ""  # the same bytes
    edit(clone / "src/sources/parts.py", "return float", "return 2 * float")
    succeeds(clone, *BANCADA, "repro", "generate@waves", **off)
    assert set(tables.read(clone / files.raw("waves")).targets[:, 0]) == {5.0}
    edit(clone / "src/sources/parts.py", "data/sources/scale.txt", "notes.txt")
    (clone / "notes.txt").write_text("2.5")
    refused = run(clone, *BANCADA, "repro", "generate@waves", **off)
    told = "src/sources/parts.py:4: opens notes.txt; move it into data/sources, where DVC notices when it changes"
    assert (refused.returncode, refused.stderr.splitlines()) == (2, [told])
