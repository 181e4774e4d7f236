"""What simple rules reach on the rows of a study: the majority class or the mean, and scikit-learn's linear models."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from bancada.base.tables import Table
from bancada.networks.metrics import METRICS

MOST_CELLS = 10**7  # rows times columns
MOST_WORDS = 20  # columns that a column of words becomes: the rarest words share one
DIGITS = 6  # iterations end at a tolerance; further digits are no result


class Reference(NamedTuple):
    """A row of reference.csv; NaN with a note, where there is no value."""

    reference: str
    split: str
    metric: str
    value: float
    note: str = ""


def references(train: Table, rows: Table, split: str, metric: str) -> list[Reference]:
    """Return the reference rows: the metric on `rows`, a split, of what the training rows have taught.

    There is none for a metric of weights, or for the loss, which each network has its own of.
    """
    if METRICS[metric].of not in ("classes", "numbers"):
        return []
    name = "logistic regression" if train.classes else "linear regression"
    simple = Reference("majority class" if train.classes else "mean", split, metric, constant(train, rows, metric))
    cells = len(train) * (len(train.feature_names) + MOST_WORDS * len(train.words))
    if cells > MOST_CELLS:
        return [simple, Reference(name, split, metric, math.nan, f"left out: {cells:.1g} cells, more than 10^7")]
    try:
        return [simple, Reference(name, split, metric, float(f"{_linear(train, rows, metric):.{DIGITS}g}"))]
    except ValueError as error:
        return [simple, Reference(name, split, metric, math.nan, f"left out: {str(error).splitlines()[0]}")]


def constant(train: Table, rows: Table, metric: str) -> float:
    """Return the metric of the class that most training rows have, the first of equal ones, or of their mean."""
    if not train.classes:
        return _value(metric, np.broadcast_to(train.targets.mean(axis=0), rows.targets.shape), rows)
    counts = np.bincount(train.targets[:, 0], minlength=len(train.classes))
    if METRICS[metric].of_scores:
        return _value(metric, np.broadcast_to(counts / len(train), (len(rows), len(counts))), rows)
    return _value(metric, np.full(rows.targets.shape, counts.argmax()), rows)


def _value(metric: str, predicted: np.ndarray, rows: Table) -> float:
    function = METRICS[metric].function
    return float(function(predicted[None], rows.targets)[0]) if function else math.nan


def _linear(train: Table, rows: Table, metric: str) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LinearRegression, LogisticRegression

    inputs, new = _standardized(train, rows)
    if not train.classes:
        predicted = LinearRegression().fit(inputs, train.targets).predict(new)
        return _value(metric, predicted.reshape(rows.targets.shape), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 200 steps it is good enough to compare with
        model = LogisticRegression(max_iter=200).fit(inputs, train.targets[:, 0])
    if METRICS[metric].of_scores:
        scores = np.zeros((len(rows), len(train.classes)))
        scores[:, model.classes_] = model.predict_proba(new)
        return _value(metric, scores, rows)
    return _value(metric, model.predict(new)[:, None], rows)


def _standardized(
    train: Table, rows: Table
) -> tuple[Float64[np.ndarray, "train input"], Float64[np.ndarray, "row input"]]:
    """Return the inputs of both: numbers imputed by the median and standardized, words one-hot."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    found: list[tuple[np.ndarray, np.ndarray]] = []
    numbers = [i for i, name in enumerate(train.feature_names) if name not in train.words]
    if numbers:
        known, asked = train.features[:, numbers], rows.features[:, numbers]
        median = SimpleImputer(strategy="median", keep_empty_features=True)
        imputed = [median] if np.isnan(known).any() or np.isnan(asked).any() else []
        scaled = make_pipeline(*imputed, StandardScaler())
        found.append((scaled.fit_transform(known), scaled.transform(asked)))
    for name in train.words:
        one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_WORDS, sparse_output=False)
        cells = [np.array(of.texts(name).fill_null("").to_pylist(), dtype=object)[:, None] for of in (train, rows)]
        found.append((one_hot.fit_transform(cells[0]), one_hot.transform(cells[1])))
    inputs, new = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return inputs, new
