"""Tables of rows: features and targets as arrays, stored as parquet files that say which column is what."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from bancada.base import BadInput, files


@dataclass(frozen=True)
class Table:
    """Rows of one study. With `classes`, the one target is the index of the row's class; else targets are numbers."""

    features: Float64[np.ndarray, "row feature"]
    targets: Float64[np.ndarray, "row target"] | Int64[np.ndarray, "row 1"]
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]  # the sorted labels, as the user writes them; empty if the targets are numbers
    row_shape: list[int] | None = None  # of a row of inputs that is no plain list, such as [1, 8, 8]; row-major

    @property
    def shape(self) -> list[int]:
        """The shape of a row as a network gets it."""
        return self.row_shape or [len(self.feature_names)]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> "Table":
        """Return a table of these rows, in this order."""
        return replace(self, features=self.features[rows], targets=self.targets[rows])


def write(table: Table, path: Path) -> None:
    """Write one column for each feature and target; a class is stored as its label, not as its index."""
    columns: dict[str, Any] = dict(zip(table.feature_names, table.features.T, strict=True))
    if table.classes:
        labels: list[Any] = [table.classes[i] for i in table.targets[:, 0]]  # numpy would cut off a final NUL
        words = isinstance(table.classes[0], str)
        columns[table.target_names[0]] = labels if words else np.array(labels, dtype=np.int64)
    else:
        columns |= zip(table.target_names, table.targets.T, strict=True)
    meaning = {"features": table.feature_names, "targets": table.target_names, "classes": table.classes}
    meaning |= {"shape": table.row_shape} if table.row_shape else {}
    with files.whole(path) as unfinished:
        write_columns(columns, unfinished, {"bancada": json.dumps(meaning)})


def read(path: Path) -> Table:
    """Return the table that `write` stored. Raise BadInput if there is none in the file."""
    stage = f"generate@{path.stem}" if path.parent == files.DATA / "raw" else f"split@{path.parent.name}"
    if not path.exists():
        raise BadInput(f"{path}: missing; `dvc repro {stage}` makes it")
    try:
        stored, metadata = read_columns(path)
        meaning = json.loads(metadata[b"bancada"])
        names, target_names, classes = (meaning[key] for key in ("features", "targets", "classes"))
        if classes:
            index = {label: i for i, label in enumerate(classes)}
            targets = np.array([index[label] for label in stored[target_names[0]]], dtype=np.int64).reshape(-1, 1)
        else:
            targets = np.stack([stored[name] for name in target_names], axis=1)
        features = np.stack([stored[name] for name in names], axis=1)
        return Table(features, targets, names, target_names, classes, meaning.get("shape"))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise BadInput(f"{path}: not a table that bancada wrote; `dvc repro -f {stage}` makes it again") from None


# pyarrow's own conversions between parquet and numpy import pandas, which takes half a second in each stage. These
# share pyarrow's buffers instead.


def write_columns(
    columns: Mapping[str, np.ndarray | list[str]], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write arrays of numbers, and lists of labels, as one parquet file."""
    arrays = [_arrow_array(values) for values in columns.values()]
    pq.write_table(pa.table(arrays, list(columns), metadata=metadata), path, compression="zstd")


def _arrow_array(values: np.ndarray | list[str]) -> Any:
    if isinstance(values, list):
        return pa.array(values, pa.string())
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def read_columns(path: Path) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Return the columns of a parquet file, numbers as read-only arrays and labels as lists, and its metadata."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    columns = {
        name: column.to_pylist() if pa.types.is_string(column.type) else np.from_dlpack(column.combine_chunks())
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return columns, table.schema.metadata or {}
