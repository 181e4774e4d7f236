"""The base class of every part of params.yaml, and the kinds of values that several parts use."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bancada.base.refusals import explained, shown, unknown_key, wrong_key

LONGEST_NAME = 128  # characters: names of files are made of it
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=LONGEST_NAME)]
Count = Annotated[int, Field(gt=0, le=10**8)]  # a typo gives a message, not a lack of memory
LARGEST = 3.4028234663852886e38  # the largest float32: the networks compute in float32
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


STORABLE = "a finite number, a text, true, false or null, or a list or mapping of these"


def _rising(interval: list[float]) -> list[float]:
    if interval[0] >= interval[1]:
        raise ValueError("must be [low, high]")
    return interval


def _storable(args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class or function. Raise an error that names the first one that JSON cannot keep."""
    for key, value in args.items():
        if not is_storable(value):
            raise wrong_key(f"{key}{shown(value) or f' = {value}'}", f"must be {STORABLE}")
    return args


def is_storable(value: Any) -> bool:
    """Return whether JSON can keep the value as it is."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


Args = Annotated[dict[str, Any], AfterValidator(_storable)]
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2), AfterValidator(_rising)]


class Settings(BaseModel):
    """A mapping of params.yaml: frozen, strict about types (a text is no number), and without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, Mapping) else ():
            if key not in cls.model_fields:
                raise unknown_key(key, cls.model_fields)
        return raw


S = TypeVar("S", bound=Settings)


def checked(model: type[S], raw: Any, key: str, partial: bool = False) -> S:
    """Return `raw`, the value of `key` in params.yaml, as a `model`. Raise BadInput if that is impossible.

    With `partial`, missing keys are allowed: use it only to check the others, for the returned object is incomplete.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        details = [e for e in error.errors() if not (partial and e["type"] == "missing" and len(e["loc"]) == 1)]
        if details:
            raise explained(details, raw, key) from None
        return cast(S, model.model_construct())
