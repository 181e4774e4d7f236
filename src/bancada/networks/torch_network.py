"""A network that has parts of torch's own, or is a module of the user's: its modules, its loss, and its outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Shaped
from torch import Tensor, nn

from bancada.base import BadInput, user_code
from bancada.networks.encoding import OF_CLASS_INDEX, Encoding, loss_name
from bancada.networks.portable import same_draws, settle
from bancada.networks.settings import Loss, Network, TorchPart
from bancada.networks.start import sequential

CHUNK_ROWS = 1024  # rows that pass through a network at once, to limit the memory
SRC = Path("src")  # where the user's files are; processes that train set it to a copy


class HalfMSELoss(nn.MSELoss):
    """Half the mean squared error. Lesson 5."""

    def forward(self, output: Tensor, observed: Tensor) -> Tensor:
        """Return half of what nn.MSELoss returns."""
        return super().forward(output, observed) / 2


SMALL_LOSSES: dict[str, type[nn.Module]] = {
    "mse": nn.MSELoss,
    "half_mse": HalfMSELoss,
    "l1": nn.L1Loss,
    "bce": nn.BCELoss,
    "cross_entropy": nn.CrossEntropyLoss,
}


def network(described: Network, shape: Sequence[int]) -> nn.Module:
    """Return a network for rows of this shape, with the start that torch's global generator gives.

    Raise BadInput, with the user's file and line, if the module cannot be made.
    """
    module = described.module
    if module is None:
        return sequential(described.layers or [], shape)
    made = user_code.load(SRC, module.file, module.name)
    built = user_code.call(made, module.args, module.file)
    if not isinstance(built, nn.Module):
        raise BadInput(f"{module.file}: {module.name} gives a {type(built).__name__}, not a torch.nn.Module")
    return built


def loss_function(loss: Loss, **more: Any) -> nn.Module:
    """Return the loss as a module of torch.nn. `more` are other arguments of it, such as `reduction`."""
    if not isinstance(loss, TorchPart):
        return SMALL_LOSSES[loss](**more)
    made: nn.Module = getattr(nn, loss.name)(**loss.args, **more)
    return made


def observed(targets: Shaped[np.ndarray, "row target"], encoding: Encoding, loss: Loss) -> Shaped[Tensor, "row ..."]:
    """Return the targets as the loss takes them: class indices [row], or numbers [row, output]."""
    if loss_name(loss) in OF_CLASS_INDEX:
        return torch.from_numpy(targets[:, 0].astype(np.int64))
    return torch.from_numpy(np.ascontiguousarray(encoding.encode(targets).T))


@torch.no_grad()
def outputs(model: nn.Module, inputs: Float32[Tensor, "row *shape"]) -> Float32[Tensor, "row output"]:
    """Return the outputs of the network in evaluation mode."""
    model.eval()
    return torch.cat([model(chunk.clone()) for chunk in inputs.split(CHUNK_ROWS)])  # it may change what it gets


@torch.no_grad()
def mean_loss(loss: nn.Module, output: Float32[Tensor, "row output"], target: Shaped[Tensor, "row ..."]) -> float:
    """Return the mean loss over the rows, of which a small last chunk counts by its rows."""
    chunks = zip(output.split(CHUNK_ROWS), target.split(CHUNK_ROWS), strict=True)
    total: float = sum(loss(some, of).item() * len(some) for some, of in chunks)
    return total / len(output)


def outputs_of_seeds(
    described: Network, weights: Mapping[str, np.ndarray], inputs: Float32[np.ndarray, "row *shape"]
) -> Float64[np.ndarray, "seed row output"]:
    """Return the outputs of all seeds' networks; `weights` are [seed, ...].

    They are NaN where weights or outputs are not finite. Raise BadInput for an error in the user's module.
    """
    with same_draws():
        model = network(described, inputs.shape[1:])
    settle(described.bits)
    rows, found = torch.from_numpy(inputs), []
    for seed in range(len(next(iter(weights.values())))):
        own = {name: torch.from_numpy(np.array(value[seed])) for name, value in weights.items()}
        model.load_state_dict(own)
        whole = all(bool(value.isfinite().all()) for value in own.values())
        with same_draws(), user_code.told(SRC, described.module.file if described.module else "layers"):
            output = outputs(model, rows).double().numpy()
        found.append(np.where(whole & np.isfinite(output), output, np.nan))
    return np.stack(found)


def losses_of_seeds(
    loss: Loss,
    output: Float64[np.ndarray, "seed row output"],
    targets: Shaped[np.ndarray, "row target"],
    encoding: Encoding,
) -> Float64[np.ndarray, " seed"]:
    """Return the loss of each seed over these rows; NaN outputs give NaN. Raise BadInput for those it cannot take."""
    function, target = loss_function(loss), observed(targets, encoding, loss)
    finite = np.isfinite(output).all(axis=(1, 2))  # BCELoss raises an error for NaN
    losses = np.full(len(output), np.nan)
    with user_code.told(SRC, loss_name(loss)):
        losses[finite] = [mean_loss(function, torch.from_numpy(one).float(), target) for one in output[finite]]
    return losses
