"""What a preparation learns from the training rows, and what of them `train.prepare` does not cover.

scikit-learn learns it; only `standardize: true` alone does without, because scikit-learn takes more than a second to
load.
"""

from collections.abc import Mapping
from importlib import import_module

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
    wanted, found, ways = prepare or Prepare(), list[str](), dict[str, str]()
    for name in wanted.columns:
        if name not in rows.feature_names:
            raise bad(f"{key}.columns.{name}", None, "no feature" + did_you_mean(name, rows.feature_names))
    kinds = {name: wanted.kind_of(name, name in rows.words, standardize) for name in rows.feature_names}
    empty = dict(zip(rows.feature_names, np.isnan(rows.features).sum(axis=0).tolist(), strict=True))
    for name, kind in kinds.items():
        words = rows.words.get(name)
        if kind and isinstance(kind, Words) != (words is not None):
            what = "words, but is prepared as numbers" if words else "numbers; source.words keeps them as words"
            raise bad(f"{key}.columns.{name}", None, f"the column holds {what}")
        if empty[name] == len(rows):
            found.append(f"column '{name}' is empty in every training row; put it into source.ignore")
            continue
        if not kind and words:
            found.append(f"column '{name}' holds words ({', '.join(words[:3])}{', ...' * (len(words) > 3)})")
        unfilled = bool(empty[name]) and not (kind and kind.impute)
        if unfilled:
            found.append(f"column '{name}' has {counted(empty[name], 'empty cell')} in {len(rows)} training rows")
        if unfilled or not kind:
            place = f"columns.{name}" if name in wanted.columns else "words" if words else "numbers"
            ways[place] = max(ways.get(place, ""), _way_out(kind, unfilled), key=len)
    if found:
        say = ", ".join(f"{place}: {{{way}}}" for place, way in ways.items())
        way_out = f"in prepare, say {say}" if prepare else f"add prepare: {{{say}}}"
        raise bad(key, None, "; ".join(found) + f"; {way_out}" * bool(ways))
    _refuse_too_many(rows, kinds, key)


def _way_out(kind: Numbers | Words | None, fill: bool) -> str:
    """Return what a column needs. `kind`: how it is prepared, None for words that are not. `fill`: cells are empty."""
    if isinstance(kind, Numbers):
        return "impute: median"
    return "impute: most_frequent" if kind else f"encode: one_hot{', impute: most_frequent' * fill}, unknown: ignore"


def _refuse_too_many(rows: tables.Table, kinds: Mapping[str, Numbers | Words | None], key: str) -> None:
    """Raise BadInput if one-hot words would be more inputs than a network, or the memory, can take."""
    sizes = {name: len(known) for name, known in rows.words.items() if getattr(kinds[name], "encode", "") == "one_hot"}
    if (size := sum(sizes.values())) > min(MOST_WORDS, MOST_NUMBERS // len(rows)):
        largest = max(sizes, key=lambda name: sizes[name])
        what = f"{size} words would make too many inputs: {sizes[largest]} of column '{largest}'"
        raise bad(key, None, f"{what}; put it into source.ignore, or say encode: ordinal")


def doubts(rows: tables.Table, prepare: Prepare | None) -> list[str]:
    """Return a sentence for what a preparation can do with these training rows, but which is hardly meant so."""
    found = list[str]()
    for key in sorted(prepare.model_fields_set & {"words", "numbers"}) if prepare else ():
        if not any((name in rows.words) == (key == "words") for name in rows.feature_names):
            found.append(f"prepare.{key} has no effect: no feature holds {key}")
    for name, words in rows.words.items():
        cells = rows.features[:, rows.feature_names.index(name)]
        if len(words) == np.count_nonzero(~np.isnan(cells)) > 1:
            why = "in every training row, which no other row can have"
            found.append(f"column '{name}' has another word {why}; put it into source.ignore")
    return found


def learned(rows: tables.Table, prepare: Prepare | None, standardize: bool) -> Preparation:
    """Return the preparation that these training rows show, for `train.prepare` and `train.standardize`.

    The rows have been checked: `refuse_uncovered` found nothing.
    """
    scaling, groups = dict[str, np.ndarray](), list[Group]()
    if prepare:
        groups, both = import_module(BY_SCIKIT_LEARN).learned(rows, prepare, standardize)
        scaling |= dict(zip(SCALING, both, strict=True))
        if prepare.targets.standardize:
            scaling |= dict(zip(TARGET_SCALING, _mean_and_sd(rows.targets), strict=True))
    elif standardize:
        scaling |= dict(zip(SCALING, _mean_and_sd(rows.features), strict=True))
    return Preparation(groups, scaling)


def _mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column, as scikit-learn's StandardScaler has them.

    The variance is without the rounding error of the mean. The sd is 1 where the variance may be rounding errors alone:
    preprocessing._is_constant_feature, from Chan, Golub & LeVeque 1983, the bound on the two-pass algorithm's error.
    """
    mean, rows, eps = values.mean(axis=0), len(values), np.finfo(np.float64).eps
    rest = values - mean
    error = rest.mean(axis=0)
    variance = np.maximum(np.square(rest, out=rest).mean(axis=0) - error**2, 0)
    constant = variance <= rows * eps * variance + (rows * mean * eps) ** 2
    return mean, np.where(constant, 1.0, np.sqrt(variance))
