"""Files that are not the table that they seem to be: what they are, and what to type."""

import csv
import json
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bancada.base.refusals import BadInput, shown
from bancada.data import labels
from bancada.data.reading import Reading, line_to_add, number_pattern

SAMPLE = 20  # lines whose form is looked at
KINDS = {  # what a file begins with: what it is, and the way out
    b"\x1f\x8b": "is compressed by gzip; unpack it with gunzip",
    b"BZh": "is compressed by bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "is compressed by xz; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it with unzstd",
    b"%PDF": "is a PDF, not the table; save the table as CSV",
    b"PK\x03\x04": "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save the sheet as CSV",
    b"version https://git-lfs": "is a pointer of Git LFS, not the table; `git lfs pull` fetches the table",
}
FORMS = {  # how a text begins: what it is, and the way out
    r"<(!doctype|!--|html|table|\?xml)": "a page in HTML, not the table; download the file, or save the table as CSV",
    r'(\{\s*["}]|\[\s*[\[{\d"])': "JSON; a source of kind python can read it, such as with pandas.read_json",
    r"(%.*\s+)*@relation\b": "ARFF; a source of kind python can read it, with scipy.io.arff",
}
BINARY = "is no text, but a file of another kind; export the table as CSV or parquet"
CONTROL = re.compile(r"[\0-\x08\x0e-\x19\x1b-\x1f\x7f]")  # which no text has
UNUSED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")  # bytes that are no character of cp1252
COMMENTS = ("#", "%", "//")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "spaces"}


def without_marks(text: str) -> str:
    """Return a text without the invisible characters at its start, such as a second byte order mark."""
    while text and unicodedata.category(text[0]) == "Cf":
        text = text[1:]
    return text


def visible(name: str) -> str:
    """Return the name of a column without spaces and invisible characters at its ends."""
    kept = [i for i, one in enumerate(name) if unicodedata.category(one) != "Cf" and not one.isspace()]
    return name[kept[0] : kept[-1] + 1] if kept else ""


def refuse_no_table(path: Path, start: bytes, encoding: str | None) -> None:
    """Raise BadInput if a file begins as one of another kind does, or as a text in an encoding that is not given."""
    for magic, what in KINDS.items():
        if start.startswith(magic):
            raise BadInput(f"{path}: {what}")
    text = start.decode(encoding or "utf-8", "ignore")
    for form, what in FORMS.items():
        if re.match(rf"\s*{form}", without_marks(text.lstrip()), re.IGNORECASE):
            raise BadInput(f"{path}: is {what}")
    wide = _wide_encoding(start)
    if wide and not _is_wide(encoding):
        verb = "say" if encoding else "add"
        raise BadInput(f"{path}: is a text in {wide[:6].upper()}; {verb} encoding: {wide}")
    if not wide and CONTROL.search(text.replace("\0", "")) and not _is_wide(encoding):
        raise BadInput(f"{path}: {BINARY}")


def _is_wide(encoding: str | None) -> bool:
    return bool(re.match("utf.?(16|32)", encoding or "", re.IGNORECASE))


def _wide_encoding(start: bytes) -> str | None:
    """Return the encoding of a text whose characters are two or four bytes, by its mark or its zeros, or None."""
    if not start:
        return None
    zeros = [start[i::2].count(0) > len(start) // 4 for i in (0, 1)]
    marked = {"utf-32": start[:4] in (BOM_UTF32_BE, BOM_UTF32_LE), "utf-16": start[:2] in (BOM_UTF16_BE, BOM_UTF16_LE)}
    for code, seems in {**marked, "utf-16-be": zeros[0], "utf-16-le": zeros[1]}.items():
        if seems and not CONTROL.search(start[: len(start) // 4 * 4].decode(code, "replace")):
            return code
    return None


def undecodable(path: Path, encoding: str, error: UnicodeError) -> BadInput:
    """Return the error for a text that is not in this encoding. The message says how cp1252, of Windows, reads it."""
    if not isinstance(error, UnicodeDecodeError):
        return BadInput(f"{path}: not a text in {encoding}: {error}")
    content, place = path.read_bytes(), 0
    try:
        content.decode(encoding)
    except UnicodeDecodeError as found:  # `error` knows the place in a piece of the file only
        place = found.start
    line, start = content.count(b"\n", 0, place) + 1, content.rfind(b"\n", 0, place) + 1
    what = f"not a text in {encoding.upper()}: byte {place - start + 1} of it is {content[place]:02X}"
    text = content[start:].split(b"\n", 1)[0].decode("cp1252", "replace")
    if not _is_wide(encoding) and CONTROL.search(content.decode("latin-1")):
        return BadInput(f"{path}: {BINARY}")
    if encoding == "utf-8" and not content.decode("utf-8", "ignore").isascii():
        way = "others are in UTF-8, so mend this one"
    elif encoding == "utf-8" and not UNUSED.search(content):
        way = f"if it should be '{shown(text)[3:]}', add encoding: cp1252"
    else:
        way = "try another encoding, such as gbk or latin-1"
    return BadInput(f"{path}: line {line}: {what}; {way}")


def separator_note(line: str) -> str | None:
    """Return the separator that a first line such as `sep=;` tells Excel, or None."""
    found = re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE)
    return found[1] if found else None


def refuse_other_form(path: Path, lines: list[str], reading: Reading) -> None:
    """Raise BadInput if the first lines of a file show a note, comments or another separator."""
    lines = [without_marks(line) for line in lines[:1]] + lines[1:]
    note = separator_note(lines[0]) if lines else None
    if note and note != reading.separator:
        problem = f"line 1: sep={json.dumps(note)[1:-1]} tells Excel what separates the columns"
        raise BadInput(f"{path}: {problem}; add {_separated(note, lines[1:])}")
    own = _widths(lines[note is not None :], reading.separator or ",")
    comments = next((i for i, line in enumerate(lines) if not line.startswith(COMMENTS)), len(lines))
    names_below = _names_above_numbers(_cells(lines[comments:], reading.separator or ","), reading)
    if comments > 1 or (comments and (names_below or not _fits(own))):
        which = "line 1 begins" if comments == 1 else f"lines 1 to {comments} begin"
        mark = next(mark for mark in COMMENTS if lines[0].startswith(mark))
        raise BadInput(f"{path}: {which} with {mark}; delete comments, so that the names of the columns come first")
    if len(own) < 2 or _fits(own):
        return
    widths = {separator: _widths(lines, separator) for separator in SEPARATORS}
    found = [
        one
        for one in SEPARATORS
        if one != (reading.separator or ",") and _fits(widths[one]) and own[0] < widths[one][0]
    ]
    if found:
        separator = max(found, key=lambda one: widths[one][0])
        name, added = SEPARATORS[separator], _separated(separator, lines)
        raise BadInput(f"{path}: line 1: {name} separate the columns; add {added}")
    inside = [cells[0] for cells in _cells(lines, reading.separator or ",")]
    if set(own) == {1} and any(_fits(_widths(inside, one)) for one in SEPARATORS):
        raise BadInput(f"{path}: line 1: whole lines are in quotes; delete the quotes around them")


def _fits(widths: list[int]) -> bool:
    """Return whether all rows have as many cells, and as many as the header or one more, a name of the row."""
    return len(set(widths[1:])) == 1 and 1 < widths[0] <= widths[1] <= widths[0] + 1


def _cells(lines: Iterable[str], separator: str) -> list[list[str]]:
    found = list[list[str]]()
    with suppress(csv.Error):  # who reads the table tells it, with the line
        found.extend(cells for cells in reader(lines, separator) if cells)
    return found


def reader(lines: Iterable[str], separator: str, strict: bool = False) -> Any:
    """Return csv's reader. Where a space is the separator, any number of spaces and tabs outside of quotes is one."""
    if separator == " ":
        lines = (re.sub(r'("[^"]*"?)|[ \t]+', lambda found: found[1] or " ", line.strip()) for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)


def _names_above_numbers(rows: list[list[str]], reading: Reading) -> str | None:
    """Return a first cell that all cells below make a name, as they are numbers; None if the first row has a number."""
    number, empty = re.compile(number_pattern(reading)), labels.MISSING | {*(reading.missing or ())}
    cells = [[cell.strip() for cell in row] for row in rows]
    if len(cells) < 2 or any(number.match(cell) for cell in cells[0]):
        return None
    columns = zip(*cells, strict=False)
    found = (first for first, *below in columns if first not in empty and all(map(number.match, below)))
    return next(found, None)


def refuse_names_as_row(path: Path, line: int, lines: list[str], reading: Reading) -> None:
    """Raise BadInput if names stand where `header` says that the first row does."""
    if name := _names_above_numbers(_cells(lines, reading.separator or ","), reading):
        ways = "delete that line, or take header out of the source; if it means a missing value, add it to missing"
        raise BadInput(f"{path}: line {line}: '{shown(name)[3:]}' stands above numbers, as a name does; {ways}")


def _widths(lines: list[str], separator: str) -> list[int]:
    """Return the number of cells of each line. A sample that is cut may end inside of a cell."""
    widths = [len(cells) for cells in _cells(lines, separator)]
    return widths[:-1] if len(lines) == SAMPLE else widths


def _separated(separator: str, lines: list[str]) -> str:
    """Return the lines to add for a separator, and for decimal commas where the cells have some."""
    cells = [cell.strip() for row in _cells(lines, separator)[1:] for cell in row]
    added = [line_to_add("separator", separator)]
    if any(re.fullmatch(r"[+-]?[\d.]+,\d+", cell) for cell in cells):
        added.append('decimal: ","')
        if any(re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", cell) for cell in cells):
            added.append('thousands: "."')
    return ", ".join(added)


def refuse_row_as_header(path: Path, line: int, names: list[str], reading: Reading) -> None:
    """Raise BadInput if numbers stand where names of columns should."""
    if numbers := [name for name in names if re.match(number_pattern(reading), name)]:
        count = f"{len(names)} column{'s' * (len(names) > 1)}"
        ways = f"header: [...] with the names of its {count}, or header: false to number them"
        problem = f"{numbers[0]} is no name; if the table has no header, add {ways}"
        raise BadInput(f"{path}: line {line}: {problem}; if these are names, add header: true")


def wrong_width(path: Path, line: int, cells: list[str], header: list[str], rows: list[list[str]]) -> BadInput:
    """Return the error for a row that has not as many cells as the header. `rows`: from it on, if it is the first."""
    way, size = "", len(header)
    if len(cells) == size + 1 and not cells[-1].strip():
        way = "; the row ends in a separator; delete that"
    elif rows and all(len(row) == size + 1 for row in rows) and len({row[0] for row in rows}) == len(rows):
        names = line_to_add("header", ["row", *header[:10]])
        names = f"{names[:-1]}, ...]" if size > 10 else names
        way = f"; if the first cell of each row is its name, as R writes it, add {names}"
    counts = f"{len(cells)} cell{'s' * (len(cells) > 1)}, but the header has {size} column{'s' * (size > 1)}"
    return BadInput(f"{path}: line {line}: {counts}{way}")
