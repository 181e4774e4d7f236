"""The metrics of trained networks on some rows: one value for each seed, NaN if it is undefined or the seed diverged.

To add one, write a function and a row of METRICS.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Real

Values = Float64[np.ndarray, " seed"]


class Metric(NamedTuple):
    """A metric of decided classes, of predicted numbers, of the learned weights, or the training loss itself."""

    label: str  # on the axis of a plot
    of: Literal["classes", "numbers", "loss", "weights"]
    function: Callable[[Any, Any], Values] | None = None  # takes decisions or predictions, and the observed targets
    higher_is_better: bool = False


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
    "weight_error_max": Metric("largest |w - true w|", "weights", weight_error_max),
    "bias_error": Metric("|b - true b|", "weights", bias_error),
}
HIGHER_IS_BETTER = frozenset(name for name, metric in METRICS.items() if metric.higher_is_better)
OF_WEIGHTS = frozenset(name for name, metric in METRICS.items() if metric.of == "weights")
