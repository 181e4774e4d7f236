"""The keys that say how a table in a file is written."""

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from bancada.base.refusals import visible
from bancada.base.settings import Settings

PLAIN_NAME = re.compile(r"(?!(true|false|null|yes|no|on|off)$)[^\W\d]\w*", re.IGNORECASE)  # in YAML


def _one_character(text: str) -> str:
    if len(text) != 1 or text.isalnum() or text in '"+-\r\n\0':
        raise ValueError('must be one character that is no letter, digit, sign or quote; a tab is written "\\t"')
    return text


def _encoding(name: str) -> str:
    try:
        "a".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError("must be an encoding that Python knows, such as utf-8, cp1252 or utf-16") from None
    return name


Character = Annotated[str, AfterValidator(_one_character)]


class Reading(Settings):
    """How a table is written. Nothing is guessed: a file that looks otherwise is refused with the line to add."""

    separator: Character | None = None  # between cells, such as ";"; null: a comma
    decimal: Literal[".", ","] | None = None  # null: a point, and numbers such as 1;1.234 are refused as ambiguous
    thousands: Character | None = None  # between groups of three digits; null: there is none
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None  # such as cp1252; null: UTF-8
    # texts that mean an empty cell; null: an empty cell alone, and marks such as NA or ? are refused
    missing: list[str] | None = None
    # null: the first line has names; false: they are column_1, column_2, ...; a list: the names
    header: bool | list[str] | None = None
    words: list[str] = []  # columns of words, even if all cells look like numbers
    numbers: list[str] = []  # columns of numbers, even with zeros in front, such as 007

    @model_validator(mode="after")
    def _marks_differ(self) -> "Reading":
        if self.thousands == (self.decimal or "."):
            raise ValueError(f"decimal and thousands are both '{self.thousands}'")
        if both := [name for name in self.words if name in self.numbers]:
            raise ValueError(f"'{both[0]}' is in both words and numbers")
        return self


def number_pattern(reading: Reading) -> str:
    """Return the pattern of a number as `reading` says, for Python's `re` and for pyarrow."""
    whole, point = r"\d+", re.escape(reading.decimal or ".")
    if reading.thousands:
        whole = rf"[1-9]\d{{0,2}}(?:{re.escape(reading.thousands)}\d{{3}})+|{whole}"
    return rf"^[+-]?(?:(?:(?:{whole})(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?|(?i:inf|infinity))$"


def line_to_add(key: str, value: str | list[str]) -> str:
    """Return a line for params.yaml, such as `words: [name]`."""
    if isinstance(value, str):
        return f"{key}: {_quoted(value)}"
    plain = PLAIN_NAME if key != "missing" else re.compile("(?!)")
    names = (name if plain.fullmatch(name) else _quoted(name) for name in value)
    return f"{key}: [{', '.join(names)}]"


def _quoted(text: str) -> str:
    return visible(json.dumps(text, ensure_ascii=False))
