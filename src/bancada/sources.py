"""The kinds of data: `make(source, study)` gives the rows that params.yaml describes.

A new kind is a class in data_schema.py and a function in SOURCES. What is drawn comes from the source's own seed alone.
"""

import csv
import io
import math
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from bancada import data_schema
from bancada.data_schema import Classification, HalfMoons, HousePrices, LinearData, Sklearn, Source
from bancada.model import LARGEST, did_you_mean
from bancada.refusals import BadInput
from bancada.tables import Table

# Mean distance between the means of two synthetic classes, in standard deviations of a class: of quality's six, a small
# network then takes about a third of the new rows for another class, as it does with the real wines.
CLASS_DISTANCE = 1.6
# Lesson 4's houses, and the size from which one may be sold far too low: there such sales pull the line down.
ROOMS = (5.5, 9.0)
BIG_HOUSE = 6.5


def make(source: Source, study: str) -> Table:
    """The rows of a study. BadInput names the file and line, or the key, that cannot be used."""
    return SOURCES[source.kind](source, study)


def half_moons(source: HalfMoons, study: str = "") -> Table:
    """Two half rings, rows at uniform angles a in [0, pi) and radii r in radius +- width / 2. Lesson 3.

    Upper (+1): (r cos a, r sin a). Lower (-1): (r cos a + radius, -r sin a - distance).
    """
    rng = np.random.default_rng(source.seed)

    def half_ring(rows: int) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"]]:
        angle = rng.uniform(0, np.pi, rows)
        radius = rng.uniform(source.radius - source.width / 2, source.radius + source.width / 2, rows)
        return radius * np.cos(angle), radius * np.sin(angle)

    lower_rows = source.rows // 2
    upper_x, upper_y = half_ring(source.rows - lower_rows)
    lower_x, lower_y = half_ring(lower_rows)
    upper = np.stack([upper_x, upper_y], axis=1)
    lower = np.stack([lower_x + source.radius, -lower_y - source.distance], axis=1)
    index = np.repeat([1, 0], [len(upper), len(lower)]).astype(np.int64)
    return Table(np.concatenate([upper, lower]), index[:, None], ["x", "y"], ["moon"], [-1, 1])


def linear(source: LinearData, study: str = "") -> Table:
    """y = X weights + bias + noise, X standard normal. Lesson 5."""
    rng = np.random.default_rng(source.seed)
    features = rng.standard_normal((source.rows, len(source.weights)))
    noise = source.noise_std * rng.standard_normal(source.rows)
    target = features @ np.array(source.weights, dtype=np.float64) + source.bias + noise
    return Table(features, target[:, None], [f"x{i + 1}" for i in range(len(source.weights))], ["y"], [])


def classification(source: Classification, study: str = "") -> Table:
    """Exactly the given class counts, in random order; each class normal with sd 1 around its own random mean.

    With `path`, the real table instead: its columns of the same names, its labels among the same classes.
    """
    labels = sorted(source.class_counts)
    if source.path is not None:
        columns = {"path": source.path, "features": source.features, "targets": [source.target]}
        real = data_schema.Table.model_validate({"kind": "csv", "task": "classification", **columns})
        return table(real, study, labels)
    rng = np.random.default_rng(source.seed)
    index = rng.permutation(np.repeat(np.arange(len(labels)), [source.class_counts[label] for label in labels]))
    size = len(source.features)
    means = rng.normal(0, CLASS_DISTANCE / math.sqrt(2 * size), (len(labels), size))
    features = means[index] + rng.standard_normal((len(index), size))
    return Table(features, index[:, None], source.features, [source.target], labels)


def house_prices(source: HousePrices, study: str = "") -> Table:
    """Price against rooms: a line with noise; some of the big houses are sold at about outlier_price. Lesson 4."""
    rng = np.random.default_rng(source.seed)
    outlier = rng.permutation(source.rows) < source.outliers
    low, high = ROOMS
    rooms = np.round(rng.uniform(np.where(outlier, BIG_HOUSE, low), high), 1)
    price = np.where(outlier, source.outlier_price, source.price_at_zero + source.price_per_room * rooms)
    price = price + source.noise_std * rng.standard_normal(source.rows)
    return Table(rooms[:, None], price[:, None], ["rooms"], ["price_thousands"], [])


def sklearn(source: Sklearn, study: str = "") -> Table:
    """A data set as scikit-learn gives it, its classes by their names."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source.name}")()
    features = np.ascontiguousarray(bunch.data, dtype=np.float64)
    names = [str(name) for name in bunch.feature_names]
    if "target_names" not in bunch:
        return Table(features, bunch.target.astype(np.float64)[:, None], names, ["target"], [])
    classes, index = np.unique(np.asarray(bunch.target_names)[bunch.target], return_inverse=True)
    return Table(features, index.astype(np.int64)[:, None], names, ["target"], classes.tolist())


# --- CSV files ------------------------------------------------------------------------------------------------------


def table(source: data_schema.Table, study: str, known: list[int] | None = None) -> Table:
    """The named columns of a CSV file, its first `rows` rows or all. `known`: the only labels that are allowed.

    BadInput names the file, the line as an editor counts it, and the column.
    """
    path = Path(source.path)
    records = _records(path)
    _, header = next(records)
    features = source.features or [name for name in header if name not in (*source.targets, *source.ignore)]
    _check_header(path, header, [*features, *source.targets, *source.ignore])
    if not features:
        raise BadInput(f"{path}: line 1: no column is left to be a feature")
    classes = source.task == "classification"
    columns = [header.index(name) for name in ([*features] if classes else [*features, *source.targets])]
    label_column = header.index(source.targets[0])
    numbers, labels = array("d"), []
    for line, cells in islice(records, source.rows):
        if len(cells) != len(header):
            raise BadInput(f"{path}: line {line}: {len(cells)} cells, but the header has {len(header)} columns")
        column = 0
        try:
            for column in columns:
                numbers.append(_number(cells[column]))
            if classes:
                column = label_column
                labels.append(_label(cells[column], known, study))
        except ValueError as error:
            shown = f" = {' '.join(cells[column].split())[:60]}" if cells[column] else ""
            raise BadInput(f"{path}: line {line}, column '{header[column]}'{shown}: {error}") from None
    found = np.array(numbers, dtype=np.float64).reshape(-1, len(columns))
    if not len(found):
        raise BadInput(f"{path}: no rows below the header")
    if source.rows and len(found) < source.rows:
        raise BadInput(f"{path}: {len(found)} rows, but studies.{study}.source.rows = {source.rows}")
    if not classes:
        return Table(found[:, : len(features)], found[:, len(features) :], features, source.targets, [])
    names, index = _classes(labels, known)
    if len(names) < 2:
        raise BadInput(f"{path}: column '{source.targets[0]}' has one class, {names[0]}; at least two are needed")
    return Table(found, index, features, source.targets, names)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line (from 1) and the cells of the header and of each row; empty lines are none.

    csv and not pandas, which fills short rows up and drops empty lines, and so cannot say in which line a cell is.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")  # Excel begins its files with a byte order mark
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}: line {line}: not a text in UTF-8") from None
    except OSError as error:
        hint = "; `dvc pull` fetches it" if path.with_name(f"{path.name}.dvc").exists() else ""
        raise BadInput(f"{path}: {error.strerror}{hint}") from None
    reader, line, empty = csv.reader(io.StringIO(text, newline=""), strict=True), 1, True
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                yield line, [cell.strip() for cell in cells]
                empty = False
            line = reader.line_num + 1  # a quoted cell may go over several lines: the next row's first
    except csv.Error as error:
        raise BadInput(f"{path}: line {line}: {error}") from None
    if empty:
        raise BadInput(f"{path}: is empty")


def _check_header(path: Path, header: list[str], needed: list[str]) -> None:
    if len(header) == 1:
        raise BadInput(f"{path}: line 1: one column only; commas separate columns")
    for name in needed:
        if name not in header:
            raise BadInput(f"{path}: line 1: no column '{name}'{did_you_mean(name, header)}")
        if not name:
            raise BadInput(f"{path}: line 1: column {header.index(name) + 1} has no name")
        if header.count(name) > 1:
            raise BadInput(f"{path}: line 1: column '{name}' is there twice")


def _number(cell: str) -> float:
    """ValueError says what is wrong."""
    try:
        number = float(cell) if "_" not in cell else None
    except ValueError:
        number = None
    if number is None:
        raise ValueError("must be a number" if cell else "is empty")
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    if abs(number) > LARGEST:
        raise ValueError(f"must not be beyond {LARGEST:.3g}, the largest number that a network can take")
    return number


def _label(cell: str, known: list[int] | None, study: str) -> int | str:
    """A whole number or a word. ValueError where it is no class."""
    label: int | str = cell
    try:
        number = float(cell)
    except ValueError:
        if not cell:
            raise ValueError("is empty") from None
    else:
        if not (number.is_integer() and abs(number) <= 2**53):
            raise ValueError("is no class (a whole number or a word)")
        label = int(number)
    if known is not None and label not in known:
        raise ValueError(f"is no class of studies.{study}.source.class_counts: {', '.join(map(str, known))}")
    return label


def _classes(labels: list[int | str], known: list[int] | None) -> tuple[list[int] | list[str], Any]:
    """The sorted classes (words where one of them is a word) and each label's index among them."""
    whole = [label for label in labels if isinstance(label, int)]
    if len(whole) == len(labels):
        numbers = known or sorted(set(whole))
        return numbers, np.searchsorted(numbers, whole).astype(np.int64)[:, None]
    words, index = np.unique([str(label) for label in labels], return_inverse=True)
    return [str(word) for word in words], index.astype(np.int64)[:, None]


SOURCES: dict[str, Callable[[Any, str], Table]] = {
    "half_moons": half_moons,
    "linear": linear,
    "table": table,
    "csv": table,
    "sklearn": sklearn,
    "classification": classification,
    "house_prices": house_prices,
}
