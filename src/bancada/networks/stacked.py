"""A list of layers -> a network with a leading seed axis, and back to one nn.Sequential per seed.

Activations are laid out [seed, unit, row], rows last and filled up to a multiple of 16. Both matter: small matrix
products are several times faster than with rows first, and an elementwise kernel computes what is left over after its
last full vector by another formula, so that without filling a seed's bits would depend on how many seeds stand beside
it. What fills up has weight 0 in every loss and mean, and gradient 0.

Gradients are written out by hand, layer by layer, into buffers made once: on networks this small nearly all time goes
into calling kernels, and autograd calls more. tests/test_network.py holds every layer against autograd.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bancada.networks.settings import BATCH_NORM_EPS, LayerSpec
from bancada.networks.start import BATCH_NORM_MOMENTUM, State

FILL = 16  # floats in two AVX2 vectors, the largest step of torch's elementwise kernels


def filled(rows: int) -> int:
    return math.ceil(rows / FILL) * FILL


# --- parameters -----------------------------------------------------------------------------------------------------


class Parameters:
    """All parameters of all seeds in one flat tensor, filled up to a multiple of 16, and their gradients in another.

    `values` and `gradients` are views by name, [seed, ...]; so are `statistics`, batch norm's running means and
    variances, and `latest`, those of the last batch, in two flat tensors of their own.
    """

    def __init__(self, states: Sequence[State], device: str = "cpu") -> None:
        stacked = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
        self.seeds = len(states)
        trained = {name: value for name, value in stacked.items() if "running" not in name}
        running = {name: value for name, value in stacked.items() if "running" in name}
        self.flat, self.values = _flat(trained)
        self.flat.grad = torch.zeros_like(self.flat)
        self.gradients = _views(self.flat.grad, trained)
        self.running, self.statistics = _flat(running)
        self.batch = torch.zeros_like(self.running)
        self.latest = _views(self.batch, running)

    def blend_statistics(self) -> None:
        """Move the running statistics a step towards the last batch's."""
        self.running.mul_(1 - BATCH_NORM_MOMENTUM).add_(self.batch * BATCH_NORM_MOMENTUM)

    def state(self) -> State:
        """Copies, [seed, ...], on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in {**self.values, **self.statistics}.items()}


def _flat(parts: State) -> tuple[Tensor, State]:
    """All parts in one tensor, filled up with zeros, and views of them by name."""
    sizes = [value.numel() for value in parts.values()]
    like = next(iter(parts.values()), torch.empty(0))
    flat = like.new_zeros(filled(sum(sizes)))
    views = _views(flat, parts)
    for name, value in parts.items():
        views[name].copy_(value)
    return flat, views


def _views(flat: Tensor, parts: State) -> State:
    used = flat[: sum(value.numel() for value in parts.values())]
    split = torch.split(used, [value.numel() for value in parts.values()])
    return {name: part.view_as(value) for part, (name, value) in zip(split, parts.items(), strict=True)}


# --- layers ---------------------------------------------------------------------------------------------------------


class Layer(ABC):
    @abstractmethod
    def forward(self, h: Tensor) -> Tensor:
        """[seed, unit in, row] -> [seed, unit out, row]; leaves `h` as it is, since an earlier layer may need it."""

    @abstractmethod
    def backward(self, gradient: Tensor) -> Tensor:
        """The loss's gradient by what `forward` returned -> by what it got; may write over `gradient`."""


class Linear(Layer):
    """W h + b, with W [seed, out, in] and b [seed, out, 1]; times `factor`, which is 2 where a tanh wants it so."""

    def __init__(self, parameters: Parameters, name: str, rows: int, first: bool, factor: int) -> None:
        self.factor = factor
        self.weight, self.weight_gradient = parameters.values[f"{name}.weight"], parameters.gradients[f"{name}.weight"]
        bias = parameters.values.get(f"{name}.bias")
        self.bias = None if bias is None else bias.unsqueeze(2)
        self.bias_gradient = None if bias is None else parameters.gradients[f"{name}.bias"].unsqueeze(2)
        seeds, out, n_in = self.weight.shape
        self.out = self.weight.new_empty(seeds, out, rows)
        self.transposed = self.weight.mT
        self.input_gradient = None if first else self.weight.new_empty(seeds, n_in, rows)

    def forward(self, h: Tensor) -> Tensor:
        self.input = h
        if self.bias is None:
            return torch.bmm(self.weight, h, out=self.out)
        return torch.baddbmm(self.bias, self.weight, h, beta=self.factor, alpha=self.factor, out=self.out)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.bmm(gradient, self.input.mT, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 2, keepdim=True, out=self.bias_gradient)
        if self.input_gradient is None:  # nobody asks for the data's gradient
            return gradient
        return torch.bmm(self.transposed, gradient, out=self.input_gradient)


class Tanh(Layer):
    """As 2 sigmoid(2h) - 1, which agrees with tanh to 1e-7 and costs less than half of MKL's. `out`: an empty buffer.

    `doubled`: the layer before has put out 2h already, in the same bits and at no cost. The gradient is still by h.
    """

    minus_one = torch.tensor(-1.0)

    def __init__(self, out: Tensor, doubled: bool) -> None:
        self.out, self.doubled = out, doubled

    def forward(self, h: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(h if self.doubled else h + h, out=self.out)
        return torch.add(self.minus_one, sigmoid, alpha=2, out=sigmoid)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.ops.aten.tanh_backward.grad_input(gradient, self.out, grad_input=gradient)
        return gradient


class Sigmoid(Layer):
    def __init__(self, out: Tensor) -> None:
        self.out = out

    def forward(self, h: Tensor) -> Tensor:
        return torch.sigmoid(h, out=self.out)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.ops.aten.sigmoid_backward.grad_input(gradient, self.out, grad_input=gradient)
        return gradient


class ReLU(Layer):
    def forward(self, h: Tensor) -> Tensor:
        self.out = h.relu()
        return self.out

    def backward(self, gradient: Tensor) -> Tensor:
        torch.ops.aten.threshold_backward.grad_input(gradient, self.out, 0, grad_input=gradient)
        return gradient


class Softmax(Layer):
    """Over the units of a row."""

    def forward(self, h: Tensor) -> Tensor:
        self.out = torch.softmax(h, 1)
        return self.out

    def backward(self, gradient: Tensor) -> Tensor:
        return (gradient - (gradient * self.out).sum(1, keepdim=True)) * self.out


class Dropout(Layer):
    """Zeroes units with probability `rate` and scales the others up. Srivastava et al. 2014, in its inverted form."""

    def __init__(self, rate: float, generators: Sequence[torch.Generator]) -> None:
        self.rate, self.generators = rate, generators
        self.masks: list[Tensor] = []

    def draw(self, like: Tensor) -> Tensor:
        """One mask [seed, unit, row]; a generator draws many at once, since the call costs more than the numbers."""
        if not self.masks:
            many = max(1, 50_000 // like[0].numel())
            kept = [torch.rand(many, *like.shape[1:], generator=g) >= self.rate for g in self.generators]
            self.masks = list((torch.stack(kept, 1).to(like) / (1 - self.rate)).unbind())
        return self.masks.pop()

    def forward(self, h: Tensor) -> Tensor:
        self.mask = self.draw(h)
        return h * self.mask

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient.mul_(self.mask)


class Identity(Layer):
    """Dropout outside training."""

    def forward(self, h: Tensor) -> Tensor:
        return h

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient


class BatchNorm(Layer):
    """Units to mean 0 and variance 1 over the batch, then scaled and shifted. Ioffe & Szegedy 2015, algorithm 1."""

    def __init__(self, parameters: Parameters, name: str) -> None:
        def of(state: State, part: str) -> Tensor:
            return state[f"{name}.{part}"].unsqueeze(2)

        self.scale, self.shift = of(parameters.values, "weight"), of(parameters.values, "bias")
        self.scale_gradient, self.shift_gradient = of(parameters.gradients, "weight"), of(parameters.gradients, "bias")
        self.running_mean, self.running_var = (of(parameters.statistics, f"running_{part}") for part in ("mean", "var"))
        self.mean, self.unbiased_var = (of(parameters.latest, f"running_{part}") for part in ("mean", "var"))
        self.row_weight: Tensor  # [row], 1 / rows of the batch, 0 where filled up; set before each update
        self.rows: int

    def forward(self, h: Tensor) -> Tensor:
        torch.sum(h * self.row_weight, 2, keepdim=True, out=self.mean)
        centred = h - self.mean
        var = (centred * centred * self.row_weight).sum(2, keepdim=True)
        torch.mul(var, self.rows / (self.rows - 1), out=self.unbiased_var)
        self.inverse_sd = torch.rsqrt(var + BATCH_NORM_EPS)
        self.normal = centred.mul_(self.inverse_sd)
        return torch.addcmul(self.shift, self.normal, self.scale)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.sum(gradient * self.normal, 2, keepdim=True, out=self.scale_gradient)
        torch.sum(gradient, 2, keepdim=True, out=self.shift_gradient)
        through_moments = torch.addcmul(self.shift_gradient, self.normal, self.scale_gradient).mul_(self.row_weight)
        return (gradient - through_moments).mul_(self.scale * self.inverse_sd)


class FrozenBatchNorm(BatchNorm):
    """With the running mean and variance: batch norm outside training."""

    def forward(self, h: Tensor) -> Tensor:
        inverse_sd = torch.rsqrt(self.running_var + BATCH_NORM_EPS)
        return (h - self.running_mean) * inverse_sd * self.scale + self.shift


# --- the network ----------------------------------------------------------------------------------------------------


class StackedNetwork:
    """The layers over one set of parameters, with buffers for batches of `rows` rows (a multiple of 16).

    With generators (one per seed, for dropout) it trains; without, it evaluates.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        parameters: Parameters,
        rows: int,
        generators: Sequence[torch.Generator] | None = None,
    ) -> None:
        self.parameters = parameters
        self.layers = [_layer(layers, i, parameters, rows, generators) for i in range(len(layers))]
        self.trains = generators is not None
        self.batch_norms = [layer for layer in self.layers if isinstance(layer, BatchNorm)]

    def batch(self, row_weight: Float[Tensor, " row"], rows: int) -> None:
        """Tell batch norm which rows of the next batch count."""
        for layer in self.batch_norms:
            layer.row_weight, layer.rows = row_weight, rows

    def forward(self, h: Float[Tensor, "seed feature row"]) -> Float[Tensor, "seed output row"]:
        for layer in self.layers:
            h = layer.forward(h)
        if self.trains and self.batch_norms:
            self.parameters.blend_statistics()
        return h

    def backward(self, gradient: Float[Tensor, "seed output row"]) -> None:
        """From the loss's gradient by the output to the gradients of all parameters."""
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)


def _layer(
    layers: Sequence[LayerSpec], i: int, parameters: Parameters, rows: int, generators: Sequence[torch.Generator] | None
) -> Layer:
    spec, name = layers[i], str(i)
    if spec.kind == "linear":
        doubled = spec.bias is not False and i + 1 < len(layers) and layers[i + 1].kind == "tanh"
        return Linear(parameters, name, rows, first=i == 0, factor=2 if doubled else 1)
    if spec.kind == "tanh":
        doubled = i > 0 and layers[i - 1].kind == "linear" and layers[i - 1].bias is not False
        return Tanh(parameters.flat.new_empty(0), doubled)
    if spec.kind == "sigmoid":
        return Sigmoid(parameters.flat.new_empty(0))
    if spec.kind == "batch_norm":
        return FrozenBatchNorm(parameters, name) if generators is None else BatchNorm(parameters, name)
    if spec.kind == "dropout":
        return Identity() if generators is None else Dropout(spec.rate or 0.0, generators)
    return ReLU() if spec.kind == "relu" else Softmax()
