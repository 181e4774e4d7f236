"""The keys of params.yaml about a study's comparison: the metric, the baseline, new inputs, and the region to draw."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from bancada.base.cells import text_of, without_marks
from bancada.base.params_file import ParamsFile
from bancada.base.refusals import bad, did_you_mean, wrong_key
from bancada.base.settings import Finite, Interval, NotNegative, Settings, checked
from bancada.base.tables import Table, coded
from bancada.networks.metrics import HIGHER_IS_BETTER, METRICS
from bancada.networks.preparation import Preparation, Unprepared

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[*METRICS]

Given = Finite | str | None  # a number, a word, or an empty cell


class Comparison(Settings):
    """How the variants of a study are compared."""

    # the value that the leaderboard is ordered by; from `balanced_accuracy` to `mape`, computed only where asked for;
    # `roc_auc` needs probabilities, of a softmax or a sigmoid
    metric: MetricName
    baseline: str | None = None  # the variant that the others are compared with; null: no comparison
    min_difference: NotNegative = 0.0  # a difference of the metric that matters to nobody
    fails_above: Finite | None = None  # a seed with a higher value has failed; for a metric of which lower is better
    fails_below: Finite | None = None  # the same where higher is better
    # new inputs, by the features' names or in their order: numbers, words, null for an empty cell
    predict: list[dict[str, Given] | list[Given]] = []
    # [[x low, x high], [y low, y high]] of a plot, for two features
    decision_region: Annotated[list[Interval], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _fails_on_the_worse_side(self) -> Self:
        higher = self.metric in HIGHER_IS_BETTER
        wrong, right = ("fails_above", "fails_below") if higher else ("fails_below", "fails_above")
        if getattr(self, wrong) is not None:
            raise wrong_key(wrong, f"of {self.metric}, {'higher' if higher else 'lower'} is better: use {right}")
        return self

    @property
    def fails_beyond(self) -> float | None:
        """The value beyond which a seed has failed."""
        return self.fails_below if self.metric in HIGHER_IS_BETTER else self.fails_above


def comparison(params: ParamsFile, study: str) -> Comparison:
    """Return the keys of `studies.STUDY` that this package uses. Raise BadInput if one is wrong."""
    key = f"studies.{study}"
    raw = params.value(key)
    return checked(Comparison, {name: raw[name] for name in Comparison.model_fields if name in raw}, key)


def no_validation(params: ParamsFile, study: str) -> str:
    """Return why the study has no validation rows that seeds and variants may be chosen on; empty if it has."""
    asked = params.value(f"studies.{study}")["split"].get("validation", 0)
    same = "the study's validation rows are its test rows"
    return same if asked == "test" else "" if asked else "the study has no validation rows"


def true_line(params: ParamsFile, study: str) -> tuple[list[float], float] | None:
    """Return the weights and the bias of a study whose source is linear, otherwise None."""
    source: Mapping[str, Any] = params.value(f"studies.{study}")["source"]
    return ([float(w) for w in source["weights"]], float(source["bias"])) if source["kind"] == "linear" else None


def check_predict(
    study: str, predict: Sequence[Mapping[str, Given] | Sequence[Given]], features: list[str], words: Collection[str]
) -> None:
    """Raise BadInput if a new input does not have one value for each feature. `words`: the features that are words."""
    for i, given in enumerate(predict):
        key = f"studies.{study}.predict[{i}]"
        if not isinstance(given, Mapping):
            if len(given) != len(features):
                problem = f"{len(given)} values, but the features are {len(features)}: {', '.join(features)}"
                raise bad(key, None, problem)
            values = {f"{key}[{j}]": (features[j], cell) for j, cell in enumerate(given)}
        else:
            for feature in (*given, *features):
                if feature not in features:
                    raise bad(f"{key}.{feature}", None, "unknown feature" + did_you_mean(feature, features))
                if feature not in given:
                    raise bad(f"{key}.{feature}", None, "missing")
            values = {f"{key}.{feature}": (feature, cell) for feature, cell in given.items()}
        for place, (feature, cell) in values.items():
            if isinstance(cell, str) and feature not in words:
                raise bad(place, cell, "must be a number")


def new_inputs(predict: Sequence[Mapping[str, Given] | Sequence[Given]], like: Table) -> Table:
    """Return the new inputs, which `check_predict` has checked, as a table with the features of `like`, but no targets.

    A column of words is one of words here, too; whether a cell can be used is for each variant's preparation to say.
    """
    names, words = like.feature_names, dict[str, list[str]]()
    rows = [[one[name] for name in names] if isinstance(one, Mapping) else list(one) for one in predict]
    columns = list[np.ndarray]()
    for i, name in enumerate(names):
        cells = [row[i] for row in rows]
        if name in like.words:
            codes, words[name] = coded(
                pa.array([None if cell is None else text_of(cell, like.missing) or None for cell in cells], pa.string())
            )
            columns.append(codes)
        else:
            columns.append(without_marks(np.array(cells, dtype=np.float64), like.missing))
    features = np.stack(columns, axis=1).reshape(len(rows), len(names))
    return replace(like.with_features(features), words=words)


def refuse_unprepared(study: str, inputs: Table, variant: str, preparation: Preparation) -> None:
    """Raise BadInput for a new input that a variant's network cannot take once its preparation is applied."""
    names = inputs.feature_names
    try:
        numbers = preparation.inputs(inputs.features, names, inputs.words)
    except Unprepared as error:
        key = f"studies.{study}.predict[{error.row}].{error.column}"
        raise bad(key, None, f"{error.problem}; {variant} has no number for it") from None
    for i, at in np.argwhere(~np.isfinite(numbers)):
        name = preparation.input_names(names)[at]
        value = inputs.features[i, names.index(name)] if name in names else None
        raise bad(f"studies.{study}.predict[{i}].{name}", value, f"too large for {variant}, which standardizes it")
