"""What a network that was tried for a first batch must be like, so that its training can be kept and used."""

import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from safetensors import numpy as safetensors
from torch import Tensor, nn

from bancada.base import BadInput, user_code
from bancada.networks import torch_network
from bancada.networks.encoding import loss_name
from bancada.networks.portable import settle
from bancada.networks.settings import Network

DRAWS, ROWS = 20, 64  # of parameters, and rows whose outputs are looked at
TORCHS = vars(nn.Module()).keys()  # attributes that every module has
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
WAY_OUT = (
    "what it learns or draws must be in parameters, in persistent buffers (register_buffer),"
    " or in modules (nn.ModuleList for a list of layers)"
)


def refuse_unfit(model: nn.Module, described: Network, rows: Tensor, threshold: float | None) -> None:
    """Raise BadInput if the state_dict of the network is not all that it gives its outputs by.

    Nor can it be trained if its outputs cannot be on both sides of the threshold, where a threshold decides.
    """
    _refuse_generators(model)
    state = _kept(model)
    user_code.forget()  # so that what a class or a file has counted is not there, either
    torch.manual_seed(1)
    fresh = torch_network.network(described, rows.shape[1:]).to(rows.device)
    settle(described.bits)
    _load(fresh, state)
    some = rows[:ROWS]
    found = list[bytes]()
    for one in (model, fresh):
        with torch_network.same_draws():
            found.append(torch_network.outputs(one, some).double().cpu().numpy().tobytes())
    if found[0] != found[1]:
        names = _suspects(model, fresh)
        hint = f" (look at {', '.join(names[:3])})" if names else ""
        raise BadInput(f"gives other outputs once it is loaded from its state_dict{hint}: {WAY_OUT}")
    _refuse_one_sided(fresh, some, described, threshold)


def refuse_no_probabilities(output: Tensor, described: Network) -> None:
    """Raise BadInput if the loss takes numbers from 0 to 1, and these outputs are not."""
    if loss_name(described.loss) == "BCELoss" and ((output < 0) | (output > 1)).any():
        way_out = "end in Sigmoid, or use BCEWithLogitsLoss"
        raise BadInput(f"BCELoss takes numbers from 0 to 1, but outputs can be others; {way_out}")


def _refuse_generators(model: nn.Module) -> None:
    for name, value in _attributes(model).items():
        if any(isinstance(part, GENERATORS) for part in _parts(value)):
            kept = "draw with the functions of torch, numpy.random or random, which are seeded and kept"
            raise BadInput(f"self.{name} is a generator, whose state would be lost when a training is resumed; {kept}")


def _kept(model: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict as the stage would keep and read it."""
    state = dict[str, np.ndarray]()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise BadInput(f"{name} in its state_dict is a {type(value).__name__}, not a tensor; {WAY_OUT}")
        try:
            state[name] = np.array(value.detach().cpu().numpy(), order="C")
            safetensors.save({name: state[name]})
        except (TypeError, KeyError) as error:
            what = f"{name} in its state_dict has the type {value.dtype}, which cannot be saved"
            raise BadInput(f"{what}; keep it in float32 or float64") from error
    return {name: torch.from_numpy(value) for name, value in state.items()}


def _load(fresh: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        fresh.load_state_dict(state)
    except RuntimeError as error:
        text = " ".join(str(error).partition(":")[2].split())
        what = "once trained, its state_dict does not fit a new one"
        raise BadInput(f"{what}: {text} Make all parameters, buffers and modules in __init__") from error


def _refuse_one_sided(fresh: nn.Module, rows: Tensor, described: Network, threshold: float | None) -> None:
    """Draw other parameters again and again: a network that ends in a linear layer then gives both signs."""
    found = list[Tensor]()
    for _ in range(DRAWS):
        with torch.no_grad():
            for value in fresh.parameters():
                if value.is_floating_point():
                    value.copy_(value * torch.randn_like(value) + 0.1 * torch.randn_like(value))
        found.append(torch_network.outputs(fresh, rows))
    output = torch.stack(found)
    refuse_no_probabilities(output, described)
    above, below = (False, False) if threshold is None else ((output > threshold).any(), (output < threshold).any())
    if above != below:
        side = "below" if above else "above"
        way_out = "end in a linear layer, or in a Sigmoid with the loss BCELoss"
        raise BadInput(f"its one output is never {side} {threshold:g}, so it decides for one class alone; {way_out}")


def _suspects(model: nn.Module, fresh: nn.Module) -> list[str]:
    """Return the attributes that may be why two networks with the same state_dict differ."""
    theirs, modules = _attributes(fresh), set(model.modules())
    return [
        f"self.{name}"
        for name, value in _attributes(model).items()
        if any(isinstance(part, nn.Module) and part not in modules for part in _parts(value))
        or repr(value) != repr(theirs.get(name))
    ]


def _attributes(model: nn.Module) -> dict[str, Any]:
    """Return what a network's modules have as attributes, apart from their parameters and modules, by name."""
    return {
        f"{path}.{name}".strip("."): value
        for path, module in model.named_modules()
        for name, value in chain(vars(module).items(), module.named_buffers(recurse=False))
        if name not in TORCHS
    }


def _parts(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
