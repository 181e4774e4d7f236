"""What the columns of a table are, numbers or words, decided over all cells of a column."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int32, Int64

from bancada.base.refusals import BadInput, did_you_mean, shown
from bancada.base.settings import LARGEST
from bancada.base.tables import arrow_array
from bancada.data import labels
from bancada.data.reading import Reading, line_to_add, number_pattern
from bancada.data.texts import Texts

Kind = Literal["feature", "aside", "target", "label", "numbers", "words"]
MOST_COLUMNS, MOST_ROWS, MOST_LABELS, MOST_TEXTS = 10, 5, 100, 8  # named in a message
LONGEST_MARK = 20  # characters of a text that may mean a missing value
TRUTH = "^(?i:true|false)$"
ZEROS = r"^[+-]?0\d"
GROUPS = r"^[+-]?[1-9]\d{0,2}(?:\.\d{3})+$"  # of thousands, if points divide them
THOUSANDS = (".", ",", " ", "'", "\N{RIGHT SINGLE QUOTATION MARK}", "\u00a0", "\u202f")
ANY_NUMBER = f"^[+-]?[0-9{''.join(THOUSANDS)}]*[0-9][0-9{''.join(THOUSANDS)}]*(?:[eE][+-]?[0-9]+)?$"
MISSING_LINE = "\0missing\0"  # stands in the text of a problem for a line that is known once all columns are


class Cells(NamedTuple):
    """The cells of a column; NaN is an empty one. With words, they are places in `words`, as those of a Table."""

    values: Float64[np.ndarray, " row"]
    words: list[str] | None  # sorted by code point; None: numbers


class Problem(NamedTuple):
    """Why a column cannot be used: what its rows have, and what makes it usable."""

    rows: Int64[np.ndarray, " wrong"]
    what: str
    way: str
    marks: frozenset[str] = frozenset()  # texts that are to be declared as missing


class Encoded:
    """The distinct texts of a column. Masks of them have one more place, for null."""

    def __init__(self, column: pa.ChunkedArray):
        encoded = pa.chunked_array(column.chunks, column.type).combine_chunks().dictionary_encode()
        self.texts: Any = encoded.dictionary
        if not pa.types.is_string(self.texts.type):
            self.texts = pa.array([_text(value) for value in self.texts.to_pylist()], pa.string())
        self.codes: Int32[np.ndarray, " row"] = np.from_dlpack(_filled(encoded.indices, len(self.texts)))

    def among(self, texts: Collection[str]) -> Bool[np.ndarray, " text"]:
        """Return which texts are among these."""
        return self._mask(pc.is_in(self.texts, arrow_array(list(texts))))

    def like(self, pattern: str) -> Bool[np.ndarray, " text"]:
        """Return which texts match a pattern."""
        return self._mask(pc.match_substring_regex(self.texts, pattern))

    def _mask(self, found: Any) -> Bool[np.ndarray, " text"]:
        return np.append(np.from_dlpack(_filled(found, False).cast(pa.uint8())).astype(bool), False)

    def rows(self, mask: Bool[np.ndarray, " text"]) -> Int64[np.ndarray, " found"]:
        """Return the rows whose text is in a mask."""
        return np.flatnonzero(mask[self.codes])

    def picked(self, mask: Bool[np.ndarray, " text"]) -> list[str]:
        """Return the texts in a mask."""
        found: list[str] = self.texts.take(arrow_array(np.flatnonzero(mask[:-1]))).to_pylist()
        return found

    def words(self, missing: Bool[np.ndarray, " text"]) -> Cells:
        """Return the column as words."""
        texts: list[Any] = [*self.texts.to_pylist(), None]
        words = sorted({text for text, gap in zip(texts, missing, strict=True) if not gap})
        place = {word: float(i) for i, word in enumerate(words)}
        values = [np.nan if gap else place[text] for text, gap in zip(texts, missing, strict=True)]
        return Cells(np.array(values)[self.codes], words)


def cells(texts: Texts, reading: Reading, kinds: Mapping[str, Kind]) -> dict[str, Cells]:
    """Return the cells of these columns, found by name.

    "numbers" and "words": what the column is known to hold, as that of a trained variant. "feature": numbers or words,
    as `reading.numbers`, `reading.words` or else all its cells say. "target": numbers, and no cell may be empty.
    "label": words, and no cell may be empty. "aside": numbers if all cells are, otherwise words, never refused.
    Raise BadInput, one line about all columns that cannot be used, or for a name that is no column, stands twice or is
    empty.
    """
    refuse_unusable(texts, kinds)
    found, problems = dict[str, Cells](), dict[str, Problem]()
    for name, kind in kinds.items():
        made = _cells(texts.columns[name], name, kind, reading)
        if isinstance(made, Cells):
            found[name] = made
        else:
            problems[name] = made
    if problems:
        raise BadInput(f"{texts.path}: {_told(texts, problems, kinds, reading)}")
    return found


def refuse_unknown(texts: Texts, names: Iterable[str]) -> None:
    """Raise BadInput for the first name that no column has."""
    known = set(texts.header)
    for name in names:
        if name not in known:
            raise BadInput(f"{header_of(texts)}no column '{name}'{did_you_mean(name, texts.header, 0.6)}")


def refuse_unusable(texts: Texts, names: Iterable[str]) -> None:
    """Raise BadInput for the first name that no column has, that is empty, or that two columns have."""
    refuse_unknown(texts, names)
    counts = Counter(texts.header)
    for name in names:
        if not name:
            place = texts.header.index(name) + 1
            raise BadInput(f'{header_of(texts)}column {place} has no name; add ignore: [""] if it counts the rows')
        if counts[name] > 1:
            way = f"rename one, or add {line_to_add('ignore', [name])}"
            raise BadInput(f"{header_of(texts)}there are two columns '{name}'; {way}")


def header_of(texts: Texts) -> str:
    """Return the beginning of a message about the names of the columns."""
    return f"{texts.path}: line 1: " if texts.unit == "line" else f"{texts.path}: "


def _told(texts: Texts, problems: Mapping[str, Problem], kinds: Mapping[str, Kind], reading: Reading) -> str:
    """Return one line about the first columns that cannot be used, and how many more there are."""
    first = list(problems.items())[:MOST_COLUMNS]
    marks = frozenset[str]().union(*(problem.marks for _, problem in first), reading.missing or ())
    missing, told = line_to_add("missing", [*sorted(marks - {""}), ""]), list[str]()
    for name, problem in first:
        count, most = len(problem.rows), MOST_LABELS if kinds[name] in ("target", "label") else MOST_ROWS
        column, places = texts.columns[name], list[str]()
        for row in problem.rows[:most].tolist():
            places.append(f"{texts.lines[row]} ({shown(_text(column[row].as_py()))[3:] or 'empty'})")
        where = f"{texts.unit}{'s' * (count > 1)} {', '.join(places)}{f' and {count - most} more' * (count > most)}"
        rows = f"{count} of {len(column)} rows {'have' if count > 1 else 'has'}"
        told.append(f"column '{name}': {rows} {problem.what}: {where}; {problem.way.replace(MISSING_LINE, missing)}")
        missing = "missing as above" if MISSING_LINE in problem.way else missing
    more = len(problems) - len(told)
    return "; ".join(told) + f"; and {more} more column{'s' * (more > 1)}" * (more > 0)


def _cells(column: pa.ChunkedArray, name: str, kind: Kind, reading: Reading) -> Cells | Problem:
    types, stored = pa.types, column.type
    as_words = kind in ("words", "label") or (kind in ("feature", "aside") and name in reading.words)
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    as_stored = any(test(stored) for test in numeric)
    if not as_stored and not types.is_string(stored):
        what = f"no number or text, but {stored}"[:80]
        return Problem(np.arange(len(column)), what, _way([line_to_add("ignore", [name])]))
    if as_stored and (types.is_null(stored) or not as_words):
        numbers = column.cast(pa.uint8()) if types.is_boolean(stored) else column
        numbers = _filled(numbers.cast(pa.float64(), safe=False).combine_chunks(), np.nan)
        return _finite(np.from_dlpack(numbers), kind)
    encoded = Encoded(column)
    gaps = encoded.among([""] if reading.missing is None else reading.missing)
    gaps[-1] = True
    if kind in ("target", "label") and (problem := _gaps(encoded, gaps, kind, reading)):
        return problem
    if as_words:
        return _words(encoded, gaps, kind, reading)
    made = _numbers(encoded, gaps, name, kind, reading)
    return encoded.words(gaps) if isinstance(made, Problem) and kind == "aside" else made


def _filled(array: Any, value: Any) -> Any:
    return array.fill_null(value) if array.null_count else array  # it would import pandas, for half a second


def _text(value: Any) -> str | None:
    """Return the text that a stored value stands for: of truth as pandas writes it, of a whole number without .0."""
    if isinstance(value, float):
        return None if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return None if value is None else str(value)


def _finite(values: Float64[np.ndarray, " row"], kind: Kind) -> Cells | Problem:
    if kind == "target" and (gaps := np.flatnonzero(np.isnan(values))).size:
        return Problem(gaps, "no number", "take them out, or give them a number")
    if (beyond := np.flatnonzero(np.abs(values) > LARGEST)).size:
        return Problem(beyond, f"a number beyond {LARGEST:.3g}, the largest that a network can take", "mend them")
    return Cells(values, None)


def _marks(encoded: Encoded, reading: Reading) -> Bool[np.ndarray, " text"]:
    """Return which texts may mean a missing value, where `reading` does not say which do."""
    known = labels.marks(encoded.picked(encoded.among(["+"]))) if reading.missing is None else ()
    return encoded.among(known)


def _gaps(encoded: Encoded, gaps: Bool[np.ndarray, " text"], kind: Kind, reading: Reading) -> Problem | None:
    """Return the problem of a target that is missing in some rows."""
    noun, instead = ("label", "class") if kind == "label" else ("number", "number")
    rows = encoded.rows(gaps | _marks(encoded, reading) | encoded.among([""]))
    return Problem(rows, f"no {noun}", f"take them out, or give them a {instead}") if rows.size else None


def _words(encoded: Encoded, gaps: Bool[np.ndarray, " text"], kind: Kind, reading: Reading) -> Cells | Problem:
    """Return words, if no cell is one that only may be missing."""
    marks, empty = _marks(encoded, reading) & ~gaps, encoded.among([""]) & ~gaps
    if kind in ("aside", "label"):
        return encoded.words(gaps)
    if marks.any():
        ways = [MISSING_LINE, 'missing: [""] if they are words like the others']
        return Problem(encoded.rows(marks), "a mark of a missing value", _way(ways), frozenset(encoded.picked(marks)))
    if empty.any():
        return Problem(encoded.rows(empty), "an empty cell, which missing does not name", _way([MISSING_LINE]))
    return encoded.words(gaps)


def _numbers(
    encoded: Encoded, gaps: Bool[np.ndarray, " text"], name: str, kind: Kind, reading: Reading
) -> Cells | Problem:
    """Return the numbers that the texts are, or words if none looks like a number."""
    number, truth = (encoded.like(pattern) & ~gaps for pattern in (number_pattern(reading), TRUTH))
    otherwise = encoded.like(ANY_NUMBER) & ~number & ~gaps
    odd = ~(number | truth | gaps)
    chosen = kind in ("target", "numbers") or name in reading.numbers
    as_words = [] if chosen else [f"{line_to_add('words', [name])} if the column holds words"]
    if not chosen and odd.any() and not (number | truth | otherwise).any():
        return _words(encoded, gaps, kind, reading)
    if (strange := odd & ~otherwise).any():
        texts = encoded.picked(strange) if kind != "target" else []
        what, condition = "no number", " if that means a missing value"
        if not (strange & ~_marks(encoded, reading) & ~encoded.among([""])).any():
            what, condition = "a mark of a missing value", ""
        short = 0 < len(texts) <= MOST_TEXTS and max(map(len, texts)) <= LONGEST_MARK
        missing = [f"{MISSING_LINE}{condition}"] if short else []
        return Problem(encoded.rows(strange), what, _way(missing + as_words), frozenset(texts if missing else ()))
    if odd.any():
        forms = _forms(encoded, number | otherwise)
        return Problem(encoded.rows(odd), "a number in another form", _way(forms + as_words))
    if number.any() and truth.any() and not chosen:
        numbers = [f"{line_to_add('numbers', [name])} to read true as 1 and false as 0"]
        return Problem(encoded.rows(truth), "true or false among numbers", _way(numbers + as_words))
    zeros = encoded.like(ZEROS) & number
    if zeros.any() and not chosen:
        numbers = [f"{line_to_add('numbers', [name])} to read numbers"]
        return Problem(encoded.rows(zeros), "zeros in front", _way(as_words + numbers))
    points, groups = encoded.like(r"\.") & number, encoded.like(GROUPS) & number
    unsure = reading.decimal is None and (reading.separator or ",") != "," and kind != "numbers"
    if unsure and points.any() and not (points & ~groups).any():
        ways = ['decimal: "." if it is a decimal point', 'decimal: ",", thousands: "." if it groups thousands']
        return Problem(encoded.rows(points), "a point that may group thousands", _way(ways))
    values = np.full(len(gaps), np.nan)
    values[number] = _floats(encoded, number, reading)
    values[truth] = [text.lower() == "true" for text in encoded.picked(truth)]
    return _finite(values[encoded.codes], kind)


def _way(lines: list[str]) -> str:
    return f"add {', or '.join(lines)}" if lines else "mend them, or take them out"


def _forms(encoded: Encoded, numbers: Bool[np.ndarray, " text"]) -> list[str]:
    """Return the keys with which all these texts are numbers, if any."""
    found = []
    for decimal in (",", "."):
        for thousands in (None, *THOUSANDS):
            form = Reading.model_construct(decimal=decimal, thousands=thousands)
            if decimal != thousands and not (numbers & ~encoded.like(number_pattern(form))).any():
                keys = {"decimal": decimal, "thousands": thousands}
                found.append(", ".join(line_to_add(key, value) for key, value in keys.items() if value))
                break
    return found


def _floats(encoded: Encoded, numbers: Bool[np.ndarray, " text"], reading: Reading) -> Any:
    texts = encoded.texts.take(arrow_array(np.flatnonzero(numbers[:-1])))
    if reading.thousands:
        texts = pc.replace_substring(texts, reading.thousands, "")
    texts = pc.replace_substring(texts, reading.decimal or ".", ".")
    try:
        return np.from_dlpack(texts.cast(pa.float64()))
    except pa.ArrowInvalid:  # it has +1, or 1e999
        return [float(text) for text in texts.to_pylist()]
