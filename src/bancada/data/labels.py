"""Labels of classes: which texts are labels, and which of them are whole numbers."""

import re
from collections.abc import Sequence
from typing import Any

# What pandas.read_csv takes for a missing value, and the question mark of many data sets.
MISSING = {
    *("", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "NAN", "None", "n/a", "nan", "null"),
}
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")  # of at most 15 digits, which float64 can hold, too


def missing(texts: Sequence[str]) -> list[int]:
    """Return the positions that have no label. A - is a label if there is a + beside it."""
    marks = MISSING if "+" in texts else MISSING | {"-"}
    return [i for i, text in enumerate(texts) if text in marks]


def labels_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return the label of each text: a whole number if every text is one, as people write it, otherwise the text.

    Two texts never have the same label. So 3.0 is a number only if all texts end in .0, and 01, +1, 1e1, 1_0 never are.
    """
    distinct = set(texts)
    for end in ("", ".0"):
        if all(text.endswith(end) and WHOLE_NUMBER.fullmatch(text.removesuffix(end)) for text in distinct):
            return {text: int(text.removesuffix(end)) for text in distinct}
    return {text: text for text in distinct}
