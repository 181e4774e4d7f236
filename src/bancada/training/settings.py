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
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as momentum: 0.9")
        return self


class Adam(Settings):
    """torch.optim.Adam. Kingma & Ba 2015."""

    name: Literal["adam"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0


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
    step_size: Count
    gamma: Annotated[float, Field(gt=0, le=1)]
    every: Literal["epoch", "update"] = "epoch"


class InverseTime(Settings):
    """The learning rate is multiplied by 1 / (1 + decay * k) before update (or epoch) k = 1, 2, ... Lesson 5."""

    name: Literal["inverse_time"]
    decay: NotNegative
    every: Literal["epoch", "update"] = "update"


class Cosine(Settings):
    """eta_min + (lr - eta_min) * (1 + cos(pi * k / t_max)) / 2 in epoch (or update) k = 0, 1, ...

    torch.optim.lr_scheduler.CosineAnnealingLR. Loshchilov & Hutter 2017. `t_max: null` is all epochs (or updates).
    """

    name: Literal["cosine"]
    t_max: Count | None = None
    eta_min: NotNegative = 0.0
    every: Literal["epoch", "update"] = "epoch"


# Schedules that set the learning rate themselves: the argument that `lr` is, where it is not given.
LR_OF = {"OneCycleLR": "max_lr", "CyclicLR": "base_lr"}


class TorchSchedule(TorchPart):
    """A class of torch.optim.lr_scheduler. `every`: null is epoch; for OneCycleLR and CyclicLR it is update."""

    every: Literal["epoch", "update"] | None = None


def _schedule_by_name(raw: Any) -> Any:
    every = {"every": raw["every"]} if isinstance(raw, Mapping) and "every" in raw else {}
    named = by_name({key: value for key, value in raw.items() if key != "every"} if every else raw)
    return named | every if isinstance(named, dict) else named


Optimizer = Annotated[
    Annotated[SGD | Adam | AdamW, Field(discriminator="name"), Tag("ours")] | Annotated[TorchPart, Tag("torch")],
    WHOSE,
    BeforeValidator(by_name),
]
Schedule = Annotated[
    Annotated[NoSchedule | StepSchedule | InverseTime | Cosine, Field(discriminator="name"), Tag("ours")]
    | Annotated[TorchSchedule, Tag("torch")],
    WHOSE,
    BeforeValidator(_schedule_by_name),
]


class EarlyStopping(Settings):
    """Stop after `patience` epochs whose validation loss is not lower than the lowest by more than `min_delta`.

    The weights of the epoch with the last improvement are kept, as Keras's EarlyStopping does. The validation loss is
    the training loss over the validation rows, without class weights.
    """

    patience: Count
    min_delta: NotNegative = 0.0


NumSeeds = Annotated[int, Field(ge=1, le=1000)]  # 2 ** num_seeds must be finite, for the exact test


class Train(Settings):
    """How a network is trained. `batch_size: full` takes all training rows at once."""

    loss: Loss
    lr: Positive
    epochs: Count
    batch_size: Count | Literal["full"]
    batch_order: Literal["shuffled", "fixed"] = "shuffled"  # fixed: shuffled once, the same order in every epoch
    optimizer: Optimizer = SGD(name="sgd")
    schedule: Schedule = NoSchedule(name="none")
    init: Init = TorchInit(name="torch")
    clip_norm: NotNegative = 0.0  # the largest norm of the gradient of all parameters; 0: no clipping
    standardize: bool = False  # inputs to mean 0 and sd 1 over the training rows
    prepare: Prepare | None = None  # how raw features become inputs, with more than `standardize`
    engine: Literal["compiled", "torch"] | None = None  # null: compiled, if it has all that is asked for
    early_stopping: EarlyStopping | None = None
    class_weight: Literal["balanced"] | None = None  # classes count the same, however many rows they have
    # portable: the same bytes on every x86-64 CPU with AVX2; this_machine: faster, the same bytes on this machine alone
    bits: Literal["portable", "this_machine"] = "portable"
    num_seeds: NumSeeds | None = None  # of all variants of a study; null: the one at the top of params.yaml
    search: Search | None = None  # it chooses values of these keys, or of a module's arguments, on validation rows

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

    study: str
    layers: Layers | None = None
    module: Module | None = None
    scratch: bool = False  # train it with scratch.py, in plain tensor operations
    train: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.layers is None) == (self.module is None):
            raise ValueError("needs either layers or module")
        return self


class Common(Settings):
    """The keys at the top of params.yaml, which hold for every training."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    num_seeds: NumSeeds
    lr: Positive | None
    engine: Literal["compiled", "torch"] | None  # it replaces a variant's own, where that engine can train it
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
        space = (
            {key: part for key, part in asked.space.items() if not (key == "lr" and self.common.lr)} if asked else {}
        )
        return asked.model_copy(update={"space": space}) if asked and space else None

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
        own = torchs_own(self.variant.layers, self.variant.module, train.loss, train.optimizer, train.schedule)
        asked = {"bits": train.bits != "portable", "device": self.common.device != "cpu"}
        own += [f"{key}: {getattr(train, key, self.common.device)}" for key, said in asked.items() if said]
        if self.variant.train.get("engine") == "compiled" and (self.variant.scratch or own):
            reason = "scratch: true" if self.variant.scratch else own[0]
            raise bad(self.written_at("engine"), "compiled", f"it does not have {reason}; leave the key out")
        top = self.common.engine
        asked_for = top or train.engine
        left = "; engine: compiled at the top of params.yaml is not for it" if top == "compiled" else ""
        if self.variant.scratch:
            return "scratch", f"scratch: true{left}"
        if own:
            return "torch", f"{own[0]}{left}"
        if asked_for == "torch":
            written = "engine: torch at the top of params.yaml" if top else f"{self.written_at('engine')}: torch"
            return "torch", written
        return "compiled", "the small vocabulary of layers"

    def written_at(self, key: str) -> str:
        """Return where a training key of the study or the variant stands, or can be added: for all variants.

        For example `studies.moons.train.epochs`.
        """
        own = key in self.variant.train
        return f"variants.{self.name}.train.{key}" if own else f"studies.{self.variant.study}.train.{key}"

    def overrides(self) -> list[str]:
        """Return a sentence for each training key of the variant that replaces one of its study."""
        return [
            f"variants.{self.name}.train.{key}{_shown(value)}"
            f" replaces studies.{self.variant.study}.train.{key}{_shown(self.shared[key])}"
            for key, value in self.variant.train.items()
            if key in self.shared
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
