"""The stage generate: the same bytes every time, and a line for bad input."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clones import PARAMS

from bancada.base import params_file, tables
from bancada.data import generate
from bancada.pipeline.params import load

ROOT = Path(__file__).parents[2]
KEY = "studies.mine.source"  # of params.yaml, for messages


MINIMAL = """
seed: 1
num_seeds: 1
lr: null
engine: null
device: cpu
studies:
  mine:
    source: {kind: csv, path: data/sources/mine.csv, task: TASK, features: [a, b], targets: [c]}
    split: {train: 0.5, test: 0.5}
    metric: loss
    train: {loss: mse, lr: 0.1, batch_size: full, epochs: 1}
variants:
  only: {study: mine, layers: [1]}
"""


def run(folder: Path, stage: str, *names: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", f"bancada.data.{stage}", *names]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def on_disk(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("params", "text", "name", "message"),
    [
        (
            MINIMAL,
            "a,b,c\n1,2,x\n",
            "mine",
            "data/sources/mine.csv: column 'c': 1 of 1 rows has no number: line 2 (x); mend them, or take them out",
        ),
        (MINIMAL, "a,b,c\n1,2,3\n", "mien", "params.yaml: studies.mien: missing; did you mean 'mine'?"),
        (
            MINIMAL.replace("targets: [c]", "targets: c"),
            "",
            "mine",
            "params.yaml: studies.mine.source.targets = c: must be a list",
        ),
    ],
    ids=["table", "name", "value"],
)
def test_the_stage_ends_with_status_2_and_one_line_for_bad_input_and_changes_no_file(
    folder, params, text, name, message
):
    Path("params.yaml").write_text(params.replace("TASK", "regression"))
    Path("data/sources/mine.csv").write_text(text)
    Path("data/raw").mkdir()
    Path("data/raw/mine.parquet").write_text("what was made before")
    before = on_disk(folder)
    done = run(folder, "generate", name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message + "\n")
    assert on_disk(folder) == before


def test_generating_twice_writes_the_same_bytes(folder, monkeypatch):
    """In two processes, whose hashes are seeded differently."""
    Path("params.yaml").write_text(PARAMS)
    generate.main(params_file.read(), "moons")
    first = on_disk(folder)
    Path("data/raw/moons.parquet").unlink()
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert run(folder, "generate", "moons").returncode == 0
    assert on_disk(folder) == first
    table, made = tables.read(Path("data/raw/moons.parquet")), load().source("moons").table(KEY)
    assert np.array_equal(table.features, made.features)
    assert np.array_equal(table.targets, made.targets)
    assert (table.feature_names, table.classes) == (made.feature_names, made.classes)
