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
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bancada.networks.settings import BATCH_NORM_EPS, LayerSpec
from bancada.networks.start import BATCH_NORM_MOMENTUM, State

FILL = 16  # floats in two AVX2 vectors, the largest step of torch's elementwise kernels


def filled(rows: int) -> int:
    """Return the number of rows after filling up: the next multiple of FILL."""
    return math.ceil(rows / FILL) * FILL


class Parameters:
    """The parameters of all seeds in one flat tensor, filled up to a multiple of 16, and their gradients in another.

    `values` and `gradients` are views of them by name, [seed, ...]. In the same way, `statistics` are views of batch
    norm's running means and variances, and `latest` of those of the last batch.
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

    def state(self) -> State:
        """Return copies of the parameters and statistics, [seed, ...], on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in {**self.values, **self.statistics}.items()}


def _flat(parts: State) -> tuple[Tensor, State]:
    """Return one tensor with all parts, filled up with zeros, and views of the parts by name."""
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


class Tanh(Layer):
    """tanh(h) as 2 sigmoid(2h) - 1, which agrees with MKL's tanh to 1e-7 and takes less than half of its time.

    `out`: an empty buffer for the outputs. `doubled`: the layer before returns 2h instead of h, which costs nothing and
    gives the same bits.
    """

    minus_one = torch.tensor(-1.0)

    def __init__(self, out: Tensor, doubled: bool) -> None:
        self.out, self.doubled = out, doubled

    def forward(self, h: Tensor) -> Tensor:
        """Return tanh(h)."""
        sigmoid = torch.sigmoid(h if self.doubled else h + h, out=self.out)
        return torch.add(self.minus_one, sigmoid, alpha=2, out=sigmoid)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return gradient * (1 - tanh(h)^2), with respect to h even if the input is doubled."""
        torch.ops.aten.tanh_backward.grad_input(gradient, self.out, grad_input=gradient)
        return gradient


class Sigmoid(Layer):
    """1 / (1 + exp(-h)). `out`: an empty buffer for the outputs."""

    def __init__(self, out: Tensor) -> None:
        self.out = out

    def forward(self, h: Tensor) -> Tensor:
        """Return the sigmoid of h."""
        return torch.sigmoid(h, out=self.out)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return gradient * s * (1 - s), s being the sigmoid of h."""
        torch.ops.aten.sigmoid_backward.grad_input(gradient, self.out, grad_input=gradient)
        return gradient


class ReLU(Layer):
    """max(h, 0)."""

    def forward(self, h: Tensor) -> Tensor:
        """Return max(h, 0)."""
        self.out = h.relu()
        return self.out

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient where h > 0, else 0."""
        torch.ops.aten.threshold_backward.grad_input(gradient, self.out, 0, grad_input=gradient)
        return gradient


class Softmax(Layer):
    """exp(h) / sum of exp(h) over the units of a row."""

    def forward(self, h: Tensor) -> Tensor:
        """Return the softmax of h over the units."""
        self.out = torch.softmax(h, 1)
        return self.out

    def backward(self, gradient: Tensor) -> Tensor:
        """Return (gradient - sum of gradient * s over the units) * s, s being the softmax of h."""
        return (gradient - (gradient * self.out).sum(1, keepdim=True)) * self.out


class Dropout(Layer):
    """Zero a unit with probability `rate`, otherwise multiply it by 1 / (1 - rate). Srivastava et al. 2014."""

    def __init__(self, rate: float, generators: Sequence[torch.Generator]) -> None:
        self.rate, self.generators = rate, generators
        self.masks: list[Tensor] = []

    def draw(self, like: Tensor) -> Tensor:
        """Return a mask [seed, unit, row]. Many are drawn at once, for a call costs more than the random numbers."""
        if not self.masks:
            many = max(1, 50_000 // like[0].numel())
            kept = [torch.rand(many, *like.shape[1:], generator=g) >= self.rate for g in self.generators]
            self.masks = list((torch.stack(kept, 1).to(like) / (1 - self.rate)).unbind())
        return self.masks.pop()

    def forward(self, h: Tensor) -> Tensor:
        """Return h times a new mask."""
        self.mask = self.draw(h)
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
            doubled = spec.bias is not False and i + 1 < len(layers) and layers[i + 1].kind == "tanh"
            return Linear(parameters, name, rows, first=i == 0, factor=2 if doubled else 1)
        if spec.kind == "tanh":
            doubled = i > 0 and layers[i - 1].kind == "linear" and layers[i - 1].bias is not False
            return Tanh(parameters.flat.new_empty(0), doubled)
        if spec.kind == "sigmoid":
            return Sigmoid(parameters.flat.new_empty(0))
        if spec.kind == "batch_norm":
            return FrozenBatchNorm(parameters, name) if self.generators is None else BatchNorm(parameters, name)
        if spec.kind == "dropout":
            return Dropout(spec.rate or 0.0, self.generators or [])
        return ReLU() if spec.kind == "relu" else Softmax()
