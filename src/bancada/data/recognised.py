"""Files that are not the table that they seem to be: what they are, and what to type."""

import csv
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from bancada.base.refusals import BadInput, shown
from bancada.data.reading import Reading, line_to_add, number_pattern

SAMPLE = 20  # lines whose form is looked at
KINDS = {  # what a file begins with: what it is, and the way out
    b"\x1f\x8b": "is compressed by gzip; unpack it with gunzip",
    b"BZh": "is compressed by bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "is compressed by xz; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it with unzstd",
    b"PK\x03\x04": "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save the sheet as CSV",
    b"version https://git-lfs": "is a pointer of Git LFS, not the table; `git lfs pull` fetches the table",
    b"\xff\xfe": "is a text in UTF-16; add encoding: utf-16",
    b"\xfe\xff": "is a text in UTF-16; add encoding: utf-16",
}
HTML = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", re.IGNORECASE)
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
        if start.startswith(magic) and not (encoding and "UTF-16" in what):
            raise BadInput(f"{path}: {what}")
    if HTML.match(start):
        raise BadInput(f"{path}: is a page in HTML, not the table; download the file itself, or save the table as CSV")
    halves = start[::2], start[1::2]
    for zeros, code in zip(halves, ("utf-16-be", "utf-16-le"), strict=True):
        if not encoding and len(start) > 2 and zeros.count(0) > len(zeros) // 2:
            raise BadInput(f"{path}: is a text in UTF-16; add encoding: {code}")


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
    if encoding != "utf-8":
        way = "try another encoding"
    elif content.decode("utf-8", "ignore").isascii():
        way = f"if it should be '{shown(text)[3:]}', add encoding: cp1252"
    else:
        way = "others are in UTF-8, so mend this one"
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
        problem = f"line 1: {lines[0].strip()} tells Excel what separates the columns"
        raise BadInput(f"{path}: {problem}; add {_separated(note, lines[1:])}")
    own = _widths(lines[note is not None :], reading.separator or ",")
    if len(own) < 2 or _fits(own):
        return
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if comments:
        which = "line 1 begins" if comments == 1 else f"lines 1 to {comments} begin"
        raise BadInput(f"{path}: {which} with #; delete comments, so that the names of the columns come first")
    for separator, name in SEPARATORS.items():
        widths = _widths(lines, separator)
        if separator != (reading.separator or ",") and _fits(widths) and own[0] < widths[0]:
            raise BadInput(f"{path}: line 1: {name} separate the columns; add {_separated(separator, lines)}")


def _fits(widths: list[int]) -> bool:
    """Return whether all rows have as many cells, and as many as the header or one more, a name of the row."""
    return len(set(widths[1:])) == 1 and 1 < widths[0] <= widths[1] <= widths[0] + 1


def _cells(lines: Iterable[str], separator: str) -> list[list[str]]:
    return [cells for cells in csv.reader(lines, delimiter=separator, skipinitialspace=True) if cells]


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
        ways = f"header: [...] with the names of its {len(names)} columns, or header: false to number them"
        problem = f"{numbers[0]} is no name; if the table has no header, add {ways}"
        raise BadInput(f"{path}: line {line}: {problem}; if these are names, add header: true")


def wrong_width(path: Path, line: int, cells: int, header: list[str], is_first: bool) -> BadInput:
    """Return the error for a row that has not as many cells as the header."""
    way = ""
    if is_first and cells == len(header) + 1:
        names = line_to_add("header", ["row", *header[:10]])
        names = f"{names[:-1]}, ...]" if len(header) > 10 else names
        way = f"; if the first cell of each row is its name, as R writes it, add {names}"
    return BadInput(f"{path}: line {line}: {cells} cells, but the header has {len(header)} columns{way}")
