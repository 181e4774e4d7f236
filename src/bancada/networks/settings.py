"""The keys of params.yaml about a network: its layers, its initial parameters, and its training loss."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bancada.base.refusals import unknown_key
from bancada.base.settings import Finite, Fraction, Positive, Settings
from bancada.networks import user_code

OPTIONS = {"linear": "width", "dropout": "rate"}  # of the short forms {linear: 5} and {dropout: 0.1}
BATCH_NORM_EPS = 1e-5  # the default of torch.nn.BatchNorm1d


def _layer_as_mapping(raw: Any) -> Any:
    """Return the keys of a LayerSpec for its short forms: `5`, `tanh`, `{linear: 5, bias: false}`, `{dropout: 0.1}`."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return {"kind": "linear", "width": raw}
    if isinstance(raw, str):
        return {"kind": raw}
    if isinstance(raw, LayerSpec) or (isinstance(raw, Mapping) and "kind" in raw):
        return raw
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError("must be a number of units, the name of a layer, or a mapping such as {dropout: 0.1}")
    for kind, option in OPTIONS.items():
        if kind in raw and option not in raw:
            return {"kind": kind, option: raw[kind], **{k: v for k, v in raw.items() if k != kind}}
    raise unknown_key(next(key for key in raw if key not in OPTIONS), OPTIONS)


class LayerSpec(Settings):
    """One layer. Only `linear` has a width (its units) and a bias; only `dropout` a rate: the share of zeroed units."""

    kind: Literal["linear", "tanh", "relu", "sigmoid", "softmax", "dropout", "batch_norm"]
    width: Annotated[int, Field(gt=0, le=10_000)] | None = None
    bias: bool | None = None
    rate: Fraction | None = None

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> Self:
        if self.kind == "linear" and self.width is None:
            raise ValueError("a linear layer needs its number of units")
        if self.kind == "dropout" and self.rate is None:
            raise ValueError("a dropout layer needs its rate: {dropout: 0.1}")
        if self.kind != "linear" and (self.width is not None or self.bias is not None):
            raise ValueError("only a linear layer has units and a bias")
        if self.kind != "dropout" and self.rate is not None:
            raise ValueError("only a dropout layer has a rate")
        return self


Layers = Annotated[list[Annotated[LayerSpec, BeforeValidator(_layer_as_mapping)]], Field(min_length=1)]


def _importable(file: str) -> str:
    user_code.module_name(file)
    return file


class Module(Settings):
    """A network of the user's own: what `name` in a `file` below src/models returns when it is called with `args`."""

    file: Annotated[str, AfterValidator(_importable)]
    name: Annotated[str, Field(min_length=1)]
    args: dict[str, Any] = {}


class TorchInit(Settings):
    """The default of torch.nn.Linear: weights and biases uniform in +-1/sqrt(fan_in)."""

    name: Literal["torch"]


class XavierNormal(Settings):
    """Weights normal with sd sqrt(2 / (fan_in + fan_out)), biases zero. Glorot & Bengio 2010, eq. 16."""

    name: Literal["xavier_normal"]


class NormalInit(Settings):
    """Weights normal with standard deviation `std`, biases zero."""

    name: Literal["normal"]
    std: Positive


class GivenInit(Settings):
    """Given parameters: for each linear layer in turn its weights [out][in] and its biases [out]."""

    name: Literal["given"]
    weights: list[list[list[Finite]]]
    biases: list[list[Finite]]


def by_name(raw: Any) -> Any:
    """Return `{name: adam}` for `adam`, the short form."""
    return {"name": raw} if isinstance(raw, str) else raw


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
    Loss = str
else:
    Loss = Literal[*LOSSES]
