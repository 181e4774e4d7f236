"""The folder that a training leaves, read back; saving.py writes it. Nothing here needs torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64, Shaped
from safetensors.numpy import load_file

from bancada import inference
from bancada.encoding import SCALING, Encoding, encoding, scaled
from bancada.files import HISTORY, RUN, WEIGHTS
from bancada.schema import Recipe
from bancada.tables import numbers


@dataclass(frozen=True)
class Trained:
    """A variant's networks, one per seed, and what is needed to use them on raw, unscaled features."""

    recipe: Recipe
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]
    diverged: dict[int, int]  # seed -> epoch
    weights: dict[str, np.ndarray]  # by nn.Sequential's names, [seed, ...]
    scaling: dict[str, np.ndarray]  # SCALING's, [feature]; empty where inputs are taken as they are

    @property
    def seeds(self) -> list[int]:
        return self.recipe.seeds

    @cached_property
    def encoding(self) -> Encoding:
        return encoding(self.recipe.layers, self.recipe.train.loss, len(self.classes))

    def outputs(self, features: Float64[np.ndarray, "row feature"]) -> Float64[np.ndarray, "seed row output"]:
        """What the networks put out in evaluation mode; NaN for a diverged seed."""
        return inference.outputs(self.recipe.layers, self.weights, scaled(features, self.scaling))

    def decide(
        self, outputs: Float64[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row target"] | Float64[np.ndarray, "seed row target"]:
        """Class indices (of no meaning for a diverged seed), or the numbers predicted."""
        return self.encoding.decide(outputs)

    def loss(
        self, outputs: Float64[np.ndarray, "seed row output"], targets: Shaped[np.ndarray, "row target"]
    ) -> Float64[np.ndarray, " seed"]:
        """The training loss over these rows."""
        return inference.loss(self.recipe.train.loss, outputs, self.encoding.encode(targets))


def load(folder: Path) -> Trained:
    run = json.loads((folder / RUN).read_text())
    stored: Mapping[str, np.ndarray] = load_file(folder / WEIGHTS)
    return Trained(
        recipe=Recipe.model_validate(run["recipe"]),
        feature_names=run["feature_names"],
        target_names=run["target_names"],
        classes=run["classes"],
        diverged={int(seed): epoch for seed, epoch in run["diverged"].items()},
        weights={name: value for name, value in stored.items() if name not in SCALING},
        scaling={name: value for name, value in stored.items() if name in SCALING},
    )


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """The columns that saving.py writes: seed, epoch, losses and rate."""
    with pq.ParquetFile(folder / HISTORY) as file:
        stored = file.read()
    return {name: numbers(stored[name]) for name in stored.column_names}
