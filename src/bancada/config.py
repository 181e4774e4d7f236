"""params.yaml -> checked objects, and who overrides whom.

`load()` refuses the file with one line that names the key as the user wrote it. `recipe()` is what a training obeys:
the variant's own `train` keys replace its study's, key by key, and the top-level `lr`, when set, replaces both.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bancada.data_schema import HousePrices, Table
from bancada.model import Model, did_you_mean
from bancada.refusals import PARAMS_FILE, BadInput, bad, explained
from bancada.schema import SGD, GivenInit, LayerSpec, Loss, Params, Recipe, Study, Train

M = TypeVar("M", bound=Model)

LONGEST_HISTORY = 2**27  # epochs times seeds; each takes some 50 bytes of memory


def recipe(params: Params, variant: str) -> Recipe:
    """The variant's own training keys over its study's, the top-level lr over both. BadInput where one is missing."""
    chosen = params.variants[variant]
    keys = {**params.studies[chosen.study].train, **chosen.train} | ({"lr": params.lr} if params.lr else {})
    return Recipe(
        study=chosen.study,
        variant=variant,
        layers=chosen.layers,
        scratch=chosen.scratch,
        train=_checked(Train, keys, f"variants.{variant}.train"),
        seeds=[params.seed + i for i in range(params.num_seeds)],
        device=params.device,
    )


def overrides(params: Params, variant: str) -> list[str]:
    """One sentence for each training key that replaces another."""
    study, own = params.variants[variant].study, params.variants[variant].train
    shared = params.studies[study].train
    said = [
        f"variants.{variant}.train.{key} = {value} replaces studies.{study}.train.{key} = {shared[key]}"
        for key, value in own.items()
        if key in shared
    ]
    below = own.get("lr", shared.get("lr"))
    if params.lr and below is not None:
        said.append(
            f"lr = {params.lr} replaces {written_at(params.model_copy(update={'lr': None}), variant, 'lr')} = {below}"
        )
    return said


def written_at(params: Params, variant: str, key: str) -> str:
    """Where the user wrote the training key that this variant obeys."""
    chosen = params.variants[variant]
    if key == "lr" and params.lr:
        return "lr"
    shared = key not in chosen.train and key in params.studies[chosen.study].train
    return f"studies.{chosen.study}.train.{key}" if shared else f"variants.{variant}.train.{key}"


# --- checks that look at more than one key --------------------------------------------------------------------------


def misfit(layers: list[LayerSpec], loss: Loss, classes: int, targets: int) -> str | None:
    """Why this network and loss cannot learn these labels, or None. `classes` 0: `targets` numbers are predicted."""
    widths = [layer.width for layer in layers if layer.width]
    if not widths:
        return "layers: at least one linear layer is needed"
    width, last = widths[-1], layers[-1].kind
    if last == "dropout":
        return "layers: dropout as the last layer would put out zeros instead of predictions"
    if last == "softmax" and width == 1:
        return "layers: a softmax over one output is always 1"
    if classes == 0:
        if loss in ("bce", "cross_entropy"):
            return f"train.loss = {loss}: needs classes, but the study predicts numbers (mse, half_mse or l1)"
        return None if width == targets else f"layers: the output has {width} units, but there are {targets} targets"
    if loss == "cross_entropy":
        return None if width == classes else f"layers: cross_entropy needs one output per class: {classes}, not {width}"
    if loss == "bce":
        if classes != 2 or width != 1:
            return f"train.loss = bce: needs two classes and one output, not {classes} and {width}"
        return None if last == "sigmoid" else f"layers: bce needs a sigmoid as the last layer, not {last}"
    if width == classes or (width == 1 and classes == 2):
        return None
    return f"layers: the output has {width} units, but there are {classes} classes"


def _check_study(name: str, study: Study, params: Params) -> None:
    key, shape = f"studies.{name}", study.source.shape()
    _checked(Train, study.train, f"{key}.train", partial=True)
    members = params.variants_of(name)
    if not members:
        raise bad(key, None, "no variant belongs to it")
    if study.baseline is not None and study.baseline not in members:
        raise bad(f"{key}.baseline", study.baseline, "no variant of this study" + did_you_mean(study.baseline, members))
    if isinstance(study.source, HousePrices) and study.source.outliers > study.source.rows:
        raise bad(f"{key}.source.outliers", study.source.outliers, f"more than the {study.source.rows} rows")
    classes = (
        bool(shape.classes) if shape else isinstance(study.source, Table) and study.source.task == "classification"
    )
    if classes and study.metric not in ("error_rate_percent", "loss"):
        raise bad(f"{key}.metric", study.metric, "the study has classes: error_rate_percent or loss")
    if not classes and study.metric == "error_rate_percent":
        raise bad(f"{key}.metric", study.metric, "the study predicts numbers: mse, mae, r2 or loss")
    if study.metric in ("weight_error_max", "bias_error") and study.source.kind != "linear":
        raise bad(f"{key}.metric", study.metric, "the true weights are known for source.kind = linear alone")
    if not classes and study.split.stratify:
        raise bad(f"{key}.split.stratify", True, "only classes can be stratified; the study predicts numbers")
    check_predict(name, study, study.source.feature_names())
    if study.decision_region and shape and shape.features != 2:
        raise bad(f"{key}.decision_region", None, f"two features can be drawn, not {shape.features}")
    if shape and shape.rows:
        try:
            study.split.counts(shape.rows)
        except ValueError as error:
            raise bad(f"{key}.split", None, str(error)) from None


def _check_same_loss(study: str, params: Params) -> None:
    losses = {name: recipe(params, name).train.loss for name in params.variants_of(study)}
    if params.studies[study].metric == "loss" and len(set(losses.values())) > 1:
        said = ", ".join(f"{name}: {loss}" for name, loss in losses.items())
        raise bad(f"studies.{study}.metric", "loss", f"the losses of its variants cannot be compared ({said})")


def check_predict(name: str, study: Study, features: list[str] | None) -> None:
    """BadInput where a new input of the study does not give each feature (None: not known yet) one number."""
    if features is None:
        return
    for i, given in enumerate(study.predict):
        key = f"studies.{name}.predict[{i}]"
        if isinstance(given, list):
            if len(given) != len(features):
                problem = f"{len(given)} numbers, but the features are {len(features)}: {', '.join(features)}"
                raise bad(key, None, problem)
            continue
        for feature in given:
            if feature not in features:
                raise bad(f"{key}.{feature}", None, "unknown feature" + did_you_mean(feature, features))
        for feature in features:
            if feature not in given:
                raise bad(f"{key}.{feature}", None, "missing")


def _check_variant(name: str, params: Params) -> None:
    variant, study = params.variants[name], params.studies[params.variants[name].study]
    _checked(Train, variant.train, f"variants.{name}.train", partial=True)
    merged, shape = recipe(params, name), study.source.shape()
    if merged.train.epochs * len(merged.seeds) > LONGEST_HISTORY:
        problem = f"too many for {len(merged.seeds)} seeds; epochs times seeds may be {LONGEST_HISTORY}"
        raise bad(written_at(params, name, "epochs"), merged.train.epochs, problem)
    if merged.scratch:
        _check_scratch(name, merged.layers, merged.train)
    if shape is None:
        return
    check_fit(merged, shape.classes, shape.targets, params)
    check_given(merged, shape.features, params)
    if study.metric in ("weight_error_max", "bias_error") and [layer.kind for layer in merged.layers] != ["linear"]:
        raise bad(f"variants.{name}.layers", None, f"{study.metric} is known for a single linear layer alone")
    if shape.rows:
        check_batch_size(merged, study.split.counts(shape.rows)[0], params)


def check_fit(recipe: Recipe, classes: int, targets: int, params: Params) -> None:
    """BadInput where the network and its loss cannot learn these labels (see `misfit`)."""
    problem = misfit(recipe.layers, recipe.train.loss, classes, targets)
    if problem and problem.startswith("train.loss"):
        problem = problem.replace("train.loss", written_at(params, recipe.variant, "loss"), 1)
        raise BadInput(f"{PARAMS_FILE}: {problem} (variant {recipe.variant})")
    if problem:
        raise BadInput(f"{PARAMS_FILE}: variants.{recipe.variant}.{problem}")


def check_batch_size(recipe: Recipe, train_rows: int, params: Params) -> None:
    """BadInput where a batch is larger than the training set, or batch norm would see a batch of one row."""
    size, key = recipe.train.batch_size, written_at(params, recipe.variant, "batch_size")
    rows = train_rows if size == "full" else size
    if rows > train_rows:
        raise bad(key, size, f"larger than the training set of {train_rows} rows")
    if any(layer.kind == "batch_norm" for layer in recipe.layers) and 1 in (rows, train_rows % rows):
        problem = f"batch_norm of {recipe.variant} cannot learn from a batch of one row ({train_rows} training rows)"
        raise bad(key, size, problem)


def check_given(recipe: Recipe, features: int, params: Params) -> None:
    """BadInput where the start is given, but not in the shapes of the layers."""
    init, key = recipe.train.init, written_at(params, recipe.variant, "init")
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


def _check_scratch(name: str, layers: list[LayerSpec], train: Train) -> None:
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
        raise bad(f"variants.{name}.scratch", True, f"training from scratch knows {need}")


# --- reading, and saying what is wrong ------------------------------------------------------------------------------


def load(path: Path = Path(PARAMS_FILE)) -> Params:
    """The whole of params.yaml, checked. BadInput names the first key that cannot be used."""
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))  # YAML 1.2: 1e-05 is a number
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text in UTF-8 ({error.reason})") from None
    except MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{path}:{line} {' '.join(str(error.problem).split())}") from None
    except YAMLError as error:
        raise BadInput(f"{path}: {str(error).splitlines()[0]}") from None
    except (ValueError, KeyError) as error:  # a scalar that is not of the kind that it looks like: 2024-99-99
        raise BadInput(f"{path}: a value cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: a mapping with seed, num_seeds, studies and variants is expected")
    params = _checked(Params, raw, "")
    for name, variant in params.variants.items():
        if variant.study not in params.studies:
            hint = did_you_mean(variant.study, params.studies)
            raise bad(f"variants.{name}.study", variant.study, "unknown study" + hint)
    for name, study in params.studies.items():
        _check_study(name, study, params)
    for name in params.variants:
        _check_variant(name, params)
    for name in params.studies:
        _check_same_loss(name, params)
    return params


def _checked(model: type[M], raw: dict[str, Any], prefix: str, partial: bool = False) -> M:
    """`raw` as a `model`; with `partial`, missing keys are no error (and what is returned is of no use)."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        details = [e for e in error.errors() if not (partial and e["type"] == "missing" and len(e["loc"]) == 1)]
        if details:
            raise explained(details, raw, prefix) from None
        return cast(M, model.model_construct())
