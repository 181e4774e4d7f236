"""What a preparation learns from the training rows, and what of them `train.prepare` does not cover.

The numbers are those of scikit-learn's SimpleImputer, encoders and StandardScaler, as tests show. They are learned
here, because scikit-learn takes more than a second to load, and has no way to give them as plain numbers and words.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bancada.base import tables
from bancada.base.refusals import bad, did_you_mean
from bancada.networks.preparation import SCALING, TARGET_SCALING, Group, Preparation
from bancada.networks.unknown import counted
from bancada.training.prepare import ConstantNumber, ConstantWord, Numbers, Prepare, Words

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
    if not prepare:
        return Preparation([], dict(zip(SCALING, _mean_and_sd(rows.features), strict=True)) if standardize else {})
    alike = dict[Numbers | Words, list[str]]()
    for name in rows.feature_names:
        alike.setdefault(prepare.kind_of(name, name in rows.words, standardize) or Numbers(), []).append(name)
    groups, scalings = list[Group](), list[np.ndarray]()
    for kind, names in alike.items():
        cells = rows.features[:, [rows.feature_names.index(name) for name in names]]
        group = (
            _of_words(kind, names, cells, rows.words) if isinstance(kind, Words) else _of_numbers(kind, names, cells)
        )
        size = len(group.input_names())
        as_it_is = np.zeros(size), np.ones(size)
        scalings.append(np.array(_mean_and_sd(group.inputs(cells, rows.words)) if kind.standardize else as_it_is))
        groups.append(group)
    scaling = dict(zip(SCALING, np.hstack(scalings), strict=True))
    if prepare.targets.standardize:
        scaling |= dict(zip(TARGET_SCALING, _mean_and_sd(rows.targets), strict=True))
    return Preparation(groups, scaling)


def _of_numbers(kind: Numbers, names: list[str], cells: np.ndarray) -> Group:
    """Return how columns of numbers are filled. cells: [row, column]."""
    if not kind.impute:
        return Group(names)
    if isinstance(kind.impute, ConstantNumber):
        fill = [float(kind.impute.constant)] * len(names)
    else:
        fill = (np.nanmedian if kind.impute == "median" else np.nanmean)(cells, axis=0).tolist()
    return Group(names, fill, [names[i] for i in np.flatnonzero(np.isnan(cells).any(axis=0)) if kind.indicator])


def _of_words(kind: Words, names: list[str], cells: np.ndarray, words: Mapping[str, Sequence[str]]) -> Group:
    """Return the words of each column that the training rows have, in their order, and what empty cells count as.

    cells: [row, column], each the place of its word. The word that a column has most often fills it, the first of
    several.
    """
    fill, categories = list[str](), list[list[str]]()
    for name, column in zip(names, cells.T, strict=True):
        empty = np.isnan(column)
        places, counts = np.unique(column[~empty], return_counts=True)
        found = {words[name][int(place)]: -count for place, count in zip(places, counts, strict=True)}
        if kind.impute:
            often = min(found, key=lambda word: (found[word], word))
            fill.append(kind.impute.constant if isinstance(kind.impute, ConstantWord) else often)
        categories.append(sorted({*found, *(fill[-1:] if empty.any() else ())}))
    return Group(names, fill or None, [], categories, kind.encode, kind.unknown)


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
