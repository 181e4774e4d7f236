"""The keys of params.yaml about training, and which key replaces which."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Tag, model_validator

from bancada.base.params_file import ParamsFile
from bancada.base.refusals import PARAMS_FILE, BadInput, bad
from bancada.base.settings import Count, Fraction, NotNegative, Positive, Settings, checked
from bancada.networks.settings import (
    WHOSE,
    Init,
    Layers,
    Loss,
    Module,
    Network,
    TorchInit,
    TorchPart,
    by_name,
    is_torch_name,
    torchs_own,
)
from bancada.training.prepare import Prepare
from bancada.training.space import Search, replaced


class SGD(Settings):
    """torch.optim.SGD. Nesterov's momentum looks ahead: Sutskever et al. 2013."""

    name: Literal["sgd"]
    momentum: Fraction = 0.0  # the share of the last step that is added to this one
    nesterov: bool = False  # look ahead along the momentum
    weight_decay: NotNegative = 0.0  # of the weights, added to the gradient

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as momentum: 0.9")
        return self


class Adam(Settings):
    """torch.optim.Adam. Kingma & Ba 2015."""

    name: Literal["adam"]
    # decay of the running means of the gradient and of its square
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Positive = 1e-8  # added to the root of the second one
    weight_decay: NotNegative = 0.0  # of the weights


class AdamW(Adam):
    """torch.optim.AdamW: the decay of weights is no part of the gradient. Loshchilov & Hutter 2019."""

    name: Literal["adamw"]  # type: ignore[assignment]  # another name than Adam's, with the same options
    weight_decay: NotNegative = 0.01


class NoSchedule(Settings):
    """The learning rate stays as it is."""

    name: Literal["none"]


class StepSchedule(Settings):
    """lr * gamma ** (k // step_size) in epoch (or update) k = 0, 1, ... torch.optim.lr_scheduler.StepLR."""

    name: Literal["step"]
    step_size: Count  # after so many epochs (or updates) the rate falls
    gamma: Annotated[float, Field(gt=0, le=1)]  # by this factor
    every: Literal["epoch", "update"] = "epoch"  # what is counted


class InverseTime(Settings):
    """The learning rate is multiplied by 1 / (1 + decay * k) before update (or epoch) k = 1, 2, ... Lesson 5."""

    name: Literal["inverse_time"]
    decay: NotNegative  # how fast the rate falls
    every: Literal["epoch", "update"] = "update"  # what is counted


class Cosine(Settings):
    """eta_min + (lr - eta_min) * (1 + cos(pi * k / t_max)) / 2 in epoch (or update) k = 0, 1, ...

    torch.optim.lr_scheduler.CosineAnnealingLR. Loshchilov & Hutter 2017. `t_max: null` is all epochs (or updates).
    """

    name: Literal["cosine"]
    t_max: Count | None = None  # epochs (or updates) down to `eta_min`; null: all of them
    eta_min: NotNegative = 0.0  # the rate at the end
    every: Literal["epoch", "update"] = "epoch"  # what is counted


# Schedules that set the learning rate themselves: the argument that `lr` is, where it is not given.
LR_OF = {"OneCycleLR": "max_lr", "CyclicLR": "base_lr"}


class TorchSchedule(TorchPart):
    """A class of torch.optim.lr_scheduler. `every`: null is epoch; for OneCycleLR and CyclicLR it is update."""

    # null: after every epoch; of OneCycleLR and CyclicLR, after every update
    every: Literal["epoch", "update"] | None = None


Optimizer = Annotated[
    Annotated[SGD | Adam | AdamW, Field(discriminator="name"), Tag("ours")] | Annotated[TorchPart, Tag("torch")],
    WHOSE,
    BeforeValidator(by_name),
]
Schedule = Annotated[
    Annotated[NoSchedule | StepSchedule | InverseTime | Cosine, Field(discriminator="name"), Tag("ours")]
    | Annotated[TorchSchedule, Tag("torch")],
    WHOSE,
    BeforeValidator(by_name),
]


class EarlyStopping(Settings):
    """Stop after `patience` epochs whose validation loss is not lower than the lowest by more than `min_delta`.

    The weights of the epoch with the last improvement are kept, as Keras's EarlyStopping does. The validation loss is
    the training loss over the validation rows, without class weights.
    """

    patience: Count  # epochs without an improvement
    min_delta: NotNegative = 0.0  # the least that counts as one


NumSeeds = Annotated[int, Field(ge=1, le=1000)]  # 2 ** num_seeds must be finite, for the exact test


class Train(Settings):
    """How a network is trained. A variant's keys replace its study's, key by key."""

    loss: Loss  # the loss that the training makes small
    lr: Positive  # the learning rate, at the start
    epochs: Count  # how often the training sees all training rows; with early stopping, at most
    batch_size: Count | Literal["full"]  # rows in a batch; `full`: all training rows at once
    batch_order: Literal["shuffled", "fixed"] = "shuffled"  # `fixed`: shuffled once, the same order in every epoch
    optimizer: Optimizer = SGD(name="sgd")  # how a gradient changes the weights
    schedule: Schedule = NoSchedule(name="none")  # how the learning rate changes while training
    init: Init = TorchInit(name="torch")  # the weights that linear layers of a given number of units start from
    clip_norm: NotNegative = 0.0  # the largest norm of a seed's gradient over all parameters; 0: no clipping
    standardize: bool = False  # inputs to mean 0 and standard deviation 1, learned from the training rows
    prepare: Prepare | None = None  # how words, empty cells and targets become numbers
    # which of the two trains; null: `compiled`, if it has all that is asked for
    engine: Literal["compiled", "torch"] | None = None
    early_stopping: EarlyStopping | None = None  # when to stop before the last epoch; needs validation rows of its own
    # in the training loss each class counts the same, however many rows it has; null: each row does
    class_weight: Literal["balanced"] | None = None
    # `portable`: the same bytes on every x86-64 CPU with AVX2; `this_machine`: faster, the same on this machine alone
    bits: Literal["portable", "this_machine"] = "portable"
    num_seeds: NumSeeds | None = None  # of all variants of a study; null: the one at the top of params.yaml
    # chooses values of these keys, or of a module's `args`, on the validation rows before the training
    search: Search | None = None

    def batch_rows(self, rows: int) -> int:
        """Return the number of rows in a batch, of which the last one may have fewer. `rows`: those of the training."""
        return rows if self.batch_size == "full" else self.batch_size

    def each_update(self) -> bool:
        """Return whether the schedule steps after every update, and not after every epoch."""
        chosen = self.schedule
        if isinstance(chosen, NoSchedule):
            return False
        return (chosen.every or ("update" if chosen.name in LR_OF else "epoch")) == "update"

    def steps(self, updates: int) -> int:
        """Return how often the schedule steps in the whole training. `updates`: of an epoch."""
        return self.epochs * (updates if self.each_update() else 1)


Engine = Literal["compiled", "torch", "scratch"]


class Variant(Settings):
    """A network, as layers or as a module of the user's own, and the training keys that differ from its study's."""

    study: str  # the study that it belongs to
    layers: Layers | None = None  # the network, layer by layer; a number is a linear layer of so many units
    module: Module | None = None  # in place of `layers`: a network of your own
    scratch: bool = False  # train a single linear layer in plain tensor operations, as lessons 1 and 5 do
    train: dict[str, Any] = {}  # the keys of `train` that differ from its study's; each replaces that key as a whole

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.layers is None) == (self.module is None):
            raise ValueError("needs either layers or module")
        return self


class Common(Settings):
    """The keys at the top of params.yaml, which hold for every training."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]  # seed `i` of every variant is `seed + i`
    # from how many seeds each variant is trained; the exact test of a comparison needs at least 6
    num_seeds: NumSeeds
    # a learning rate that replaces every other one, as in `dvc exp run -S lr=0.01`; null: each keeps its own
    lr: Positive | None
    # for every variant that this engine can train; others stay on theirs, and say so; null: as `train.engine` says
    engine: Literal["compiled", "torch"] | None
    # `cuda` where there is a GPU: then plain PyTorch trains, and the bits hold for the same kind of GPU alone
    device: Literal["cpu", "cuda"]


class Recipe(Settings):
    """Everything that one training depends on, apart from its data and its code."""

    study: str
    variant: str
    layers: Layers | None = None
    module: Module | None = None
    scratch: bool
    train: Train
    seeds: list[int]
    device: Literal["cpu", "cuda"]
    engine: Engine

    @property
    def network(self) -> Network:
        """What makes the network's outputs and its loss."""
        return Network(layers=self.layers, module=self.module, loss=self.train.loss, bits=self.train.bits)


class TrainingKeys:
    """The keys of params.yaml that the training of one variant depends on.

    A `train` key of the variant replaces the same key of its study, and the `lr` at the top, if set, replaces both. The
    `num_seeds` of a study replaces the one at the top.
    """

    def __init__(self, name: str, variant: Variant, shared: Mapping[str, Any], common: Common) -> None:
        self.name, self.variant, self.shared, self.common = name, variant, shared, common

    def recipe(self) -> Recipe:
        """Return the keys put together. Raise BadInput if one is missing or wrong."""
        train, (engine, _) = self._train(), self.engine()
        seeds = train.num_seeds or self.common.num_seeds
        return Recipe(
            **{key: getattr(self.variant, key) for key in ("study", "layers", "module", "scratch")},
            variant=self.name,
            train=train.model_copy(update={"engine": None, "search": None, "num_seeds": None}),
            seeds=[self.common.seed + i for i in range(seeds)],
            device=self.common.device,
            engine=engine,
        )

    def _train(self) -> Train:
        checked(Train, self.shared, f"studies.{self.variant.study}.train", partial=True)
        checked(Train, self.variant.train, f"variants.{self.name}.train", partial=True)
        if "num_seeds" in self.variant.train:
            problem = f"variants are compared seed by seed: set studies.{self.variant.study}.train.num_seeds, for all"
            raise bad(f"variants.{self.name}.train.num_seeds", self.variant.train["num_seeds"], problem)
        lr = {"lr": self.common.lr} if self.common.lr else {}
        return checked(Train, {**self.shared, **self.variant.train, **lr}, f"variants.{self.name}.train")

    def search(self) -> Search | None:
        """Return the search that comes before the training, if there is one. An `lr` at the top is not searched."""
        asked = self._train().search
        if asked and self.common.lr:
            asked = asked.model_copy(update={"space": {key: asked.space[key] for key in asked.space if key != "lr"}})
        return asked if asked and asked.space else None

    def with_values(self, values: Mapping[str, Any]) -> "TrainingKeys":
        """Return the keys with values at dotted keys of `train`, or of a module's `args`, in place of a search.

        What is not written on the way to a value has its default. Raise BadInput for a key that cannot have a value.
        """
        module, defaults = self.variant.module, self._train().model_dump()
        own: dict[str, Any] = {**self.variant.train, "search": None}
        for key, value in values.items():
            first, _, rest = key.partition(".")
            try:
                if module and first == "args" and rest:
                    module = module.model_copy(update={"args": replaced(module.args, rest, value)})
                    continue
                if first not in Train.model_fields or first in NOT_SEARCHED:
                    raise KeyError(first)
                written = own.get(first, self.shared.get(first))
                own[first] = replaced(_filled(written, defaults[first]), rest, value) if rest else value
            except KeyError as error:
                where, what = f"{self.written_at('search')}.space.{key}", error.args[0]
                raise bad(where, None, f"no key of train that can be searched: {what}") from None
        variant = self.variant.model_copy(update={"train": own, "module": module})
        return TrainingKeys(self.name, variant, self.shared, self.common)

    def trial(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with these values. Raise BadInput where it needs another engine than the variant's."""
        recipe, (engine, _) = self.with_values(values).recipe(), self.engine()
        if recipe.engine != engine:
            problem = f"engine {recipe.engine} would train it, and {engine} other trials; `engine: torch` trains all"
            raise bad(f"variants.{self.name}.train.engine", None, problem)
        return recipe

    def at_ends(self, check: "Callable[[TrainingKeys], None]") -> None:
        """Call `check` at both ends of each range of the search, and at each choice. A BadInput names them."""
        search = self.search()
        for key, part in search.space.items() if search else ():
            for value in part.extremes():
                at = self.with_values({key: value})
                try:
                    self.trial({key: value})
                    check(at)
                except BadInput as error:
                    reason = str(error).removeprefix(f"{PARAMS_FILE}: ")
                    raise bad(f"{self.written_at('search')}.space.{key}", value, f"with it, {reason}") from None

    def engine(self) -> tuple[Engine, str]:
        """Return which engine trains the variant, and why, in words.

        Raise BadInput where the variant's own `engine: compiled` asks for what that engine does not have.
        """
        train = self._train()
        own = ["scratch: true"] if self.variant.scratch else []
        own += torchs_own(self.variant.layers, self.variant.module, train.loss, train.optimizer, train.schedule)
        own += [f"bits: {train.bits}"] if train.bits != "portable" else []
        own += [f"device: {self.common.device}"] if self.common.device != "cpu" else []
        top, at_top = self.common.engine, f"engine: {self.common.engine} at the top of params.yaml"
        if own and self.variant.train.get("engine") == "compiled":
            raise bad(self.written_at("engine"), "compiled", f"it does not have {own[0]}; leave the key out")
        if own:
            reason = own[0] + (f"; {at_top} is not for it" if top == "compiled" else "")
            return "scratch" if self.variant.scratch else "torch", reason
        if (top or train.engine) == "torch":
            return "torch", at_top if top else f"{self.written_at('engine')}: torch"
        return "compiled", "the small vocabulary of layers"

    def written_at(self, key: str) -> str:
        """Return where a training key of the study or the variant stands, or can be added: for all variants.

        For example `studies.moons.train.epochs`.
        """
        own = key in self.variant.train
        return f"variants.{self.name}.train.{key}" if own else f"studies.{self.variant.study}.train.{key}"

    def overrides(self) -> list[str]:
        """Return a sentence for each training key of the variant that replaces another value of its study."""
        return [
            f"variants.{self.name}.train.{key}{_shown(value)}"
            f" replaces studies.{self.variant.study}.train.{key}{_shown(self.shared[key])}"
            for key, value in self.variant.train.items()
            if key in self.shared and value != self.shared[key]
        ]

    def overruled(self) -> str:
        """Return in words what the `lr` at the top replaces, and which num_seeds replaces that at the top; or ""."""
        train, top, below = self._train(), self.common, self.variant.train.get("lr", self.shared.get("lr"))
        rates = [] if top.lr is None or below in (None, top.lr) else [f"{self.written_at('lr')} = {below}"]
        if top.lr and train.search and "lr" in train.search.space:
            rates.append(f"{self.written_at('search')}.space.lr")
        told = [f"lr = {top.lr} replaces {' and '.join(rates)}"] if rates else []
        if train.num_seeds not in (None, top.num_seeds):
            told.append(f"{self.written_at('num_seeds')} = {train.num_seeds} replaces num_seeds = {top.num_seeds}")
        return "; ".join(told)


def _shown(value: Any) -> str:
    return "" if isinstance(value, Mapping) and "space" in value else f" = {value}"  # a space has many lines


# Keys of `train` that no search may change: they decide what a row is, who trains, or how often.
NOT_SEARCHED = ("search", "standardize", "prepare", "engine", "bits", "num_seeds")


def _filled(written: Any, default: Any) -> Any:
    """Return what is written of an optimizer, for example, as a mapping with all its options."""
    written = {"name": written} if isinstance(written, str) else written
    if not isinstance(written, Mapping) or is_torch_name(written.get("name")):
        return default if written is None else written
    return {**default, **written}


def training_keys(params: ParamsFile, name: str) -> TrainingKeys:
    """Return the keys of params.yaml for the training of one variant. Raise BadInput if one is missing or wrong."""
    variant = checked(Variant, params.value(f"variants.{name}"), f"variants.{name}")
    common = checked(Common, {key: params.value(key) for key in Common.model_fields}, "")
    return TrainingKeys(name, variant, params.value(f"studies.{variant.study}.train"), common)
