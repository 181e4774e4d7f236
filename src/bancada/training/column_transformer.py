"""What scikit-learn's ColumnTransformer learns from training rows, as plain numbers and words."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from bancada.base.tables import Table
from bancada.networks.preparation import Group
from bancada.training.preparing import ConstantNumber, ConstantWord, Numbers, Prepare, Words

Kind = Numbers | Words


def learned(rows: Table, prepare: Prepare, standardize: bool) -> tuple[list[Group], np.ndarray]:
    """Return groups of columns that are prepared alike, and the mean and sd of their inputs, [2, input]."""
    columns = dict[Kind, list[str]]()
    for name in rows.feature_names:
        kind = prepare.kind_of(name, name in rows.words, standardize) or Numbers()
        columns.setdefault(kind, []).append(name)
    steps = [(f"{place}", pipeline(kind), names) for place, (kind, names) in enumerate(columns.items())]
    fitted = ColumnTransformer(steps).fit(data_frame(rows))
    groups, scalings = list[Group](), list[np.ndarray]()
    for place, (kind, names) in enumerate(columns.items()):
        made = fitted.named_transformers_[f"{place}"].named_steps
        groups.append(_of_words(kind, names, made) if isinstance(kind, Words) else _of_numbers(names, made))
        size = len(groups[-1].input_names())
        scaler = made.get("standardize")
        scalings.append(np.array([scaler.mean_, scaler.scale_] if scaler else [np.zeros(size), np.ones(size)]))
    return groups, np.hstack(scalings)


def data_frame(rows: Table) -> pd.DataFrame:
    """Return the features as scikit-learn takes them: numbers, and objects that are words or None."""
    columns = dict[str, Any](zip(rows.feature_names, rows.features.T, strict=True))
    for name, known in rows.words.items():
        words = np.array([*known, None], dtype=object)
        cells = columns[name]
        columns[name] = pd.Series(words[np.where(np.isnan(cells), len(known), cells).astype(np.int64)], dtype=object)
    return pd.DataFrame(columns)


def pipeline(kind: Kind) -> Pipeline:
    """Return scikit-learn's own steps for columns of this kind."""
    steps = list[tuple[str, Any]]()
    if isinstance(kind.impute, ConstantNumber | ConstantWord):
        how: dict[str, Any] = {"strategy": "constant", "fill_value": kind.impute.constant}
    else:
        how = {"strategy": kind.impute}
    if isinstance(kind, Words):
        steps += [("impute", SimpleImputer(missing_values=None, **how))] if kind.impute else []
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=not kind.standardize)
        ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        steps += [("encode", one_hot if kind.encode == "one_hot" else ordinal)]
    elif kind.impute:
        steps += [("impute", SimpleImputer(add_indicator=kind.indicator, **how))]
    steps += [("standardize", StandardScaler())] if kind.standardize else []
    return Pipeline(steps or [("as_they_are", "passthrough")])


def _of_numbers(names: list[str], made: dict[str, Any]) -> Group:
    if "impute" not in made:
        return Group(names)
    indicator = made["impute"].indicator_
    indicators = [names[i] for i in indicator.features_] if indicator else []
    return Group(names, [float(value) for value in made["impute"].statistics_], indicators)


def _of_words(kind: Words, names: list[str], made: dict[str, Any]) -> Group:
    fill = [str(word) for word in made["impute"].statistics_] if "impute" in made else None
    categories = [[str(word) for word in known] for known in made["encode"].categories_]
    return Group(names, fill, [], categories, kind.encode, kind.unknown)
