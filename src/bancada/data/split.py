"""Stage split@STUDY: data/raw/STUDY.parquet -> data/split/STUDY/{train,validation,test}.parquet."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

from bancada.base import files, params_file, refusals, settings, stage, tables
from bancada.data.settings import Split

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMED = 10  # rows in a message

Rows = Int64[np.ndarray, "_"]  # of a part


def main(params: params_file.ParamsFile, study: str) -> None:
    """Split the rows as `studies.STUDY.split` says. Raise BadInput if that is impossible."""
    key = f"studies.{study}.split"
    parts = parts_of(tables.read(files.raw(study)), settings.checked(Split, params.value(key), key), key)
    with files.whole(files.split(study)) as folder:
        folder.mkdir()
        for part, rows in parts.items():
            tables.write(rows, folder / f"{part}.parquet")


def parts_of(table: tables.Table, split: Split, key: str) -> dict[str, tables.Table]:
    """Return `divide(table, split)`, and print what is doubtful about it.

    If the split is impossible, raise BadInput that names `key` of params.yaml.
    """
    try:
        parts = divide(table, split, lambda sentence: print(f"{key}: {sentence}", flush=True))
    except ValueError as error:
        raise refusals.BadInput(f"{refusals.PARAMS_FILE}: {key}: {error}") from None
    refuse_other_shape(parts["train"], key.removesuffix(".split"))
    return parts


def refuse_other_shape(rows: tables.Table, study: str) -> None:
    """Raise BadInput if the shape of a row does not hold its features. `study`: its key of params.yaml."""
    features = len(rows.feature_names)
    if rows.row_shape and (size := math.prod(rows.row_shape)) != features:
        problem = f"must hold the {features} features of a row, not {size} numbers"
        raise refusals.bad(f"{study}.source.shape", None, problem)


def divide(
    table: tables.Table, split: Split, tell: Callable[[str], object] = lambda sentence: None
) -> dict[str, tables.Table]:
    """Return train, validation and test: each row is in one of them; with `validation: test` the test rows are both.

    scikit-learn takes the test rows first, then the validation rows from the rows that are left, so that the test rows
    do not depend on the number of validation rows. Raise ValueError if the split is impossible. `tell` gets a sentence
    about rows that are in two parts as good as once.
    """
    if split.stratify and not table.classes:
        raise ValueError("only classes can be stratified")
    kept = features_of(table, split)
    if split.order:
        ranks = _ranks(table, split.order, split.order_format)
        train, validation, _ = split.counts(len(table))
        in_order = np.split(np.argsort(ranks, kind="stable"), [train, train + validation])
        rows = dict(zip(files.PARTS, in_order, strict=True))
        for sentence in _ties(table, split.order, ranks, rows):
            tell(sentence)
    else:
        rows = _drawn(table, kept, split)
    for sentence in _copies(kept, rows):
        tell(sentence if split.column else f"{sentence}; copies: together keeps such rows in one part")
    left_out = [str(label) for index, label in enumerate(table.classes) if index not in table.targets[rows["train"], 0]]
    if left_out:
        raise ValueError(f"leaves no training row of class {', '.join(left_out)}")
    if split.validation == "test":
        rows["validation"] = rows["test"]
    return {name: kept.take(rows[name]) for name in files.PARTS}


def features_of(table: tables.Table, split: Split) -> tables.Table:
    """Return the table without the columns that are no features. Raise ValueError if none is left."""
    asides = table.asides if table.asides is not None else [split.column]
    names = [name for name in table.feature_names if name not in asides]
    if not names:
        raise ValueError(f"no column but '{split.column}' is left to be a feature")
    return table if names == table.feature_names else table.only(names)


def _drawn(table: tables.Table, kept: tables.Table, split: Split) -> dict[str, Rows]:
    """Return the rows of each part as scikit-learn draws them: rows, or groups of them."""
    groups = None
    if split.groups:
        groups = np.unique(_cells(table, "groups", split.groups), return_inverse=True)[1]
    elif split.copies:
        groups = _hashes(kept)[0].factorize()[0]  # numbered as they are first seen
    size, unit = (len(table), "rows") if groups is None else (len(np.unique(groups)), "groups")
    wanted = 1 + sum(part not in (0, "test") for part in (split.validation, split.test))
    if groups is not None and size < wanted:
        key = f"groups = {split.groups}" if split.groups else "copies: together"
        raise ValueError(f"{key}: {wanted} parts need as many groups, but the rows make {size}")
    _, validation, test = split.counts(size, unit)
    left, rows = np.arange(len(table)), dict.fromkeys(files.PARTS, np.arange(0))
    for name, held_out in (("test", test), ("validation", validation)):
        if not held_out:
            continue
        from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit  # takes seconds

        kinds = {"rows": ShuffleSplit, "groups": GroupShuffleSplit, "classes": StratifiedShuffleSplit}
        splitter = kinds["classes" if split.stratify else unit](1, test_size=held_out, random_state=split.seed)
        try:
            labels = table.targets[left, 0] if split.stratify else None
            remaining, chosen = next(splitter.split(left, labels, None if groups is None else groups[left]))
        except ValueError as error:
            raise ValueError(f"{name} rows cannot be stratified: {' '.join(str(error).split())}") from None
        left, rows[name] = left[remaining], left[chosen]
    return rows | {"train": left}


def _cells(table: tables.Table, key: str, name: str) -> Float64[np.ndarray, " row"]:
    """Return the cells of the column that `key` of the split names. Raise ValueError if one is empty."""
    if name not in table.feature_names:
        hint = "is a target" if name in table.target_names else "no column of data/raw"
        raise ValueError(f"{key} = {name}: {hint}{refusals.did_you_mean(name, table.feature_names)}")
    cells = table.features[:, table.feature_names.index(name)]
    empty = (np.flatnonzero(np.isnan(cells)) + 1).tolist()
    if empty:
        which = f"row{'s' * (len(empty) > 1)} {refusals.several(map(str, empty), MOST_NAMED)}"
        raise ValueError(f"{key} = {name}: empty in {which}; fill the cells, or take the rows out")
    return cells


def _ranks(table: tables.Table, name: str, form: str | None) -> Float64[np.ndarray, " row"]:
    """Return numbers that are ordered as the cells of the column are. Raise ValueError for a text that is no date."""
    cells = _cells(table, "order", name)
    if name not in table.words:
        if form:
            raise ValueError(f"order_format: the column '{name}' holds numbers; source.words: [{name}] keeps its texts")
        return cells
    known, dates = table.words[name], list[Any]()
    whole = not form and all(re.fullmatch(r"[+-]?\d+", word) for word in known)  # such as nanoseconds
    for word in known:
        try:
            date = datetime.strptime(word, form) if form else int(word) if whole else datetime.fromisoformat(word)
            dates.append(date)
        except ValueError:
            right = f"date of the form {form}" if form else "number and no ISO date such as 2024-04-25"
            ways = "" if form else '; order_format: "%d/%m/%Y" reads other dates'
            raise ValueError(f"order = {name}: {word}: no {right}{ways}") from None
    try:
        places = {date: float(place) for place, date in enumerate(sorted(set(dates)))}
    except TypeError:
        raise ValueError(f"order = {name}: some times have a time zone, others have none") from None
    return np.array([places[date] for date in dates])[cells.astype(np.int64)]


def _ties(table: tables.Table, name: str, ranks: Float64[np.ndarray, " row"], rows: dict[str, Rows]) -> Iterator[str]:
    """Yield a sentence for each boundary of parts on both sides of which the column is the same."""
    for before, after in pairwise(part for part in files.PARTS if len(rows[part])):
        value = ranks[rows[after][0]]
        if ranks[rows[before][-1]] == value:
            counts = " and ".join(f"{int(np.sum(ranks[rows[part]] == value))} {part}" for part in (before, after))
            yield f"order: {counts} rows have the same {name}, {table.cell(int(rows[after][0]), name)}"


def _copies(table: tables.Table, rows: dict[str, Rows]) -> Iterator[str]:
    """Yield a sentence for each pair of parts of which the second one has rows of the first one, too."""
    alike, same = _hashes(table)
    for first, second in combinations((part for part in files.PARTS if len(rows[part])), 2):
        count, equal = (int(one[rows[second]].isin(one[rows[first]]).sum()) for one in (alike, same))
        if count:
            targets = f"{equal} with the same target, {count - equal} with another"
            stand = f"stand{'s' * (count == 1)} among the {'training' if first == 'train' else first} rows"
            yield f"{count} of {len(rows[second])} {second} rows {stand}, too ({targets})"


def _hashes(table: tables.Table) -> "list[pd.Series[int]]":
    """Return a hash of each row's features, and of its features and targets. An empty cell equals another one."""
    import pandas as pd  # takes half a second

    cells = np.where(np.isnan(table.features), np.nan, table.features) + 0.0  # one kind of NaN, and of zero
    both = np.column_stack([cells, table.targets + 0.0])
    return [pd.util.hash_pandas_object(pd.DataFrame(part), index=False) for part in (cells, both)]


if __name__ == "__main__":
    stage.run(main, of="studies")
