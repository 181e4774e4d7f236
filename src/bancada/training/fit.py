"""Checks that a network, its loss and its batches fit the data: a declared shape, or the training rows themselves."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bancada.base.refusals import BadInput, bad
from bancada.base.tables import Table
from bancada.data.settings import DataShape
from bancada.networks.encoding import encoding
from bancada.networks.settings import GivenInit, LayerSpec, Loss
from bancada.training.settings import SGD, Recipe, Train, TrainingKeys


def refuse_misfit(keys: TrainingKeys, shape: DataShape) -> None:
    """Raise BadInput if the network cannot learn from data of this shape. `shape.rows` counts the training rows."""
    recipe = keys.recipe()
    key, problem = misfit(recipe.layers, recipe.train.loss, shape) or ("", "")
    if key == "loss":
        raise bad(keys.written_at("loss"), recipe.train.loss, f"{problem} (variant {recipe.variant})")
    if key == "layers":
        raise bad(f"variants.{recipe.variant}.layers", None, problem)
    _check_given_start(keys, recipe, shape.features)
    if shape.rows:
        _check_batch_size(keys, recipe, shape.rows)


def refuse_misfit_of_rows(keys: TrainingKeys, rows: Table) -> None:
    """Raise BadInput if the network cannot learn from these training rows, or cannot reach their targets."""
    classes, targets = len(rows.classes), len(rows.target_names)
    refuse_misfit(keys, DataShape(len(rows.feature_names), targets, classes, len(rows)))
    recipe = keys.recipe()
    encoded = encoding(recipe.layers, recipe.train.loss, classes).encode(rows.targets)
    problem = out_of_reach(recipe.layers, encoded)
    if problem:
        raise bad(f"variants.{recipe.variant}.layers", None, problem)


def refuse_too_large(path: Path, rows: Table, encoded: Float32[np.ndarray, "column row"]) -> None:
    """Raise BadInput for the first number of the table that float32 cannot hold. `encoded`: inputs, then targets."""
    names = [*rows.feature_names, *rows.target_names]
    for column, row in np.argwhere(~np.isfinite(encoded)):
        where = f"{path}: row {row + 1}, column '{names[column]}'"
        raise BadInput(f"{where}: the number, or what it is once standardized, is too large for float32")


def misfit(layers: Sequence[LayerSpec], loss: Loss, shape: DataShape) -> tuple[str, str] | None:
    """Return why this network and loss cannot learn such targets, as the wrong key and the problem, or None."""
    widths = [layer.width for layer in layers if layer.width]
    if not widths:
        return "layers", "at least one linear layer is needed"
    width, last, classes, targets = widths[-1], layers[-1].kind, shape.classes, shape.targets
    if last == "dropout":
        return "layers", "dropout as the last layer would give zeros instead of predictions"
    if last == "softmax" and width == 1:
        return "layers", "a softmax over one output is always 1"
    if classes == 0 and loss in ("bce", "cross_entropy"):
        return "loss", "needs classes, but the study predicts numbers (mse, half_mse or l1)"
    if classes == 0 and width != targets:
        return "layers", f"the output has {width} units, but there are {targets} targets"
    if loss == "cross_entropy" and width != classes:
        return "layers", f"cross_entropy needs one output per class: {classes}, not {width}"
    if loss == "bce" and (classes != 2 or width != 1):
        return "loss", f"needs two classes and one output, not {classes} and {width}"
    if loss == "bce" and last != "sigmoid":
        return "layers", f"bce needs a sigmoid as the last layer, not {last}"
    if classes and width != classes and (width, classes) != (1, 2):
        return "layers", f"the output has {width} units, but there are {classes} classes"
    return None


def _check_given_start(keys: TrainingKeys, recipe: Recipe, features: int) -> None:
    init, key = recipe.train.init, keys.written_at("init")
    if not isinstance(init, GivenInit):
        return
    linear = [layer for layer in recipe.layers if layer.kind == "linear"]
    widths = [layer.width or 0 for layer in linear]
    if not len(widths) == len(init.weights) == len(init.biases):
        raise bad(key, None, f"{len(widths)} linear layers need as many weights and biases")
    if any(layer.bias is False for layer in linear):
        raise bad(key, None, "a given start needs a bias in every linear layer")
    for i, (inputs, width) in enumerate(pairwise([features, *widths])):
        if [len(row) for row in init.weights[i]] != [inputs] * width:
            raise bad(f"{key}.weights[{i}]", None, f"must be {width} rows of {inputs} numbers")
        if len(init.biases[i]) != width:
            raise bad(f"{key}.biases[{i}]", None, f"must be {width} numbers")


def _check_batch_size(keys: TrainingKeys, recipe: Recipe, train_rows: int) -> None:
    size, key = recipe.train.batch_size, keys.written_at("batch_size")
    rows = train_rows if size == "full" else size
    if rows > train_rows:
        raise bad(key, size, f"larger than the training set of {train_rows} rows")
    if any(layer.kind == "batch_norm" for layer in recipe.layers) and 1 in (rows, train_rows % rows):
        problem = f"batch_norm of {recipe.variant} cannot learn from a batch of one row ({train_rows} training rows)"
        raise bad(key, size, problem)


def out_of_reach(layers: Sequence[LayerSpec], encoded: Float32[np.ndarray, "output row"]) -> str | None:
    """Return why the outputs of the last layer cannot be these numbers, or None."""
    last = layers[-1].kind
    ranges = {"tanh": (-1, 1), "sigmoid": (0, 1), "softmax": (0, 1), "relu": (0, np.inf)}
    low, high = ranges.get(last, (-np.inf, np.inf))
    if low <= encoded.min() and encoded.max() <= high:
        return None
    return f"ends in {last}, which cannot reach targets from {encoded.min():g} to {encoded.max():g}"


def refuse_unfit_for_scratch(name: str, layers: Sequence[LayerSpec], train: Train) -> None:
    """Raise BadInput if scratch.py cannot train this network."""
    plain = (
        [layer.kind for layer in layers] == ["linear"]
        and layers[0].bias is not False
        and train.loss in ("mse", "half_mse")
        and train.optimizer == SGD(name="sgd")
        and train.schedule.name in ("none", "inverse_time")
        and not train.standardize
    )
    if not plain:
        need = "a single linear layer, mse or half_mse, plain sgd, no step schedule and no standardize"
        raise bad(f"variants.{name}.scratch", True, f"training from scratch needs {need}")
