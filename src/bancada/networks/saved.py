"""The folder of a trained variant: weights.safetensors, history.parquet and run.json, written together or not at all.

run.json says what was asked, in the words of params.yaml, and what a reader needs to use the weights. Nothing here
needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from pydantic import TypeAdapter
from safetensors.numpy import load_file
from safetensors.numpy import save as safetensors_bytes

from bancada.base.files import HISTORY, RUN, WEIGHTS, whole
from bancada.base.tables import Table, read_columns, write_columns
from bancada.networks import inference
from bancada.networks.encoding import SCALING, Encoding, encoding, scaled
from bancada.networks.settings import Layers, LayerSpec, Loss

HISTORY_COLUMNS = ("train_loss", "last_batch_loss", "validation_loss", "lr")


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves. Every seed in it has the bits that it would have alone."""

    weights: dict[str, np.ndarray]  # by nn.Sequential's names, [seed, ...]; NaN for a diverged seed
    history: dict[str, Float64[np.ndarray, "seed epoch"]]  # HISTORY_COLUMNS; NaN after a seed's divergence
    diverged: dict[int, int]  # place of the seed -> epoch


def description(recipe: Mapping[str, Any], rows: Table) -> dict[str, Any]:
    """Return what run.json says of a training before it has begun. `recipe` holds its study, variant and all keys."""
    return {
        "study": recipe["study"],
        "variant": recipe["variant"],
        "recipe": dict(recipe),
        "feature_names": rows.feature_names,
        "target_names": rows.target_names,
        "classes": rows.classes,
        "train_rows": len(rows),
    }


def save(folder: Path, described: dict[str, Any], result: TrainingResult, scaling: dict[str, np.ndarray]) -> None:
    """Write the folder: the weights with `scaling` beside them, and run.json with the seeds that diverged, and when."""
    seeds = described["recipe"]["seeds"]
    run = described | {"diverged": {str(seeds[place]): epoch for place, epoch in result.diverged.items()}}
    with whole(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / WEIGHTS).write_bytes(safetensors_bytes(result.weights | scaling))
        _write_history(unfinished / HISTORY, seeds, result)
        (unfinished / RUN).write_text(json.dumps(run, indent=1) + "\n")


def _write_history(path: Path, seeds: list[int], result: TrainingResult) -> None:
    """Write a row for each seed and epoch; a seed that diverged has no rows after that epoch."""
    epochs = result.history["lr"].shape[1]
    last = [result.diverged.get(place, epochs - 1) for place in range(len(seeds))]
    columns = {
        "seed": np.concatenate([np.full(n + 1, seed) for seed, n in zip(seeds, last, strict=True)]),
        "epoch": np.concatenate([np.arange(n + 1) for n in last]),
    }
    for name in HISTORY_COLUMNS:
        columns[name] = np.concatenate([result.history[name][place, : n + 1] for place, n in enumerate(last)])
    write_columns(columns, path)


@dataclass(frozen=True)
class SavedVariant:
    """A variant's networks, one per seed, and what is needed to use them on raw, unscaled features."""

    study: str
    layers: list[LayerSpec]
    loss_name: Loss
    seeds: list[int]
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]
    diverged: dict[int, int]  # seed -> epoch
    weights: dict[str, np.ndarray]  # by nn.Sequential's names, [seed, ...]
    scaling: dict[str, np.ndarray]  # SCALING's, [feature]; empty where inputs are used as they are

    @cached_property
    def encoding(self) -> Encoding:
        """How labels and outputs correspond."""
        return encoding(self.layers, self.loss_name, len(self.classes))

    def outputs(self, features: Float64[np.ndarray, "row feature"]) -> Float64[np.ndarray, "seed row output"]:
        """Return the networks' outputs in evaluation mode; NaN for a diverged seed."""
        return inference.outputs(self.layers, self.weights, scaled(features, self.scaling))

    def decide(
        self, outputs: Float64[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row target"] | Float64[np.ndarray, "seed row target"]:
        """Return class indices (without meaning for a diverged seed), or the predicted numbers."""
        return self.encoding.decide(outputs)

    def loss(
        self, outputs: Float64[np.ndarray, "seed row output"], targets: Shaped[np.ndarray, "row target"]
    ) -> Float64[np.ndarray, " seed"]:
        """Return the training loss over these rows."""
        return inference.loss(self.loss_name, outputs, self.encoding.encode(targets))


def load(folder: Path) -> SavedVariant:
    """Read what `save` wrote."""
    run = json.loads((folder / RUN).read_text())
    stored: Mapping[str, np.ndarray] = load_file(folder / WEIGHTS)
    layers: list[LayerSpec] = TypeAdapter(Layers).validate_python(run["recipe"]["layers"])
    return SavedVariant(
        study=run["study"],
        layers=layers,
        loss_name=run["recipe"]["train"]["loss"],
        seeds=run["recipe"]["seeds"],
        feature_names=run["feature_names"],
        target_names=run["target_names"],
        classes=run["classes"],
        diverged={int(seed): epoch for seed, epoch in run["diverged"].items()},
        weights={name: value for name, value in stored.items() if name not in SCALING},
        scaling={name: value for name, value in stored.items() if name in SCALING},
    )


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of history.parquet: seed, epoch, losses and learning rate."""
    return read_columns(folder / HISTORY)[0]
