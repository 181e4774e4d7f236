"""Optimizers and learning rate schedules of params.yaml as those of torch.optim."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiplicativeLR, StepLR

from bancada.networks.settings import TorchPart
from bancada.training import settings as options

SMALL = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}  # their options have the names of torch's arguments


def optimizer(train: options.Train, parameters: Iterable[Tensor]) -> Optimizer:
    """Return the optimizer of these parameters."""
    chosen = train.optimizer
    args = chosen.args if isinstance(chosen, TorchPart) else chosen.model_dump(exclude={"name"})
    made: Optimizer = getattr(torch.optim, SMALL.get(chosen.name, chosen.name))(parameters, lr=train.lr, **args)
    return made


def schedule(train: options.Train, optimizer: Optimizer, updates: int) -> LRScheduler | None:
    """Return the schedule of the optimizer's learning rate, if there is one. `updates`: of an epoch."""
    chosen = train.schedule
    if isinstance(chosen, TorchPart):
        given: dict[str, float] = {options.LR_OF[chosen.name]: train.lr} if chosen.name in options.LR_OF else {}
        if chosen.name == "OneCycleLR" and not chosen.args.keys() & {"total_steps", "epochs", "steps_per_epoch"}:
            given["total_steps"] = train.steps(updates)
        made: LRScheduler = getattr(torch.optim.lr_scheduler, chosen.name)(optimizer, **given | chosen.args)
        return made
    if isinstance(chosen, options.StepSchedule):
        return StepLR(optimizer, chosen.step_size, chosen.gamma)
    if isinstance(chosen, options.Cosine):
        return CosineAnnealingLR(optimizer, chosen.t_max or train.steps(updates), chosen.eta_min)
    if not isinstance(chosen, options.InverseTime):
        return None
    decay = chosen.decay
    optimizer.param_groups[0]["lr"] /= 1 + decay  # lesson 5 also multiplies before the first update
    return MultiplicativeLR(optimizer, lambda k: 1 / (1 + decay * (k + 1)))
