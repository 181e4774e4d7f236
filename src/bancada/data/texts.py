"""The cells of a table in a file, CSV or parquet, as they stand there, and the keys that say how it is written."""

import csv
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from pydantic import AfterValidator, model_validator

from bancada.base.refusals import BadInput, bad
from bancada.base.settings import Settings

CHUNK = 20_000  # rows that are held as Python's own texts at a time


def _one_character(text: str) -> str:
    if len(text) != 1 or text.isalnum() or text in '"+-\r\n\0':
        raise ValueError("must be one character that is no letter, digit, sign or quote")
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

    separator: Character | None = None  # null: a comma
    decimal: Literal[".", ","] | None = None  # null: a point, and numbers such as 1;1.234 are refused as ambiguous
    thousands: Character | None = None  # null: there is none
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None  # null: UTF-8
    missing: list[str] | None = None  # texts that mean an empty cell; null: "", and known marks such as NA are refused
    header: bool | list[str] | None = None  # null: the first line has names; false: they are column_1, column_2, ...
    words: list[str] = []  # columns whose cells are words, even if they look like numbers
    numbers: list[str] = []  # columns whose cells are numbers, even with zeros in front, such as 007

    @model_validator(mode="after")
    def _marks_differ(self) -> "Reading":
        if self.thousands == (self.decimal or "."):
            raise ValueError(f"decimal and thousands are both '{self.thousands}'")
        if both := [name for name in self.words if name in self.numbers]:
            raise ValueError(f"'{both[0]}' is in both words and numbers")
        return self


@dataclass(frozen=True)
class Texts:
    """A table as it stands in a file. Columns of a parquet file may have any type; null is an empty cell there."""

    path: Path
    header: list[str]
    columns: dict[str, pa.ChunkedArray]  # without spaces around; of names that stand twice, the last column
    lines: Int64[np.ndarray, " row"]  # of each row, as an editor counts, or its number in a parquet file
    unit: Literal["line", "row"] = "line"


def read(path: Path, reading: Reading, rows: int | None = None, ignore: Collection[str] = ()) -> Texts:
    """Return the first rows of a table, or all, without the columns to ignore.

    Raise BadInput, with the file's name and line, for a file that is no table or looks otherwise than `reading` says.
    """
    raise NotImplementedError
