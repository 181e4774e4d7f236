"""Files that are not the table that they seem to be: what they are, and what to type."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from io import StringIO
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from bancada.base.refusals import BadInput, one_line
from bancada.data.reading import Reading, line_to_add, number_pattern

SAMPLE, ROWS = 2**16, 20  # bytes and rows at the beginning whose form is looked at
BEGINNINGS = {  # of files: what they are, and the way out
    rb"\x1f\x8b": "is compressed by gzip; unpack it with gunzip",
    rb"PK\x03\x04|\xd0\xcf\x11\xe0": "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    rb"version https://git-lfs": "is a pointer of Git LFS, not the table; `git lfs pull` fetches the table",
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|!--|html|table|\?xml)": "is a page in HTML, not the table; save that as CSV",
}
WIDE = {  # beginnings of texts with two bytes for each character: the encoding
    rb"\xff\xfe|\xfe\xff": "utf-16",
    rb"([\t\n\r -~]\0){3}": "utf-16-le",
    rb"(\0[\t\n\r -~]){3}": "utf-16-be",
}
CONTROL = re.compile(rb"[\0-\x08\x0e-\x19\x1b-\x1f]")  # which no text has
INVISIBLE = "\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"  # the last is a byte order mark
NOTE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
COMMENTS = ("#", "%", "//")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "spaces"}
GROUPED = r"[+-]?\d{1,3}(\.\d{3})+,\d+"
OF_CELLS = {rf"[+-]?\d*,\d+|{GROUPED}": 'decimal: ","', GROUPED: 'thousands: "."'}  # what a cell shows


def refuse(path: Path, content: bytes, reading: Reading) -> None:
    """Raise BadInput for a file of another kind, or one that shows another encoding or separator, or comments."""
    for beginning, what in BEGINNINGS.items():
        if re.match(beginning, content):
            raise BadInput(f"{path}: {what}")
    for beginning, encoding in WIDE.items():
        if re.match(beginning, content) and "16" not in (reading.encoding or ""):
            raise BadInput(f"{path}: is a text in UTF-16; add encoding: {encoding}")
    text = content[:SAMPLE].decode(reading.encoding or "utf-8", "ignore")
    lines = list(StringIO(without_marks(text if len(content) <= SAMPLE else text.rpartition("\n")[0]), newline=""))
    note = NOTE.fullmatch(lines[0]) if lines else None
    if note and note[1] != (reading.separator or ","):
        added = _separated(note[1], _rows(lines[1:], note[1]))
        raise BadInput(f"{path}: line 1: {note[0].strip()} tells Excel what separates the columns; add {added}")
    lines = lines[1:] if note else lines
    own = _rows(lines, reading.separator or ",")
    found = {one: rows for one in SEPARATORS if _fit(rows := _rows(lines, one), one) and len(rows[0]) > len(own[0])}
    if found and not _fit(own):
        separator = max(
            found, key=lambda one: (not one.isspace(), (one == " ") == ("  " in lines[0]), len(found[one][0]))
        )
        added = _separated(separator, found[separator])
        raise BadInput(f"{path}: line 1: {SEPARATORS[separator]} separate the columns; add {added}")
    comments = len(list(takewhile(lambda row: row[0].startswith(COMMENTS), own)))
    numbers = [any(re.match(number_pattern(reading), cell) for cell in row) for row in own[1:3]]
    if comments > 1 or (comments and (not _fit(own) or numbers == [False, True])):
        which = "line 1 begins" if comments == 1 else f"lines 1 to {comments} begin"
        way = "delete comments, so that the names of the columns come first"
        raise BadInput(f"{path}: {which} with {own[0][0][0]}; {way}")


def _rows(lines: Iterable[str], separator: str) -> list[list[str]]:
    rows = list[list[str]]()
    with suppress(csv.Error):  # who reads the table tells it, with the line
        rows.extend([cell.strip() for cell in cells] for cells in islice(reader(lines, separator), ROWS) if any(cells))
    return rows


def _fit(rows: list[list[str]], separator: str = " ") -> bool:
    """Return whether all rows have as many cells, and as many as the header or one more, a name of the row.

    One row in four may be damaged, unless a space, which words have, separates the cells.
    """
    if len(rows) < 2:
        return False
    header, *widths = map(len, rows)
    width, count = Counter(widths).most_common(1)[0]
    damaged = 0 if separator == " " else len(rows) // 4
    return len(widths) - count <= damaged and 1 < header <= width <= header + 1


def _separated(separator: str, rows: list[list[str]]) -> str:
    """Return the lines to add for a separator, and for decimal commas where the cells have some."""
    cells = [cell for row in rows[1:] for cell in row]
    added = [line for form, line in OF_CELLS.items() if any(re.fullmatch(form, cell) for cell in cells)]
    return ", ".join([line_to_add("separator", separator), *added])


def reader(lines: Iterable[str], separator: str, strict: bool = False) -> Any:
    """Return csv's reader. Where a space is the separator, any number of spaces and tabs outside of quotes is one."""
    if separator == " ":
        lines = (re.sub(r'("[^"]*"?)|[ \t]+', lambda found: found[1] or " ", line.strip()) for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)


def without_marks(text: str) -> str:
    """Return a text without invisible characters in front, such as byte order marks."""
    return re.sub(f"^[{INVISIBLE}]+", "", text)


def bare(name: str) -> str:
    """Return the name of a column without spaces and invisible characters at its ends."""
    return re.sub(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+$", "", name)


def no_text(encoding: str) -> str:
    """Return what is said of a line that is no text in this encoding."""
    ways = "add encoding: cp1252, or utf-16 or another, if it is a text; otherwise save the table as CSV or parquet"
    return f"is no text in {encoding.upper()}; {ways}"


def undecodable(path: Path, content: bytes, encoding: str) -> BadInput:
    """Return the error for a text that is not in this encoding. The message says how cp1252, of Windows, reads it."""
    place = len(content)
    try:
        content.decode(encoding)
    except UnicodeDecodeError as found:  # who reads it piece by piece knows the place in a piece only
        place = found.start
    line, start = content.count(b"\n", 0, place) + 1, content.rfind(b"\n", 0, place) + 1
    if encoding != "utf-8" or CONTROL.search(content):
        return BadInput(f"{path}: line {line}: {no_text(encoding)}")
    text = content[max(start, place - ROWS) :].split(b"\n", 1)[0].decode("cp1252", "replace")
    way = f"if it should be '{one_line(text)}', add encoding: cp1252, otherwise its own"
    if not content.decode(encoding, "ignore").isascii():
        way = "others are in UTF-8, so mend this one"
    what = f"not a text in UTF-8: byte {place - start + 1} of it is {content[place]:02X}"
    return BadInput(f"{path}: line {line}: {what}; {way}")
