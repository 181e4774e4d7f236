"""Labels of classes: which texts are labels, and which of them are whole numbers."""

import re
from collections.abc import Iterable
from typing import Any

# What pandas.read_csv takes for a missing value, and the question mark of many data sets.
MISSING = {
    *("", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "NAN", "None", "n/a", "nan", "null"),
}
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")  # of at most 15 digits, which float64 can hold, too


def marks(texts: Iterable[str]) -> set[str]:
    """Return what may mean a missing value in a column that has these texts. A - is a word if a + is among them."""
    return MISSING if "+" in texts else MISSING | {"-"}


def labels_of(texts: Iterable[str]) -> dict[str, Any]:
    """Return the label of each text: a whole number if every text is one, as people write it, otherwise the text.

    Two texts never have the same label. So 3.0 is a number only if all texts end in .0, and 01, +1, 1e1, 1_0 never are.
    """
    distinct = set(texts)
    for end in ("", ".0"):
        if all(text.endswith(end) and WHOLE_NUMBER.fullmatch(text.removesuffix(end)) for text in distinct):
            return {text: int(text.removesuffix(end)) for text in distinct}
    return {text: text for text in distinct}
