"""The networks of all seeds as one: every tensor has a leading seed axis, so that one kernel call serves all seeds.

Activations are [seed, unit, row], and rows are filled up to a multiple of 16. Both matter. Small matrix products are
several times faster with rows last. And an elementwise kernel uses another formula for the elements after its last full
vector: without filling, the bits of a seed would depend on the number of seeds. The rows that fill up have weight 0 in
every loss and mean, and gradient 0.

Gradients are written out by hand, layer by layer, into buffers that are made once: networks this small spend nearly all
their time on calling kernels, and autograd calls more of them. The tests compare every layer with autograd.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bancada.networks.inference import BATCH_NORM_EPS
from bancada.networks.settings import LayerSpec
from bancada.networks.start import BATCH_NORM_MOMENTUM, State

aten = torch.ops.aten
MINUS_ONE = torch.tensor(-1.0)
FILL = 16  # floats in two AVX2 vectors, the largest step of torch's elementwise kernels


def filled(rows: int) -> int:
    """Return the number of rows after filling up: the next multiple of FILL."""
    return math.ceil(rows / FILL) * FILL


class Parameters:
    """The parameters of all seeds in one flat tensor, filled up to a multiple of 16, and their gradients in another.

    `values` and `gradients` are views of them by name, [seed, ...]. In the same way, `statistics` are views of batch
    norm's running means and variances, and `latest` of those of the last batch.
    """

    def __init__(self, states: Sequence[State]) -> None:
        stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        running = {name: stacked.pop(name) for name in states[0] if "running" in name}
        self.seeds = len(states)
        self.flat, self.values = _flat(stacked)
        self.flat.grad = torch.zeros_like(self.flat)
        self.gradients = _views(self.flat.grad, stacked)
        self.running, self.statistics = _flat(running)
        self.batch = torch.zeros_like(self.running)
        self.latest = _views(self.batch, running)

    def state(self) -> State:
        """Return copies of the parameters and statistics, [seed, ...]."""
        return {name: value.detach().clone() for name, value in {**self.values, **self.statistics}.items()}


def _flat(parts: State) -> tuple[Tensor, State]:
    """Return one tensor with all parts, filled up with zeros, and views of the parts by name."""
    like = next(iter(parts.values()), torch.empty(0))
    flat = like.new_zeros(filled(sum(value.numel() for value in parts.values())))
    views = _views(flat, parts)
    for name, value in parts.items():
        views[name].copy_(value)
    return flat, views


def _views(flat: Tensor, parts: State) -> State:
    sizes = [value.numel() for value in parts.values()]
    split = torch.split(flat[: sum(sizes)], sizes)
    return {name: part.view_as(value) for part, (name, value) in zip(split, parts.items(), strict=True)}


class Layer(ABC):
    """One layer of the networks of all seeds."""

    @abstractmethod
    def forward(self, h: Tensor) -> Tensor:
        """Return the outputs [seed, unit out, row] for the inputs [seed, unit in, row]. Must not change `h`."""

    @abstractmethod
    def backward(self, gradient: Tensor) -> Tensor:
        """Return the loss's gradient with respect to the layer's input. `gradient`, to its output, may be overwritten.

        Write the gradients of the layer's parameters into their buffers.
        """


class Linear(Layer):
    """factor * (W h + b), with W [seed, out, in] and b [seed, out, 1]; the factor is 2 before a tanh, else 1."""

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
        """Return factor * (W h + b)."""
        self.input = h
        if self.bias is None:
            return torch.bmm(self.weight, h, out=self.out)
        return torch.baddbmm(self.bias, self.weight, h, beta=self.factor, alpha=self.factor, out=self.out)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return W^T gradient, without the factor: a tanh returns the gradient with respect to W h + b."""
        torch.bmm(gradient, self.input.mT, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 2, keepdim=True, out=self.bias_gradient)
        if self.input_gradient is None:  # the gradient with respect to the data is not needed
            return gradient
        return torch.bmm(self.transposed, gradient, out=self.input_gradient)


Function = Callable[..., Tensor]


class Activation(Layer):
    """An activation function. `derivative` takes the gradient with respect to the outputs, and the outputs."""

    def __init__(self, function: Function, derivative: Function) -> None:
        self.function, self.derivative = function, derivative

    def forward(self, h: Tensor) -> Tensor:
        """Return the function of h."""
        self.out = self.function(h)
        return self.out

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to h."""
        return self.derivative(gradient, self.out)


def tanh(h: Tensor) -> Tensor:
    """Return the tanh, as 2 sigmoid(2h) - 1: it agrees with MKL's to 1e-7 and takes less than half of its time."""
    return tanh_of_half(h + h)


def tanh_of_half(doubled: Tensor) -> Tensor:
    """Return tanh(h) for 2h. That the layer before returns 2h costs nothing, and gives the same bits."""
    sigmoid = torch.sigmoid(doubled)
    return torch.add(MINUS_ONE, sigmoid, alpha=2, out=sigmoid)


def softmax_derivative(gradient: Tensor, out: Tensor) -> Tensor:
    """Return (gradient - sum of gradient * out over the units) * out."""
    return (gradient - (gradient * out).sum(1, keepdim=True)) * out


ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # the function and its derivative
    "tanh": (tanh, aten.tanh_backward.default),
    "sigmoid": (torch.sigmoid, aten.sigmoid_backward.default),
    "relu": (torch.relu, lambda gradient, out: aten.threshold_backward.default(gradient, out, 0)),
    "softmax": (lambda h: torch.softmax(h, 1), softmax_derivative),
}


class Dropout(Layer):
    """Zero a unit with probability `rate`, otherwise multiply it by 1 / (1 - rate). Srivastava et al. 2014."""

    def __init__(self, rate: float, generators: Sequence[torch.Generator]) -> None:
        self.rate, self.generators = rate, generators
        self.masks: list[Tensor] = []

    def forward(self, h: Tensor) -> Tensor:
        """Return h times a new mask. Many are drawn at once, for a call costs more than the random numbers."""
        if not self.masks:
            many = max(1, 50_000 // h[0].numel())
            kept = [torch.rand(many, *h.shape[1:], generator=g) >= self.rate for g in self.generators]
            self.masks = list((torch.stack(kept, 1).to(h) / (1 - self.rate)).unbind())
        self.mask = self.masks.pop()
        return h * self.mask

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient times the mask."""
        return gradient.mul_(self.mask)


class BatchNorm(Layer):
    """Normalize a unit to mean 0 and variance 1 over the batch, scale and shift it. Ioffe & Szegedy 2015, alg. 1."""

    def __init__(self, parameters: Parameters, name: str) -> None:
        def of(state: State, part: str) -> Tensor:
            return state[f"{name}.{part}"].unsqueeze(2)

        self.scale, self.shift = of(parameters.values, "weight"), of(parameters.values, "bias")
        self.scale_gradient, self.shift_gradient = of(parameters.gradients, "weight"), of(parameters.gradients, "bias")
        self.running_mean, self.running_var = (of(parameters.statistics, f"running_{part}") for part in ("mean", "var"))
        self.mean, self.unbiased_var = (of(parameters.latest, f"running_{part}") for part in ("mean", "var"))
        self.row_weight: Tensor  # [row], 1 / rows of the batch, 0 for the rows that fill up; set before each update
        self.rows: int

    def forward(self, h: Tensor) -> Tensor:
        """Return the normalized, scaled and shifted units; keep the mean and variance of the batch."""
        torch.sum(h * self.row_weight, 2, keepdim=True, out=self.mean)
        centred = h - self.mean
        var = (centred * centred * self.row_weight).sum(2, keepdim=True)
        torch.mul(var, self.rows / (self.rows - 1), out=self.unbiased_var)
        self.inverse_sd = torch.rsqrt(var + BATCH_NORM_EPS)
        self.normal = centred.mul_(self.inverse_sd)
        return torch.addcmul(self.shift, self.normal, self.scale)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient through the units, and through the mean and variance of the batch."""
        torch.sum(gradient * self.normal, 2, keepdim=True, out=self.scale_gradient)
        torch.sum(gradient, 2, keepdim=True, out=self.shift_gradient)
        through_moments = torch.addcmul(self.shift_gradient, self.normal, self.scale_gradient).mul_(self.row_weight)
        return (gradient - through_moments).mul_(self.scale * self.inverse_sd)


class FrozenBatchNorm(BatchNorm):
    """Batch norm in evaluation mode, with the running mean and variance."""

    def forward(self, h: Tensor) -> Tensor:
        """Return the normalized, scaled and shifted units."""
        inverse_sd = torch.rsqrt(self.running_var + BATCH_NORM_EPS)
        return (h - self.running_mean) * inverse_sd * self.scale + self.shift


class StackedNetwork:
    """The layers of all seeds' networks, with buffers for batches of `rows` rows (a multiple of 16).

    With generators for dropout, one for each seed, it is in training mode; without, in evaluation mode.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        parameters: Parameters,
        rows: int,
        generators: Sequence[torch.Generator] | None = None,
    ) -> None:
        self.parameters, self.generators = parameters, generators
        used = [i for i, spec in enumerate(layers) if generators is not None or spec.kind != "dropout"]
        self.layers = [self._layer(layers, i, rows) for i in used]
        self.batch_norms = [layer for layer in self.layers if isinstance(layer, BatchNorm)]

    def batch(self, row_weight: Float[Tensor, " row"], rows: int) -> None:
        """Set the row weights and the number of rows of the next batch, which batch norm needs."""
        for layer in self.batch_norms:
            layer.row_weight, layer.rows = row_weight, rows

    def forward(self, h: Float[Tensor, "seed feature row"]) -> Float[Tensor, "seed output row"]:
        """Return the outputs of all layers."""
        for layer in self.layers:
            h = layer.forward(h)
        if self.generators is not None and self.batch_norms:  # as torch.nn.BatchNorm1d in training mode
            self.parameters.running.mul_(1 - BATCH_NORM_MOMENTUM).add_(self.parameters.batch * BATCH_NORM_MOMENTUM)
        return h

    def backward(self, gradient: Float[Tensor, "seed output row"]) -> None:
        """Compute the gradients of all parameters from the loss's gradient with respect to the output."""
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)

    def _layer(self, layers: Sequence[LayerSpec], i: int, rows: int) -> Layer:
        spec, name, parameters = layers[i], str(i), self.parameters
        if spec.kind == "linear":
            return Linear(parameters, name, rows, first=i == 0, factor=2 if _doubles(layers[i : i + 2]) else 1)
        if spec.kind == "batch_norm":
            return FrozenBatchNorm(parameters, name) if self.generators is None else BatchNorm(parameters, name)
        if spec.kind == "dropout":
            return Dropout(spec.rate or 0.0, self.generators or [])
        function, derivative = ACTIVATIONS[spec.kind]
        return Activation(tanh_of_half if i and _doubles(layers[i - 1 : i + 1]) else function, derivative)


def _doubles(pair: Sequence[LayerSpec]) -> bool:
    """Return whether the first of these two layers returns 2h: a linear layer with a bias, before a tanh."""
    return [layer.kind for layer in pair] == ["linear", "tanh"] and pair[0].bias is not False
