"""Images and sequences of a source of one's own: from the function to a leaderboard and to predictions."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


@pytest.fixture(params=KINDS)
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
