"""Studies whose models are written by hand, and the tables that the stages index and evaluate make of them."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from bancada.base import files, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.evaluation import evaluate
from bancada.networks.preparation import SCALING, TARGET_SCALING
from bancada.training import index
from bancada.training.settings import training_keys

SEEDS = [7, 8, 9, 10]
NAN = float("nan")
SCALED = (*SCALING, *TARGET_SCALING)


def main(params, study):
    """The stages index and evaluate."""
    index.main(params, study)
    evaluate.main(params, study)


def given(source, layers, split, metric, num_seeds=4, variants=("base", "other"), predict=(), **train):
    """params.yaml with one study, `study`, whose variants all have the same layers."""
    settings = {"loss": "mse", "lr": 0.1, "batch_size": "full", "epochs": 3, **train}
    study = {"source": source, "split": split, "metric": metric, "baseline": "base", "min_difference": 0.1}
    return ParamsFile(
        {
            "seed": SEEDS[0],
            "num_seeds": num_seeds,
            "lr": None,
            "engine": None,
            "device": "cpu",
            "studies": {"study": study | {"train": settings, "predict": list(predict)}},
            "variants": {name: {"study": "study", "layers": list(layers)} for name in variants},
        }
    )


def changed(params, **study):
    """The same parameters but for these keys of the study."""
    return ParamsFile({**params.raw, "studies": {"study": params.raw["studies"]["study"] | study}})


def write_split(train, validation=None, test=None):
    for part, rows in zip(files.PARTS, (train, validation, test), strict=True):
        tables.write(train.take(np.arange(0)) if rows is None else rows, files.split("study") / f"{part}.parquet")


def write_model(params, variant, rows, weights, losses=None, diverged=None):
    """A model folder by hand. `weights`: by name, [seed, ...]; `losses`: a list of training losses for each seed."""
    asked = training_keys(params, variant).recipe()
    folder = files.model("study", variant)
    folder.mkdir(parents=True)
    arrays = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items() if name not in SCALED}
    scaling = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items() if name in SCALED}
    save_file(arrays | scaling, folder / "weights.safetensors")
    losses = losses or [[4.0, 2.0, 1.0]] * len(asked.seeds)
    long = [(s, e, loss) for s, of in zip(asked.seeds, losses, strict=True) for e, loss in enumerate(of)]
    seed, epoch, loss = zip(*long, strict=True)
    names = ("train_loss", "last_batch_loss", "validation_loss", "lr")
    pq.write_table(pa.table({"seed": seed, "epoch": epoch} | dict.fromkeys(names, loss)), folder / "history.parquet")
    run = {
        "study": "study",
        "variant": variant,
        "recipe": asked.model_dump(mode="json"),
        "feature_names": rows.feature_names,
        "target_names": rows.target_names,
        "classes": rows.classes,
        "diverged": {str(seed): epoch for seed, epoch in (diverged or {}).items()},
        "train_rows": len(rows),
        "shape": rows.shape,
        "kept": {},
        "parameters": sum(array[0].numel() for name, array in arrays.items() if "running" not in name),
        "outputs": [array.shape[1] for name, array in arrays.items() if name.endswith(".bias")][-1],
    }
    (folder / "run.json").write_text(json.dumps(run))


def read(name):
    with (files.evaluation("study") / name).open(newline="") as file:
        return list(csv.DictReader(file))


def scored(variant, metric, split, of="scores.csv"):
    return [row for row in read(of) if (row["variant"], row["metric"], row["split"]) == (variant, metric, split)]


MOONS = {"kind": "half_moons", "rows": 12, "radius": 10, "distance": -4, "width": 6, "seed": 1}
TABLE = {
    "kind": "table",
    "path": "data/sources/t.csv",
    "task": "regression",
    "features": ["rooms"],
    "targets": ["price"],
}
LINE = {"kind": "linear", "rows": 6, "weights": [2, -3], "bias": 4, "noise_std": 0, "seed": 1}


def two_classes(*points):
    """Rows (x, y, class index)."""
    table = np.array(points, dtype=np.float64)
    return Table(table[:, :2], table[:, 2:].astype(np.int64), ["x", "y"], ["moon"], [-1, 1])


CORNERS = two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0), (-2, 1, 0))


def classifier(seeds_right):
    """One linear unit for each seed; a wrong one decides the opposite."""
    signs = [1.0 if right else -1.0 for right in seeds_right]
    return {"0.weight": [[[sign, 0.0]] for sign in signs], "0.bias": [[0.0]] * len(signs)}


def line_rows():
    features = np.array([[0.0, 0], [1, 0], [0, 1], [2, 1], [1, 3], [-1, 2]])
    return Table(features, features @ np.array([[2.0], [-3.0]]) + 4, ["x1", "x2"], ["y"], [])
