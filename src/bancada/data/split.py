"""Stage split@STUDY: data/raw/STUDY.parquet -> data/split/STUDY/{train,validation,test}.parquet."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bancada.base import files, params_file, refusals, settings, stage, tables
from bancada.data.settings import Split

MOST_NAMED = 10  # rows in a message
CHUNK_ROWS = 65536  # rows that are compared at once, to limit the memory

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
        return divide(table, split, lambda sentence: print(f"{key}: {sentence}", flush=True))
    except ValueError as error:
        raise refusals.BadInput(f"{refusals.PARAMS_FILE}: {key}: {error}") from None


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
    kept = _features(table, split)
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


def _features(table: tables.Table, split: Split) -> tables.Table:
    """Return the table without the columns that are no features."""
    asides = table.asides if table.asides is not None else [split.column]
    names = [name for name in table.feature_names if name not in asides]
    if not names:
        raise ValueError(f"no column but '{split.column}' is left to be a feature")
    if table.row_shape and math.prod(table.row_shape) != len(names):
        without = f" without '{split.column}'" if split.column in table.feature_names else ""
        raise ValueError(f"rows of the shape {table.row_shape} do not hold their {len(names)} features{without}")
    return table if names == table.feature_names else table.only(names)


def _drawn(table: tables.Table, kept: tables.Table, split: Split) -> dict[str, Rows]:
    """Return the rows of each part as scikit-learn draws them: rows, or groups of them."""
    labels, groups = table.targets[:, 0] if split.stratify else None, None
    if split.groups:
        groups = np.unique(_cells(table, "groups", split.groups), return_inverse=True)[1]
    elif split.copies:
        place = dict[bytes, int]()
        groups = np.array([place.setdefault(digest, len(place)) for digest in _digests(kept)[0]])
    size, unit = (len(table), "rows") if groups is None else (len(np.unique(groups)), "groups")
    wanted = 1 + sum(part not in (0, "test") for part in (split.validation, split.test))
    if groups is not None and size < wanted:
        what = f"groups = {split.groups}: the column has" if split.groups else "copies: together: the rows make"
        way = "take a column with more of them" if split.groups else "leave it out, or take the copies out"
        raise ValueError(f"{what} {size} group{'s' * (size > 1)} for {wanted} parts; {way}")
    _, validation, test = split.counts(size, unit)
    left, rows = np.arange(len(table)), dict.fromkeys(files.PARTS, np.arange(0))
    for name, held_out in (("test", test), ("validation", validation)):
        if held_out:
            from sklearn.model_selection import GroupShuffleSplit, train_test_split  # takes seconds: only if needed

            if groups is not None:
                splitter = GroupShuffleSplit(1, test_size=held_out, random_state=split.seed)
                remaining, chosen = next(splitter.split(left, groups=groups[left]))
                left, rows[name] = left[remaining], left[chosen]
                continue
            try:
                left, rows[name] = train_test_split(
                    left, test_size=held_out, random_state=split.seed, stratify=None if labels is None else labels[left]
                )
            except ValueError as error:
                raise ValueError(f"{name} rows cannot be stratified: {' '.join(str(error).split())}") from None
    return rows | {"train": left}


def _cells(table: tables.Table, key: str, name: str) -> Float64[np.ndarray, " row"]:
    """Return the cells of the column that `key` of the split names. Raise ValueError if one is empty."""
    if name not in table.feature_names:
        hint = "is a target" if name in table.target_names else "no column of data/raw"
        raise ValueError(f"{key} = {name}: {hint}{refusals.did_you_mean(name, table.feature_names)}")
    cells = table.features[:, table.feature_names.index(name)]
    empty = (np.flatnonzero(np.isnan(cells)) + 1).tolist()
    if empty:
        more = f" and {len(empty) - MOST_NAMED} more" if len(empty) > MOST_NAMED else ""
        which = f"row{'s' * (len(empty) > 1)} {', '.join(map(str, empty[:MOST_NAMED]))}{more}"
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
    if not form and all(re.fullmatch(r"[+-]?\d+", word) for word in known):  # beyond 2**53, such as nanoseconds
        dates = list(map(int, known))
    else:
        dates = [_date(word, form) for word in known]
    wrong = np.isin(cells, [place for place, date in enumerate(dates) if date is None])
    if wrong.any():
        row = int(np.argmax(wrong))
        ways = 'no number and no ISO date such as 2024-04-25; order_format: "%d/%m/%Y" reads other dates'
        problem = f"no date of the form {form}" if form else ways
        raise ValueError(f"order = {name}: row {row + 1} = {table.cell(row, name)}: {problem}")
    try:
        ordered = sorted({date for date in dates if date is not None})
    except TypeError:
        raise ValueError(f"order = {name}: some times have a time zone, others have none") from None
    places = {date: float(place) for place, date in enumerate(ordered)}
    return np.array([places[date] for date in dates])[cells.astype(np.int64)]


def _date(text: str, form: str | None) -> datetime | None:
    try:
        return datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    except ValueError:
        return None


def _ties(table: tables.Table, name: str, ranks: Float64[np.ndarray, " row"], rows: dict[str, Rows]) -> Iterator[str]:
    """Yield a sentence for each boundary of parts on both sides of which the column is the same."""
    for before, after in pairwise(part for part in files.PARTS if len(rows[part])):
        value = ranks[rows[after][0]]
        if ranks[rows[before][-1]] == value:
            counts = " and ".join(f"{int(np.sum(ranks[rows[part]] == value))} {part}" for part in (before, after))
            yield f"order: {counts} rows have the same {name}, {table.cell(int(rows[after][0]), name)}"


def _copies(table: tables.Table, rows: dict[str, Rows]) -> Iterator[str]:
    """Yield a sentence for each pair of parts of which the second one has rows of the first one, too."""
    alike, same = _digests(table)
    for first, second in combinations((part for part in files.PARTS if len(rows[part])), 2):
        count, equal = (_in_both(digests, rows[first], rows[second]) for digests in (alike, same))
        if count:
            targets = f"{equal} with the same target, {count - equal} with another"
            stand = f"stand{'s' * (count == 1)} among the {'training' if first == 'train' else first} rows"
            yield f"{count} of {len(rows[second])} {second} rows {stand}, too ({targets})"


def _in_both(digests: Sequence[bytes], first: Rows, second: Rows) -> int:
    known = {digests[row] for row in first}
    return sum(digests[row] in known for row in second)


def _digests(table: tables.Table) -> tuple[list[bytes], list[bytes]]:
    """Return a digest of each row's features, and of its features and targets. An empty cell equals another one."""
    alike, same = list[bytes](), list[bytes]()
    for at in range(0, len(table), CHUNK_ROWS):
        features, targets = (part[at : at + CHUNK_ROWS] for part in (table.features, table.targets))
        cells = np.where(np.isnan(features), np.nan, features) + 0.0  # one kind of NaN, and of zero
        for row, target in zip(cells, targets + 0, strict=True):
            digest = hashlib.blake2b(row.tobytes(), digest_size=8)  # among a million rows, no two are alike by chance
            alike.append(digest.digest())
            digest.update(target.tobytes())
            same.append(digest.digest())
    return alike, same


if __name__ == "__main__":
    stage.run(main, of="studies")
