"""A list of layers as torch.nn.Sequential, and the initial parameters of one seed."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bancada.networks.settings import BATCH_NORM_EPS, GivenInit, Init, LayerSpec, NormalInit, TorchInit, XavierNormal

BATCH_NORM_MOMENTUM = 0.1  # the default of torch.nn.BatchNorm1d

State = dict[str, Tensor]  # by the names of nn.Sequential: "0.weight"; of one seed, or [seed, ...] of all seeds


def sequential(layers: Sequence[LayerSpec], features: int) -> nn.Sequential:
    """Return the network of one seed as PyTorch's own layers. Its input is [row, feature]."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw initial parameters from the global generator
        modules: list[nn.Module] = []
        for layer in layers:
            modules.append(_module(layer, features))
            features = layer.width or features
    return nn.Sequential(*modules)


def _module(layer: LayerSpec, features: int) -> nn.Module:
    if layer.kind == "linear":
        return nn.Linear(features, layer.width or 0, bias=layer.bias is not False)
    if layer.kind == "batch_norm":
        return nn.BatchNorm1d(features, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
    if layer.kind == "dropout":
        return nn.Dropout(layer.rate or 0.0)
    return {"tanh": nn.Tanh(), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}[layer.kind]


def start(layers: Sequence[LayerSpec], features: int, init: Init, generator: torch.Generator) -> State:
    """Return the initial parameters and running statistics of one seed, drawn layer by layer.

    Raise ValueError or RuntimeError if given parameters do not have the shapes of the layers.
    """
    network = sequential(layers, features).requires_grad_(False)
    linear = [module for module in network if isinstance(module, nn.Linear)]
    if isinstance(init, GivenInit):
        for module, weight, bias in zip(linear, init.weights, init.biases, strict=True):
            module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    else:
        for module in linear:
            _draw(module, init, generator)
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


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
