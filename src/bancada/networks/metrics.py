"""The metrics of trained networks on some rows: one value for each seed, NaN if it is undefined or the seed diverged.

To add one, write a function and a row of METRICS.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Real

from bancada.base.tables import Table
from bancada.networks.saved import SavedVariant

Values = Float64[np.ndarray, " seed"]


class Metric(NamedTuple):
    """A metric of decided classes, of predicted numbers, of the learned weights, or the training loss itself."""

    label: str  # on the axis of a plot
    of: Literal["classes", "numbers", "loss", "weights"]
    function: Callable[[Any, Any], Values] | None = None  # takes decisions or predictions, and the observed targets
    higher_is_better: bool = False
    asked: bool = False  # it is computed only for a study whose `metric` it is
    of_scores: bool = False  # the function takes a score for each class, such as its probability, not decisions


def of_rows(
    trained: SavedVariant, rows: Table, outputs: Float64[np.ndarray, "seed row output"], asked: str
) -> dict[str, Values]:
    """Return the training loss and each metric that is defined on these rows, by name, from the outputs for them.

    A metric that is computed only where asked for is there if it is `asked`. The value of a seed with outputs that are
    not finite is infinite.
    """
    found = {"loss": trained.loss(outputs, rows.targets)}
    for name, metric in METRICS.items():
        fits = metric.of == ("classes" if rows.classes else "numbers")
        if metric.function and fits and (name == asked or not metric.asked):
            taken = trained.class_scores(outputs) if metric.of_scores else trained.decide(outputs)
            found[name] = metric.function(taken, rows.targets)
    usable = np.isfinite(outputs).all(axis=(1, 2))
    return {name: np.where(usable, values, np.inf) for name, values in found.items()}


def error_rate_percent(decided: Int64[np.ndarray, "seed row 1"], observed: Int64[np.ndarray, "row 1"]) -> Values:
    """Return wrong decisions / rows, in percent."""
    return np.asarray((decided != observed).mean(axis=(1, 2)) * 100)


def mse(predicted: Real[np.ndarray, "seed row target"], observed: Real[np.ndarray, "row target"]) -> Values:
    """Return the mean squared error over rows and targets."""
    return np.asarray(np.square(predicted - observed).mean(axis=(1, 2)))


def mae(predicted: Real[np.ndarray, "seed row target"], observed: Real[np.ndarray, "row target"]) -> Values:
    """Return the mean absolute error over rows and targets."""
    return np.asarray(np.abs(predicted - observed).mean(axis=(1, 2)))


def r2(predicted: Real[np.ndarray, "seed row target"], observed: Real[np.ndarray, "row target"]) -> Values:
    """Return the coefficient of determination, averaged over targets, as scikit-learn's r2_score does.

    It is NaN for fewer than two rows. A target that is constant in these rows has no variance to explain: it counts as
    1 if every prediction is exact, otherwise as 0.
    """
    if len(observed) < 2:
        return np.full(len(predicted), np.nan)
    residual = np.square(predicted - observed).sum(axis=1)
    total = np.square(observed - observed.mean(axis=0)).sum(axis=0)
    explained = 1 - residual / np.where(total > 0, total, 1)
    constant = np.where(residual > 0, 0.0, 1.0)
    return np.asarray(np.where(np.isnan(residual), np.nan, np.where(total > 0, explained, constant)).mean(axis=1))


def by_scikit_learn(name: str, found: np.ndarray, observed: np.ndarray, **options: Any) -> Values:
    """Return scikit-learn's score of this name for each seed; NaN where what the seed gives is not finite."""
    from sklearn import metrics  # it takes a second to load

    score = partial(getattr(metrics, name), observed, **options)
    return np.array([score(one) if np.isfinite(one).all() else np.nan for one in found], np.float64)


def rmse(predicted: Real[np.ndarray, "seed row target"], observed: Real[np.ndarray, "row target"]) -> Values:
    """Return the root of the mean squared error, averaged over targets."""
    return by_scikit_learn("root_mean_squared_error", predicted, observed)


def mape(predicted: Real[np.ndarray, "seed row target"], observed: Real[np.ndarray, "row target"]) -> Values:
    """Return the mean of |error / observed|, as a share; not defined where an observed number is 0."""
    if (observed == 0).any():
        return np.full(len(predicted), np.nan)
    return by_scikit_learn("mean_absolute_percentage_error", predicted, observed)


def balanced_accuracy(decided: Int64[np.ndarray, "seed row 1"], observed: Int64[np.ndarray, "row 1"]) -> Values:
    """Return the mean over classes of the share of a class's rows that are decided rightly (recall)."""
    classes = np.unique(observed)  # balanced_accuracy_score warns of decisions for classes without rows
    how: dict[str, Any] = {"labels": classes, "average": "macro", "zero_division": 0}
    return by_scikit_learn("recall_score", decided[..., 0], observed[:, 0], **how)


def f1_macro(decided: Int64[np.ndarray, "seed row 1"], observed: Int64[np.ndarray, "row 1"]) -> Values:
    """Return the mean over classes of F1, the harmonic mean of precision and recall."""
    return by_scikit_learn("f1_score", decided[..., 0], observed[:, 0], average="macro", zero_division=0)


def roc_auc(scores: Float64[np.ndarray, "seed row class"], observed: Int64[np.ndarray, "row 1"]) -> Values:
    """Return the area under the ROC curve, the mean over classes of each against the rest.

    With two classes both are the same. It is not defined where a class has no rows.
    """
    classes = range(scores.shape[2])
    if len(np.unique(observed)) < len(classes):
        return np.full(len(scores), np.nan)
    each = [by_scikit_learn("roc_auc_score", scores[..., i], observed[:, 0] == i) for i in classes]
    return np.asarray(np.mean(each, axis=0))


def weight_error_max(weights: Real[np.ndarray, "seed feature"], true: Real[np.ndarray, " feature"]) -> Values:
    """Return the largest |w - true w| of a network with one linear layer."""
    return np.asarray(np.abs(weights - true).max(axis=1))


def bias_error(biases: Real[np.ndarray, " seed"], true: float) -> Values:
    """Return |b - true b| of a network with one linear layer."""
    return np.abs(biases.astype(np.float64) - true)


METRICS = {
    "loss": Metric("loss", "loss"),
    "error_rate_percent": Metric("error rate (%)", "classes", error_rate_percent),
    "mse": Metric("mean squared error", "numbers", mse),
    "mae": Metric("mean absolute error", "numbers", mae),
    "r2": Metric("R²", "numbers", r2, higher_is_better=True),
    "balanced_accuracy": Metric("balanced accuracy", "classes", balanced_accuracy, higher_is_better=True, asked=True),
    "f1_macro": Metric("macro F1", "classes", f1_macro, higher_is_better=True, asked=True),
    "roc_auc": Metric("ROC AUC", "classes", roc_auc, higher_is_better=True, asked=True, of_scores=True),
    "rmse": Metric("root mean squared error", "numbers", rmse, asked=True),
    "mape": Metric("mean absolute percentage error", "numbers", mape, asked=True),
    "weight_error_max": Metric("largest |w - true w|", "weights", weight_error_max),
    "bias_error": Metric("|b - true b|", "weights", bias_error),
}
HIGHER_IS_BETTER = frozenset(name for name, metric in METRICS.items() if metric.higher_is_better)
OF_WEIGHTS = frozenset(name for name, metric in METRICS.items() if metric.of == "weights")
