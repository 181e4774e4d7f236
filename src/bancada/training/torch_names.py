"""Classes of torch that params.yaml names, and their arguments, checked against torch itself.

Names are compared with torch's signatures. Values are tried, because torch says best what is wrong with them: each part
is built and used a few times on made-up numbers. Only what torch would silently take for something else is refused
before.
"""

import inspect
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from bancada.base import BadInput
from bancada.base.refusals import PARAMS_FILE, bad, did_you_mean
from bancada.networks import torch_network
from bancada.networks.encoding import OF_CLASS_INDEX, OF_NUMBERS, OF_TWO_CLASSES
from bancada.networks.settings import TorchPart, is_torch_name
from bancada.networks.start import sequential
from bancada.training import fit, optimizers
from bancada.training.settings import LR_OF, Recipe, Train

LOSSES = [name for name in (*OF_NUMBERS, *OF_CLASS_INDEX, *OF_TWO_CLASSES) if is_torch_name(name)]
NOT_HERE = {  # arguments that have another place, or none
    "lr": "it stands beside loss and epochs, as lr",
    "device": "it stands at the top of params.yaml",
    **dict.fromkeys(("params", "optimizer", "dtype", "foreach", "last_epoch"), "bancada chooses it"),
    **dict.fromkeys(("weight", "pos_weight"), "class_weight: balanced beside loss and epochs weights the classes"),
    **dict.fromkeys(("reduction", "size_average", "reduce", "ignore_index"), "a loss is the mean over the rows"),
}
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
TRIED_STEPS = 1000  # of a schedule, at most
Where = Mapping[str, str]  # where loss, optimizer and schedule stand in params.yaml


def refuse_misfit(recipe: Recipe, where: Where, rows: int, *shape: int) -> None:
    """Raise BadInput for the first class of torch in the recipe that does not exist, or whose arguments do not fit.

    The training inputs are [rows, *shape].
    """
    _check_layers(recipe, shape)
    train = recipe.train
    if isinstance(train.loss, TorchPart):
        _check_loss(train.loss, where["loss"])
    if isinstance(train.optimizer, TorchPart):
        _check_optimizer(train, train.optimizer, where["optimizer"])
    if isinstance(train.schedule, TorchPart):
        _check_schedule(train, train.schedule, where["schedule"], rows)


def _check_layers(recipe: Recipe, shape: Sequence[int]) -> None:
    for i, layer in enumerate(recipe.layers or ()):
        if isinstance(layer, TorchPart):
            key = f"variants.{recipe.variant}.layers[{i}]"
            _check_arguments(key, layer, _class(key, layer, nn, nn.Module), f"{key}.{layer.name}")
    if recipe.layers:
        try:
            with torch.random.fork_rng(devices=[]):
                sequential(recipe.layers, shape)
        except BadInput as error:
            what = f"{PARAMS_FILE}: variants.{recipe.variant}.{error}; {fit.a_row(recipe, shape)}"
            raise BadInput(what) from error


def _check_loss(loss: TorchPart, key: str) -> None:
    made = _class(key, loss, nn, nn.Module)
    if loss.name not in LOSSES:
        raise bad(key, loss.name, f"has no rule here for decisions and predictions; one of {', '.join(LOSSES)}")
    _check_arguments(key, loss, made)
    output = torch.full((2, 2), 0.5, requires_grad=True)
    target = torch.tensor([0, 1]) if loss.name in OF_CLASS_INDEX else torch.eye(2)
    with _told(key, loss):
        value = torch_network.loss_function(loss)(output, target)
        value.backward()
    if not value.isfinite():
        raise bad(key, loss.name, f"gives {value.item()}")


def _check_optimizer(train: Train, optimizer: TorchPart, key: str) -> None:
    _check_arguments(key, optimizer, _class(key, optimizer, torch.optim, Optimizer))
    with _told(key, optimizer):
        _update(_optimizer(train))


def _check_schedule(train: Train, schedule: TorchPart, key: str, rows: int) -> None:
    _check_arguments(key, schedule, _class(key, schedule, lr_scheduler, lr_scheduler.LRScheduler))
    plateau, by_update = schedule.name == "ReduceLROnPlateau", train.each_update()
    if plateau and by_update:
        raise bad(f"{key}.every", "update", "the validation loss, which it watches, is known after an epoch")
    if plateau and schedule.args.get("mode") == "max":
        raise bad(f"{key}.mode", "max", "it watches the validation loss, of which less is better")
    updates = math.ceil(rows / train.batch_rows(rows))
    steps = train.steps(updates)
    with _told(key, schedule):
        optimizer = _optimizer(train)
        made: Any = optimizers.schedule(train, optimizer, updates)
        if schedule.name == "OneCycleLR" and made.total_steps < steps:
            problem = f"ends after {made.total_steps} of the {steps} steps; without total_steps it fits"
            raise bad(key, schedule.name, problem)
        _update(optimizer)
        for _ in range(min(steps, TRIED_STEPS) - 1):
            made.step(*([1.0] if plateau else []))
            lr = float(optimizer.param_groups[0]["lr"])
            if not 0 <= lr < math.inf:
                raise bad(key, schedule.name, f"gives the learning rate {lr:g}")


def _optimizer(train: Train) -> Optimizer:
    """Return the optimizer of weights and a bias."""
    return optimizers.optimizer(train, [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))])


def _update(optimizer: Optimizer) -> None:
    for _ in range(3):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.full_like(parameter, 0.1)
        optimizer.step()


def _class(key: str, part: TorchPart, module: Any, base: type) -> Any:
    """Return the class of torch."""
    classes = {name for name, made in vars(module).items() if isinstance(made, type) and issubclass(made, base)}
    known = {name for name in classes if is_torch_name(name) and name != base.__name__}
    if part.name not in known:
        raise bad(key, part.name, f"{module.__name__} has no such class{did_you_mean(part.name, sorted(known))}")
    return getattr(module, part.name)


def _check_arguments(key: str, part: TorchPart, made: Any, inside: str = "") -> None:
    """Compare the arguments with the signature of the class. `inside`: where they stand, if not in `key` itself."""
    parameters, inside = inspect.signature(made).parameters, inside or key
    known = [name for name in parameters if name not in NOT_HERE and not name.startswith("_")]
    for name, value in part.args.items():
        if name in NOT_HERE and name in parameters:
            raise bad(f"{inside}.{name}", value, f"is not written here: {NOT_HERE[name]}")
        if name not in known:
            raise bad(f"{inside}.{name}", None, f"unknown key{did_you_mean(name, known)}")
        if problem := _misfit(parameters[name], value):
            raise bad(f"{inside}.{name}", value, problem)
    for name in known:
        needed = parameters[name].default is inspect.Parameter.empty and parameters[name].kind not in VARIADIC
        if needed and name not in (*part.args, LR_OF.get(part.name)):
            raise bad(f"{inside}.{name}", None, "missing")


def _misfit(parameter: inspect.Parameter, value: Any) -> str | None:
    """Return why an argument cannot have this value, where torch would take it: `no` for true, a word for a number."""
    annotation, default = parameter.annotation, parameter.default
    kind = annotation.__name__ if isinstance(annotation, type) else str(annotation)  # some of torch's are strings
    if isinstance(default, bool) or kind.startswith("bool"):
        return None if isinstance(value, bool) or value is default else "must be true or false"
    if not re.search("str|Callable", kind) and (
        isinstance(default, int | float) or re.search(r"\b(int|float)\b", kind)
    ):
        if any(isinstance(one, str | bool) for one in (value if isinstance(value, list) else [value])):
            return "must be a number" + " or several" * ("[" in kind)
        if kind == "int" and isinstance(value, float):
            return "must be a whole number"
    return None


@contextmanager
def _told(key: str, part: TorchPart) -> Iterator[None]:
    """Raise what torch says about values, warnings too, as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of a value that torch changes, for example
            yield
    except BadInput:
        raise
    except Exception as error:  # torch raises whatever a wrong value leads to
        given = ", ".join(f"{name}={value!r}" for name, value in part.args.items())
        text = " ".join(f"{part.name}({given}): {type(error).__name__}: {error}".split())
        raise bad(key, part.name, text) from error
