"""Model folders of the toy study whose networks are known, and what an evaluation chooses them by, for the tests of
tracking."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from torch import nn
from toy import NOBODY, fingerprint, train_variant, write_leaderboard

from bancada.base import files, tables
from bancada.evaluation.chosen import choose
from bancada.evaluation.entry import Entry, Terms
from bancada.tracking import mirror
from bancada.tracking.experiments import find_run
from bancada.tracking.mirror import Result
from bancada.tracking.record import Recorder
from bancada.tracking.store import Store, open_store

SEEDS, ROWS = [111, 112, 113], 1000
FEATURES = ["acidity", "sugar", "pH"]
KINDS: dict[str, dict[str, Any]] = {  # the last layers, the loss, targets and classes
    "numbers": {"layers": [4, "tanh", 2], "loss": "mse", "targets": ["price", "rent"], "classes": []},
    "signs": {"layers": [4, "relu", 1, "tanh"], "loss": "mse", "targets": ["moon"], "classes": [-1, 1]},
    "bits": {"layers": [4, "batch_norm", "relu", 1, "sigmoid"], "loss": "bce", "targets": ["sold"], "classes": [0, 1]},
    "names": {
        "layers": [{"linear": 4, "bias": False}, {"dropout": 0.5}, "sigmoid", 3],
        "loss": "cross_entropy",
        "targets": ["species"],
        "classes": ["azul", "branco", "verde"],
    },
    "shares": {"layers": [3, "softmax"], "loss": "cross_entropy", "targets": ["grade"], "classes": [3, 5, 8]},
}
DRAWS = {"numbers": 1, "signs": 1, "bits": 4, "names": 7, "shares": 4}  # networks that decide for more than one class
MODULES = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}


def network(layers: Sequence[Any], draw: torch.Generator) -> nn.Sequential:
    """One seed's, as anyone would write it, with random weights and statistics."""
    modules: list[nn.Module] = []
    width = len(FEATURES)
    for layer in layers:
        if layer == "batch_norm":
            modules.append(nn.BatchNorm1d(width))
        elif isinstance(layer, str):
            modules.append(MODULES[layer])
        elif isinstance(layer, dict) and "dropout" in layer:
            modules.append(nn.Dropout(layer["dropout"]))
        else:
            units = layer["linear"] if isinstance(layer, dict) else layer
            modules.append(nn.Linear(width, units, bias=not isinstance(layer, dict)))
            width = units
    made = nn.Sequential(*modules).eval()
    for name, value in made.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=draw))
            if "running_var" in name:
                value.abs_()
    return made


def raw_rows() -> pd.DataFrame:
    draw = np.random.default_rng(3)
    return pd.DataFrame(draw.normal([7, 150, 3], [2, 40, 0.5], (ROWS, 3)), columns=FEATURES)


MEAN, STD = np.array([7.0, 150.0, 3.0]), np.array([2.0, 40.0, 0.5])


def trained(kind: str, variant: str = "toy_tanh", draw: int = 0) -> tuple[Result, list[nn.Sequential]]:
    """A model folder of three seeds, and the same three networks."""
    settings, draw = KINDS[kind], draw or DRAWS[kind]
    made = [network(settings["layers"], torch.Generator().manual_seed(draw + seed)) for seed in SEEDS]
    train_variant(variant, loss=settings["loss"])
    folder = files.model("toy", variant)
    run = json.loads((folder / "run.json").read_text())
    run["recipe"]["layers"] = [
        {"kind": "linear", "width": layer}
        if isinstance(layer, int)
        else {"kind": "dropout", "rate": 0.5}
        if layer == {"dropout": 0.5}
        else {"kind": "linear", "width": 4, "bias": False}
        if isinstance(layer, dict)
        else {"kind": layer}
        for layer in settings["layers"]
    ]
    run |= {"feature_names": FEATURES, "target_names": settings["targets"], "classes": settings["classes"]}
    run |= {"shape": [3], "parameters": 1, "outputs": made[0](torch.zeros(1, 3)).shape[1]}
    (folder / "run.json").write_text(json.dumps(run))
    states = [{name: value for name, value in one.state_dict().items() if "num_batches" not in name} for one in made]
    weights = {name: np.stack([state[name].numpy() for state in states]) for name in states[0]}
    save_file(weights | {"input_mean": MEAN, "input_std": STD}, folder / "weights.safetensors")
    table = tables.Table(
        raw_rows().to_numpy(), np.zeros((ROWS, len(settings["targets"]))), FEATURES, settings["targets"], []
    )
    tables.write(table, files.split("toy") / "train.parquet")
    return mirror.result(folder), made


def expected(kind: str, one: nn.Sequential) -> pd.DataFrame:
    settings = KINDS[kind]
    x = torch.from_numpy(((raw_rows().to_numpy() - MEAN) / STD).astype(np.float32))
    with torch.no_grad():
        out = one.double()(x.double()).numpy()
    if kind == "numbers":
        return pd.DataFrame(out, columns=settings["targets"])
    chosen = out.argmax(1) if out.shape[1] > 1 else (out[:, 0] > {"signs": 0, "bits": 0.5}[kind]).astype(int)
    assert len(set(chosen)) > 1  # else it would show nothing
    return pd.DataFrame({settings["targets"][0]: np.array(settings["classes"])[chosen]})


Values = list[float | None]


def scored(values: dict[str, Values], metric: str = "error_rate_percent", split: str = "validation") -> None:
    """The evaluation's tables: of each variant a value for each seed, None where it diverged."""
    folder = files.evaluation("toy")
    numbers = {variant: np.array(of_seeds, float) for variant, of_seeds in values.items()}
    entries = [
        Entry(variant, "compiled", 64, of_seeds, of_seeds, np.flatnonzero(np.isfinite(of_seeds)).tolist(), 4.0)
        for variant, of_seeds in numbers.items()
    ]
    why_not = "" if split else "the study has no validation rows"
    choice = choose(entries, Terms(metric, "test", SEEDS, "toy_tanh", no_validation=why_not))
    write_leaderboard(dict.fromkeys(values, "1"), metric, choice.seeds, choice.champion)
    lines = [
        f"{variant},{part},{metric},{seed},{'' if value is None else value}"
        for variant, of_seeds in values.items()
        for part in ("test", *([split] if split else []))
        for seed, value in zip(SEEDS, of_seeds if part == split or not split else reversed(of_seeds), strict=True)
    ]
    (folder / "per_seed.csv").write_text("variant,split,metric,seed,value\n" + "\n".join(lines) + "\n")


def recorded(bench: Path) -> Store:
    recorder = Recorder(open_store(bench), NOBODY)
    recorder.write_study("toy")
    assert recorder.failed == {}
    return recorder.store


def model_of(opened: Store, variant: str = "toy_tanh") -> str:
    run = find_run(opened, "toy", fingerprint(variant))
    assert run is not None
    assert run.outputs is not None
    assert run.data.tags["bancada.model"] in [output.model_id for output in run.outputs.model_outputs]
    return str(run.data.tags["bancada.model"])


def folder_of(bench: Path, model_id: str) -> Path:
    return bench / "mlartifacts/toy/models" / model_id / "artifacts"
