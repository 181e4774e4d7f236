"""A trained variant on the rows of its study: its scores, predictions and loss curves for each seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64

from bancada.base.tables import Table, as_written
from bancada.evaluation.entry import Entry
from bancada.evaluation.leaderboard import Cell
from bancada.evaluation.statistics import Summary, epochs_to_converge, summary, thinned
from bancada.networks import encoding, metrics, saved
from bancada.networks.preparation import SCALING, TARGET_SCALING

PREDICTIONS = ("input", "features", "variant", "target", *Summary._fields)  # the columns of predictions.csv
CURVES = ("variant", "epoch", "loss", "validation_loss")  # the columns of loss.csv
CURVE_POINTS = 200  # epochs of a variant in loss.csv


@dataclass(frozen=True)
class Candidate:
    """A trained variant and what several tables and plots need of it."""

    name: str
    trained: saved.SavedVariant
    history: dict[str, np.ndarray]
    parts: dict[str, Table]  # the splits that have rows
    truth: tuple[list[float], float] | None  # the weights and the bias that made the rows, if they are known
    asked: str = ""  # the study's metric
    draws: Sequence[dict[str, Table]] = ()  # the splits of each seed, where each has data of its own

    def alone(self, place: int) -> "Candidate":
        """Return the network of one seed, on its own data."""
        trained, parts = self.trained.alone(place), self.draws[place] if self.draws else self.parts
        own = self.history["seed"] == self.trained.seeds[place]
        history = {name: values[own] for name, values in self.history.items()}
        return replace(self, trained=trained, history=history, parts=parts, draws=())

    @property
    def main_split(self) -> str:
        """The split whose rows decide: the test rows or, if there are none, the validation rows or training rows."""
        return next(part for part in ("test", "validation", "train") if part in self.parts)

    @property
    def watched(self) -> str:
        """The split whose loss shows when a training has converged."""
        return "validation" if "validation" in self.parts else "train"

    @cached_property
    def finished(self) -> list[int]:
        """The positions of the seeds that did not diverge."""
        return [i for i, seed in enumerate(self.trained.seeds) if seed not in self.trained.diverged]

    @cached_property
    def outputs(self) -> dict[str, Float64[np.ndarray, "seed row output"]]:
        """The outputs of the networks for each split."""
        return {split: self.trained.outputs(rows) for split, rows in self.parts.items()}

    def predicted(self, split: str) -> np.ndarray:
        """Return the decided class indices or the predicted numbers, [seed, row, target]."""
        return self.trained.decide(self.outputs[split])

    def usable(self, split: str) -> Bool[np.ndarray, " seed"]:
        """Return which seeds have only finite outputs for the split: a seed that diverged has none."""
        finite: Bool[np.ndarray, " seed"] = np.isfinite(self.outputs[split]).all(axis=(1, 2))
        return finite

    def curve(self, column: str) -> Float64[np.ndarray, "seed epoch"]:
        """Return a column of the history; NaN after the epoch in which a seed diverged.

        A seed that early stopping ended goes on with the values of the epoch that it keeps.
        """
        columns = saved.carried(self.history, self.trained.kept)
        seed, epoch = columns["seed"], columns["epoch"]
        curves = np.full((len(self.trained.seeds), epoch.max() + 1), np.nan)
        curves[np.searchsorted(self.trained.seeds, seed), epoch] = columns[column]
        return curves

    @cached_property
    def ends(self) -> dict[int, int]:
        """The last epoch, by its position, of each seed that was trained with early stopping and did not diverge."""
        seed, epoch = self.history["seed"], self.history["epoch"]
        return {self.trained.seeds.index(one): int(epoch[seed == one].max()) for one in self.trained.kept}

    @cached_property
    def epochs_to_converge(self) -> metrics.Values:
        """The number of epochs until the watched loss has converged.

        Early stopping does not change what it means: the epochs after a seed's end bring no lower loss.
        """
        losses = self.curve(f"{self.watched}_loss")
        epochs = np.full(len(losses), np.nan)
        epochs[self.finished] = [epochs_to_converge(losses[i]) for i in self.finished]
        return epochs

    @cached_property
    def scores(self) -> dict[tuple[str, str], metrics.Values]:
        """The values of every metric by split and metric, rounded as in the files; NaN for a seed that has none."""
        return {key: self.of_finished(values) for key, values in self._computed.items()}

    @cached_property
    def _computed(self) -> dict[tuple[str, str], metrics.Values]:
        """The values as they are computed: infinite for a seed with outputs that are not finite, NaN if not defined.

        The errors of the weights belong to no rows: they count for the main split. epochs_to_converge counts for the
        watched split.
        """
        found: dict[tuple[str, str], metrics.Values] = {}
        if self.draws:
            each = [self.alone(place)._computed for place in range(len(self.trained.seeds))]
            return {key: np.concatenate([of[key] for of in each]) for key in each[0]}
        for split, rows in self.parts.items():
            of_split = metrics.of_rows(self.trained, rows, self.outputs[split], self.asked)
            found |= {(split, name): values for name, values in of_split.items()}
        found |= {(self.main_split, name): values for name, values in self._weight_errors().items()}
        found[self.watched, "epochs_to_converge"] = self.epochs_to_converge
        return found

    def _weight_errors(self) -> dict[str, metrics.Values]:
        """Return the errors in the units of the unscaled features, for a single linear layer if the truth is known."""
        trained = self.trained
        if not self.truth or not trained.network.one_linear:
            return {}
        order = [trained.feature_names.index(name) for name in trained.preparation.input_names(trained.feature_names)]
        weights = trained.weights["0.weight"].astype(np.float64)[:, 0]
        biases = trained.weights.get("0.bias", np.zeros((len(weights), 1))).astype(np.float64)[:, 0]
        scaling = trained.preparation.scaling
        if SCALING[0] in scaling:
            mean, std = (scaling[name] for name in SCALING)
            weights = weights / std
            biases = biases - (weights * mean).sum(axis=1)
        if TARGET_SCALING[0] in scaling:
            [mean], [std] = (scaling[name] for name in TARGET_SCALING)
            weights, biases = weights * std, biases * std + mean
        return {
            "weight_error_max": metrics.weight_error_max(weights, np.array(self.truth[0])[order]),
            "bias_error": metrics.bias_error(biases, self.truth[1]),
        }

    def of_finished(self, values: metrics.Values) -> metrics.Values:
        """Return the values rounded as in the files; NaN for diverged seeds and for values that are not finite."""
        written = [as_written(float(value)) for value in values]
        return np.array([v if i in self.finished and math.isfinite(v) else np.nan for i, v in enumerate(written)])

    def entry(self, metric: str) -> Entry:
        """Return the variant's entry in the leaderboard of this metric."""
        nothing = np.full(len(self.trained.seeds), np.nan)
        computed = self._computed.get((self.main_split, metric), nothing)
        return Entry(
            *(self.name, self.trained.engine, self.trained.parameters, self.of_finished(computed)),
            validation=self.scores.get(("validation", metric), nothing),
            finished=self.finished,
            epochs_to_converge=summary(self.epochs_to_converge).median,
            infinite_seeds=int(np.isinf(computed[self.finished]).sum()),
            overruled=self.trained.overruled,
            searched=saved.at_edges(self.trained.search),
        )

    def predictions(self, inputs: Table) -> Iterator[Sequence[Cell]]:
        """Yield the rows of predictions.csv: statistics over seeds, or the share of seeds that decide for a class."""
        trained, seeds = self.trained, len(self.trained.seeds)
        predicted = trained.predict(inputs) if len(inputs) else np.empty(0)
        for i in range(len(inputs)):
            features = ", ".join(f"{name} = {inputs.cell(i, name)}" for name in inputs.feature_names)
            for index in range(len(trained.classes)):
                decided = predicted[:, i, 0]
                none = (decided == encoding.UNDECIDED).all()
                share = math.nan if none else int((decided == index).sum()) / seeds
                yield i + 1, features, self.name, trained.classes[index], share, None, None, None, None, seeds
            for target, name in enumerate([] if trained.classes else trained.target_names):
                values = self.of_finished(predicted[:, i, target])
                over_seeds = summary(values)
                if np.isnan(values).any():  # no prediction is the worst one, so there is no median either
                    over_seeds = over_seeds._replace(median=math.nan)
                yield i + 1, features, self.name, name, *over_seeds

    def mean_curves(self) -> Iterator[Sequence[Cell]]:
        """Yield the rows of loss.csv: epoch and mean losses over seeds, NaN after the first seed diverged."""
        train, validation = self.curve("train_loss"), self.curve("validation_loss")
        for epoch in thinned(train.shape[1], CURVE_POINTS):
            yield self.name, int(epoch), float(train[:, epoch].mean()), float(validation[:, epoch].mean())
