"""A list of layers as torch.nn.Sequential, and the initial parameters of one seed."""

import math
import warnings
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bancada.base import BadInput
from bancada.networks.inference import BATCH_NORM_EPS
from bancada.networks.settings import (
    GivenInit,
    Init,
    Layer,
    LayerSpec,
    NormalInit,
    TorchInit,
    TorchPart,
    XavierNormal,
)

BATCH_NORM_MOMENTUM = 0.1  # the default of torch.nn.BatchNorm1d

State = dict[str, Tensor]  # by the names of nn.Sequential: "0.weight"; of one seed, or [seed, ...] of all seeds


def sequential(layers: Sequence[Layer], shape: Sequence[int]) -> nn.Sequential:
    """Return the network of one seed as PyTorch's own layers. Its input is [row, *shape].

    Classes of torch draw their parameters from the global generator; the size that comes out of them is tried. Raise
    BadInput, which names the layer, where one cannot be made or does not fit.
    """
    modules, mixed = list[nn.Module](), any(isinstance(layer, TorchPart) for layer in layers)
    for i, layer in enumerate(layers):
        text = f"layers[{i}]: {layer.name if isinstance(layer, TorchPart) else layer.kind}"
        try:
            made = _torchs(layer) if isinstance(layer, TorchPart) else _module(layer, shape)
            text = f"layers[{i}]: {str(made).partition(chr(10))[0].rstrip('(')}"
            if mixed:
                shape = _shape_after(made, shape)
            elif isinstance(layer, LayerSpec) and layer.width:
                shape = (*shape[:-1], layer.width)
        except Exception as error:  # torch raises whatever a wrong value or shape leads to
            raise BadInput(" ".join(f"{text} for rows of shape {list(shape)}: {error}".split())) from error
        modules.append(made.train())
    return nn.Sequential(*modules)


def _torchs(layer: TorchPart) -> nn.Module:
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.args.items()}
    made: nn.Module = getattr(nn, layer.name)(**args)
    return made


def _shape_after(module: nn.Module, shape: Sequence[int]) -> Sequence[int]:
    """Return the shape of a row after this layer. Raise ValueError where there is none, and what torch raises."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a dimension that torch guesses, for example
        warnings.filterwarnings("ignore", "Lazy modules")  # that these are new
        output = module.eval()(torch.zeros(2, *shape))
    if not isinstance(output, Tensor):
        raise ValueError(f"gives a {type(output).__name__}, not a tensor; write a module of your own")
    if len(output) != 2:
        raise ValueError(f"gives {list(output.shape)} for 2 rows, without a place for each")
    return output.shape[1:]


def _module(layer: LayerSpec, shape: Sequence[int]) -> nn.Module:
    if layer.kind == "linear":
        with torch.random.fork_rng(devices=[]):  # the parameters are drawn later
            return nn.Linear(shape[-1], layer.width or 0, bias=layer.bias is not False)
    if layer.kind == "batch_norm":
        if len(shape) > 2:
            raise ValueError(f"write {{BatchNorm{len(shape) - 1}d: {{num_features: {shape[0]}}}}}")
        return nn.BatchNorm1d(shape[0], eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
    if layer.kind == "dropout":
        return nn.Dropout(layer.rate or 0.0)
    if layer.kind == "softmax" and len(shape) > 1:
        raise ValueError("write {Softmax: {dim: 1}}, or another dim")
    return {"tanh": nn.Tanh(), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}[layer.kind]


def start(layers: Sequence[Layer], shape: Sequence[int], init: Init, generator: torch.Generator) -> State:
    """Return the initial parameters and running statistics of one seed, drawn layer by layer.

    Raise ValueError or RuntimeError if given parameters do not have the shapes of the layers.
    """
    network = sequential(layers, shape)
    draw(network, layers, init, generator)
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


@torch.no_grad()
def draw(network: nn.Sequential, layers: Sequence[Layer], init: Init, generator: torch.Generator) -> None:
    """Draw the parameters of the linear layers of the small vocabulary; those of torch's classes stay as they are.

    Raise ValueError or RuntimeError if given parameters do not have the shapes of the layers.
    """
    linear = drawn(network, layers)
    if isinstance(init, GivenInit):
        for module, weight, bias in zip(linear, init.weights, init.biases, strict=True):
            module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    else:
        for module in linear:
            _draw(module, init, generator)


def drawn(network: nn.Sequential, layers: Sequence[Layer]) -> list[nn.Linear]:
    """Return the modules of the linear layers of the small vocabulary."""
    small = [isinstance(layer, LayerSpec) and layer.kind == "linear" for layer in layers]
    return [cast(nn.Linear, module) for module, own in zip(network, small, strict=True) if own]


def _draw(module: nn.Linear, init: TorchInit | XavierNormal | NormalInit, generator: torch.Generator) -> None:
    bias = torch.empty(0) if module.bias is None else module.bias
    if isinstance(init, TorchInit):
        bound = 1 / math.sqrt(module.in_features)
        nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        nn.init.uniform_(bias, -bound, bound, generator=generator)
        return
    if isinstance(init, XavierNormal):
        nn.init.xavier_normal_(module.weight, generator=generator)
    else:
        nn.init.normal_(module.weight, std=init.std, generator=generator)
    nn.init.zeros_(bias)
