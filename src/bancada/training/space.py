"""The space of a search: the key `search` of `train`, and which value of a range belongs to which share of it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from bancada.base.settings import STORABLE, Count, Finite, Settings, is_storable

DIGITS = 6  # of values that are no whole numbers: more would not be the same with the logarithm of another CPU
BELOW_1 = math.nextafter(1, 0)
LARGEST_WHOLE = 2**53  # the shares of larger ranges do not reach every whole number
MOST_SEEDS = 1000  # of a trial
FIRST = 2**31 + 1024  # of the seeds of searches; `seed` and `num_seeds` at the top end before 2 ** 31 + 1000


class Range(Settings):
    """Numbers from `low` to `high`, both included; whole ones where both bounds are. `log`: evenly by their logarithm.

    With `log`, low must be above 0.
    """

    low: int | Finite  # the smallest value; a whole number where both ends are
    high: int | Finite  # the largest value
    log: bool = False  # evenly by the logarithm; needs `low` above 0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs a low above 0, not {self.low}")
        if any(isinstance(end, int) and abs(end) > LARGEST_WHOLE for end in (self.low, self.high)):
            raise ValueError("a whole number must not be larger than 2 ** 53")
        return self

    def value(self, u: float) -> int | float:
        """Return the number at the share `u` of the range, 0 <= u <= 1."""
        u, whole = min(u, BELOW_1), isinstance(self.low, int) and isinstance(self.high, int)
        low, high = self.low, self.high + whole  # each whole number has the same share of an even range
        found = low * (high / low) ** u if self.log else low + (high - low) * u
        if whole:
            return min(max(math.floor(found), self.low), self.high)
        return float(min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high))

    def is_edge(self, value: Any) -> bool:
        """Return whether a value lies in the outer twentieth of the range, so that a better one may lie outside."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return low < high and not low + 0.05 * (high - low) < at < high - 0.05 * (high - low)

    def extremes(self) -> list[Any]:
        """Return values with which every other can be checked."""
        return [self.low, self.high]


class Choices(Settings):
    """One of several values, each with the type that it is written with."""

    choices: Annotated[list[Any], Field(min_length=1)]  # each keeps the type that it is written with

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: list[Any]) -> list[Any]:
        for i, choice in enumerate(choices):
            if not is_storable(choice):
                raise ValueError(f"{choice!r}: each must be {STORABLE}")
            if any(type(choice) is type(other) and choice == other for other in choices[:i]):
                raise ValueError(f"{choice!r} is named twice")
        return choices

    def value(self, u: float) -> Any:
        """Return the choice at the share `u`, 0 <= u <= 1."""
        return self.choices[int(min(u, BELOW_1) * len(self.choices))]

    def is_edge(self, value: Any) -> bool:
        """Return False: choices have no order."""
        return False

    def extremes(self) -> list[Any]:
        """Return values with which every other can be checked: all of them."""
        return self.choices


def _kind(part: Any) -> str:
    has_choices = "choices" in part if isinstance(part, Mapping) else isinstance(part, Choices)
    return "choices" if has_choices else "range"


Part = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),
]


class Search(Settings):
    """A random search, quasi-random in fact: `trials` points of the space, each scored as the mean over `seeds` seeds.

    The points and seeds follow from `seed` alone. No seed of a trial is one of a final training.
    """

    # Those of a final training are below FIRST; those of a search are below 2 ** 32, for the compiled engine draws from
    # 32 bits of a seed.

    trials: Annotated[Count, Field(le=100_000)]  # points of the space that are tried
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 3  # from so many seeds each is trained; its score is their mean
    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0  # of the points, and of those seeds
    # by dotted keys of `train`, or of `args` of a module: `lr`, `optimizer.betas.1`, `args.width`
    space: Annotated[dict[str, Part], Field(min_length=1)]

    @field_validator("space")
    @classmethod
    def _apart(cls, space: dict[str, Part]) -> dict[str, Part]:
        for key in space:
            if "" in key.split("."):
                raise ValueError(f"'{key}' has no name before or after a dot")
            if inner := [other for other in space if other.startswith(f"{key}.")]:
                raise ValueError(f"{inner[0]} lies within {key}: a value of one would replace the other's")
        return space

    def tuning_draws(self) -> list[int]:
        """Return the draws of the data for these seeds, where each has one of its own: none is of a final training."""
        return [seed - 2**31 for seed in self.tuning_seeds()]

    def tuning_seeds(self) -> list[int]:
        """Return the seeds from which each trial is trained."""
        return [FIRST + MOST_SEEDS * self.seed + i for i in range(self.seeds)]


def replaced(tree: Any, key: str, value: Any) -> Any:
    """Return a copy of nested mappings and lists with the value at a dotted key, such as `optimizer.betas.1`.

    A mapping that is missing is made. Raise KeyError where a place cannot have an inner one.
    """
    first, _, rest = key.partition(".")
    if isinstance(tree, list):
        if first not in map(str, range(len(tree))):  # 01 is not 1: two keys would name one value
            raise KeyError(first)
        place = int(first)
        return [*tree[:place], replaced(tree[place], rest, value) if rest else value, *tree[place + 1 :]]
    if not isinstance(tree, dict):
        raise KeyError(first)
    return {**tree, first: replaced(tree.get(first, {}), rest, value) if rest else value}
