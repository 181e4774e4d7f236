"""The cells of a table in a file, CSV or parquet, as they stand there."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
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
from bancada.data.reading import Reading, line_to_add, number_pattern

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
        content = path.read_bytes()
    except OSError as error:
        hint = "; `dvc pull` fetches it" if path.with_name(f"{path.name}.dvc").exists() else ""
        raise BadInput(f"{path}: {error.strerror}{hint}") from None
    if content.startswith(b"PAR1"):
        return _of_parquet(path, content, reading, rows, ignore)
    encoding = reading.encoding or "utf-8"
    try:
        recognised.refuse(path, content, reading)
        with TextIOWrapper(BytesIO(content), encoding, newline="") as file:
            return _of_csv(path, file, reading, rows, ignore)
    except UnicodeError:
        raise recognised.undecodable(path, content, encoding) from None


def _of_csv(path: Path, file: Iterable[str], reading: Reading, rows: int | None, ignore: Collection[str]) -> Texts:
    """Python's own reader is used, as the others hide on which line a cell stands."""
    records = _records(path, _lines(path, file, reading), reading.separator or ",")
    line, cells = next(records, (1, list[str]()))
    if not cells:
        raise BadInput(f"{path}: is empty")
    header, is_row = _header(path, line, [recognised.bare(cell) for cell in cells], reading)
    records = chain([(line, cells)], records) if is_row else records
    places = {header[i]: i for i in reversed(range(len(header))) if header[i] not in ignore}
    lines, chunks = list[int](), {name: list[pa.Array]() for name in places}
    while chunk := list(islice(records, CHUNK if rows is None else min(CHUNK, rows - len(lines)))):
        for line, cells in chunk:
            if len(cells) != len(header):
                counts = f"{len(cells)} cell{'s' * (len(cells) > 1)}, but the header has {len(header)} columns"
                names = line_to_add("header", ["row", *header])
                of_r = cells == chunk[0][1] and not lines and len(cells) == len(header) + 1 and cells[-1].strip()
                way = f"; if the first cell is the row's name, as R writes it, add {names}" if of_r else ""
                raise BadInput(f"{path}: line {line}: {counts}{way}")
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
    numbers = [name for name in first if re.match(number_pattern(reading), name)]
    if numbers and reading.header is None:
        ways = f"add header: [...] with the names of its {len(first)} columns, or header: false to number them"
        problem = f"{numbers[0]} is no name; if the table has no header, {ways}"
        raise BadInput(f"{path}: line {line}: {problem}; if these are names, add header: true")
    return first, False


def _lines(path: Path, file: Iterable[str], reading: Reading) -> Iterator[str]:
    """Yield the lines for the parser; a note to Excel is left empty. Raise BadInput for a line that is no text."""
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise BadInput(f"{path}: line {number}: {recognised.no_text(reading.encoding or 'utf-8')}")
        if number == 1:
            line = recognised.without_marks(line)
            line = "\n" if recognised.NOTE.fullmatch(line) else line
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
        raise BadInput(f"{path}: line {line}: {error}; is a quote not closed, or the separator another one?") from None


def _of_parquet(path: Path, content: bytes, reading: Reading, rows: int | None, ignore: Collection[str]) -> Texts:
    of_text = [key for key in OF_TEXT if getattr(reading, key) is not None]
    if of_text:
        raise BadInput(f"{path}: is a parquet file, which needs no {', '.join(of_text)}; take that out of the source")
    try:
        with pq.ParquetFile(BytesIO(content)) as file:
            table = file.read().slice(0, rows)
    except (pa.ArrowException, OSError):
        raise BadInput(f"{path}: not a whole parquet file") from None
    return of_arrow(path, table, ignore)


def of_arrow(path: Path, table: pa.Table, ignore: Collection[str]) -> Texts:
    """Return the cells of a table that was in a parquet file, or that the function in the Python file `path` made."""
    if not len(table):
        raise BadInput(f"{path}: no rows")
    places = [i for i, name in enumerate(table.column_names) if not name.startswith("__index_level_")]  # of pandas
    header = [table.column_names[i] for i in places]
    kept = [i for i in reversed(places) if table.column_names[i] not in ignore]
    columns = {table.column_names[i]: _plain(table.column(i)) for i in kept}
    return Texts(path, header, columns, np.arange(1, len(table) + 1), "row")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts and moments as texts, and other columns as they are."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_string(kind):
        return pc.utf8_trim_whitespace(column.cast(pa.string()))
    if pa.types.is_temporal(kind):
        return pa.chunked_array([pa.array(column.to_pandas().astype("string"), pa.string())])
    return column
