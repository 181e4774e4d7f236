"""The folder that a training leaves: weights.safetensors, history.parquet and run.json, written once, all or none."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save as safetensors_bytes

from bancada.engine import COLUMNS, Training
from bancada.files import HISTORY, RUN, WEIGHTS, whole
from bancada.schema import Recipe
from bancada.tables import Table, write_columns


def save(
    folder: Path, recipe: Recipe, training: Training, rows: Table, scaling: dict[str, np.ndarray], fingerprint: str
) -> None:
    """The weights are kept with `scaling` beside them; run.json says what was asked and what came of it."""
    weights = {name: value.numpy() for name, value in training.weights.items()} | scaling
    run = {
        "study": recipe.study,
        "variant": recipe.variant,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "feature_names": rows.feature_names,
        "target_names": rows.target_names,
        "classes": rows.classes,
        "train_rows": len(rows),
        "diverged": {str(recipe.seeds[place]): epoch for place, epoch in training.diverged.items()},
        "fingerprint": fingerprint,
        "versions": versions(),
    }
    with whole(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / WEIGHTS).write_bytes(safetensors_bytes(weights))
        _write_history(unfinished / HISTORY, recipe.seeds, training)
        (unfinished / RUN).write_text(json.dumps(run, indent=1) + "\n")


def versions() -> dict[str, str]:
    """What beside code and data can change the bits; the build (+cpu) is no part of torch's version here."""
    return {"numpy": np.__version__, "torch": torch.__version__.split("+")[0]}


def _write_history(path: Path, seeds: list[int], training: Training) -> None:
    """Long form, by seed and epoch, with engine.COLUMNS; a seed that diverged has no rows after that epoch."""
    epochs = training.history["lr"].shape[1]
    last = [training.diverged.get(place, epochs - 1) for place in range(len(seeds))]
    columns = {
        "seed": np.concatenate([np.full(n + 1, seed) for seed, n in zip(seeds, last, strict=True)]),
        "epoch": np.concatenate([np.arange(n + 1) for n in last]),
    }
    for name in COLUMNS:
        columns[name] = np.concatenate([training.history[name][place, : n + 1] for place, n in enumerate(last)])
    write_columns(columns, path)
