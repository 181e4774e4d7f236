"""What can only be seen once rows went through a network: a first batch is tried, and the training is gone on with."""

import math
import pickle

import numpy as np
import torch
from safetensors import numpy as safetensors
from torch import Tensor, nn

from bancada.base import BadInput, user_code
from bancada.networks import torch_network
from bancada.networks.encoding import OF_NUMBERS, last_kind, loss_name
from bancada.networks.portable import same_draws, settle
from bancada.training import fit, torch_names
from bancada.training.replica import Data, Replica
from bancada.training.torch_engine import Training

DRAWS, ROWS = 20, 64  # of parameters, and rows whose outputs are looked at
WAY_OUT = (
    "what it learns must be in parameters, in persistent buffers (register_buffer), or in modules (nn.ModuleList for a"
    " list of layers), all made in __init__, and it must draw with the functions of torch, numpy.random or random"
)


def probe(replica: Replica, data: Data, where: torch_names.Where) -> None:
    """Try a batch and one as small as the last. Raise BadInput, in one line, for what could only be seen in training.

    `where`: where the recipe's keys stand in params.yaml.
    """
    torch_names.refuse_misfit(replica.recipe, where, *data.train.inputs.shape)
    size = replica.recipe.train.batch_rows(len(data.train))
    rows = size + len(data.train) % size
    few = Data(data.train.first(rows), data.validation.first(rows), data.classes)
    tried = Training(replica, few)
    last, number = last_kind(replica.recipe.layers), loss_name(tried.asked.loss) in OF_NUMBERS
    with tried.told():
        if number and (problem := fit.out_of_reach(last, tried.encoding.encode(data.train.targets))):
            raise BadInput(problem)
    tried.now = "a first batch"
    _refuse_nan(tried, size)
    tried.epoch()
    tried.now = ""
    with tried.told():
        _refuse_unkept(tried.model)
    state = pickle.dumps(tried.state())
    user_code.forget()  # so that what a class or a file has counted is not there when it is loaded
    with tried.told(f": {WAY_OUT}"):
        loaded = torch_network.network(replica.recipe.network, few.train.inputs.shape[1:]).to(tried.device)
        settle(tried.asked.bits)  # the user's file may have set other switches
        loaded.load_state_dict(tried.model.state_dict())
        if _outputs(loaded, tried.inputs) != _outputs(tried.model, tried.inputs):
            raise BadInput("gives other outputs once it is loaded from its state_dict")
        again = Training(Replica(replica.recipe, replica.seed + 1), few)
        if _next_epoch(again, state, replica.seed) != _next_epoch(tried, state, replica.seed):
            raise BadInput("learns something else where its training was cut off and goes on")
    with tried.told():
        _refuse_one_sided(again)


def _refuse_nan(tried: Training, count: int) -> None:
    """Raise BadInput if the first rows have no finite loss in training mode, before anything was learned."""
    tried.model.train()
    with tried.told(), torch.no_grad():
        loss = tried.loss_of(torch.arange(count, device=tried.device)).item()
        if not math.isfinite(loss):
            raise BadInput(f"gives {'NaN' if math.isnan(loss) else 'an infinite loss'} in training")


def _refuse_unkept(model: nn.Module) -> None:
    """Raise BadInput if the state_dict of the network cannot be stored."""
    for name, value in model.state_dict().items():
        try:
            safetensors.save({name: np.array(value.detach().cpu().numpy(), order="C")})
        except (AttributeError, TypeError, KeyError) as error:
            what = getattr(value, "dtype", type(value).__name__)
            raise BadInput(f"{name} in its state_dict is {what}, which cannot be saved; keep it in float32") from error


def _outputs(model: nn.Module, inputs: Tensor) -> bytes:
    with same_draws():
        return torch_network.outputs(model, inputs[:ROWS]).double().cpu().numpy().tobytes()


def _next_epoch(one: Training, state: bytes, seed: int) -> list[bytes]:
    """Return all bits of the network after an epoch that begins in this state."""
    one.seed, one.schedule = seed, None  # the schedule may have come to its end
    one.resume(pickle.loads(state))
    one.epoch()
    return [value.numpy().tobytes() for value in one.weights().values()]


def _refuse_one_sided(again: Training) -> None:
    """Raise BadInput if a threshold decides, and the outputs cannot be on both sides of it.

    Draw other parameters again and again: a network that ends in a linear layer then gives both signs.
    """
    found, threshold = list[Tensor](), again.encoding.threshold
    torch.manual_seed(1)
    for _ in range(DRAWS):
        with torch.no_grad():
            for value in again.parameters:
                value.copy_(value * torch.randn_like(value) + 0.1 * torch.randn_like(value))
        found.append(torch_network.outputs(again.model, again.inputs[:ROWS]))
    output = torch.stack(found)
    if loss_name(again.asked.loss) == "BCELoss" and ((output < 0) | (output > 1)).any():
        raise BadInput(
            "BCELoss takes numbers from 0 to 1, but outputs can be others; end in Sigmoid, or use BCEWithLogitsLoss"
        )
    above, below = (False, False) if threshold is None else ((output > threshold).any(), (output < threshold).any())
    if above != below:
        side = "below" if above else "above"
        way_out = "end in a linear layer, or in a Sigmoid with the loss BCELoss"
        raise BadInput(f"its one output is never {side} {threshold:g}, so it decides for one class alone; {way_out}")
