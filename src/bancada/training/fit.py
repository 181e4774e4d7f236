"""Checks that a network, its loss and its batches fit the data: a declared shape, or the training rows themselves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bancada.base.refusals import BadInput, bad
from bancada.base.tables import Table
from bancada.data.settings import DataShape
from bancada.networks.encoding import OF_CLASS_INDEX, OF_TWO_CLASSES, encoding, last_kind, loss_name, width
from bancada.networks.preparation import Preparation
from bancada.networks.settings import GivenInit, LayerSpec, TorchPart
from bancada.networks.unknown import counted
from bancada.training import preparing
from bancada.training.settings import LR_OF, Recipe, Train, TrainingKeys

NO_LINEAR = "has no linear layers that are written as numbers of units, which alone it starts"
# What training from scratch has of the keys of `train`; of the loss and the schedule, some.
FREE_FROM_SCRATCH = ("loss", "lr", "epochs", "batch_size", "batch_order", "schedule", "init", "clip_norm")
OTHERS = " (mse, half_mse or l1; MSELoss, L1Loss, SmoothL1Loss or HuberLoss)"


def refuse_misfit(keys: TrainingKeys, shape: DataShape) -> None:
    """Raise BadInput if the network cannot learn from data of this shape. `shape.rows` counts the training rows.

    `shape.features` counts the inputs; 0 if that is not known.
    What comes out of torch's own layers, or out of a module of the user's, is known only once rows went through it.
    """
    recipe = keys.recipe()
    loss = recipe.train.loss
    if "init" in keys.variant.train and not _linear(recipe):
        raise bad(keys.written_at("init"), None, f"has no effect: {recipe.variant} {NO_LINEAR}")
    if loss_name(loss) in (*OF_CLASS_INDEX, *OF_TWO_CLASSES) and shape.classes == 0:
        raise bad(keys.written_at("loss"), loss_name(loss), f"needs classes, but the study predicts numbers{OTHERS}")
    if recipe.train.class_weight and shape.classes == 0:
        raise bad(keys.written_at("class_weight"), None, "needs classes, but the study predicts numbers")
    if recipe.train.prepare and recipe.train.prepare.targets.standardize and shape.classes:
        raise bad(f"{keys.written_at('prepare')}.targets", None, "needs numbers, but the study predicts classes")
    if recipe.network.flat:
        layers = recipe.network.small_layers
        if not _linear(recipe):
            raise bad(f"variants.{recipe.variant}.layers", None, "at least one linear layer is needed")
        if problem := misfit(recipe, width(layers), shape):
            raise bad(f"variants.{recipe.variant}.layers", None, problem)
    if recipe.network.flat and isinstance(recipe.train.init, GivenInit):
        _check_given_start(recipe, recipe.train.init, keys.written_at("init"), shape)
    if shape.rows:
        _check_batch_size(keys, recipe, shape.rows)


def preparation(keys: TrainingKeys, rows: Table) -> Preparation:
    """Return what the variant's preparation learns from these training rows.

    Raise BadInput if it does not cover them, or if the network cannot learn from them or cannot reach their targets.
    """
    classes, targets, recipe = len(rows.classes), len(rows.target_names), keys.recipe()
    train = recipe.train
    preparing.refuse_uncovered(rows, train.prepare, train.standardize, keys.written_at("prepare"))
    learned = preparing.learned(rows, train.prepare, train.standardize)
    inputs = len(learned.input_names(rows.feature_names))
    if rows.row_shape and learned.input_names(rows.feature_names) != rows.feature_names:
        wrong = f"would make other inputs, or another order of them, but rows have the shape {rows.row_shape}"
        raise bad(keys.written_at("prepare"), None, wrong)
    refuse_misfit(keys, DataShape(inputs, targets, classes, len(rows), rows.classes))
    if recipe.network.small:
        code = encoding(recipe.layers, recipe.train.loss, width(recipe.network.small_layers), classes)
        encoded = code.encode(rows.targets if classes else learned.learned(rows.targets))
        if problem := out_of_reach(last_kind(recipe.layers), encoded):
            raise bad(f"variants.{recipe.variant}.layers", None, problem)
    return learned


def refuse_too_large(path: Path, names: Sequence[str], parts: Sequence[np.ndarray]) -> None:
    """Raise BadInput for the first number of inputs or targets that float32 cannot hold. `names`: of all columns."""
    with np.errstate(over="ignore"):
        numbers = np.hstack([part.astype(np.float32, copy=False) for part in parts])
    for row, column in np.argwhere(~np.isfinite(numbers)):
        where = f"{path}: row {row + 1}, column '{names[column]}'"
        raise BadInput(f"{where}: the number, or what it is once standardized, is too large for float32")


def misfit(recipe: Recipe, outputs: int, shape: DataShape) -> str | None:
    """Return why a network with so many outputs cannot learn such targets, or None."""
    last, loss, classes = last_kind(recipe.layers), loss_name(recipe.train.loss), shape.classes
    if last == "dropout":
        return "dropout as the last layer would give zeros instead of predictions"
    if last == "softmax" and outputs == 1:
        return "a softmax over one output is always 1"
    if classes == 0 and outputs != shape.targets:
        return f"the output has {outputs} units, but there are {shape.targets} targets"
    if loss in OF_CLASS_INDEX and outputs != classes:
        return f"{loss} needs one output per class, not {outputs}: there are {shape.named_classes()}"
    if loss == "bce" and recipe.module:
        return "bce is for a list of layers; a module takes BCEWithLogitsLoss, or BCELoss if it ends in a Sigmoid"
    if loss == "bce" and (classes != 2 or outputs != 1):
        return f"bce needs two classes and one output, not {shape.named_classes()} and {outputs}"
    if loss == "bce" and last != "sigmoid":
        return f"bce needs a sigmoid as the last layer, not {last}"
    if classes and outputs != classes and (outputs, classes) != (1, 2):
        return f"the output has {outputs} units, but there are {shape.named_classes()}"
    return None


def a_row(recipe: Recipe, shape: Sequence[int]) -> str:
    """Return what a network gets of a row, in words."""
    if len(shape) > 1:
        return f"a row has the shape {list(shape)}"
    what, after = ("input", " after its preparation") if recipe.train.prepare else ("feature", "")
    return f"a row has {counted(shape[0], what)}{after}"


def refuse_stopping_without_rows(keys: TrainingKeys, validation: bool) -> None:
    """Raise BadInput if early stopping or ReduceLROnPlateau has no validation rows but those of the test."""
    train = keys.recipe().train
    asked = {"early_stopping": train.early_stopping, "schedule": train.schedule.name == "ReduceLROnPlateau"}
    for key, needs_rows in asked.items():
        if needs_rows and not validation:
            problem = "needs validation rows of its own, because test rows may not choose; see split.validation"
            raise bad(keys.written_at(key), None if key == "early_stopping" else train.schedule.name, problem)


def doubts(keys: TrainingKeys) -> list[str]:
    """Return a sentence for each pair of training keys that can be used together, but hardly as it was meant."""
    train, found = keys.recipe().train, list[str]()
    if train.class_weight and isinstance(train.loss, TorchPart) and train.loss.args.get("label_smoothing"):
        what = "also scales the part of label_smoothing, which then dominates the loss of the larger classes"
        found.append(f"{keys.written_at('class_weight')} {what}")
    if "init" in keys.shared and "init" not in keys.variant.train and not _linear(keys.recipe()):
        found.append(f"{keys.written_at('init')} has no effect: the variant {NO_LINEAR}")
    if train.early_stopping and keys.search():
        what = "reads the validation rows by which search chooses: scores on them are too good, those of test rows not"
        found.append(f"{keys.written_at('early_stopping')} {what}")
    schedule = train.schedule
    own = LR_OF.get(schedule.name, "")
    if isinstance(schedule, TorchPart) and schedule.args.get(own, train.lr) != train.lr:
        instead = f"{own} = {schedule.args[own]} of {schedule.name} replaces it; leave that out, and lr takes its place"
        found.append(f"lr = {train.lr} has no effect: {instead}")
    return found


def _linear(recipe: Recipe) -> list[LayerSpec]:
    return [layer for layer in recipe.network.small_layers if layer.kind == "linear"]


def _check_given_start(recipe: Recipe, init: GivenInit, key: str, shape: DataShape) -> None:
    """Raise BadInput if given parameters do not fit the linear layers."""
    linear = _linear(recipe)
    if any(layer.bias is False for layer in linear) or not len(linear) == len(init.weights) == len(init.biases):
        raise bad(key, None, f"{len(linear)} linear layers need as many weights and biases, and a bias in each")
    inputs = shape.features
    for i, units in enumerate([layer.width or 0 for layer in linear] if inputs else ()):
        if [len(row) for row in init.weights[i]] != [inputs] * units:
            raise bad(f"{key}.weights[{i}]", None, f"must be {counted(units, 'row')} of {counted(inputs, 'number')}")
        if len(init.biases[i]) != units:
            raise bad(f"{key}.biases[{i}]", None, f"must be {counted(units, 'number')}")
        inputs = units


def _check_batch_size(keys: TrainingKeys, recipe: Recipe, train_rows: int) -> None:
    size, key = recipe.train.batch_size, keys.written_at("batch_size")
    rows = train_rows if size == "full" else size
    if rows > train_rows:
        raise bad(key, size, f"larger than the training set of {train_rows} rows")
    if any(layer.kind == "batch_norm" for layer in recipe.network.small_layers) and 1 in (rows, train_rows % rows):
        problem = f"batch_norm of {recipe.variant} cannot learn from a batch of one row ({train_rows} training rows)"
        raise bad(key, size, problem)


def out_of_reach(last: str, encoded: Float32[np.ndarray, "output row"]) -> str | None:
    """Return why the outputs of a last layer of this kind cannot be these numbers, or None."""
    ranges = dict.fromkeys(("relu", "softplus"), (0.0, np.inf)) | dict.fromkeys(("tanh", "softsign"), (-1.0, 1.0))
    ranges |= dict.fromkeys(("sigmoid", "softmax", "hardsigmoid", "softmin"), (0.0, 1.0)) | {"relu6": (0.0, 6.0)}
    ranges |= dict.fromkeys(("logsigmoid", "logsoftmax"), (-np.inf, 0.0))
    low, high = ranges.get(last, (-np.inf, np.inf))
    if low <= encoded.min() and encoded.max() <= high:
        return None
    return f"ends in {last}, which cannot reach targets from {encoded.min():g} to {encoded.max():g}"


def refuse_unfit_for_scratch(keys: TrainingKeys) -> None:
    """Raise BadInput if scratch.py cannot train this network."""
    recipe = keys.recipe()
    train, layers = recipe.train, recipe.network.small_layers
    plain = {key: field.default for key, field in Train.model_fields.items() if key not in FREE_FROM_SCRATCH}
    others = [key for key, value in plain.items() if getattr(train, key) != value]
    line = [layer.kind for layer in layers] == ["linear"] and layers[0].bias is not False
    if (
        others
        or not line
        or train.loss not in ("mse", "half_mse")
        or train.schedule.name not in ("none", "inverse_time")
    ):
        need = "a single linear layer, mse or half_mse, plain sgd, no step schedule, and no other keys"
        unfit = f"; it has {', '.join(others)}" if others else ""
        raise bad(f"variants.{recipe.variant}.scratch", True, f"training from scratch needs {need}{unfit}")
