"""A trained variant held against its study: its scores, predictions and curves, seed by seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from bancada.base.tables import Table
from bancada.evaluation import statistics
from bancada.evaluation.leaderboard import Cell, Entry
from bancada.evaluation.sheets import thinned
from bancada.evaluation.statistics import Score, summary
from bancada.networks import metrics
from bancada.networks.encoding import SCALING
from bancada.networks.metrics import METRICS, Values
from bancada.networks.saved import SavedVariant

Line = tuple[list[float], float]  # the weights and the bias that rows were made with

CURVE_POINTS = 200  # of a variant in loss.csv


@dataclass(frozen=True)
class Candidate:
    """A trained variant and all that is asked of it more than once."""

    name: str
    trained: SavedVariant
    history: dict[str, np.ndarray]
    parts: dict[str, Table]  # the splits that have rows

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        return {split: self.trained.outputs(rows.features) for split, rows in self.parts.items()}

    @cached_property
    def there(self) -> list[int]:
        """The places of the seeds that did not diverge."""
        return [i for i, seed in enumerate(self.trained.seeds) if seed not in self.trained.diverged]

    def decided(self, split: str) -> np.ndarray:
        return self.trained.encoding.decide(self.outputs[split])

    def curve(self, column: str) -> Float64[np.ndarray, "seed epoch"]:
        return statistics.by_seed(self.history["seed"], self.history[column], self.trained.seeds)

    @cached_property
    def watched(self) -> str:
        """The split whose loss tells when a training has converged."""
        return "validation" if "validation" in self.parts else "train"

    @cached_property
    def epochs_to_converge(self) -> Values:
        losses = self.curve("validation_loss" if self.watched == "validation" else "train_loss")
        epochs = np.full(len(losses), np.nan)
        for place in self.there:
            epochs[place] = statistics.epochs_to_converge(losses[place])
        return epochs

    @property
    def deterministic(self) -> bool:
        """Every seed ended in the same weights: a given start, and batches that need no drawing."""
        return all(bool((value == value[:1]).all()) for value in self.trained.weights.values())


def scores_of(candidate: Candidate, truth: Line | None, main_split: str) -> list[Score]:
    """Every metric on every split that has rows. What is not of any rows, the weight errors, goes with the main split;
    epochs_to_converge with the split whose loss was watched."""
    trained, found = candidate.trained, []
    for split, rows in candidate.parts.items():
        outputs, decided = candidate.outputs[split], candidate.decided(split)
        values = {"loss": trained.loss(outputs, rows.targets)}
        for name, metric in METRICS.items():
            if metric.function and metric.of == ("classes" if rows.classes else "numbers"):
                values[name] = metric.function(decided, rows.targets)
        found += [(split, metric, of_seeds) for metric, of_seeds in values.items()]
    found += [(main_split, metric, values) for metric, values in weight_errors(trained, truth).items()]
    found.append((candidate.watched, "epochs_to_converge", candidate.epochs_to_converge))
    return [Score(candidate.name, split, metric, _of_there(candidate, values)) for split, metric, values in found]


def weight_errors(trained: SavedVariant, truth: Line | None) -> dict[str, Values]:
    """Where the truth is known and the network is a single linear layer; in the units of the unscaled features."""
    if not truth or [layer.kind for layer in trained.layers] != ["linear"]:
        return {}
    weights = trained.weights["0.weight"].astype(np.float64)[:, 0]
    biases = np.zeros(len(weights))
    if "0.bias" in trained.weights:
        biases = trained.weights["0.bias"].astype(np.float64)[:, 0]
    if trained.scaling:
        mean, std = (trained.scaling[name] for name in SCALING)
        weights = weights / std
        biases = biases - (weights * mean).sum(axis=1)
    return {
        "weight_error_max": metrics.weight_error_max(weights, np.array(truth[0])),
        "bias_error": metrics.bias_error(biases, truth[1]),
    }


def _of_there(candidate: Candidate, values: Values) -> Values:
    """As they are written; NaN for the seeds that diverged and for what is no number."""
    written = [statistics.as_written(float(value)) for value in values]
    return np.array([v if i in candidate.there and math.isfinite(v) else np.nan for i, v in enumerate(written)])


def entry_of(candidate: Candidate, found: Sequence[Score], metric: str, main_split: str) -> Entry:
    of_this = [s for s in found if s.variant == candidate.name]
    values = [s.values for s in of_this if (s.split, s.metric) == (main_split, metric)]
    epochs = summary(candidate.epochs_to_converge).median
    none = np.full(len(candidate.trained.seeds), np.nan)
    return Entry(
        candidate.name,
        values[0] if values else none,
        epochs,
        len(candidate.trained.diverged),
        candidate.deterministic,
    )


def predictions(candidate: Candidate, inputs: Float64[np.ndarray, "input feature"]) -> Iterator[Sequence[Cell]]:
    """Numbers with their spread over seeds; for classes the share of all seeds that decide for each."""
    trained = candidate.trained
    if not len(inputs):
        return
    decided = trained.predict(inputs)
    seeds = len(trained.seeds)
    for i, given in enumerate(inputs):
        said = ", ".join(f"{name} = {value:.9g}" for name, value in zip(trained.feature_names, given, strict=True))
        if trained.classes:
            for index in range(len(trained.classes)):
                share = int((decided[candidate.there, i, 0] == index).sum()) / seeds
                yield i + 1, said, candidate.name, trained.classes[index], share, None, None, None, None, seeds
        else:
            for target, name in enumerate(trained.target_names):
                values = _of_there(candidate, decided[:, i, target])
                figures = summary(values)
                median = None if np.isnan(values).any() else figures.median  # no prediction is the worst one
                interval = (figures.ci95_low, figures.ci95_high)
                yield i + 1, said, candidate.name, name, figures.mean, figures.std, median, *interval, seeds


def mean_curves(candidate: Candidate) -> Iterator[Sequence[Cell]]:
    """Epoch, loss and validation loss: means over seeds, none from where the first seed diverged."""
    train, validation = candidate.curve("train_loss"), candidate.curve("validation_loss")
    for epoch in thinned(train.shape[1], CURVE_POINTS):
        yield candidate.name, int(epoch), float(train[:, epoch].mean()), float(validation[:, epoch].mean())
