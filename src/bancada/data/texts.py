"""The cells of a table in a file, CSV or parquet, as they stand there."""

import csv
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from bancada.base.refusals import BadInput
from bancada.base.tables import arrow_array
from bancada.data import recognised
from bancada.data.reading import Reading

OF_TEXT = ("separator", "decimal", "thousands", "encoding", "header")  # keys of Reading
CHUNK = 20_000  # rows that are held as Python's own texts at a time


@dataclass(frozen=True)
class Texts:
    """A table as it stands in a file. Columns of a parquet file may have any type; null is an empty cell there."""

    path: Path
    header: list[str]
    columns: dict[str, pa.ChunkedArray]  # without spaces around; of names that stand twice, the first column
    lines: Int64[np.ndarray, " row"]  # of each row, as an editor counts, or its number in a parquet file
    unit: Literal["line", "row"] = "line"


def read(path: Path, reading: Reading, rows: int | None = None, ignore: Collection[str] = ()) -> Texts:
    """Return the first rows of a table, or all, without the columns to ignore.

    Raise BadInput, with the file's name and line, for a file that is no table or looks otherwise than `reading` says.
    """
    try:
        with path.open("rb") as file:
            start = file.peek(4096)[:4096]  # a pipe can be read once
            if start.startswith(b"PAR1"):
                return _of_parquet(path, reading, rows, ignore)
            recognised.refuse_no_table(path, start, reading.encoding)
            with TextIOWrapper(file, encoding=reading.encoding or "utf-8", newline="") as text:
                return _of_csv(path, text, reading, rows, ignore)
    except UnicodeError as error:
        raise recognised.undecodable(path, reading.encoding or "utf-8", error) from None
    except OSError as error:
        hint = "; `dvc pull` fetches it" if path.with_name(f"{path.name}.dvc").exists() else ""
        raise BadInput(f"{path}: {error.strerror}{hint}") from None


def _of_csv(path: Path, file: TextIOWrapper, reading: Reading, rows: int | None, ignore: Collection[str]) -> Texts:
    """Python's own reader is used, as the others hide on which line a cell stands."""
    first = list(islice(file, recognised.SAMPLE))
    recognised.refuse_other_form(path, first, reading)
    records = _records(path, _lines(path, chain(first, file)), reading.separator or ",")
    line, cells = next(records, (1, list[str]()))
    if not cells:
        raise BadInput(f"{path}: is empty")
    header, is_row = _header(path, line, [recognised.visible(cell) for cell in cells], reading)
    if is_row:
        recognised.refuse_names_as_row(path, line, first, reading)
        records = chain([(line, cells)], records)
    places = {header[i]: i for i in reversed(range(len(header))) if header[i] not in ignore}
    lines, chunks = list[int](), {name: list[pa.Array]() for name in places}
    while chunk := list(islice(records, CHUNK if rows is None else min(CHUNK, rows - len(lines)))):
        for i, (line, cells) in enumerate(chunk):
            if len(cells) != len(header):
                as_r = [cells for _, cells in chunk] if i == len(lines) == 0 else []
                raise recognised.wrong_width(path, line, cells, header, as_r)
        lines += [line for line, _ in chunk]
        texts = list(zip(*(cells for _, cells in chunk), strict=True))
        for name, place in places.items():
            chunks[name].append(arrow_array([text.strip() for text in texts[place]]))
    if not lines:
        raise BadInput(f"{path}: no rows below the header")
    columns = {name: pa.chunked_array(arrays) for name, arrays in chunks.items()}
    return Texts(path, header, columns, np.array(lines, dtype=np.int64))


def _header(path: Path, line: int, first: list[str], reading: Reading) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first cells are a row of the table."""
    if reading.header is False:
        return [f"column_{i + 1}" for i in range(len(first))], True
    if isinstance(reading.header, list):  # R gives the names of the rows none
        return reading.header, first not in (reading.header, reading.header[1:])
    if reading.header is None:
        recognised.refuse_row_as_header(path, line, first, reading)
    return first, False


def _lines(path: Path, file: Iterator[str]) -> Iterator[str]:
    """Yield the lines for the parser, the first without marks in front. A note to Excel is left empty."""
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise BadInput(f"{path}: line {number}: has a NUL byte; delete it")
        if number == 1:
            line = recognised.without_marks(line)
            line = "\n" if recognised.separator_note(line) else line
        yield line


def _records(path: Path, lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of the header and of each row that is not empty."""
    reader, line = recognised.reader(lines, separator, strict=True), 1
    try:
        for cells in reader:
            if len(cells) > 1 or any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1  # where the next row begins; a quoted cell may have several lines
    except csv.Error as error:
        hint = "" if "expected after" in str(error) else "; is a quote not closed?"
        raise BadInput(f"{path}: line {line}: {error}{hint}") from None


def _of_parquet(path: Path, reading: Reading, rows: int | None, ignore: Collection[str]) -> Texts:
    of_text = [key for key in OF_TEXT if getattr(reading, key) is not None]
    if of_text:
        raise BadInput(f"{path}: is a parquet file, which needs no {', '.join(of_text)}; take that out of the source")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read().slice(0, rows)
    except (pa.ArrowException, OSError):
        raise BadInput(f"{path}: not a whole parquet file") from None
    return of_arrow(path, table, ignore)


def of_arrow(path: Path, table: pa.Table, ignore: Collection[str]) -> Texts:
    """Return the cells of a table that was in a parquet file, or that the function in the Python file `path` made."""
    if not len(table):
        raise BadInput(f"{path}: no rows")
    header, columns = list[str](), dict[str, pa.ChunkedArray]()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not re.fullmatch(r"__index_level_\d+__", name):  # pandas' numbers of rows
            header.append(name)
            if name not in ignore and name not in columns:
                columns[name] = _plain(column)
    return Texts(path, header, columns, np.arange(1, len(table) + 1), "row")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts and moments as texts, and other columns as they are."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_string(kind):
        return pc.utf8_trim_whitespace(column.cast(pa.string()))
    if pa.types.is_timestamp(kind):
        with suppress(pa.ArrowInvalid):  # it has fractions of a second
            column = column.cast(pa.timestamp("s", kind.tz))
        texts = pc.replace_substring_regex(column.cast(pa.string()), "Z$", "+0000")
        texts = pc.replace_substring_regex(texts, r"([+-]\d\d)(\d\d)$", r"\1:\2") if kind.tz else texts
        midnight = pc.all(pc.ends_with(texts, " 00:00:00")).as_py()
        return pc.utf8_slice_codeunits(texts, 0, 10) if midnight else texts
    return column.cast(pa.string()) if pa.types.is_date(kind) else column
