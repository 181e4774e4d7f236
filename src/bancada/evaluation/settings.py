"""The keys of params.yaml about a study's comparison: the metric, the baseline, new inputs, and the region to draw."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from bancada.base.params_file import ParamsFile
from bancada.base.refusals import bad, did_you_mean
from bancada.base.settings import Finite, Interval, NotNegative, Settings, checked
from bancada.networks.encoding import scaled
from bancada.networks.metrics import METRICS

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[*METRICS]


class Comparison(Settings):
    """How the variants of a study are compared."""

    metric: MetricName  # the leaderboard is ordered by it
    baseline: str | None = None  # the variant that the others are compared with
    min_difference: NotNegative = 0.0  # a smaller difference does not matter
    predict: list[dict[str, Finite] | list[Finite]] = []  # new inputs, by feature name or in the order of the features
    # [[x low, x high], [y low, y high]]
    decision_region: Annotated[list[Interval], Field(min_length=2, max_length=2)] | None = None


def comparison(params: ParamsFile, study: str) -> Comparison:
    """Return the keys of `studies.STUDY` that this package uses. Raise BadInput if one is wrong."""
    key = f"studies.{study}"
    raw = params.value(key)
    return checked(Comparison, {name: raw[name] for name in Comparison.model_fields if name in raw}, key)


def true_line(params: ParamsFile, study: str) -> tuple[list[float], float] | None:
    """Return the weights and the bias of a study whose source is linear, otherwise None."""
    source: Mapping[str, Any] = params.value(f"studies.{study}")["source"]
    return ([float(w) for w in source["weights"]], float(source["bias"])) if source["kind"] == "linear" else None


def check_predict(study: str, predict: Sequence[Mapping[str, float] | Sequence[float]], features: list[str]) -> None:
    """Raise BadInput if a new input does not have one number for each feature."""
    for i, given in enumerate(predict):
        key = f"studies.{study}.predict[{i}]"
        if not isinstance(given, Mapping):
            if len(given) != len(features):
                problem = f"{len(given)} numbers, but the features are {len(features)}: {', '.join(features)}"
                raise bad(key, None, problem)
            continue
        for feature in (*given, *features):
            if feature not in features:
                raise bad(f"{key}.{feature}", None, "unknown feature" + did_you_mean(feature, features))
            if feature not in given:
                raise bad(f"{key}.{feature}", None, "missing")


def new_inputs(
    predict: Sequence[Mapping[str, float] | Sequence[float]], features: list[str]
) -> Float64[np.ndarray, "input feature"]:
    """Return the new inputs, which `check_predict` has checked, with the features in their order."""
    rows = [[one[name] for name in features] if isinstance(one, Mapping) else one for one in predict]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(features))


def refuse_too_large(
    study: str,
    inputs: Float64[np.ndarray, "input feature"],
    features: list[str],
    variant: str,
    scaling: Mapping[str, np.ndarray],
) -> None:
    """Raise BadInput for a new input that float32 cannot hold once it is standardized by a variant's `scaling`."""
    for feature, i in np.argwhere(~np.isfinite(scaled(inputs, scaling))):
        key = f"studies.{study}.predict[{i}].{features[feature]}"
        raise bad(key, float(inputs[i, feature]), f"too large for {variant}, which standardizes it")
