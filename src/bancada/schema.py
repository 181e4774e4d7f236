"""What params.yaml may say: studies, variants, their networks and how they are trained."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bancada.data_schema import Interval, Source, Split
from bancada.model import Finite, Fraction, Model, Name, NotNegative, Positive, Rows, did_you_mean

BATCH_NORM_EPS = 1e-5  # torch.nn.BatchNorm1d's own


def _layer_as_mapping(raw: Any) -> Any:
    """`5`: a linear layer of 5 units; `tanh`: by name; `{linear: 5, bias: false}`, `{dropout: 0.1}`: options."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return {"kind": "linear", "width": raw}
    if isinstance(raw, str):
        return {"kind": raw}
    if isinstance(raw, LayerSpec) or (isinstance(raw, Mapping) and "kind" in raw):
        return raw
    for kind, option in (("linear", "width"), ("dropout", "rate")):
        if isinstance(raw, Mapping) and kind in raw and option not in raw:
            return {"kind": kind, option: raw[kind], **{k: v for k, v in raw.items() if k != kind}}
    for key in raw if isinstance(raw, Mapping) else ():
        if key not in ("linear", "dropout"):
            hint = did_you_mean(key, ("linear", "dropout"))
            raise PydanticCustomError("unknown_key", "unknown key{hint}", {"key": key, "hint": hint})
    raise ValueError("must be a number of units, the name of a layer, or a mapping such as {dropout: 0.1}")


class LayerSpec(Model):
    """One layer. Only `linear` has a width and a bias, only `dropout` a rate (the share of units that is zeroed)."""

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


class SGD(Model):
    name: Literal["sgd"]
    momentum: Fraction = 0.0
    weight_decay: NotNegative = 0.0


class Adam(Model):
    name: Literal["adam"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0


class NoSchedule(Model):
    name: Literal["none"]


class StepSchedule(Model):
    """lr * gamma ** (k // step_size), k counting epochs or updates. torch.optim.lr_scheduler.StepLR."""

    name: Literal["step"]
    step_size: Rows
    gamma: Annotated[float, Field(gt=0, le=1)]
    every: Literal["epoch", "update"] = "epoch"


class InverseTime(Model):
    """Before update (or epoch) k = 1, 2, ... the rate is multiplied by 1 / (1 + decay * k). Lesson 5."""

    name: Literal["inverse_time"]
    decay: NotNegative
    every: Literal["epoch", "update"] = "update"


class TorchInit(Model):
    """What torch.nn.Linear does: weights and biases uniform in +-1/sqrt(fan_in)."""

    name: Literal["torch"]


class XavierNormal(Model):
    """Weights normal with sd sqrt(2 / (fan_in + fan_out)), biases zero. Glorot & Bengio 2010, eq. 16."""

    name: Literal["xavier_normal"]


class NormalInit(Model):
    """Weights normal with the given sd, biases zero."""

    name: Literal["normal"]
    std: Positive


class GivenInit(Model):
    """The start itself: for each linear layer in turn its weights [out][in] and its biases [out]."""

    name: Literal["given"]
    weights: list[list[list[Finite]]]
    biases: list[list[Finite]]


def _by_name(raw: Any) -> Any:
    """`adam` is short for `{name: adam}`."""
    return {"name": raw} if isinstance(raw, str) else raw


Optimizer = Annotated[SGD | Adam, Field(discriminator="name"), BeforeValidator(_by_name)]
Schedule = Annotated[NoSchedule | StepSchedule | InverseTime, Field(discriminator="name"), BeforeValidator(_by_name)]
Init = Annotated[
    TorchInit | XavierNormal | NormalInit | GivenInit, Field(discriminator="name"), BeforeValidator(_by_name)
]
Loss = Literal["mse", "half_mse", "l1", "bce", "cross_entropy"]


class Train(Model):
    """How a network is trained. `batch_size: full` takes all training rows at once."""

    loss: Loss
    lr: Positive
    epochs: Rows
    batch_size: Rows | Literal["full"]
    batch_order: Literal["shuffled", "fixed"] = "shuffled"  # fixed: drawn once, the same in every epoch
    optimizer: Optimizer = SGD(name="sgd")
    schedule: Schedule = NoSchedule(name="none")
    init: Init = TorchInit(name="torch")
    clip_norm: NotNegative = 0.0  # the largest norm of a seed's whole gradient; 0: off
    standardize: bool = False  # inputs to mean 0 and sd 1 over the training rows


Metric = Literal["error_rate_percent", "loss", "mse", "mae", "r2", "weight_error_max", "bias_error"]


class Study(Model):
    """What makes variants comparable: one data set, one split, one leaderboard."""

    source: Source
    split: Split
    metric: Metric  # what the leaderboard orders by
    baseline: str | None = None  # the variant that the others are compared with
    min_difference: NotNegative = 0.0  # of the metric; smaller ones do not matter to anyone
    predict: list[dict[str, Finite] | list[Finite]] = []  # new inputs, by feature name or in the order of the features
    # [[x low, x high], [y low, y high]]
    decision_region: Annotated[list[Interval], Field(min_length=2, max_length=2)] | None = None
    train: dict[str, Any]


class Variant(Model):
    study: str
    layers: Layers
    scratch: bool = False  # trained by scratch.py, written out in plain tensor operations
    train: dict[str, Any] = {}


class Recipe(Model):
    """All that one training depends on beside its data."""

    study: str
    variant: str
    layers: Layers
    scratch: bool
    train: Train
    seeds: list[int]
    device: Literal["cpu", "cuda"]


class Params(Model):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    num_seeds: Annotated[int, Field(ge=1, le=1000)]  # with more, 2 ** num_seeds is no float any longer: no exact test
    lr: Positive | None
    device: Literal["cpu", "cuda"]
    studies: dict[Name, Study]
    variants: dict[Name, Variant]

    def variants_of(self, study: str) -> list[str]:
        return [name for name, variant in self.variants.items() if variant.study == study]
