"""The environment variables BANCADA_*: what is set for one command, and changes no result."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from bancada.base.refusals import KINDS, BadInput


class Variables(BaseModel):
    """The field `cores` is BANCADA_CORES, and so on. A variable that is empty counts as not set."""

    cores: Annotated[int, Field(ge=1)] | None = None  # that a stage may use; None: all that the process may run on
    checkpoint_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0  # between two states of a replica under way
    ray: str = ""  # the cluster that trains: auto, or HOST:PORT
    recheck: Annotated[int, Field(ge=0)] | None = None  # one replica in so many is trained twice there; 0: none
    replicas: Literal["on", "off"] = "on"  # off: finished replicas are neither kept nor taken from the store
    # shared: the `bancada repro` that started this stage has one process for all that records results
    tracking: Literal["on", "off", "shared"] = "on"


def variables() -> Variables:
    """Return what is set. Raise BadInput, with every variable that has a wrong value, where one has."""
    known = {f"BANCADA_{name.upper()}": name for name in Variables.model_fields}
    given = {name: os.environ[variable].lower() for variable, name in known.items() if os.environ.get(variable)}
    try:
        return Variables.model_validate(given)
    except ValidationError as error:
        raise BadInput("\n".join(map(_line, error.errors()))) from None


def _line(error: ErrorDetails) -> str:
    kind = KINDS.get(error["type"])
    problem = f"must be {kind}" if kind else error["msg"].replace("Input should", "must")
    return f"BANCADA_{error['loc'][0]}".upper() + f" = {error['input']}: {problem}"
