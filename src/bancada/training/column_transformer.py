"""What scikit-learn's ColumnTransformer learns from training rows, as plain numbers and words."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from bancada.base.tables import Table
from bancada.networks.preparation import Group
from bancada.training.prepare import ConstantNumber, ConstantWord, Numbers, Prepare, Words

Kind = Numbers | Words


def learned(rows: Table, prepare: Prepare, standardize: bool) -> tuple[list[Group], np.ndarray]:
    """Return groups of columns that are prepared alike, and the mean and sd of their inputs, [2, input]."""
    columns = dict[Kind, list[str]]()
    for name in rows.feature_names:
        kind = prepare.kind_of(name, name in rows.words, standardize) or Numbers()
        columns.setdefault(kind, []).append(name)
    constants = [kind.impute.constant for kind in columns if isinstance(kind.impute, ConstantWord)]
    words = sorted({*chain.from_iterable(rows.words.values()), *constants})
    steps = [
        (f"{place}", _pipeline(kind, words), [rows.feature_names.index(name) for name in names])
        for place, (kind, names) in enumerate(columns.items())
    ]
    fitted = ColumnTransformer(steps).fit(_in_one_order(rows, words))
    groups, scalings = list[Group](), list[np.ndarray]()
    for place, (kind, names) in enumerate(columns.items()):
        made = fitted.named_transformers_[f"{place}"].named_steps
        groups.append(_of_words(kind, names, made, words) if isinstance(kind, Words) else _of_numbers(names, made))
        size = len(groups[-1].input_names())
        scaler = made.get("standardize")
        scalings.append(np.array([scaler.mean_, scaler.scale_] if scaler else [np.zeros(size), np.ones(size)]))
    return groups, np.hstack(scalings)


def _in_one_order(rows: Table, words: Sequence[str]) -> np.ndarray:
    """Return the features [row, feature]; of words, their places among `words`, which have the same order.

    scikit-learn takes texts as well, but many times longer.
    """
    cells, place = rows.features.copy(), {word: float(at) for at, word in enumerate(words)}
    for name, known in rows.words.items():
        column = cells[:, rows.feature_names.index(name)]
        places = np.array([*(place[word] for word in known), np.nan])
        column[:] = places[np.where(np.isnan(column), len(known), column).astype(np.int64)]
    return cells


def _pipeline(kind: Kind, words: Sequence[str]) -> Pipeline:
    """Return scikit-learn's own steps for columns of this kind."""
    steps, how = list[tuple[str, Any]](), dict[str, Any](strategy=kind.impute)
    if isinstance(kind.impute, ConstantNumber | ConstantWord):
        value = kind.impute.constant
        how = {"strategy": "constant", "fill_value": words.index(value) if isinstance(value, str) else value}
    if kind.impute:
        indicator = isinstance(kind, Numbers) and kind.indicator
        steps += [("impute", SimpleImputer(add_indicator=indicator, **how))]
    if isinstance(kind, Words):
        one_hot = OneHotEncoder(sparse_output=not kind.standardize)
        steps += [("encode", one_hot if kind.encode == "one_hot" else OrdinalEncoder())]
    steps += [("standardize", StandardScaler())] if kind.standardize else []
    return Pipeline(steps or [("as_they_are", "passthrough")])


def _of_numbers(names: list[str], made: dict[str, Any]) -> Group:
    if "impute" not in made:
        return Group(names)
    indicator = made["impute"].indicator_
    indicators = [names[i] for i in indicator.features_] if indicator else []
    return Group(names, [float(value) for value in made["impute"].statistics_], indicators)


def _of_words(kind: Words, names: list[str], made: dict[str, Any], words: Sequence[str]) -> Group:
    fill = [words[int(place)] for place in made["impute"].statistics_] if "impute" in made else None
    categories = [[words[int(place)] for place in places] for places in made["encode"].categories_]
    return Group(names, fill, [], categories, kind.encode, kind.unknown)
