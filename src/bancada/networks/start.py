"""A list of layers as torch.nn.Sequential, and the parameters that one seed starts from."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bancada.networks.settings import BATCH_NORM_EPS, GivenInit, Init, LayerSpec, NormalInit, XavierNormal

BATCH_NORM_MOMENTUM = 0.1  # torch.nn.BatchNorm1d's own

State = dict[str, Tensor]  # by nn.Sequential's names, "0.weight"; one seed's, or of all seeds with a leading seed axis


def sequential(layers: Sequence[LayerSpec], features: int) -> nn.Sequential:
    """The network of one seed as anyone in PyTorch would write it: rows first, torch's own layers."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw a start of their own from the global generator
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
    if layer.kind == "softmax":
        return nn.Softmax(dim=1)
    plain: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}
    return plain[layer.kind]()


def start(layers: Sequence[LayerSpec], features: int, init: Init, generator: torch.Generator) -> State:
    """One seed's parameters and running statistics before any update, drawn in the order of the layers.

    ValueError where given values do not have the shapes of the layers.
    """
    network = sequential(layers, features).requires_grad_(False)
    linear = [module for module in network if isinstance(module, nn.Linear)]
    if isinstance(init, GivenInit) and not len(linear) == len(init.weights) == len(init.biases):
        raise ValueError(f"{len(linear)} linear layers need as many weights and biases")
    for i, module in enumerate(linear):
        bound = 1 / math.sqrt(module.in_features)
        if isinstance(init, GivenInit):
            _copy(module.weight, init.weights[i], f"weights[{i}]")
            _copy(module.bias, init.biases[i], f"biases[{i}]")
            continue
        if isinstance(init, XavierNormal):
            nn.init.xavier_normal_(module.weight, generator=generator)
        elif isinstance(init, NormalInit):
            nn.init.normal_(module.weight, std=init.std, generator=generator)
        else:
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        if module.bias is None:
            continue
        if isinstance(init, XavierNormal | NormalInit):
            nn.init.zeros_(module.bias)
        else:
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def _copy(parameter: Tensor | None, values: list[list[float]] | list[float], name: str) -> None:
    shape = [] if parameter is None else list(parameter.shape)
    given = torch.tensor(values, dtype=torch.float32)
    if list(given.shape) != shape:
        raise ValueError(f"{name} has the shape {list(given.shape)}, but the layer needs {shape}")
    if parameter is not None:
        parameter.copy_(given)
