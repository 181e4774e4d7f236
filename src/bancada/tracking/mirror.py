"""What a run says of a training: its fingerprint, its parameters and its curves, from the pipeline's files alone.

No mlflow here: this is what MLflow is to hold, and record.py writes it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from bancada.base import files, lockfile, params_file
from bancada.networks.metrics import HIGHER_IS_BETTER
from bancada.networks.saved import carried, read_history, read_search
from bancada.training import asked
from bancada.training.live import kept_epochs

NAME_WIDTH = 60  # letters of what was asked, in the name of a run


class Inputs(NamedTuple):
    """DVC's hashes of the split and of the file in data/code from which a training was made."""

    split: str
    code: str


def inputs_here(study: str, variant: str) -> Inputs:
    """Return the hashes of the files in the current folder."""
    return Inputs(lockfile.dvc_md5(files.split(study)), lockfile.dvc_md5(files.code("train", variant)))


@dataclass(frozen=True)
class Description:
    """What is known of a training before it begins."""

    study: str
    variant: str
    recipe: dict[str, Any]
    train_rows: int
    split: str  # DVC's hash
    versions: dict[str, str]  # of the packages that training depends on; empty where they are not known
    search: dict[str, Any]  # what was asked of a search, and what it chose; empty where there was none
    fingerprint: str

    @property
    def name(self) -> str:
        """Return STUDY/VARIANT."""
        return f"{self.study}/{self.variant}"


@dataclass(frozen=True)
class Result(Description):
    """A variant's model folder, as its run.json describes it."""

    diverged: dict[str, int]  # seed -> epoch
    kept: dict[str, int]  # the same, with early stopping: the epoch that the weights are of
    count: int | None  # of the parameters of one network
    folder: Path
    weights_md5: str

    def has_its_split(self) -> bool:
        """Return whether the split files that are here are those that it was trained on."""
        return lockfile.dvc_md5(files.split(self.study)) == self.split


def results() -> list[Path]:
    """Return every model folder that exists, whatever params.yaml says."""
    return sorted((files.DATA / "models").glob("[!.]*/[!.]*/"))


def result(folder: Path, inputs: Inputs | None = None) -> Result:
    """Read a model folder; without `inputs`, the training's inputs are the files beside it.

    Raise OSError, ValueError or KeyError where the folder is not complete.
    """
    run = json.loads((folder / files.RUN).read_text())
    pq.read_metadata(folder / files.HISTORY)
    return Result(
        **vars(description(run, inputs or inputs_here(run["study"], run["variant"]))),
        diverged=run["diverged"],
        kept=run["kept"],
        count=run.get("parameters"),
        folder=folder,
        weights_md5=lockfile.md5(folder / files.WEIGHTS),
    )


def description(run: Mapping[str, Any], inputs: Inputs) -> Description:
    """Describe a training by its inputs and by run.json, which need not have yet what the training shows."""
    return Description(
        **{key: run[key] for key in ("study", "variant", "recipe", "train_rows")},
        split=inputs.split,
        versions=_versions(run["variant"], inputs),
        search=run.get("search", {}),
        fingerprint=fingerprint(run, inputs),
    )


NOT_ASKED = ("diverged", "kept", "parameters", "outputs", "overruled")  # keys of run.json that the training adds


def fingerprint(run: Mapping[str, Any], inputs: Inputs) -> str:
    """Return a hash of all that a training's result follows from: the recipe, the split, the code and the versions."""
    described = {key: value for key, value in run.items() if key not in NOT_ASKED}
    return hashlib.sha256(json.dumps([described, *inputs], sort_keys=True).encode()).hexdigest()


def _versions(variant: str, inputs: Inputs) -> dict[str, str]:
    path = files.code("train", variant)
    known = path.exists() and lockfile.dvc_md5(path) == inputs.code
    packages: dict[str, str] = json.loads(path.read_text("utf-8"))["packages"] if known else {}
    return packages


def parameters(training: Description) -> dict[str, str]:
    """Return all settings of the training, by their names in params.yaml: `lr`, `batch_size`, `optimizer.name`."""
    described = {"study": training.study, "variant": training.variant, "train_rows": str(training.train_rows)}
    return described | asked.settings(training.recipe)


def run_name(training: Description, params: params_file.ParamsFile) -> str:
    """Return the variant's name with the settings that differ from `params`, such as `moons_adam lr=0.01`."""
    if not (before := asked.of_variant(params, training.variant)):
        return training.variant
    search = training.search
    now = asked.settings(training.recipe) | (asked.of_search(search) if search else {})
    chosen = search.get("chosen", ())
    changed = {
        key: value
        for key, value in asked.changes(now, before).items()
        if not any(one == key or one.startswith(f"{key}.") for one in chosen)
    }
    return f"{training.variant} {asked.in_words(changed, NAME_WIDTH)}".rstrip()


# --- curves ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A value of a metric, at a step of MLflow: of a curve, at an epoch; of what each seed has, at the seed."""

    name: str
    epoch: int
    value: float


def curves(result: Result) -> list[Point]:
    """Return the points of a finished training: curves, of at most live.MOST_POINTS epochs, and how each seed ended.

    A seed that early stopping ended has the values of the epoch that it keeps in the epochs that followed.
    """
    history, kept = read_history(result.folder), {int(seed): epoch for seed, epoch in result.kept.items()}
    columns = carried(history, kept)
    chosen = kept_epochs(result.recipe["train"]["epochs"], int(columns["epoch"].max()))
    wanted = np.isin(columns["epoch"], chosen)
    last = {seed: int(history["epoch"][history["seed"] == seed].max()) for seed in kept}
    return [
        *points({name: values[wanted] for name, values in columns.items()}),
        *(Point("kept_epoch", seed, epoch) for seed, epoch in kept.items()),
        *(Point("last_epoch", seed, epoch) for seed, epoch in last.items()),
        *(ended(n + 1) for n in range(len(result.recipe["seeds"])) if result.recipe.get("engine") in ONE_BY_ONE),
        *([Point("parameters", 0, result.count)] if result.count else []),
        Point("log10_lr", 0, round(math.log10(result.recipe["train"]["lr"]), 4)),  # for a logarithmic axis
        *of_search(result.folder),
    ]


def of_search(folder: Path) -> list[Point]:
    """Return the score of each trial of a search, if there was one, and the best so far; the step is the trial."""
    if not (search := read_search(folder)):
        return []
    asked, columns = search
    scores = np.reshape(columns["score"], (-1, asked["seeds"])).mean(axis=1)
    best = (np.fmax if asked["metric"] in HIGHER_IS_BETTER else np.fmin).accumulate(scores)
    curves = {"search/score": scores, "search/best": best}
    return [
        Point(name, int(i) + 1, float(of[i])) for name, of in curves.items() for i in np.flatnonzero(np.isfinite(of))
    ]


ONE_BY_ONE = ("torch",)  # engines whose seeds do not all end at the same time


def ended(count: int) -> Point:
    """Return the point that says that so many seeds have ended."""
    return Point("finished_seeds", count, count)


def points(columns: Mapping[str, np.ndarray]) -> list[Point]:
    """Return train_loss, validation_loss and lr by epoch: their means over seeds, and the losses' standard deviations.

    `columns` are those of a history, with an entry for each seed and epoch. The statistics are over the seeds that
    have not diverged by that epoch: the last loss of a seed that diverged is not finite, and is left out.
    """
    names = ["train_loss", "validation_loss", "lr"]
    table = pd.DataFrame({name: columns[name] for name in names})
    finite = table.where(np.isfinite(table) & np.isfinite(columns["train_loss"])[:, None])
    by_epoch = finite.groupby(columns["epoch"])
    means, stds = by_epoch.mean(), by_epoch.std()[names[:2]].add_suffix("_std")
    return [
        Point(str(name), int(epoch), float(value))
        for name, curve in means.join(stds).items()
        for epoch, value in zip(curve.index, curve, strict=True)
        if np.isfinite(value)  # a loss that is about to diverge may overflow
    ]
