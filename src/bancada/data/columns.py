"""What the columns of a table are, numbers or words, decided over all cells of a column."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int32, Int64

from bancada.base.cells import text_of, without_marks
from bancada.base.refusals import BadInput, did_you_mean, one_line, several
from bancada.base.settings import LARGEST
from bancada.base.tables import arrow_array
from bancada.data import labels
from bancada.data.reading import Reading, line_to_add, number_pattern
from bancada.data.texts import Texts

Kind = Literal["feature", "aside", "target", "label", "numbers", "words"]
MOST = 10  # columns, rows and texts that are named in a message
LONGEST_MARK = 20  # characters of a text that may mean a missing value
TRUTH = "^(?i:true|false)$"
CODE = r"^[+-]?(?:0\d|\d{16,}$)"  # other codes would be the same number, as float64 holds 15 digits
GROUPS = r"^[+-]?[1-9]\d{0,2}(?:\.\d{3})+$"  # of thousands, if points divide them
SIGNS = ".,'\N{RIGHT SINGLE QUOTATION MARK}\u00a0\u202f "  # that stand in numbers
ANY_NUMBER = f"^[+-]?[0-9{SIGNS}]*[0-9][0-9{SIGNS}]*(?:[eE][+-]?[0-9]+)?$"
FORMS = {
    'decimal: ","': Reading(decimal=","),
    'decimal: ",", thousands: "."': Reading(decimal=",", thousands="."),
    'thousands: ","': Reading(thousands=","),
}
# What makes a column usable; the lines to add are known once the problems of all columns are.
MISSING = "{missing} if that means a missing value"
WORDS = "{words} if the column holds words"
NUMBERS = "{numbers} to read numbers"


class Cells(NamedTuple):
    """The cells of a column; NaN is an empty one. With words, they are places in `words`, as those of a Table."""

    values: Float64[np.ndarray, " row"]
    words: list[str] | None  # sorted by code point; None: numbers


class Unusable(Exception):
    """A column that cannot be used: what its rows have, and the lines that make it usable, if there are any."""

    def __init__(
        self, rows: Int64[np.ndarray, " wrong"], what: str, ways: Collection[str] = (), marks: Collection[str] = ()
    ) -> None:
        self.rows, self.what, self.ways = rows, what, ways
        self.marks = {*marks} - {""}  # texts that may mean a missing value


def cells(texts: Texts, reading: Reading, kinds: Mapping[str, Kind]) -> dict[str, Cells]:
    """Return the cells of these columns, found by name.

    "numbers" and "words": what the column is known to hold, as that of a trained variant. "feature": numbers or words,
    as `reading.numbers`, `reading.words` or else all its cells say. "target": numbers, and no cell may be empty.
    "label": words, and no cell may be empty. "aside": numbers if all cells are, otherwise words.
    Raise BadInput, one line about all columns that cannot be used, or for a name that is no column, stands twice or is
    empty.
    """
    refuse_unknown(texts, kinds)
    counts = Counter(texts.header)
    if wrong := [name for name in kinds if not name or counts[name] > 1]:
        told = "; ".join(f"columns named '{one_line(name)}': {counts[name]}" for name in wrong)
        ways = f"give each column a name of its own, or add {line_to_add('ignore', wrong)}"
        raise BadInput(f"{header_of(texts)}{told}; {ways}")
    found, problems = dict[str, Cells](), dict[str, Unusable]()
    for name, kind in kinds.items():
        try:
            found[name] = _cells(texts.columns[name], name, kind, reading)
        except Unusable as problem:
            problems[name] = problem
    if problems:
        raise BadInput(f"{texts.path}: {_told(texts, problems, reading)}")
    return found


def refuse_unknown(texts: Texts, names: Iterable[str]) -> None:
    """Raise BadInput for the names that no column has."""
    known = set(texts.header)
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        hints = [did_you_mean(name, texts.header, 0.6) for name in unknown]
        told = "; ".join(f"no column '{one_line(name)}'{hint}" for name, hint in zip(unknown, hints, strict=True))
        columns = "" if all(hints) else f"; the columns are {several(map(one_line, texts.header), MOST)}"
        raise BadInput(f"{header_of(texts)}{told}{columns}")


def header_of(texts: Texts) -> str:
    """Return the beginning of a message about the names of the columns."""
    return f"{texts.path}: line 1: " if texts.unit == "line" else f"{texts.path}: "


def _told(texts: Texts, problems: Mapping[str, Unusable], reading: Reading) -> str:
    """Return one line about the first columns that cannot be used, how many more there are, and what to add."""
    told, ways = list[str](), dict[str, list[str]]()
    for name, problem in list(problems.items())[:MOST]:
        for way in problem.ways:
            ways.setdefault(way, []).append(name)
        column, count = texts.columns[name], len(problem.rows)
        found = [(row, column[row].as_py()) for row in problem.rows[:MOST].tolist()]
        rows = [f"{texts.lines[row]} ({one_line('' if cell is None else str(cell)) or 'empty'})" for row, cell in found]
        which = f"{texts.unit}{'s' * (count > 1)} {several(rows, MOST, count)}"
        has = f"{count} of {len(column)} rows {'have' if count > 1 else 'has'}"
        told.append(f"column '{one_line(name)}': {has} {problem.what}: {which}")
    marks = {*(reading.missing or ())}.union(*(problem.marks for problem in problems.values()))
    lines = {"missing": line_to_add("missing", [*sorted(marks - {""}), ""])}
    added = [
        way.format(**lines, **{key: line_to_add(key, names) for key in ("words", "numbers", "ignore")})
        for way, names in ways.items()
    ]
    way = f"add {', or '.join(added)}" if added else "mend them, or take them out"
    more = f"; and {len(problems) - MOST} more columns" if len(problems) > MOST else ""
    return f"{'; '.join(told)}{more}; {way}"


def _cells(column: pa.ChunkedArray, name: str, kind: Kind, reading: Reading) -> Cells:
    types, stored = pa.types, column.type
    as_words = kind in ("words", "label") or (kind in ("feature", "aside") and name in reading.words)
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    if any(test(stored) for test in numeric):
        with suppress(pa.ArrowInvalid):  # whole numbers that float64 cannot tell apart
            numbers = column.cast(pa.uint8()) if types.is_boolean(stored) else column
            numbers = numbers.cast(pa.float64()).combine_chunks()
            if not as_words:
                marks = () if types.is_boolean(stored) else reading.missing or ()
                return _finite(without_marks(np.from_dlpack(_filled(numbers, np.nan)), marks), kind)
    elif not types.is_string(stored):
        raise Unusable(np.arange(len(column)), f"no number or text, but {stored}"[:80], ["{ignore}"])
    return TextColumn(column, name, kind, reading).cells(as_words)


def _filled(array: Any, value: Any) -> Any:
    return array.fill_null(value) if array.null_count else array  # it would import pandas, for half a second


def _finite(values: Float64[np.ndarray, " row"], kind: Kind) -> Cells:
    if kind == "target" and (gaps := np.flatnonzero(np.isnan(values))).size:
        raise Unusable(gaps, "no number")
    if (beyond := np.flatnonzero(np.abs(values) > LARGEST)).size:
        raise Unusable(beyond, f"a number beyond {LARGEST:.3g}, the largest that a network can take")
    return Cells(values, None)


class TextColumn:
    """A column of texts. What is decided is decided over its distinct texts; masks of them end with one for null."""

    def __init__(self, column: pa.ChunkedArray, name: str, kind: Kind, reading: Reading):
        encoded = column.combine_chunks().dictionary_encode()
        self.texts: Any = encoded.dictionary
        if not pa.types.is_string(self.texts.type):
            values = self.texts.to_pylist()
            self.texts = pa.array([None if value != value else text_of(value) for value in values], pa.string())
        self.codes: Int32[np.ndarray, " row"] = np.from_dlpack(_filled(encoded.indices, len(self.texts)))
        self.kind, self.reading = kind, reading
        self.told = kind == "numbers" or name in reading.numbers  # to be numbers, by somebody
        self.chosen = self.told or kind == "target"  # it can be nothing but numbers
        self.or_words = [] if self.chosen else [WORDS]
        self.gaps = self._among([""] if reading.missing is None else reading.missing)
        self.gaps[-1] = True
        marks = labels.marks(self._picked(self._among(["+"]))) if reading.missing is None else ()
        self.marks = self._among([*marks, ""]) & ~self.gaps
        self.number, self.truth = (self._like(pattern) & ~self.gaps for pattern in (number_pattern(reading), TRUTH))
        self.other_number = self._like(ANY_NUMBER) & ~self.number & ~self.gaps

    def cells(self, as_words: bool) -> Cells:
        """Return the cells, as words or as what they look like. Raise Unusable."""
        if self.kind in ("target", "label"):
            self._refuse(self.gaps | self.marks, "no number" if self.kind == "target" else "no label")
        like_numbers = self.number | self.truth | self.other_number
        if as_words or not (self.chosen or like_numbers.any() or self.gaps.all()):
            if self.kind != "aside":
                ways = [MISSING, 'missing: [""] if they are words like the others']
                self._refuse(self.marks, "a mark of a missing value", ways)
            return self._words()
        try:
            return self._numbers()
        except Unusable:
            if self.kind == "aside":
                return self._words()
            raise

    def _refuse(self, mask: Bool[np.ndarray, " text"], what: str, ways: Collection[str] = ()) -> None:
        """Raise Unusable if the column has any of these texts."""
        if mask[self.codes].any():
            texts = self._picked(mask)
            few = len(texts) <= MOST and max(map(len, texts), default=0) <= LONGEST_MARK
            ways = [way for way in ways if way != MISSING or (few and self.kind != "target")]
            raise Unusable(np.flatnonzero(mask[self.codes]), what, ways, texts if MISSING in ways else ())

    def _numbers(self) -> Cells:
        """Return the numbers. Raise Unusable for texts that are none, or may mean something else."""
        strange = ~(self.number | self.truth | self.gaps | self.other_number)
        self._refuse(strange & self.marks, "a mark of a missing value", [MISSING, *self.or_words])
        self._refuse(strange, "no number", [MISSING, *self.or_words])
        numbers = self.number | self.other_number
        fitting = [line for line, form in FORMS.items() if not (numbers & ~self._like(number_pattern(form))).any()]
        forms = [line for line in fitting if self.reading.decimal in (None, FORMS[line].decimal)]
        self._refuse(self.other_number, "a number in another form", [*forms[:1], *self.or_words])
        self._refuse(self._like("(?i:inf)") & self.number, "an infinite number", [MISSING])
        if self.number.any() and not self.told:
            self._refuse(self.truth, "true or false among numbers", [NUMBERS, *self.or_words])
        if not self.chosen:
            codes = self._like(CODE) & self.number
            self._refuse(codes, "zeros in front or more than 15 digits, as a code has", [WORDS, NUMBERS])
        points = self._like(r"\.") & self.number
        given = self.reading.decimal or self.reading.thousands or self.kind == "numbers"
        if not given and (self.reading.separator or ",") != "," and not (points & ~self._like(GROUPS)).any():
            ways = ['decimal: "." if it is a decimal point', 'decimal: ",", thousands: "." if it groups thousands']
            self._refuse(points, "a point that may group thousands", ways)
        values = np.full(len(self.gaps), np.nan)
        separators = str.maketrans({self.reading.decimal or ".": ".", self.reading.thousands or "\0": ""})
        values[self.number] = [float(text.translate(separators)) for text in self._picked(self.number)]
        values[self.truth] = [text.lower() == "true" for text in self._picked(self.truth)]
        return _finite(values[self.codes], self.kind)

    def _words(self) -> Cells:
        texts: list[Any] = [*self.texts.to_pylist(), None]
        if self.kind in ("feature", "words"):  # labels and asides stay as they are
            texts = [text and text_of(text) for text in texts]
        words = sorted({text for text, gap in zip(texts, self.gaps, strict=True) if not gap})
        place = {word: float(i) for i, word in enumerate(words)}
        values = [np.nan if gap else place[text] for text, gap in zip(texts, self.gaps, strict=True)]
        return Cells(np.array(values)[self.codes], words)

    def _among(self, texts: Collection[str]) -> Bool[np.ndarray, " text"]:
        return self._mask(pc.is_in(self.texts, arrow_array(list(texts))))

    def _like(self, pattern: str) -> Bool[np.ndarray, " text"]:
        return self._mask(pc.match_substring_regex(self.texts, pattern))

    def _mask(self, found: Any) -> Bool[np.ndarray, " text"]:
        return np.append(np.from_dlpack(_filled(found, False).cast(pa.uint8())).astype(bool), False)

    def _picked(self, mask: Bool[np.ndarray, " text"]) -> list[str]:
        found: list[str] = self.texts.take(arrow_array(np.flatnonzero(mask[:-1]))).to_pylist()
        return found
