"""What a tracked run says of a result, read from the pipeline's files alone. No mlflow here."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from bancada.base import files
from bancada.base.lockfile import dvc_md5, md5
from bancada.networks.saved import read_history
from bancada.tracking import champions
from bancada.training.live import kept_epochs

STATISTICS = {"mean": "", "std": "_std", "median": "_median", "ci95_low": "_ci95_low", "ci95_high": "_ci95_high"}


# --- a training -----------------------------------------------------------------------------------------------------


class Inputs(NamedTuple):
    """DVC's hashes of the split and of the file in data/code that a training was made from."""

    split: str
    code: str


def inputs_here(study: str, variant: str) -> Inputs:
    """Return the hashes of the files in the current folder."""
    return Inputs(dvc_md5(files.split(study)), dvc_md5(files.code("train", variant)))


@dataclass(frozen=True)
class Description:
    """What is known of a training before it begins."""

    study: str
    variant: str
    recipe: dict[str, Any]
    train_rows: int
    versions: dict[str, str]  # of the packages that training depends on; empty where they are not known
    fingerprint: str


@dataclass(frozen=True)
class Result(Description):
    """A variant's model folder, as its run.json describes it."""

    diverged: dict[str, int]  # seed -> epoch
    folder: Path
    weights_md5: str


def description(run: Mapping[str, Any], inputs: Inputs) -> Description:
    """Return what run.json, as it is before the training begins, and the inputs say."""
    return Description(
        **{key: run[key] for key in ("study", "variant", "recipe", "train_rows")},
        versions=_versions(run["variant"], inputs),
        fingerprint=fingerprint(run, inputs),
    )


def fingerprint(run: Mapping[str, Any], inputs: Inputs) -> str:
    """Return a hash of all that a training's result follows from: what was asked, the split, the code and versions."""
    if "fingerprint" in run:  # at an older commit, training wrote it
        return str(run["fingerprint"])
    asked = {key: value for key, value in run.items() if key != "diverged"}
    return hashlib.sha256(json.dumps([asked, *inputs], sort_keys=True).encode()).hexdigest()


def _versions(variant: str, inputs: Inputs) -> dict[str, str]:
    path = files.code("train", variant)
    known = path.exists() and dvc_md5(path) == inputs.code
    packages: dict[str, str] = json.loads(path.read_text("utf-8"))["packages"] if known else {}
    return packages


def result(folder: Path, inputs: Inputs | None = None) -> Result:
    """Read a model folder; `inputs` are those of the files beside it where none are given.

    Raise OSError, ValueError or KeyError where a training did not leave the folder whole.
    """
    run = json.loads((folder / files.RUN).read_text())
    pq.read_metadata(folder / files.HISTORY)
    described = description(run, inputs or inputs_here(run["study"], run["variant"]))
    weights_md5 = md5(folder / files.WEIGHTS)
    return Result(**vars(described), diverged=run["diverged"], folder=folder, weights_md5=weights_md5)


def results() -> list[Path]:
    """Every model folder that is here, whatever params.yaml says."""
    return sorted(path for path in (files.DATA / "models").glob("*/*") if path.is_dir() and not files.is_hidden(path))


def parameters(training: Description) -> dict[str, str]:
    """All that the training obeyed, by the names of params.yaml: `lr`, `batch_size`, `optimizer.name`."""
    recipe = training.recipe
    said = {
        "study": training.study,
        "variant": training.variant,
        "layers": ", ".join(layer_text(layer) for layer in recipe["layers"]),
        "scratch": recipe["scratch"],
        "seed": recipe["seeds"][0],
        "num_seeds": len(recipe["seeds"]),
        "device": recipe["device"],
        "train_rows": training.train_rows,
        **dict(_flat(recipe["train"])),
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


def layer_text(layer: Mapping[str, Any]) -> str:
    """A layer as one writes it in params.yaml: `5`, `tanh`, `{linear: 5, bias: false}`, `{dropout: 0.1}`."""
    if layer["kind"] == "dropout":
        return f"{{dropout: {layer['rate']}}}"
    if layer["kind"] != "linear":
        return str(layer["kind"])
    return f"{{linear: {layer['width']}, bias: false}}" if layer.get("bias") is False else str(layer["width"])


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class Point:
    name: str
    epoch: int
    value: float


def curves(result: Result) -> list[Point]:
    """As `points` says them, of at most live.MOST_POINTS epochs."""
    columns = read_history(result.folder)
    chosen = kept_epochs(result.recipe["train"]["epochs"], int(columns["epoch"].max()))
    wanted = np.isin(columns["epoch"], chosen)
    return points({name: values[wanted] for name, values in columns.items()})


def points(columns: Mapping[str, np.ndarray]) -> list[Point]:
    """train_loss, validation_loss and lr by epoch, their means over seeds, and the losses' standard deviations.

    `columns`: those of a history, an entry for each seed and epoch. A mean is over the seeds that have not diverged by
    that epoch; a seed's last row, if not finite, is left out.
    """
    epochs, at = np.unique(columns["epoch"], return_inverse=True)
    alive = np.isfinite(columns["train_loss"])
    said = []
    for name, spread in (("train_loss", True), ("validation_loss", True), ("lr", False)):
        mean, std = mean_and_std(np.where(alive, columns[name], np.nan), at, len(epochs))
        curves = {name: mean, f"{name}_std": std} if spread else {name: mean}
        said += [
            Point(key, int(epochs[i]), float(curve[i]))
            for key, curve in curves.items()
            for i in np.flatnonzero(np.isfinite(curve))
        ]
    return said


def mean_and_std(
    values: Float64[np.ndarray, " entry"], at: Int64[np.ndarray, " entry"], places: int
) -> tuple[Float64[np.ndarray, " place"], Float64[np.ndarray, " place"]]:
    """Over the finite values of each place `at`, with n - 1; NaN where there are none, or only one for the std."""
    finite = np.isfinite(values)
    values, at = values[finite], at[finite]
    with np.errstate(all="ignore"):  # a loss about to diverge may overflow: its point is then left out
        count = np.bincount(at, minlength=places)
        mean = np.bincount(at, values, places) / count
        squares = np.bincount(at, np.square(values - mean[at]), places)
        return mean, np.sqrt(squares / np.where(count > 1, count - 1, np.nan))


def split_parts(study: str) -> dict[str, Path]:
    """The split files that hold rows: an empty part was not used."""
    paths = {part: files.split(study) / f"{part}.parquet" for part in files.PARTS}
    return {part: path for part, path in paths.items() if path.exists() and pq.read_metadata(path).num_rows}


# --- an evaluation --------------------------------------------------------------------------------------------------


def scores(study: str) -> dict[str, dict[str, float]]:
    """variant -> metric's name -> value, NaN where the cell of scores.csv is empty.

    `test_error_rate_percent` is the mean, `test_error_rate_percent_std` and so on the rest. Losses are called
    `final_test_loss`, of the finished networks: `train_loss` and `validation_loss` are the curves of the training.
    """
    said: dict[str, dict[str, float]] = {}
    for row in champions.read_rows(files.evaluation(study) / "scores.csv"):
        figures = said.setdefault(row["variant"], {})
        for column, suffix in STATISTICS.items():
            value = float(row[column] or "nan")
            figures[score_name(row["split"], row["metric"]) + suffix] = value if math.isfinite(value) else math.nan
    return said


def score_name(split: str, metric: str) -> str:
    """What MLflow calls a score; one that is not of rows (an error of weights) has no split."""
    return f"final_{split}_loss" if metric == "loss" else f"{split}_{metric}".lstrip("_")


@dataclass(frozen=True)
class Evaluation:
    """A study's evaluation folder: its tables but for the curves, which the runs have, and its plots."""

    figures: dict[str, dict[str, float]]  # scores(study)
    leaderboard: list[dict[str, str]]
    tables: list[Path]
    folder: Path  # of the plots
    plots: list[Path]
    md5: str  # of tables and plots
    best_seeds: dict[str, int]  # by variant
    champion: str | None  # a variant

    def artifacts(self) -> dict[str, Path]:
        """What a run holds of it, by the names that the files have there."""
        plots = {f"plots/{path.relative_to(self.folder).as_posix()}": path for path in self.plots}
        return {f"evaluation/{path.name}": path for path in self.tables} | plots


def evaluation(study: str) -> Evaluation:
    """OSError where there is none."""
    folder = files.evaluation(study)
    tables = sorted(path for path in folder.glob("*.csv") if path.name != "loss.csv")
    plots = sorted((folder / "plots").rglob("*.png"))
    hashes = "".join(f"{path.relative_to(folder)} {md5(path)}\n" for path in [*tables, *plots])
    return Evaluation(
        figures=scores(study),
        leaderboard=list(champions.read_rows(folder / "leaderboard.csv")),
        tables=tables,
        folder=folder / "plots",
        plots=plots,
        md5=hashlib.md5(hashes.encode(), usedforsecurity=False).hexdigest(),
        best_seeds=champions.best_seeds(study),
        champion=champions.champion(study),
    )
