"""A toy study: its files as the stages leave them, and queries of a SQLite store. The tests of tracking share it."""

import csv
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from once import once

from bancada.base import files, tables
from bancada.evaluation.leaderboard import COLUMNS
from bancada.tracking import mirror
from bancada.tracking.store import Store, open_store
from bancada.tracking.surroundings import Origin
from bancada.training.settings import Recipe

SOURCE = Path(__file__).resolve().parents[2] / "src"
SEEDS, EPOCHS = [111, 112, 113], 5
NOBODY = Origin()
PARAMS = """
seed: 111
num_seeds: 3
lr: null
engine: null
device: cpu
studies:
  toy:
    source: {kind: half_moons, rows: 16, radius: 10, distance: -4, width: 6, seed: 1}
    split: {train: 8, test: 8}
    metric: error_rate_percent
    baseline: toy_tanh
    train: {loss: mse, optimizer: {name: sgd}, lr: 0.5, batch_size: 4, epochs: 5}
variants:
  toy_tanh: {study: toy, layers: [3, tanh, 1, tanh]}
  toy_adam: {study: toy, layers: [3, tanh, 1, tanh], train: {optimizer: {name: adam}, lr: 1e-05}}
"""
PACKAGES = {"numpy": "2.4.0", "torch": "2.13.0"}
SCORES = "variant,split,metric,mean,std,median,median_low,median_high,num_seeds\n"


def _make_store(folder: Path) -> None:
    open_store(folder)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a database once: mlflow takes seconds for it, so most tests start from a copy of this one."""
    return once(tmp_path_factory, "store", _make_store) / "mlflow.db"


@pytest.fixture
def bench(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with the pipeline's files the current folder; its path has a space and an umlaut."""
    root = tmp_path / "a bench für alle"
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(empty_store, root / "mlflow.db")
    monkeypatch.chdir(root)
    for name in [*filter(lambda key: key.startswith(("DVC_", "MLFLOW_TRACKING")), os.environ), "BANCADA_TRACKING"]:
        monkeypatch.delenv(name, raising=False)
    write_pipeline_files()
    return root


def write_pipeline_files() -> None:
    Path("params.yaml").write_text(PARAMS)
    Path("requirements.lock").write_text("mlflow==3.17.2\n")
    for part, rows in {"train": 8, "validation": 0, "test": 8}.items():
        features, targets = np.full((rows, 2), 0.5), np.zeros((rows, 1), dtype=np.int64)
        table = tables.Table(features, targets, ["x", "y"], ["label"], [-1, 1])
        tables.write(table, files.split("toy") / f"{part}.parquet")
    train_variant("toy_tanh")
    train_variant("toy_adam", optimizer={"name": "adam"}, lr=1e-05)
    evaluate()


def go_to_temporary_experiment(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the current folder, and the environment, those of `dvc exp run --temp -n brave-cat` for the repository."""
    for key, value in {"DVC_ROOT": str(root), "DVC_EXP_NAME": "brave-cat", "DVC_STAGE": "train@toy_tanh"}.items():
        monkeypatch.setenv(key, value)
    temporary = tmp_path / "exp"
    temporary.mkdir()
    monkeypatch.chdir(temporary)
    return temporary


def history(lengths: dict[int, int], epochs: int) -> dict[str, np.ndarray]:
    """Return the loss seed + epoch / 4, and twice that for validation; a seed with fewer epochs ends in infinity."""
    columns: dict[str, list[float]] = {name: [] for name in ("seed", "epoch", "train_loss", "validation_loss", "lr")}
    for seed, length in lengths.items():
        for epoch in range(length):
            loss = seed + epoch / 4 if epoch < length - 1 or length == epochs else np.inf
            for name, value in zip(columns, (seed, epoch, loss, 2 * loss, 0.5), strict=True):
                columns[name].append(value)
    kinds = {"seed": np.int64, "epoch": np.int64}
    return {name: np.array(values, dtype=kinds.get(name, np.float64)) for name, values in columns.items()}


def write_code(variant: str, module: str = "f0", packages: dict[str, str] = PACKAGES) -> None:
    """Write the variant's file in data/code as the stage `code` leaves it. `module`: the hash of its one module."""
    path = files.code("train", variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"modules": {"bancada.training.train": module}, "packages": packages}, indent=1) + "\n")


def train_variant(
    variant: str, code: str = "f0", weights: bytes = b"w", lengths: dict[int, int] | None = None, **keys: Any
) -> mirror.Result:
    """Write a model folder as train@VARIANT leaves it. `code`: the hash of a module that the training ran."""
    write_code(variant, code)
    train = {"loss": "mse", "lr": 0.5, "batch_size": 4, "epochs": EPOCHS, **keys}
    recipe = Recipe.model_validate(
        {
            "study": "toy",
            "variant": variant,
            "layers": [{"linear": 3, "bias": False}, "batch_norm", "tanh", {"dropout": 0.1}, 1, "tanh"],
            "scratch": False,
            "train": train,
            "seeds": SEEDS,
            "device": "cpu",
            "engine": "compiled",
        }
    )
    lengths = lengths or dict.fromkeys(SEEDS, train["epochs"])
    run = {
        "study": "toy",
        "variant": variant,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "train_rows": 8,
        "kept": {},
        "diverged": {str(seed): length - 1 for seed, length in lengths.items() if length < train["epochs"]},
    }
    folder = files.model("toy", variant)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "run.json").write_text(json.dumps(run))
    pq.write_table(pa.table(history(lengths, train["epochs"])), folder / "history.parquet")
    return mirror.result(folder)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_hash(folder: Path) -> str:
    """Return DVC's hash of a folder: the hash of the list of its files with their hashes."""
    listed = [{"md5": md5(path.read_bytes()), "relpath": path.name} for path in sorted(folder.iterdir())]
    return md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def split_hash() -> str:
    return folder_hash(files.split("toy"))


def code_hash(variant: str) -> str:
    return md5(files.code("train", variant).read_bytes())


def fingerprint(variant: str, split: str = "", code: str = "") -> str:
    """Return SHA-256 of what run.json says was asked, and of the hashes of the split and of the file in data/code."""
    run = json.loads((files.model("toy", variant) / "run.json").read_text())
    for shown in ("diverged", "kept", "parameters", "outputs"):
        run.pop(shown, None)
    inputs = [run, split or split_hash(), code or code_hash(variant)]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def evaluate(error: str = "2.5", plots: tuple[str, ...] = ("loss.png", "regions.png")) -> None:
    """Write an evaluation folder as evaluate@STUDY leaves it; `toy_adam` has a diverged seed, so no mean."""
    folder = files.evaluation("toy")
    shutil.rmtree(folder, ignore_errors=True)  # it may not be there
    (folder / "plots").mkdir(parents=True)
    (folder / "scores.csv").write_text(
        SCORES
        + f"toy_tanh,test,error_rate_percent,{error},0.5,2.25,1.5,3.5,3\n"
        + "toy_tanh,train,loss,0.25,0.0,0.25,,,3\n"
        + "toy_adam,test,error_rate_percent,,,50.0,,,3\n"
    )
    write_leaderboard({"toy_tanh": error, "toy_adam": ""})
    (folder / "per_seed.csv").write_text("variant,split,metric,seed,value\n")  # nothing to choose a model by
    (folder / "loss.csv").write_text("long\n")
    for name in plots:
        (folder / "plots" / name).write_bytes(name.encode())


def write_leaderboard(
    means: dict[str, str],
    metric: str = "error_rate_percent",
    best_seeds: Mapping[str, int | None] = MappingProxyType({}),
    champion: str | None = None,
) -> None:
    """Write it in the order of `means`; a variant with an empty mean has a diverged seed."""
    same = {"engine": "compiled", "parameters": 64, "split": "test", "metric": metric, "num_seeds": 3, "sd": 0.5}
    same |= {"over": "seeds on one data set", "epochs_to_converge": 4, "best_seed_is": "told by a test"}
    with (files.evaluation("toy") / "leaderboard.csv").open("w", newline="") as file:
        board = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        board.writeheader()
        for place, (variant, mean) in enumerate(means.items(), 1):
            row = {
                "rank": place,
                "variant": variant,
                "mean": mean,
                "median": mean or 2.25,
                "failed_seeds": int(not mean),
            }
            row |= {"diverged_seeds": int(not mean), "verdict": "baseline" if place == 1 else "worse"}
            row |= {"best_seed": best_seeds.get(variant), "champion": str(variant == champion).lower()}
            board.writerow(same | row)


def write_lock() -> None:
    """Write dvc.lock with the models and the evaluation that are here, by hashes of our own."""
    folder = files.evaluation("toy")
    entries = [(f"train@{model.name}", {model: folder_hash(model)}) for model in sorted(files.models("toy").iterdir())]
    outs = {path: md5(path.read_bytes()) for path in sorted(folder.glob("*.csv"))}
    entries.append(("evaluate@toy", outs | {folder / "plots": folder_hash(folder / "plots")}))
    lines = ["schema: '2.0'", "stages:"]
    for stage, found in entries:
        lines += [f"  {stage}:", "    outs:"]
        lines += [line for path, known in found.items() for line in (f"    - path: {path}", f"      md5: {known}")]
    Path("dvc.lock").write_text("\n".join([*lines, ""]))


def commit(message: str = "results") -> None:
    """Commit the results that are here, in a repository that is made where there is none."""
    write_lock()
    if not Path(".git").exists():
        git("init", "-q")
    git("add", "dvc.lock", "data/evaluation")
    git("commit", "-qm", message, "--allow-empty")


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], check=True)


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(root / "mlflow.db") as database:
        answer = database.execute(query).fetchall()
    database.close()
    return answer


def count(root: Path, table: str) -> int:
    return int(rows(root, f"select count(*) from {table}")[0][0])


def artifacts(store: Store, run_id: str, folder: str | None = None) -> set[str]:
    """Return the paths of all files of a run."""
    found = set()
    for entry in store.client.list_artifacts(run_id, folder):
        found |= artifacts(store, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def costs_one_line(capfd: pytest.CaptureFixture[str], stages: str, password: str) -> None:
    """A store that cannot be used costs a stage this one line, without its password."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"bancada: not recorded in MLflow: {stages}: ")
    assert err.endswith("; `bancada track` does it later\n")
    assert err.count("\n") == 1
    assert password not in err
