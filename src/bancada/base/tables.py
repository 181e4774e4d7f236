"""Tables of rows: features and targets as arrays, stored as parquet that says which column is what."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from bancada.base.files import made_by, whole
from bancada.base.refusals import BadInput


@dataclass(frozen=True)
class Table:
    """Rows of one study. With `classes`, the one target is the index of the row's class; else targets are numbers."""

    features: Float64[np.ndarray, "row feature"]
    targets: Float64[np.ndarray, "row target"] | Int64[np.ndarray, "row 1"]
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]  # the labels as the user writes them, sorted; empty where numbers are predicted

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> "Table":
        return replace(self, features=self.features[rows], targets=self.targets[rows])


def write(table: Table, path: Path) -> None:
    """One column per feature and target; class labels are stored as they are written, not as indices."""
    columns: dict[str, np.ndarray | list[str]] = dict(zip(table.feature_names, table.features.T, strict=True))
    if table.classes:
        labels: Any = [table.classes[index] for index in table.targets[:, 0]]
        columns[table.target_names[0]] = labels if isinstance(table.classes[0], str) else np.array(labels, np.int64)
    else:
        columns |= dict(zip(table.target_names, table.targets.T, strict=True))
    meaning = {"features": table.feature_names, "targets": table.target_names, "classes": table.classes}
    with whole(path) as unfinished:
        write_columns(columns, unfinished, {"bancada": json.dumps(meaning)})


def read(path: Path) -> Table:
    """What `write` stored. BadInput where the file is missing or is none of these."""
    stage = made_by(path)
    if not path.exists():
        raise BadInput(f"{path}: there is none" + (f"; `dvc repro {stage}` makes it" if stage else ""))
    try:
        return _read(path)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        again = f"; `dvc repro -f {stage}` makes it anew" if stage else ""
        raise BadInput(f"{path}: no table that bancada wrote{again}") from None


def _read(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        stored = file.read()
    meaning = json.loads(stored.schema.metadata[b"bancada"])
    if meaning["classes"]:
        index = {label: i for i, label in enumerate(meaning["classes"])}
        labels = stored[meaning["targets"][0]].to_pylist()
        targets = np.array([index[label] for label in labels], dtype=np.int64).reshape(-1, 1)
    else:
        targets = np.stack([numbers(stored[name]) for name in meaning["targets"]], axis=1)
    features = np.stack([numbers(stored[name]) for name in meaning["features"]], axis=1)
    return Table(features, targets, meaning["features"], meaning["targets"], meaning["classes"])


# --- parquet and numpy, by buffers: pyarrow's own ways between them import pandas, half a second of each stage -------


def write_columns(
    columns: Mapping[str, np.ndarray | list[str]], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Arrays of numbers, and lists of labels, as one parquet file."""
    arrays = [
        pa.Array.from_buffers(
            pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
        )
        if isinstance(values, np.ndarray)
        else pa.array(values, pa.string())
        for values in columns.values()
    ]
    pq.write_table(pa.table(arrays, list(columns), metadata=metadata), path, compression="zstd")


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, none of them missing, as an array that cannot be written to."""
    return np.from_dlpack(column.combine_chunks())
