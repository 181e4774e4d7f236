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
# Keys that stand in the text of a problem for lines to add, which are known once the problems of all columns are.
MISSING_LINE, WORDS_LINE, NUMBERS_LINE, IGNORE_LINE = (
    f"\0{key}\0" for key in ("missing", "words", "numbers", "ignore")
)
MOST_FOUND = 8  # columns that are named where another was looked for
MOST_ALIKE = 3  # cells that are repeated
EXACT = 2**53  # whole numbers up to here are themselves in float64


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


def cells(texts: Texts, reading: Reading, kinds: Mapping[str, Kind]) -> dict[str, Cells]:
    """Return the cells of these columns, found by name.

    "numbers" and "words": what the column is known to hold, as that of a trained variant. "feature": numbers or words,
    as `reading.numbers`, `reading.words` or else all its cells say. "target": numbers, and no cell may be empty.
    "label": words, and no cell may be empty. "aside": numbers if all cells are, otherwise words.
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
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        hints = [did_you_mean(name, texts.header, 0.6) for name in unknown]
        told = "; ".join(f"no column '{_one_line(name)}'{hint}" for name, hint in zip(unknown, hints, strict=True))
        columns = "" if all(hints) else f"; the columns are {_some(texts.header, MOST_FOUND)}"
        raise BadInput(f"{header_of(texts)}{told}{columns}")


def refuse_unusable(texts: Texts, kinds: Mapping[str, Kind]) -> None:
    """Raise BadInput for the names that no column has, that are empty, or that several columns have."""
    refuse_unknown(texts, kinds)
    counts, told = Counter(texts.header), list[str]()
    wrong = [name for name in kinds if not name or counts[name] > 1]
    for name in wrong:
        places = [str(i + 1) for i, other in enumerate(texts.header) if other == name]
        where = _some(places, MOST_COLUMNS)
        told.append(f"columns {where} are named '{_one_line(name)}'" if name else f"no name above column {where}")
    if wrong:
        ignored = [name for name in wrong if kinds[name] == "feature"]
        ways = ["give each column a name of its own"] + [f"add {line_to_add('ignore', ignored)}"] * bool(ignored)
        raise BadInput(f"{header_of(texts)}{'; '.join(told)}; {', or '.join(ways)}")


def _some(names: list[str], most: int) -> str:
    return ", ".join(_one_line(name) or '""' for name in names[:most]) + ", ..." * (len(names) > most)


def header_of(texts: Texts) -> str:
    """Return the beginning of a message about the names of the columns."""
    return f"{texts.path}: line 1: " if texts.unit == "line" else f"{texts.path}: "


def _told(texts: Texts, problems: Mapping[str, Problem], kinds: Mapping[str, Kind], reading: Reading) -> str:
    """Return one line about the first columns that cannot be used, and how many more there are."""
    marks = frozenset[str]().union(*(problem.marks for problem in problems.values()), reading.missing or ())
    missing, told = line_to_add("missing", [*sorted(marks - {""}), ""]), list[str]()
    alike = dict[tuple[str, ...], list[str]]()
    for name, problem in problems.items():
        own = (name,) if kinds[name] in ("target", "label") else ()
        alike.setdefault((problem.what, problem.way, *own), []).append(name)
    for (what, way, *_), names in list(alike.items())[:MOST_COLUMNS]:
        found, column = problems[names[0]].rows, texts.columns[names[0]]
        most = MOST_LABELS if kinds[names[0]] in ("target", "label") else MOST_ROWS
        rows = f"{len(found)} of {len(column)} rows {'have' if len(found) > 1 else 'has'}"
        who = f"column '{_one_line(names[0])}'"
        if len(names) > 1:
            who = f"{len(names)} columns ({_some(names, MOST_FOUND)}): {who}"
        for key in ("words", "numbers", "ignore"):
            line = line_to_add(key, names[:MOST_COLUMNS])
            way = way.replace(f"\0{key}\0", f"{line[:-1]}, ...]" if len(names) > MOST_COLUMNS else line)
        told.append(
            f"{who}: {rows} {what}: {_places(texts, column, found, most)}; {way.replace(MISSING_LINE, missing)}"
        )
        missing = "missing as above" if MISSING_LINE in way else missing
    more = sum(map(len, list(alike.values())[MOST_COLUMNS:]))
    return "; ".join(told) + f"; and {more} more column{'s' * (more > 1)}" * (more > 0)


def _places(texts: Texts, column: pa.ChunkedArray, rows: Int64[np.ndarray, " wrong"], most: int) -> str:
    """Return the lines of the first rows, each with its cell. If the cells are equal, the last one stands for all."""
    first = rows[:most].tolist()
    cells = [_one_line(_text(column[row].as_py())) or "empty" for row in first]
    shared = len(cells) > MOST_ALIKE and len(set(cells)) == 1
    places = [
        f"{texts.lines[row]}{'' if shared and row != first[-1] else f' ({cell})'}"
        for row, cell in zip(first, cells, strict=True)
    ]
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"{texts.unit}{'s' * (len(rows) > 1)} {', '.join(places)}{more}"


def _one_line(text: str | None) -> str:
    return shown(text)[3:]


def _cells(column: pa.ChunkedArray, name: str, kind: Kind, reading: Reading) -> Cells | Problem:
    types, stored = pa.types, column.type
    as_words = kind in ("words", "label") or (kind in ("feature", "aside") and name in reading.words)
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    as_stored = any(test(stored) for test in numeric)
    if not as_stored and not types.is_string(stored):
        what = f"no number or text, but {stored}"[:80]
        return Problem(np.arange(len(column)), what, _way([IGNORE_LINE]))
    if as_stored and (types.is_null(stored) or not (as_words or _is_inexact(column))):
        numbers = column.cast(pa.uint8()) if types.is_boolean(stored) else column
        numbers = _filled(numbers.cast(pa.float64(), safe=False).combine_chunks(), np.nan)
        marks = () if types.is_boolean(stored) else reading.missing or ()
        values = without_marks(np.from_dlpack(numbers), marks)
        return _finite(values, kind, map(str, values[np.isinf(values)]))
    return TextColumn(column, name, kind, reading).cells(as_words)


def _is_inexact(column: pa.ChunkedArray) -> bool:
    """Return whether the column has whole numbers that float64 cannot tell apart."""
    with suppress(pa.ArrowInvalid):  # such a number cannot be cast without loss
        if pa.types.is_integer(column.type):
            column.cast(pa.float64())
        return False
    return True


def _filled(array: Any, value: Any) -> Any:
    return array.fill_null(value) if array.null_count else array  # it would import pandas, for half a second


def _text(value: Any) -> str | None:
    """Return the text that a stored value stands for: of truth as pandas writes it, of a whole number without .0."""
    if isinstance(value, float):
        return None if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return None if value is None else str(value)


def _finite(values: Float64[np.ndarray, " row"], kind: Kind, infinite: Iterable[str]) -> Cells | Problem:
    """Return the numbers, or why they cannot be used. `infinite`: the cells that mean an infinite one."""
    if kind == "target" and (gaps := np.flatnonzero(np.isnan(values))).size:
        return Problem(gaps, "no number", "take them out, or give them a number")
    if (beyond := np.flatnonzero(np.abs(values) > LARGEST)).size:
        marks, way = frozenset(infinite), "mend them, or take them out"
        if marks and kind == "feature":
            way = f"{_way([MISSING_LINE])} if that means a missing value, or mend them"
        return Problem(beyond, f"a number beyond {LARGEST:.3g}, the largest that a network can take", way, marks)
    return Cells(values, None)


def _way(lines: list[str]) -> str:
    return f"add {', or '.join(lines)}" if lines else "mend them, or take them out"


class TextColumn:
    """A column of texts. What is decided is decided over its distinct texts; masks of them end with one for null."""

    def __init__(self, column: pa.ChunkedArray, name: str, kind: Kind, reading: Reading):
        encoded = pa.chunked_array(column.chunks, column.type).combine_chunks().dictionary_encode()
        self.texts: Any = encoded.dictionary
        if not pa.types.is_string(self.texts.type):
            self.texts = pa.array([_text(value) for value in self.texts.to_pylist()], pa.string())
        self.codes: Int32[np.ndarray, " row"] = np.from_dlpack(_filled(encoded.indices, len(self.texts)))
        self.kind, self.reading = kind, reading
        self.chosen = kind in ("target", "numbers") or name in reading.numbers  # it can be nothing but numbers
        self.told = kind == "numbers" or name in reading.numbers  # to be numbers, by somebody
        self.or_words = [] if self.chosen else [f"{WORDS_LINE} if the column holds words"]
        self.gaps = self._among([""] if reading.missing is None else reading.missing)
        self.gaps[-1] = True
        marks = labels.marks(self._picked(self._among(["+"]))) if reading.missing is None else ()
        self.marks = self._among(marks) & ~self.gaps
        self.number, self.truth = (self._like(pattern) & ~self.gaps for pattern in (number_pattern(reading), TRUTH))
        self.other_number = self._like(ANY_NUMBER) & ~self.number & ~self.gaps

    def cells(self, as_words: bool) -> Cells | Problem:
        """Return the cells, as words or as what they look like, or why the column cannot be used."""
        missing = self.gaps | self.marks | self._among([""])
        if self.kind in ("target", "label") and missing[self.codes].any():
            noun, instead = ("label", "class") if self.kind == "label" else ("number", "number")
            return Problem(self._rows(missing), f"no {noun}", f"take them out, or give them a {instead}")
        like_numbers = self.number | self.truth | self.other_number
        if as_words or not (self.chosen or like_numbers.any() or self.gaps.all()):
            return (self.kind != "aside" and self._missing_words()) or self._words()
        if problem := self._no_numbers() or self._unsure():
            return self._words() if self.kind == "aside" else problem
        values = np.full(len(self.gaps), np.nan)
        values[self.number] = self._floats()
        values[self.truth] = [text.lower() == "true" for text in self._picked(self.truth)]
        return _finite(values[self.codes], self.kind, self._picked(self._like("(?i:inf)") & self.number))

    def _missing_words(self) -> Problem | None:
        """Return the problem of words that may be missing ones."""
        if self.marks.any():
            ways = [MISSING_LINE, 'missing: [""] if they are words like the others']
            marks = frozenset(self._picked(self.marks))
            return Problem(self._rows(self.marks), "a mark of a missing value", _way(ways), marks)
        empty = self._among([""]) & ~self.gaps
        what = "an empty cell, which missing does not name"
        return Problem(self._rows(empty), what, _way([MISSING_LINE])) if empty.any() else None

    def _no_numbers(self) -> Problem | None:
        """Return the problem of texts that are no numbers as `reading` has them."""
        odd = ~(self.number | self.truth | self.gaps)
        if (strange := odd & ~self.other_number).any():
            texts = self._picked(strange) if self.kind != "target" else []
            known = not (strange & ~self.marks & ~self._among([""])).any()
            what, condition = (
                ("a mark of a missing value", "") if known else ("no number", " if that means a missing value")
            )
            hint = ["replace the minus signs U+2212 by -"] if self._like("\N{MINUS SIGN}").any() else []
            short = 0 < len(texts) <= MOST_TEXTS and max(map(len, texts)) <= LONGEST_MARK
            ways = [f"{MISSING_LINE}{condition}"] * short + self.or_words
            way = "; ".join([*hint, _way(ways)])
            return Problem(self._rows(strange), what, way, frozenset(texts if short else ()))
        if odd.any():
            return Problem(self._rows(odd), "a number in another form", _way(self._forms() + self.or_words))
        return None

    def _unsure(self) -> Problem | None:
        """Return the problem of numbers that may mean something else."""
        zeros, points = self._like(ZEROS) & self.number, self._like(r"\.") & self.number
        if self.number.any() and self.truth.any() and not self.told:
            ways = [f"{NUMBERS_LINE} to read true as 1 and false as 0", *self.or_words]
            return Problem(self._rows(self.truth), "true or false among numbers", _way(ways))
        if zeros.any() and not self.chosen:
            ways = [*self.or_words, f"{NUMBERS_LINE} to read numbers"]
            return Problem(self._rows(zeros), "zeros in front", _way(ways))
        if not self.chosen and (large := self._large()).any():
            what = "a whole number beyond 2**53, where two of them become one"
            return Problem(self._rows(large), what, _way([*self.or_words, f"{IGNORE_LINE} if it is a key"]))
        given = self.reading.decimal or self.reading.thousands or self.kind == "numbers"
        unsure = not given and (self.reading.separator or ",") != ","
        if unsure and points.any() and not (points & ~self._like(GROUPS)).any():
            ways = ['decimal: "." if it is a decimal point', 'decimal: ",", thousands: "." if it groups thousands']
            return Problem(self._rows(points), "a point that may group thousands", _way(ways))
        return None

    def _large(self) -> Bool[np.ndarray, " text"]:
        """Return which texts are whole numbers that float64 may not hold."""
        large: Bool[np.ndarray, " text"] = self._like(r"^[+-]?\d{16,}$") & ~self.gaps
        large[large] = [abs(int(text)) > EXACT for text in self._picked(large)]
        return large

    def _forms(self) -> list[str]:
        """Return the keys, beside those that are given, with which all texts that look like numbers are, if any."""
        found, numbers, given = list[str](), self.number | self.other_number, self.reading
        for decimal in [given.decimal] if given.decimal else (",", "."):
            for thousands in [given.thousands] if given.thousands else (None, *THOUSANDS):
                form = Reading.model_construct(decimal=decimal, thousands=thousands)
                if decimal != thousands and not (numbers & ~self._like(number_pattern(form))).any():
                    keys = {"decimal": decimal, "thousands": thousands}
                    found.append(
                        ", ".join(
                            line_to_add(key, value) for key, value in keys.items() if value and not getattr(given, key)
                        )
                    )
                    break
        return found

    def _floats(self) -> Any:
        texts = self.texts.take(arrow_array(np.flatnonzero(self.number[:-1])))
        if self.reading.thousands:
            texts = pc.replace_substring(texts, self.reading.thousands, "")
        texts = pc.replace_substring(texts, self.reading.decimal or ".", ".")
        try:
            return np.from_dlpack(texts.cast(pa.float64()))
        except pa.ArrowInvalid:  # it has +1, or 1e999
            return [float(text) for text in texts.to_pylist()]

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

    def _rows(self, mask: Bool[np.ndarray, " text"]) -> Int64[np.ndarray, " found"]:
        return np.flatnonzero(mask[self.codes])

    def _picked(self, mask: Bool[np.ndarray, " text"]) -> list[str]:
        found: list[str] = self.texts.take(arrow_array(np.flatnonzero(mask[:-1]))).to_pylist()
        return found
