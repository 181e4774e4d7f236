"""Tables of rows: features and targets as arrays, stored as parquet files that say which column is what."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from bancada.base import BadInput, files


@dataclass(frozen=True)
class Table:
    """Rows of one study. With `classes`, the one target is the index of the row's class; else targets are numbers.

    A column of words has the place of each cell's word in `words`. NaN is an empty cell, of words or of numbers.
    """

    features: Float64[np.ndarray, "row feature"]
    targets: Float64[np.ndarray, "row target"] | Int64[np.ndarray, "row 1"]
    feature_names: list[str]
    target_names: list[str]
    classes: list[int] | list[str]  # the sorted labels, as the user writes them; empty if the targets are numbers
    row_shape: list[int] | None = None  # of a row of inputs that is no plain list, such as [1, 8, 8]; row-major
    words: Mapping[str, list[str]] = field(default_factory=dict)  # by column: the words in it, sorted by code point
    # Columns beside the features, that a split may need. None: no key names the features, so they are all columns.
    asides: list[str] | None = None
    missing: list[str] = field(default_factory=list)  # texts that mean an empty cell, in new rows as well

    @property
    def shape(self) -> list[int]:
        """The shape of a row as a network gets it, if nothing is prepared."""
        return self.row_shape or [len(self.feature_names)]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> "Table":
        """Return a table of these rows, in this order, without the words that are in none of them."""
        features, words = self.features[rows], dict[str, list[str]]()
        for name, known in self.words.items():
            cells = features[:, self.feature_names.index(name)]
            used = np.unique(cells[~np.isnan(cells)]).astype(np.int64)
            words[name] = [known[place] for place in used]
            cells[:] = np.where(np.isnan(cells), np.nan, np.searchsorted(used, cells))
        return replace(self, features=features, targets=self.targets[rows], words=words)

    def only(self, names: list[str]) -> "Table":
        """Return a table with these features alone, in this order."""
        columns = [self.feature_names.index(name) for name in names]
        words = {name: known for name, known in self.words.items() if name in names}
        return replace(self, features=self.features[:, columns], feature_names=names, words=words, asides=None)

    def with_features(self, features: Float64[np.ndarray, "new feature"]) -> "Table":
        """Return a table with other features and without targets, such as new inputs."""
        return replace(self, features=features, targets=np.empty((len(features), 0)))

    def cell(self, row: int, name: str) -> str:
        """Return a cell as a text."""
        found = self.features[row, self.feature_names.index(name)]
        return "" if np.isnan(found) else self.words[name][int(found)] if name in self.words else f"{found:.9g}"

    def texts(self, name: str) -> pa.StringArray:
        """Return the cells of a column of words; null for an empty one."""
        cells = self.features[:, self.feature_names.index(name)]
        places = pa.array(np.nan_to_num(cells).astype(np.int32), mask=np.isnan(cells))
        return pa.DictionaryArray.from_arrays(places, pa.array(self.words[name], pa.string())).cast(pa.string())

    def digests(self) -> dict[str, str]:
        """Return a digest of each column, and of what the columns are."""
        kinds = [self.feature_names, self.target_names, self.classes, self.row_shape, self.asides, {**self.words}]
        columns = dict(zip([f"column '{name}'" for name in self.feature_names], self.features.T, strict=True))
        columns |= zip([f"target '{name}'" for name in self.target_names], self.targets.T, strict=True)
        of_columns = {name: hashlib.blake2b(cells.tobytes()).hexdigest() for name, cells in columns.items()}
        return {"its columns, words, classes or shape": json.dumps(kinds), **of_columns}


def coded(texts: pa.Array | pa.ChunkedArray) -> tuple[Float64[np.ndarray, " row"], list[str]]:
    """Return the place of each text among all that there are, NaN for null, and all of them, sorted by code point."""
    encoded = pa.chunked_array([texts] if isinstance(texts, pa.Array) else texts.chunks, pa.string())
    encoded = encoded.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    words = sorted(found)
    place = {word: float(i) for i, word in enumerate(words)}
    sorted_places = np.array([*(place[word] for word in found), np.nan])
    return sorted_places[np.from_dlpack(encoded.indices.fill_null(len(found)))], words


def write(table: Table, path: Path) -> None:
    """Write one column for each feature and target; words and classes are stored as texts, not by their places."""
    columns: dict[str, Any] = dict(zip(table.feature_names, table.features.T, strict=True))
    columns |= {name: table.texts(name) for name in table.words}
    if table.classes:
        labels: list[Any] = [table.classes[i] for i in table.targets[:, 0]]  # numpy would cut off a final NUL
        words = isinstance(table.classes[0], str)
        columns[table.target_names[0]] = labels if words else np.array(labels, dtype=np.int64)
    else:
        columns |= zip(table.target_names, table.targets.T, strict=True)
    meaning = {"features": table.feature_names, "targets": table.target_names, "classes": table.classes}
    more = {"shape": table.row_shape, "words": sorted(table.words) or None, "asides": table.asides}
    more["missing"] = table.missing or None
    meaning |= {key: value for key, value in more.items() if value is not None}
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
        words = dict[str, list[str]]()
        for name in meaning.get("words", []):
            stored[name], words[name] = coded(stored[name])
        if classes:
            index = {label: i for i, label in enumerate(classes)}
            labels = stored[target_names[0]]
            labels = labels if isinstance(labels, np.ndarray) else labels.to_pylist()
            targets = np.array([index[label] for label in labels], dtype=np.int64).reshape(-1, 1)
        else:
            targets = np.stack([stored[name] for name in target_names], axis=1)
        features = np.stack([stored[name] for name in names], axis=1)
        shape, asides, missing = meaning.get("shape"), meaning.get("asides"), meaning.get("missing", [])
        return Table(features, targets, names, target_names, classes, shape, words, asides, missing)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise BadInput(f"{path}: not a table that bancada wrote; `dvc repro -f {stage}` makes it again") from None


def as_written(value: float) -> float:
    """Return the value with 9 significant digits, as the files of results have it: readers compute the same from it."""
    return float(f"{value:.9g}")


# pyarrow's own conversions between parquet and numpy import pandas, which takes half a second in each stage. These
# share pyarrow's buffers instead.


def write_columns(
    columns: Mapping[str, np.ndarray | list[str] | pa.Array], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write arrays of numbers, and texts, as one parquet file."""
    arrays = [arrow_array(values) for values in columns.values()]
    pq.write_table(pa.table(arrays, list(columns), metadata=metadata), path, compression="zstd")


def arrow_array(values: np.ndarray | list[str] | pa.Array) -> pa.Array:
    """Return numbers or texts as pyarrow has them."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, list):
        texts = [text.encode() for text in values]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        return pa.Array.from_buffers(
            pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
        )
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def read_columns(path: Path) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Return the columns of a parquet file, numbers as read-only arrays and texts as pyarrow has them, and metadata."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    columns = {
        name: column if pa.types.is_string(column.type) else np.from_dlpack(column.combine_chunks())
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return columns, table.schema.metadata or {}
