"""The folder that a training leaves: weights.safetensors, history.parquet and run.json, written once and read back."""

import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from bancada.engine import COLUMNS, Evaluation, Rows, Training
from bancada.files import whole
from bancada.losses import LOSSES, Encoding, encoding
from bancada.network import Parameters, State, sequential
from bancada.schema import Recipe
from bancada.tables import Table

WEIGHTS, HISTORY, RUN = "weights.safetensors", "history.parquet", "run.json"
SCALING = ("input_mean", "input_std")  # [feature], beside the weights where inputs are standardised


@dataclass(frozen=True)
class Trained:
    """A variant's networks, one per seed, and what is needed to use them on raw, unscaled features."""

    recipe: Recipe
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]
    diverged: dict[int, int]  # seed -> epoch
    fingerprint: str
    weights: dict[str, Tensor]

    @property
    def seeds(self) -> list[int]:
        return self.recipe.seeds

    @cached_property
    def encoding(self) -> Encoding:
        return encoding(self.recipe.layers, self.recipe.train.loss, len(self.classes))

    def states(self) -> list[State]:
        stacked = {name: value for name, value in self.weights.items() if name not in SCALING}
        return [{name: value[i] for name, value in stacked.items()} for i in range(len(self.seeds))]

    def outputs(self, features: Float64[np.ndarray, "row feature"]) -> Float32[np.ndarray, "seed row output"]:
        """What the networks put out in evaluation mode; NaN for a diverged seed."""
        states = self.states()
        states = states * 2 if len(states) == 1 else states  # as in training: a lone seed has a companion
        x = inputs(features, self.weights)
        with torch.inference_mode():
            evaluation = Evaluation(self.recipe.layers, Parameters(states), Rows(x, x[:0]))
            return evaluation.outputs()[: len(self.seeds)].transpose(1, 2).contiguous().numpy()

    def decide(
        self, outputs: Float32[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row target"] | Float32[np.ndarray, "seed row target"]:
        """Class indices (of no meaning for a diverged seed), or the numbers predicted."""
        return self.encoding.decide(outputs)

    def loss(
        self, outputs: Float32[np.ndarray, "seed row output"], targets: Shaped[np.ndarray, "row target"]
    ) -> Float64[np.ndarray, " seed"]:
        """The training loss over these rows."""
        output = torch.from_numpy(outputs).transpose(1, 2).double()
        observed = torch.from_numpy(self.encoding.encode(targets)).double().expand_as(output)
        weight = torch.full((len(targets),), 1 / len(targets), dtype=torch.float64)
        share = LOSSES[self.recipe.train.loss].share(output, observed, weight)
        return share.sum((1, 2)).numpy()

    def sequential(self, seed: int) -> nn.Sequential:
        """One seed's network as plain PyTorch, in evaluation mode; it wants scaled inputs, rows first."""
        network = sequential(self.recipe.layers, len(self.feature_names))
        network.load_state_dict(self.states()[self.seeds.index(seed)], strict=False)  # batch norm's counter is not kept
        return network.eval()


def inputs(features: Float64[np.ndarray, "row feature"], scaling: dict[str, Tensor]) -> Float32[Tensor, "feature row"]:
    """Raw features as the network takes them: scaled where `scaling` holds a mean and a standard deviation."""
    if SCALING[0] in scaling:
        mean, std = (scaling[name].numpy() for name in SCALING)
        features = (features - mean) / std
    return torch.from_numpy(features.T.astype(np.float32, order="C"))


def load(folder: Path) -> Trained:
    run = json.loads((folder / RUN).read_text())
    return Trained(
        recipe=Recipe.model_validate(run["recipe"]),
        feature_names=run["feature_names"],
        target_names=run["target_names"],
        classes=run["classes"],
        diverged={int(seed): epoch for seed, epoch in run["diverged"].items()},
        fingerprint=run["fingerprint"],
        weights=load_file(folder / WEIGHTS),
    )


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """The columns seed, epoch and engine.COLUMNS; a seed that diverged has no rows after that epoch."""
    stored = pq.read_table(folder / HISTORY)
    return {name: stored[name].to_numpy() for name in stored.column_names}


def save(
    folder: Path, recipe: Recipe, training: Training, rows: Table, scaling: dict[str, Tensor], fingerprint: str
) -> None:
    """All three files, or none."""
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
        (unfinished / WEIGHTS).write_bytes(safetensors_bytes(training.weights | scaling))
        pq.write_table(_history(recipe.seeds, training), unfinished / HISTORY, compression="zstd")
        (unfinished / RUN).write_text(json.dumps(run, indent=1) + "\n")


def versions() -> dict[str, str]:
    """What beside code and data can change the bits; the build (+cpu) is no part of torch's version here."""
    torch_version = torch.__version__.split("+")[0]
    return {"python": platform.python_version(), "numpy": np.__version__, "torch": torch_version}


def _history(seeds: list[int], training: Training) -> pa.Table:
    """Long form, by seed and epoch, without the rows after a divergence."""
    epochs = training.history["lr"].shape[1]
    last = [training.diverged.get(place, epochs - 1) for place in range(len(seeds))]
    columns = {
        "seed": np.concatenate([np.full(n + 1, seed) for seed, n in zip(seeds, last, strict=True)]),
        "epoch": np.concatenate([np.arange(n + 1) for n in last]),
    }
    for name in COLUMNS:
        columns[name] = np.concatenate([training.history[name][place, : n + 1] for place, n in enumerate(last)])
    return pa.table(columns)
