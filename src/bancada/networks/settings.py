"""The keys of params.yaml about a network: its layers, its initial parameters, and its training loss."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from bancada.base import user_code
from bancada.base.refusals import unknown_key
from bancada.base.settings import Args, Finite, Fraction, Positive, Settings

OPTIONS = {"linear": "width", "dropout": "rate"}  # of the short forms {linear: 5} and {dropout: 0.1}


class TorchPart(Settings):
    """A class of torch by its own name, which begins with a capital, and its keyword arguments.

    params.yaml has `GELU` or `{Conv1d: {in_channels: 1}}` as a layer, `{name: AdamW, weight_decay: 0.01}` elsewhere.
    """

    name: Annotated[str, Field(pattern="^[A-Z]")]  # such as `GELU`, `HuberLoss`, `AdamW`
    args: Args = {}  # torch's own arguments, written beside `name`; of a layer, below its name


def by_name(raw: Any) -> Any:
    """Return `{name: adam}` for `adam`, the short form; for a class of torch, its name and its arguments."""
    if isinstance(raw, str):
        return {"name": raw}
    if isinstance(raw, Mapping) and len(raw) == 1 and is_torch_name(name := next(iter(raw))):
        raise ValueError(f"write {{name: {name}, ARGUMENT: VALUE}}")
    if not isinstance(raw, Mapping) or not is_torch_name(raw.get("name")) or "args" in raw:
        return raw
    own = {key: value for key, value in raw.items() if key in ("name", "every")}  # every: of a schedule
    return own | {"args": {key: value for key, value in raw.items() if key not in own}}


def is_torch_name(name: Any) -> bool:
    """Return whether this is the name of a class of torch, and not one of our own, which are lower-case."""
    return isinstance(name, str) and name[:1].isupper()


def _whose(raw: Any) -> str:
    name = raw.get("name") if isinstance(raw, Mapping) else getattr(raw, "name", None)
    return "torch" if is_torch_name(name) else "ours"


WHOSE = Discriminator(_whose)  # of a union of Annotated[..., Tag("ours")] and Annotated[..., Tag("torch")]


def _layer_as_mapping(raw: Any) -> Any:
    """Return the keys of a LayerSpec for its short forms: `5`, `tanh`, `{linear: 5, bias: false}`, `{dropout: 0.1}`.

    The same for those of a TorchPart: `GELU`, `{Conv1d: {in_channels: 1}}`.
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        return {"kind": "linear", "width": raw}
    if isinstance(raw, str):
        return {"name": raw} if is_torch_name(raw) else {"kind": raw}
    if isinstance(raw, LayerSpec | TorchPart) or (isinstance(raw, Mapping) and ("kind" in raw or "name" in raw)):
        return raw
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError("must be a number of units, the name of a layer, or a mapping such as {dropout: 0.1}")
    if len(raw) == 1 and is_torch_name(next(iter(raw))):
        [(name, args)] = raw.items()
        if not isinstance(args, Mapping | None):
            raise ValueError(f"write {{{name}: {{ARGUMENT: VALUE}}}}, with the names of torch's arguments")
        return {"name": name, "args": args or {}}
    for kind, option in OPTIONS.items():
        if kind in raw and option not in raw:
            return {"kind": kind, option: raw[kind], **{k: v for k, v in raw.items() if k != kind}}
    raise unknown_key(next(key for key in raw if key not in OPTIONS), OPTIONS)


class LayerSpec(Settings):
    """One layer. Only `linear` has a width (its units) and a bias; only `dropout` a rate: the share of zeroed units."""

    # alone it is a layer: `tanh`
    kind: Literal["linear", "tanh", "relu", "sigmoid", "softmax", "dropout", "batch_norm"]
    width: Annotated[int, Field(gt=0, le=10_000)] | None = None  # units of a linear layer: `5`, or `{linear: 5}`
    bias: bool | None = None  # `{linear: 5, bias: false}` is one without a bias
    rate: Fraction | None = None  # `{dropout: 0.1}`: the share of units set to 0

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> Self:
        needed, given = OPTIONS.get(self.kind), {"width": self.width, "bias": self.bias, "rate": self.rate}
        if needed and given[needed] is None:
            raise ValueError(f"{self.kind} needs its {needed}: {{{self.kind}: NUMBER}}")
        for option, value in given.items():
            if value is not None and option != needed and (option, self.kind) != ("bias", "linear"):
                raise ValueError(f"{self.kind} has no {option}")
        return self


Layer = Annotated[
    Annotated[LayerSpec, Tag("ours")] | Annotated[TorchPart, Tag("torch")], WHOSE, BeforeValidator(_layer_as_mapping)
]
Layers = Annotated[list[Layer], Field(min_length=1)]


def _importable(file: str) -> str:
    user_code.module_name(file)
    return file


class Module(Settings):
    """A network of the user's own: what `name` in a `file` below src/models returns when it is called with `args`."""

    file: Annotated[str, AfterValidator(_importable)]  # a Python file below src/models
    name: Annotated[str, Field(min_length=1)]  # a class, or a function that returns a network
    args: Args = {}  # what it is called with


class TorchInit(Settings):
    """The default of torch.nn.Linear: weights and biases uniform in +-1/sqrt(fan_in)."""

    name: Literal["torch"]


class XavierNormal(Settings):
    """Weights normal with sd sqrt(2 / (fan_in + fan_out)), biases zero. Glorot & Bengio 2010, eq. 16."""

    name: Literal["xavier_normal"]


class NormalInit(Settings):
    """Weights normal with standard deviation `std`, biases zero."""

    name: Literal["normal"]
    std: Positive  # the standard deviation


class GivenInit(Settings):
    """Given parameters: for each linear layer in turn its weights [out][in] and its biases [out]."""

    name: Literal["given"]
    weights: list[list[list[Finite]]]  # for each layer, [output][input]
    biases: list[list[Finite]]  # for each layer, [output]


Init = Annotated[
    TorchInit | XavierNormal | NormalInit | GivenInit, Field(discriminator="name"), BeforeValidator(by_name)
]
LOSSES = {  # name: label in plots
    "mse": "mean squared error",
    "half_mse": "half the mean squared error",
    "l1": "mean absolute error",
    "bce": "binary cross-entropy",
    "cross_entropy": "cross-entropy",
}
if TYPE_CHECKING:
    SmallLoss = str
else:
    SmallLoss = Literal[*LOSSES]


def _loss_by_name(raw: Any) -> Any:
    return raw if isinstance(raw, str) and not is_torch_name(raw) else by_name(raw)


Loss = Annotated[
    Annotated[SmallLoss, Tag("ours")] | Annotated[TorchPart, Tag("torch")], WHOSE, BeforeValidator(_loss_by_name)
]


class Network(Settings):
    """What makes a network's outputs and its loss: enough to use trained weights."""

    layers: Layers | None = None
    module: Module | None = None
    loss: Loss
    bits: Literal["portable", "this_machine"] = "portable"

    @property
    def small(self) -> bool:
        """Whether all of it is of the small lower-case vocabulary, which numpy evaluates without torch."""
        return not torchs_own(self.layers, self.module, self.loss)

    @property
    def flat(self) -> bool:
        """Whether it takes rows as plain lists, whatever shape their source gives them: all layers are our own."""
        return self.layers is not None and len(self.small_layers) == len(self.layers)

    @property
    def one_linear(self) -> bool:
        """Whether it is a single linear layer, whose weights mean something to a reader."""
        return self.flat and [layer.kind for layer in self.small_layers] == ["linear"]

    @property
    def small_layers(self) -> list[LayerSpec]:
        """The layers that belong to the small vocabulary."""
        return [layer for layer in self.layers or [] if isinstance(layer, LayerSpec)]


def torchs_own(layers: Layers | None, module: Module | None, *parts: Any) -> list[str]:
    """Return what the small vocabulary does not have, in words: the user's module, and classes of torch."""
    own = [f"module {module.name}"] if module else []
    return own + [f"torch's {part.name}" for part in (*(layers or ()), *parts) if isinstance(part, TorchPart)]
