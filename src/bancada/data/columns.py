"""What the columns of a table are, numbers or words, decided over all cells of a column."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from bancada.data.texts import Reading, Texts

Kind = Literal["feature", "aside", "target", "numbers", "words"]


class Cells(NamedTuple):
    """The cells of a column; NaN is an empty one. With words, they are places in `words`, as those of a Table."""

    values: Float64[np.ndarray, " row"]
    words: list[str] | None  # sorted by code point; None: numbers


def cells(texts: Texts, reading: Reading, kinds: Mapping[str, Kind]) -> dict[str, Cells]:
    """Return the cells of these columns, found by name.

    "numbers" and "words": what the column is known to hold, as that of a trained variant. "feature": numbers or words,
    as `reading.numbers`, `reading.words` or else all its cells say. "target": numbers, and no cell may be empty.
    "aside": numbers if all cells are, otherwise words, never refused. Raise BadInput, one line about all columns that
    cannot be used, or for a name that is no column, stands twice or is empty.
    """
    raise NotImplementedError
