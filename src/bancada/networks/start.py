"""A list of layers as torch.nn.Sequential, and the initial parameters of one seed."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bancada.base import BadInput
from bancada.networks import kernel
from bancada.networks.settings import Init, Layer, LayerSpec, TorchPart


def sequential(layers: Sequence[Layer], shape: Sequence[int]) -> nn.Sequential:
    """Return the network of one seed as PyTorch's own layers. Its input is [row, *shape].

    Classes of torch draw their parameters from the global generator; the size that comes out of them is tried. Raise
    BadInput, which names the layer, where one cannot be made or does not fit.
    """
    modules, rows = list[nn.Module](), torch.zeros(2, *shape)
    for i, layer in enumerate(layers):
        text = f"layers[{i}]: {layer.name if isinstance(layer, TorchPart) else layer.kind}"
        shape = rows.shape[1:]
        try:
            made = _torchs(layer) if isinstance(layer, TorchPart) else _module(layer, shape)
            text = f"layers[{i}]: {str(made).partition(chr(10))[0].rstrip('(')}"
            rows = _after(made, rows)
        except Exception as error:  # torch raises whatever a wrong value or shape leads to
            raise BadInput(" ".join(f"{text} for rows of shape {list(shape)}: {error}".split())) from error
        modules.append(made.train())
    return nn.Sequential(*modules)


def _torchs(layer: TorchPart) -> nn.Module:
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.args.items()}
    made: nn.Module = getattr(nn, layer.name)(**args)
    return made


def _after(module: nn.Module, rows: Tensor) -> Tensor:
    """Return what the layer makes of two rows. Raise ValueError if that is no tensor of two, and what torch raises."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a dimension that torch guesses, for example
        warnings.filterwarnings("ignore", "Lazy modules")  # that these are new
        output = module.eval()(rows)
    if not isinstance(output, Tensor):
        raise ValueError(f"gives a {type(output).__name__}, not a tensor; write a module of your own")
    if len(output) != 2:
        raise ValueError(f"gives {list(output.shape)} for 2 rows, without a place for each")
    return torch.zeros_like(output)


def _module(layer: LayerSpec, shape: Sequence[int]) -> nn.Module:
    if layer.kind == "linear":
        with torch.random.fork_rng(devices=[]):  # the parameters are drawn later
            return nn.Linear(shape[-1], layer.width or 0, bias=layer.bias is not False)
    if layer.kind == "batch_norm":
        if len(shape) > 2:
            raise ValueError(f"write {{BatchNorm{len(shape) - 1}d: {{num_features: {shape[0]}}}}}")
        return nn.BatchNorm1d(shape[0])
    if layer.kind == "dropout":
        return nn.Dropout(layer.rate or 0.0)
    if layer.kind == "softmax" and len(shape) > 1:
        raise ValueError("write {Softmax: {dim: 1}}, or another dim")
    return {"tanh": nn.Tanh(), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}[layer.kind]


def draw(network: nn.Sequential, layers: Sequence[Layer], init: Init, seed: int) -> None:
    """Draw the parameters of the linear layers of the small vocabulary; those of torch's classes stay as they are.

    Raise ValueError or RuntimeError if given parameters do not have the shapes of the layers.
    """
    pairs = enumerate(zip(network, layers, strict=True))
    linear = {i: module for i, (module, of) in pairs if isinstance(of, LayerSpec) and isinstance(module, nn.Linear)}
    sizes = {i: (module.in_features, module.out_features, module.bias is not None) for i, module in linear.items()}
    for i, (weight, bias) in kernel.linear_starts(sizes, init, seed).items():
        named = {"weight": weight} | ({} if bias is None else {"bias": bias})
        linear[i].load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
