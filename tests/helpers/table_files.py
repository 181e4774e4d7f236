"""Tables in a file, read as `kind: csv` reads them. The tests of files share it."""

import io
from pathlib import Path

import pandas as pd
import pytest

from bancada.base import BadInput, tables
from bancada.data.sources.csv import CsvFile

KEY = "studies.mine.source"  # of params.yaml, for messages
FILE = "data/sources/mine.csv"


def source(task: str = "regression", **changed) -> CsvFile:
    keys = {"path": FILE, "features": ["a", "b"], "targets": ["c"], **changed}
    return CsvFile.model_validate({"kind": "csv", "task": task, **keys})


def made(text: str | bytes, task: str = "regression", **changed) -> tables.Table:
    raw = text.encode() if isinstance(text, str) else text
    Path(FILE).write_bytes(raw)
    return source(task, **changed).make(KEY)


def cells(table: tables.Table) -> dict[str, list]:
    """The cells of each column as they were meant: numbers, words, None where a cell is empty."""
    found = {}
    for name, column in zip(table.feature_names, table.features.T.tolist(), strict=True):
        words = table.words.get(name)
        found[name] = [None if cell != cell else words[int(cell)] if words else cell for cell in column]
    return found


def read_as(text: str | bytes, **keys) -> dict[str, list]:
    """The cells of all columns but the target c."""
    return cells(made(text, features=None, **keys))


def refusal(text: str | bytes, **keys) -> str:
    """What is said about the table, after the name of the file."""
    with pytest.raises(BadInput) as refused:
        made(text, **{"features": None, **keys})
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith(f"{FILE}: ")
    return said.removeprefix(f"{FILE}: ")


def parquet(frame: pd.DataFrame, **how) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, **how)
    return file.getvalue()
