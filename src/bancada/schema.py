"""The words of params.yaml: one frozen, validated class for each mapping that a user may write there."""

import difflib
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Rows = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def did_you_mean(name: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


class Model(BaseModel):
    """Frozen, strict about types (a text is no number), and with no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, Mapping) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key", "unknown key{hint}", {"key": key, "hint": did_you_mean(key, cls.model_fields)}
                )
        return raw


def _in_sources(path: str) -> str:
    parts = PurePosixPath(path).parts
    if parts[:2] != ("data", "sources") or len(parts) < 3 or ".." in parts:
        raise ValueError("must lie in data/sources, where DVC notices when the file changes")
    return path


def _distinct(names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is named twice")
    return names


def _rising(interval: list[float]) -> list[float]:
    if interval[0] >= interval[1]:
        raise ValueError("must be [low, high]")
    return interval


Interval = Annotated[list[Finite], Field(min_length=2, max_length=2), AfterValidator(_rising)]
SourceFile = Annotated[str, AfterValidator(_in_sources)]
Columns = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]


class DataShape(NamedTuple):
    """What is known of a data set before it is made. `classes` is 0 for numbers to predict, `rows` 0 where unknown."""

    features: int
    targets: int
    classes: int
    rows: int


# --- where data come from -------------------------------------------------------------------------------------------


class HalfMoons(Model):
    """Lesson 3. Two interlocking half rings; classes +1 (upper) and -1 (lower), half of the rows each."""

    kind: Literal["half_moons"]
    rows: Annotated[int, Field(ge=2)]
    radius: Positive
    distance: Finite
    width: NotNegative
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=2, targets=1, classes=2, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return ["x", "y"]


class LinearData(Model):
    """Lesson 5. X standard normal, y = X weights + bias + noise."""

    kind: Literal["linear"]
    rows: Rows
    weights: Annotated[list[Finite], Field(min_length=1)]
    bias: Finite
    noise_std: NotNegative
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=len(self.weights), targets=1, classes=0, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return [f"x{i}" for i in range(1, len(self.weights) + 1)]


class Table(Model):
    """A CSV file in data/sources. `features` null: every column that is neither a target nor in `ignore`."""

    kind: Literal["table", "csv"]
    path: SourceFile
    targets: Columns
    task: Literal["regression", "classification"]
    features: Columns | None = None
    ignore: list[str] = []
    rows: Rows | None = None  # the first so many; null: all

    @model_validator(mode="after")
    def _one_target_for_classes(self) -> Self:
        if self.task == "classification" and len(self.targets) != 1:
            raise ValueError("classification takes one target column")
        for name in self.targets:
            if name in (self.features or []):
                raise ValueError(f"'{name}' is both a feature and a target")
        return self

    def shape(self) -> DataShape | None:
        """Known only for numbers with named features: classes are counted when the file is read."""
        if self.task == "classification" or self.features is None:
            return None
        return DataShape(features=len(self.features), targets=len(self.targets), classes=0, rows=self.rows or 0)

    def feature_names(self) -> list[str] | None:
        return self.features


class Sklearn(Model):
    """A data set that comes with scikit-learn."""

    kind: Literal["sklearn"]
    name: Literal["wine", "iris", "breast_cancer", "digits", "diabetes"]

    def shape(self) -> DataShape | None:
        return {
            "wine": DataShape(13, 1, 3, 178),
            "iris": DataShape(4, 1, 3, 150),
            "breast_cancer": DataShape(30, 1, 2, 569),
            "digits": DataShape(64, 1, 10, 1797),
            "diabetes": DataShape(10, 1, 0, 442),
        }[self.name]

    def feature_names(self) -> list[str] | None:
        return None


class Classification(Model):
    """Lesson 2. A synthetic table with given class counts; with `path` set, a real CSV with the same columns."""

    kind: Literal["classification"]
    class_counts: Annotated[dict[int, Rows], Field(min_length=2)]
    features: Annotated[Columns, Field(min_length=2)]
    target: str
    seed: Annotated[int, Field(ge=0)]
    path: SourceFile | None = None

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.target in self.features:
            raise ValueError(f"'{self.target}' is both a feature and the target")
        return self

    def shape(self) -> DataShape | None:
        rows = 0 if self.path else sum(self.class_counts.values())
        return DataShape(len(self.features), 1, len(self.class_counts), rows)

    def feature_names(self) -> list[str] | None:
        return self.features


class HousePrices(Model):
    """Lesson 4. Price (thousands) against rooms: a line with noise, and a few houses sold far below it."""

    kind: Literal["house_prices"]
    rows: Rows
    outliers: Annotated[int, Field(ge=0)]  # how many of the rows
    price_per_room: Finite
    price_at_zero: Finite
    noise_std: NotNegative
    outlier_price: Finite
    seed: Annotated[int, Field(ge=0)]

    def shape(self) -> DataShape | None:
        return DataShape(features=1, targets=1, classes=0, rows=self.rows)

    def feature_names(self) -> list[str] | None:
        return ["rooms"]


Source = Annotated[HalfMoons | LinearData | Table | Sklearn | Classification | HousePrices, Field(discriminator="kind")]


class Split(Model):
    """Rows (whole numbers) or fractions for each part. `validation: test` lets the held-out rows serve as both."""

    train: Annotated[int | float, Field(gt=0)]
    validation: Annotated[int | float, Field(ge=0)] | Literal["test"] = 0
    test: Annotated[int | float, Field(ge=0)] = 0
    stratify: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # scikit-learn takes no larger one

    def counts(self, rows: int) -> tuple[int, int, int]:
        """Rows of (train, validation, test), which add up to `rows`; validation is 0 where the test rows serve as both.

        Held-out parts round up, as scikit-learn's train_test_split does. ValueError where the parts do not add up.
        """
        if self.validation == "test" and not self.test:
            raise ValueError("validation: test needs rows for test")
        parts = [self.train, 0 if self.validation == "test" else self.validation, self.test]
        if any(isinstance(part, float) for part in parts):
            if any(isinstance(part, int) and part > 0 for part in parts):
                raise ValueError("write all parts as rows or all as fractions")
            if not math.isclose(sum(parts), 1, abs_tol=1e-9):
                raise ValueError(f"the fractions add up to {sum(parts):g}, not to 1")
            validation, test = (math.ceil(round(part * rows, 6)) for part in parts[1:])
            train = rows - validation - test
        else:
            train, validation, test = (int(part) for part in parts)
            if sum(parts) != rows:
                hint = "; all of them are 1.0, not 1" if parts == [1, 0, 0] else ""
                raise ValueError(f"the parts add up to {sum(parts)}, but the data have {rows} rows{hint}")
        if train < 1:
            raise ValueError(f"no training rows are left of {rows}")
        return train, validation, test


# --- networks and their training ------------------------------------------------------------------------------------


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
    width: Annotated[int, Field(gt=0)] | None = None
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
    gamma: Positive
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
    train: dict[str, Any] = {}


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
    num_seeds: Annotated[int, Field(ge=1, le=10_000)]
    lr: Positive | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    studies: dict[Name, Study]
    variants: dict[Name, Variant]

    def variants_of(self, study: str) -> list[str]:
        return [name for name, variant in self.variants.items() if variant.study == study]
