"""What the cells of rows mean, in files and in pandas data frames: one rule for words, and one for missing numbers.

This file is also part of every MLflow model, so it needs numpy and nothing else.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
NO_NUMBERS = str.maketrans("_nN", "???")  # Python would read 1_000, nan and inf
MOMENT = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d*[1-9])?)(?:\.0+|0+)?([+-]\d\d:\d\d)?"
WORD = re.compile(rf"(-?(?:0|[1-9]\d*))\.0+|(\d{{4}}-\d\d-\d\d) 00:00:00(?:\.0+)?|{MOMENT}")  # what a word is of it


class WrongCell(ValueError):
    """A cell of a data frame that is no number, where a network needs one. The message names the row and column."""


def text_of(cell: Any, missing: Collection[str] = ()) -> str:
    """Return the word of a cell: 2, 2.0 and "2.0" are "2", and a moment at midnight is its date. Empty for a mark."""
    whole = isinstance(cell, float | np.floating) and cell.is_integer()
    text = f"{cell:.0f}" if whole else str(cell).strip()
    found = WORD.fullmatch(text)
    word = "".join(filter(None, found.groups())) if found else text
    return "" if text in missing or word in missing else word


def without_marks(numbers: np.ndarray, missing: Collection[str]) -> np.ndarray:
    """Return the numbers with NaN for those that a mark of a missing value stands for, such as -999."""
    marks = [float(mark) for mark in missing if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf", mark)]
    if not marks:
        return numbers
    with np.errstate(over="ignore"):
        in_float32 = np.array(marks, dtype=np.float32).astype(np.float64)  # as a column of such numbers has them
    return np.where(np.isin(numbers, [*marks, *in_float32]), np.nan, numbers)


def of_frame(
    rows: Any, names: Sequence[str], of_words: Collection[str], missing: Collection[str]
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Return the features [row, feature] and words of a pandas data frame with raw features. Raise WrongCell.

    Its columns may have any order, its words may be numbers or moments, and None, NaN and NA are empty cells, as well
    as the marks in `missing`.
    """
    features, words = np.empty((len(rows), len(names))), dict[str, list[str]]()
    for i, name in enumerate(names):
        if name in of_words:
            empty = rows[name].isna()
            texts = ["" if no else text_of(cell, missing) for cell, no in zip(rows[name], empty, strict=True)]
            words[name] = sorted({*texts} - {""})
            place = {word: float(at) for at, word in enumerate(words[name])} | {"": np.nan}
            features[:, i] = [place[text] for text in texts]
        else:
            features[:, i] = without_marks(_numbers(rows[name], missing), missing)
    for row, i in np.argwhere(np.abs(features) > LARGEST):
        where = f"row {row + 1}, column '{names[i]}' = {features[row, i]:g}"
        raise WrongCell(f"{where}: must be a finite number that float32 can hold")
    return features, words


def _numbers(column: Any, missing: Collection[str]) -> np.ndarray:
    """Return the numbers of a pandas Series, NaN for an empty cell. Raise WrongCell for the first that is none."""
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    found = np.full(len(column), np.nan)
    for row in np.flatnonzero(~column.isna()):
        cell = column.iloc[row]
        try:
            if not isinstance(cell, str) or cell.strip() not in {"", *missing}:
                found[row] = float(cell.translate(NO_NUMBERS) if isinstance(cell, str) else cell)
        except (TypeError, ValueError):
            raise WrongCell(f"row {row + 1}, column '{column.name}' = {cell}: must be a number") from None
    return found
