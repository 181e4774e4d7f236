"""Tables as people bring them go through `bancada repro` to a leaderboard, or are refused with what to type."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from clones import clone_to, run, succeeds
from disguised import DISGUISED
from real_tables import TABLES

COMMON = {"seed": 111, "num_seeds": 2, "lr": None, "engine": None, "device": "cpu"}
QUICK = {"optimizer": "adam", "lr": 0.01, "batch_size": "full", "epochs": 20}
OFF = {"BANCADA_TRACKING": "off"}


def bench(folder: Path, studies: dict[str, Any], variants: dict[str, Any], tables: dict[str, str | bytes]) -> None:
    """Make a project with these studies and tables."""
    clone_to(folder)
    (folder / "params.yaml").write_text(json.dumps(COMMON | {"studies": studies, "variants": variants}))
    for name, text in tables.items():
        (folder / f"data/sources/{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    succeeds(folder, "git", "add", "-A")
    succeeds(folder, "git", "commit", "-q", "-m", "tables")


def study(source: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    classes = source["task"] == "classification"
    return {
        "source": source,
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 1},
        "metric": "error_rate_percent" if classes else "mae",
        "train": QUICK | {"loss": "cross_entropy" if classes else "mse"} | train,
    }


@pytest.mark.long
def test_each_table_that_people_bring_comes_to_a_leaderboard(tmp_path):
    studies, variants = dict[str, Any](), dict[str, Any]()
    for name, table in TABLES.items():
        studies[name] = study(table.whole_source(f"data/sources/{name}.csv"), table.train)
        variants[f"{name}_line"] = {"study": name, "layers": [table.outputs]}
        variants[f"{name}_mlp"] = {"study": name, "layers": [8, "relu", table.outputs], "train": {"engine": "torch"}}
    bench(tmp_path, studies, variants, {name: table.text for name, table in TABLES.items()})
    succeeds(tmp_path, "bancada", "repro", "-q", **OFF)
    for name in TABLES:
        with (tmp_path / f"data/evaluation/{name}/leaderboard.csv").open(newline="") as file:
            means = {row["variant"]: float(row["mean"]) for row in csv.DictReader(file)}
        assert means.keys() == {f"{name}_line", f"{name}_mlp"}


@pytest.mark.long
@pytest.mark.parametrize(("text", "said", "keys"), DISGUISED.values(), ids=DISGUISED)
def test_a_table_that_is_not_what_it_seems_is_refused_with_what_to_type_and_then_trained(tmp_path, text, said, keys):
    source = {"kind": "csv", "path": "data/sources/odd.csv", "task": "regression", "targets": ["c"]}
    one = {"split": {"train": 1.0}}
    bench(tmp_path, {"odd": study(source, {}) | one}, {"line": {"study": "odd", "layers": [1]}}, {"odd": text})
    refused = run(tmp_path, "bancada", "repro", **OFF)
    lines = [line for line in refused.stderr.splitlines() if "odd" in line]
    assert (refused.returncode, len(lines)) == (2, 1)
    assert lines[0].startswith("data/sources/odd.csv: ")
    assert said in lines[0]
    assert not (tmp_path / "data/raw").exists()
    if keys:
        bench_params = COMMON | {
            "studies": {"odd": study(source | keys, {}) | one},
            "variants": {"line": {"study": "odd", "layers": [1]}},
        }
        (tmp_path / "params.yaml").write_text(json.dumps(bench_params))
        succeeds(tmp_path, "bancada", "repro", "-q", **OFF)
        assert (tmp_path / "data/evaluation/odd/leaderboard.csv").exists()
