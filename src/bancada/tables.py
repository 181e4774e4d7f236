"""Tables of rows: features and targets as arrays, stored as parquet that says which column is what."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from bancada.files import made_by, whole
from bancada.refusals import BadInput


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
    columns: dict[str, Any] = dict(zip(table.feature_names, table.features.T, strict=True))
    if table.classes:
        columns[table.target_names[0]] = [table.classes[index] for index in table.targets[:, 0]]
    else:
        columns |= dict(zip(table.target_names, table.targets.T, strict=True))
    meaning = {"features": table.feature_names, "targets": table.target_names, "classes": table.classes}
    label = pa.string() if table.classes and isinstance(table.classes[0], str) else pa.int64()
    types = [pa.float64()] * len(table.feature_names) + [label if table.classes else pa.float64()] * len(
        table.target_names
    )
    schema = pa.schema(zip(columns, types, strict=True), metadata={"bancada": json.dumps(meaning)})
    with whole(path) as unfinished:
        pq.write_table(pa.table(columns, schema=schema), unfinished, compression="zstd")


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
    stored = pq.read_table(path)
    meaning = json.loads(stored.schema.metadata[b"bancada"])
    target_columns = [stored[name].to_numpy() for name in meaning["targets"]]
    targets = np.stack(target_columns, axis=1)
    if meaning["classes"]:
        index = {label: i for i, label in enumerate(meaning["classes"])}
        targets = np.array([[index[label]] for label in target_columns[0]], dtype=np.int64).reshape(-1, 1)
    features = np.stack([stored[name].to_numpy() for name in meaning["features"]], axis=1)
    return Table(features, targets, meaning["features"], meaning["targets"], meaning["classes"])
