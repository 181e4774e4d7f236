"""`bancada search VARIANT`: the trials that are here, best first."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bancada.base import files, tables
from bancada.cli import app
from bancada.evaluation.trials import read

EXPECTED = """\
trial    lr  batch_size  R²  seed 1  seed 2
    2  0.95        full  0.85     0.8     0.9
    1   0.5           4  0.25     0.1     0.4
    3   0.1           4  diverged     0.9       -
chosen at the edge of what was searched: lr = 0.95
"""


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    Path("params.yaml").write_text("variants: {tuned: {study: houses}, plain: {study: houses}}\n")
    folder = files.model("houses", "tuned")
    folder.mkdir(parents=True)
    space = {"lr": {"low": 0.0, "high": 1.0, "log": False}, "batch_size": {"choices": [4, "full"]}}
    asked = {"seeds": 2, "metric": "r2", "space": space, "chosen": {"lr": 0.95, "batch_size": "full"}, "edges": ["lr"]}
    (folder / files.RUN).write_text(json.dumps({"search": asked}))
    trials: dict[str, Any] = {"trial": np.repeat([1, 2, 3], 2), "seed": np.tile([7, 8], 3)}
    trials |= {"lr": np.repeat([0.5, 0.95, 0.1], 2), "batch_size": ["4", "4", '"full"', '"full"', "4", "4"]}
    tables.write_columns(trials | {"score": np.array([0.1, 0.4, 0.8, 0.9, 0.9, np.nan])}, folder / files.SEARCH)
    return folder


def test_the_trials_are_printed_best_first_and_diverged_ones_last(variant: Path) -> None:
    done = CliRunner().invoke(app, ["search", "tuned"])
    assert done.exit_code == 0
    assert [line.split() for line in done.output.splitlines()] == [line.split() for line in EXPECTED.splitlines()]
    found = read("tuned", variant)
    assert found
    assert found.values == {"lr": [0.5, 0.95, 0.1], "batch_size": [4, "full", 4]}


def test_without_a_search_there_is_one_line_and_status_2(variant: Path) -> None:
    for name, line in {
        "plain": "data/models/houses/plain/search.parquet: missing: plain is not trained, or it has no train.search",
        "planned": "params.yaml: variants.planned: missing; did you mean 'plain'?",
    }.items():
        done = CliRunner().invoke(app, ["search", name])
        assert done.exit_code == 2
        assert done.stderr == f"{line}\n"
