"""The folder of a trained variant: weights.safetensors, history.parquet and run.json, written together or not at all.

run.json holds the variant's keys of params.yaml, and the names and classes that are needed to use the weights. This
module does without torch, which takes seconds to load.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from safetensors import numpy as safetensors

from bancada.base import files, tables
from bancada.networks.encoding import Encoding, encoding, last_kind
from bancada.networks.preparation import SCALING, TARGET_SCALING, Preparation
from bancada.networks.settings import Network

LR_NULL = "`lr: null` at the top of params.yaml lets each have its own"  # the way out for an overruled rate
# Who computes the outputs and losses of trained networks: what the training computed them by.
BY_TORCH, COMPILED = "bancada.networks.torch_network", "bancada.networks.compiled_network"
HISTORY_COLUMNS = ("train_loss", "last_batch_loss", "validation_loss", "lr")


History = dict[str, Float64[np.ndarray, " epoch"]]  # HISTORY_COLUMNS


@dataclass(frozen=True)
class Trained:
    """The network that the training of one seed ends with, and how its loss fell."""

    weights: dict[str, np.ndarray]  # by state_dict's names; NaN where the training diverged
    history: History  # of the epochs that were trained
    parameters: int  # numbers that the optimizer changed
    outputs: int  # of the network, for each row
    diverged: int | None = None  # the epoch in which the loss was no longer finite
    kept: int | None = None  # the epoch that the weights are of; None: early stopping was not asked for
    note: str = ""  # more about the divergence, in words
    machine: str = ""  # of a cluster, that trained it


def description(
    recipe: Mapping[str, Any],
    rows: tables.Table,
    inputs: Sequence[int],
    preparations: Sequence[Preparation] = (),
    overruled: str = "",
) -> dict[str, Any]:
    """Return the content of run.json, without what only the training shows. `recipe`: its study, variant and keys.

    `inputs`: the shape of a row of inputs. `preparations`: of all seeds, or of each, where each has data of its own.
    `overruled`: which key of params.yaml replaced another one, in words.
    """
    described = {
        "study": recipe["study"],
        "variant": recipe["variant"],
        "recipe": dict(recipe),
        "feature_names": rows.feature_names,
        "shape": list(inputs),
        "target_names": rows.target_names,
        "classes": rows.classes,
        "train_rows": len(rows),
    }
    groups = [[asdict(group) for group in one.groups] for one in preparations]
    more: dict[str, Any] = {"draws": groups} if len(groups) > 1 else {"preparation": groups[0] if groups else []}
    more |= {"overruled": overruled, "missing": rows.missing}
    return described | {key: value for key, value in more.items() if value}


def way_out(overruled: str) -> str:
    """Return the end of a line that says what was overruled: how each variant gets its own rate back."""
    return f"; {LR_NULL}" if overruled.startswith("lr = ") else ""


def save(
    folder: Path,
    described: dict[str, Any],
    trained: Sequence[Trained],
    preparations: Sequence[Preparation],
    trials: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder: weights and scaling, history, and run.json with what the training of each seed has shown.

    `trials`: the columns of a search's table.
    """
    run, arrays = contents(described, trained, preparations)
    epochs = [len(one.history["lr"]) for one in trained]  # the epoch in which a seed diverged is its last
    columns = {"seed": np.repeat(run["recipe"]["seeds"], epochs), "epoch": np.concatenate([*map(np.arange, epochs)])}
    columns |= {name: np.concatenate([one.history[name] for one in trained]) for name in HISTORY_COLUMNS}
    with files.whole(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / files.WEIGHTS).write_bytes(safetensors.save(arrays))
        tables.write_columns(columns, unfinished / files.HISTORY)
        (unfinished / files.RUN).write_text(json.dumps(run, indent=1) + "\n")
        if trials is not None:
            tables.write_columns(trials, unfinished / files.SEARCH)


def contents(
    described: dict[str, Any], trained: Sequence[Trained], preparations: Sequence[Preparation]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the whole content of run.json, and the arrays of weights.safetensors: weights [seed, ...] and scaling.

    The scaling is that of all seeds or, where each has data of its own, [seed, ...].
    """
    first, run, alone = trained[0], dict(described), len(preparations) == 1
    for key in ("diverged", "kept"):
        epochs = zip(described["recipe"]["seeds"], (getattr(one, key) for one in trained), strict=True)
        run[key] = {str(seed): epoch for seed, epoch in epochs if epoch is not None}
    run |= {"parameters": first.parameters, "outputs": first.outputs}
    # in row-major order, because safetensors writes the memory of an array as it lies there
    weights = {name: np.stack([one.weights[name] for one in trained]).copy("C") for name in first.weights}
    scaling = {name: np.stack([one.scaling[name] for one in preparations]) for name in preparations[0].scaling}
    return run, weights | {name: values[0] if alone else values for name, values in scaling.items()}


@dataclass(frozen=True)
class SavedVariant:
    """The trained networks of a variant, one for each seed. They take raw, unscaled features."""

    study: str
    network: Network
    engine: str
    parameters: int  # of one network
    output_count: int
    seeds: list[int]
    feature_names: list[str]
    shape: list[int]  # of a row of inputs, once it is prepared
    target_names: list[str]
    classes: list[int] | list[str]
    diverged: dict[int, int]  # seed -> epoch
    kept: dict[int, int]  # the same, with early stopping: the epoch that the weights are of
    weights: dict[str, np.ndarray]  # by state_dict's names, [seed, ...]
    preparation: Preparation
    overruled: str = ""  # which key of params.yaml replaced another one, in words
    search: Mapping[str, Any] | None = None  # what was asked of the search that chose the recipe, and what it chose
    missing: Sequence[str] = ()  # texts that mean an empty cell
    draws: Sequence[Preparation] = ()  # one for each seed, where each has data of its own; `preparation` is the first

    def alone(self, place: int) -> "SavedVariant":
        """Return the network of the seed at this place alone, with its own preparation."""
        seed = self.seeds[place]
        return replace(
            self,
            seeds=[seed],
            diverged={key: epoch for key, epoch in self.diverged.items() if key == seed},
            kept={key: epoch for key, epoch in self.kept.items() if key == seed},
            weights={name: values[place : place + 1] for name, values in self.weights.items()},
            preparation=self.draws[place] if self.draws else self.preparation,
            draws=(),
        )

    @cached_property
    def encoding(self) -> Encoding:
        """How targets are encoded."""
        return encoding(self.network.layers, self.network.loss, self.output_count, len(self.classes))

    def outputs(self, rows: tables.Table) -> Float64[np.ndarray, "seed row output"]:
        """Return the outputs of the networks in evaluation mode; NaN for a diverged seed, and where they overflow.

        `rows` has raw features; the order of its columns does not matter. Raise Unprepared for a cell that the
        preparation has no number for.
        """
        if self.draws:
            return np.concatenate([self.alone(place).outputs(rows) for place in range(len(self.seeds))])
        rows = rows if rows.feature_names == self.feature_names else rows.only(self.feature_names)
        inputs = self.preparation.inputs(rows.features, self.feature_names, rows.words)
        by: Any = import_module(evaluated_by(self.engine))
        found: np.ndarray = by.outputs_of_seeds(self.network, self.weights, inputs.reshape(-1, *self.shape))
        return found

    def decide(
        self, outputs: Float64[np.ndarray, "seed row output"]
    ) -> Int64[np.ndarray, "seed row 1"] | Float64[np.ndarray, "seed row target"]:
        """Return the decided class indices, UNDECIDED where an output is not finite, or the predicted numbers."""
        decided = self.encoding.decide(outputs)
        if self.draws and not self.classes:
            each = zip(self.draws, decided, strict=True)
            return np.stack([preparation.in_own_units(one) for preparation, one in each])
        return decided if self.classes else self.preparation.in_own_units(decided)

    def class_scores(self, outputs: Float64[np.ndarray, "seed row output"]) -> Float64[np.ndarray, "seed row class"]:
        """Return a score for each class, such as its probability."""
        return self.encoding.scores(outputs, probabilities=last_kind(self.network.layers) == "softmax")

    def predict(self, rows: tables.Table) -> Int64[np.ndarray, "seed row 1"] | Float64[np.ndarray, "seed row target"]:
        """Return what `decide` makes of the outputs for these rows."""
        return self.decide(self.outputs(rows))

    def loss(
        self, outputs: Float64[np.ndarray, "seed row output"], targets: Shaped[np.ndarray, "row target"]
    ) -> Float64[np.ndarray, " seed"]:
        """Return the training loss of each seed over these rows, in the units that the networks learn."""
        if self.draws:
            each = range(len(self.seeds))
            return np.concatenate([self.alone(i).loss(outputs[i : i + 1], targets) for i in each])
        targets = targets if self.classes else self.preparation.learned(targets)
        by: Any = import_module(evaluated_by(self.engine))
        found: np.ndarray = by.losses_of_seeds(self.network.loss, outputs, targets, self.encoding)
        return found


def evaluated_by(engine: str) -> str:
    """Return the module that computes the outputs and losses of networks that this engine trained."""
    return COMPILED if engine == "compiled" else BY_TORCH


def load(folder: Path) -> SavedVariant:
    """Return the variant that `save` wrote."""
    return restored(json.loads((folder / files.RUN).read_text()), safetensors.load_file(folder / files.WEIGHTS))


def restored(run: Mapping[str, Any], stored: Mapping[str, np.ndarray]) -> SavedVariant:
    """Return the variant of a run.json with these weights and scaling."""
    recipe = run["recipe"]
    loss, bits = recipe["train"]["loss"], recipe["train"]["bits"]
    diverged, kept = ({int(seed): epoch for seed, epoch in run[key].items()} for key in ("diverged", "kept"))
    scaling = {name: stored[name] for name in SCALING + TARGET_SCALING if name in stored}
    draws = [
        Preparation.stored(groups, {name: of_seeds[place] for name, of_seeds in scaling.items()})
        for place, groups in enumerate(run.get("draws", ()))
    ]
    names = ["study", "feature_names", "shape", "target_names", "classes", "parameters"]
    names += run.keys() & {"overruled", "search", "missing"}
    return SavedVariant(
        network=Network(layers=recipe.get("layers"), module=recipe.get("module"), loss=loss, bits=bits),
        seeds=recipe["seeds"],
        engine=recipe["engine"],
        output_count=run["outputs"],
        weights={name: value for name, value in stored.items() if name not in SCALING + TARGET_SCALING},
        preparation=draws[0] if draws else Preparation.stored(run.get("preparation", []), stored),
        draws=draws,
        diverged=diverged,
        kept=kept,
        **{name: run[name] for name in names},
    )


def at_edges(search: Mapping[str, Any] | None) -> str:
    """Return which chosen values lie at the edge of what was searched, in words; an empty string if none does."""
    edges = [f"{key} = {search['chosen'][key]}" for key in search["edges"]] if search else []
    return f"chosen at the edge of what was searched: {', '.join(edges)}" if edges else ""


def read_search(folder: Path) -> tuple[dict[str, Any], dict[str, list[Any]]] | None:
    """Return what run.json says of a search, and the columns of its table; None where there was none.

    The columns are trial, seed, the searched keys and score. Texts in the file are JSON: values of choices.
    """
    if not (folder / files.SEARCH).exists():
        return None
    columns = tables.read_columns(folder / files.SEARCH)[0]
    return json.loads((folder / files.RUN).read_text())["search"], {
        name: values.tolist() if isinstance(values, np.ndarray) else [json.loads(text) for text in values.to_pylist()]
        for name, values in columns.items()
    }


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of history.parquet: seed, epoch, losses and learning rate, up to the end of each seed."""
    return tables.read_columns(folder / files.HISTORY)[0]


def carried(columns: Mapping[str, np.ndarray], kept: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Return the columns of a history with more rows: those that early stopping ended go on to the last epoch of all.

    In the epochs that it did not train, such a seed has the values of the epoch that it keeps, because its network is
    the one of that epoch. A seed that diverged is not in `kept`, and ends where it did.
    """
    seed, epoch = columns["seed"], columns["epoch"]
    rows, epochs = [np.arange(len(seed))], [epoch]
    for stopped, best in kept.items():
        after = np.arange(epoch[seed == stopped].max() + 1, epoch.max() + 1)
        [row] = np.flatnonzero((seed == stopped) & (epoch == best))
        rows.append(np.full(len(after), row))
        epochs.append(after)
    every = np.concatenate(rows)
    return {name: values[every] for name, values in columns.items()} | {"epoch": np.concatenate(epochs)}
