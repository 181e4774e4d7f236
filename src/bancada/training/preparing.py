"""What a preparation learns from the training rows, and what of them `train.prepare` does not cover.

scikit-learn learns it; only `standardize: true` alone does without, because scikit-learn takes more than a second to
load.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

import numpy as np

from bancada.base import tables
from bancada.base.refusals import bad, did_you_mean
from bancada.networks.preparation import SCALING, TARGET_SCALING, Group, Preparation
from bancada.networks.unknown import counted
from bancada.training.prepare import Numbers, Prepare, Words

BY_SCIKIT_LEARN = "bancada.training.column_transformer"
MOST_WORDS = 10_000  # as one-hot inputs
MOST_NUMBERS = 2**28  # of one-hot inputs in all training rows, 1 GiB


def refuse_uncovered(rows: tables.Table, prepare: Prepare | None, standardize: bool, key: str) -> None:
    """Raise BadInput, which names all columns at once, if words or empty cells of the training rows have no number.

    `key`: where `prepare` stands, or would stand, in params.yaml.
    """
    wanted, found, ways, own = prepare or Prepare(), list[str](), dict[str, str](), list[str]()
    for name in wanted.columns:
        if name not in rows.feature_names:
            raise bad(f"{key}.columns.{name}", None, "no feature" + did_you_mean(name, rows.feature_names))
    kinds = {name: wanted.kind_of(name, name in rows.words, standardize) for name in rows.feature_names}
    empty = dict(zip(rows.feature_names, np.isnan(rows.features).sum(axis=0).tolist(), strict=True))
    for name, kind in kinds.items():
        words = rows.words.get(name)
        if kind and isinstance(kind, Words) != (words is not None):
            what = f"words, but is prepared as numbers; say {name}: {{{_way_out(None, bool(empty[name]))}}}"
            what = what if words else "numbers; source.words keeps them as words"
            raise bad(f"{key}.columns.{name}", None, f"the column holds {what}")
        if empty[name] == len(rows):
            found.append(f"column '{name}' is empty in every training row; put it into source.ignore")
            continue
        if not kind and words:
            found.append(f"column '{name}' holds words ({', '.join(words[:3])}{', ...' * (len(words) > 3)})")
        filled = not empty[name] or (kind and kind.impute)
        if not filled:
            found.append(f"column '{name}' has {counted(empty[name], 'empty cell')} in {len(rows)} training rows")
        if kind and filled:
            continue
        way = _way_out(kind, not filled)
        if name in wanted.columns:
            own.append(f"{name}: {{{way}}}")
            ways["columns"] = f"columns: {{{', '.join(own)}}}"
        elif len(way) > len(ways.get(of := "words" if words else "numbers", "")):
            ways[of] = f"{of}: {{{way}}}"
    if found:
        say = ", ".join(ways.values())
        way_out = f"in prepare, say {say}" if prepare else f"add prepare: {{{say}}}"
        raise bad(key, None, "; ".join(found) + f"; {way_out}" * bool(ways))
    _refuse_too_many(rows, kinds, key)


def _way_out(kind: Numbers | Words | None, fill: bool) -> str:
    """Return what a column needs. `kind`: how it is prepared, None for words that are not. `fill`: cells are empty."""
    if isinstance(kind, Numbers):
        return "impute: median"
    encode, unknown = (kind.encode, kind.unknown) if kind else ("one_hot", "ignore")
    return f"encode: {encode}{', impute: most_frequent' * fill}, unknown: {unknown}"


def _refuse_too_many(rows: tables.Table, kinds: Mapping[str, Numbers | Words | None], key: str) -> None:
    """Raise BadInput if one-hot words would be more inputs than a network, or the memory, can take."""
    sizes = {name: len(known) for name, known in rows.words.items() if getattr(kinds[name], "encode", "") == "one_hot"}
    if (size := sum(sizes.values())) > min(MOST_WORDS, MOST_NUMBERS // len(rows)):
        largest = max(sizes, key=lambda name: sizes[name])
        what = f"{size} words would make too many inputs: {sizes[largest]} of column '{largest}'"
        raise bad(key, None, f"{what}; put it into source.ignore, or say encode: ordinal")


def doubts(rows: tables.Table, prepare: Prepare | None, standardize: bool) -> list[str]:
    """Return a sentence for what a preparation can do with these training rows, but which is hardly meant so."""
    found = _unscaled(rows, prepare or Prepare(), standardize)
    for key in sorted(prepare.model_fields_set & {"words", "numbers"}) if prepare else ():
        if not any((name in rows.words) == (key == "words") for name in rows.feature_names):
            found.append(f"prepare.{key} has no effect: no feature holds {key}")
    for name in rows.words:
        cells = rows.features[:, rows.feature_names.index(name)]
        if len(rows.words[name]) == np.count_nonzero(~np.isnan(cells)) > 1:
            why = "in every training row, which no other row can have"
            found.append(f"column '{name}' has another word {why}; put it into source.ignore")
    return found


def _unscaled(rows: tables.Table, prepare: Prepare, standardize: bool) -> list[str]:
    """Return a sentence for each column that varies, but which standardize takes for a constant one."""
    columns, found = dict[str, np.ndarray](), list[str]()
    for name, cells in zip(rows.feature_names, rows.features.T, strict=True):
        kind = prepare.kind_of(name, name in rows.words, standardize)
        if isinstance(kind, Numbers) and kind.standardize:
            columns[f"column '{name}'"] = cells[~np.isnan(cells)]
    if prepare.targets.standardize:
        columns |= {f"target '{name}'": cells for name, cells in zip(rows.target_names, rows.targets.T, strict=True)}
    for name, cells in columns.items():
        if len(cells) and np.ptp(cells) and _is_constant(*_mean_and_variance(cells), len(cells)):
            why = f"varies no more around {cells.mean():.6g} than rounding errors do, so standardize does not scale it"
            found.append(f"{name} {why}; give the differences from that number, in larger units")
    return found


class Learner(Protocol):
    """The module BY_SCIKIT_LEARN."""

    def learned(self, rows: tables.Table, prepare: Prepare, standardize: bool) -> tuple[list[Group], np.ndarray]:
        """Return groups of columns, and mean and sd of their inputs, [2, input]."""


def learned(rows: tables.Table, prepare: Prepare | None, standardize: bool) -> Preparation:
    """Return the preparation that these training rows show, for `train.prepare` and `train.standardize`.

    The rows have been checked: `refuse_uncovered` found nothing.
    """
    scaling, groups = dict[str, np.ndarray](), list[Group]()
    if prepare:
        learner: Learner = import_module(BY_SCIKIT_LEARN)
        groups, both = learner.learned(rows, prepare, standardize)
        scaling |= dict(zip(SCALING, both, strict=True))
        if prepare.targets.standardize:
            scaling |= dict(zip(TARGET_SCALING, _mean_and_sd(rows.targets), strict=True))
    elif standardize:
        scaling |= dict(zip(SCALING, _mean_and_sd(rows.features), strict=True))
    return Preparation(groups, scaling)


def _mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column; sd 1 for a constant one."""
    mean, variance = _mean_and_variance(values)
    return mean, np.where(_is_constant(mean, variance, len(values)), 1.0, np.sqrt(variance))


def _mean_and_variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both for each column, the variance without the rounding error of the mean, as scikit-learn has it."""
    mean = values.mean(axis=0)
    rest = values - mean
    error = rest.mean(axis=0)
    return mean, np.maximum(np.square(rest, out=rest).mean(axis=0) - error**2, 0)


def _is_constant(mean: np.ndarray, variance: np.ndarray, rows: int) -> np.ndarray:
    """Return whether a variance may be rounding errors alone: scikit-learn's rule, preprocessing._is_constant_feature.

    From Chan, Golub & LeVeque 1983, the bound on the error of the two-pass algorithm.
    """
    eps = np.finfo(np.float64).eps
    return np.asarray(variance <= rows * eps * variance + (rows * mean * eps) ** 2)
