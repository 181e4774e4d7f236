"""A stage reads the keys of params.yaml that dvc.yaml names for it: all of them, or DVC reruns too much; no others, or
DVC reruns too little."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bancada.base.params_file import ParamsFile
from bancada.data import generate, split
from bancada.evaluation import evaluate, plots, report
from bancada.training import index, train

DVC_YAML = YAML(typ="safe").load((Path(__file__).parents[2] / "dvc.yaml").read_text())
PARAMS = YAML(typ="safe").load("""
seed: 1
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  line:
    source: {kind: linear, rows: 8, weights: [2], bias: 4.2, noise_std: 0.01, seed: 5}
    split: {train: 8}
    metric: weight_error_max
    predict: [{x1: 2}]
    train: {loss: mse, lr: 0.1, batch_size: full, epochs: 1}
  moons:
    source: {kind: half_moons, rows: 8, radius: 10, distance: -4, width: 6, seed: 1}
    split: {train: 1.0}
    metric: error_rate_percent
    baseline: moon
    decision_region: [[-15, 25], [-10, 15]]
    train: {loss: mse, lr: 0.5, batch_size: 4, epochs: 1}
  tuned:
    source: {kind: half_moons, rows: 24, radius: 10, distance: -4, width: 6, seed: 1}
    split: {train: 8, validation: 8, test: 8}
    metric: error_rate_percent
    train: {loss: mse, lr: 0.5, batch_size: 4, epochs: 1, search: {trials: 2, space: {lr: {low: 0.1, high: 1}}}}
variants:
  searching: {study: tuned, layers: [2, tanh, 1, tanh]}
  by_hand: {study: line, scratch: true, layers: [1]}
  moon: {study: moons, layers: [2, tanh, 1, tanh], train: {lr: 0.1}}
""")
STAGES: dict[str, Callable[[ParamsFile, str], None]] = {
    "generate": generate.main,
    "split": split.main,
    "train": train.main,
    "index": index.main,
    "evaluate": evaluate.main,
}


class Recording(ParamsFile):
    """Remembers which keys it was asked for; what does not ask for a key finds the file empty."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: set[str] = set()

    def value(self, key: str) -> Any:
        self.asked.add(key)
        return ParamsFile(PARAMS).value(key)


def named_in_dvc_yaml(stage: str, name: str) -> set[str]:
    """A search's metric makes its training stale by its file in data/code, which names it."""
    study = PARAMS["variants"][name]["study"] if stage == "train" else name
    names = DVC_YAML["stages"][stage]["do"]["params"]
    of_search = {f"studies.{study}.metric"} if (stage, name) == ("train", "searching") else set()
    return of_search | {key.replace("${key}", name).replace("${item.study}", study) for key in names}


def test_every_kind_of_stage_reads_the_keys_that_dvc_yaml_names_for_it_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setattr(plots, "PLOTS", {})  # plots take seconds and read no params
    for study, variant in (("line", "by_hand"), ("moons", "moon"), ("tuned", "searching")):
        for stage, main in STAGES.items():
            params, name = Recording(), variant if stage == "train" else study
            main(params, name)
            named = named_in_dvc_yaml(stage, name)
            asked = {next((one for one in named if key.startswith(f"{one}.")), key) for key in params.asked}
            assert asked == named, f"{stage}@{name}"
    params = Recording()
    report.main(params, "")
    assert {key.partition(".")[0] for key in params.asked} == {*DVC_YAML["stages"]["report"]["params"]}


def test_these_are_all_the_stages_that_are_made_for_each_study_or_variant() -> None:
    assert {name for name, stage in DVC_YAML["stages"].items() if "foreach" in stage} == set(STAGES)
