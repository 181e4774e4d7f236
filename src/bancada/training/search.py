"""A search: many trainings of one variant, whose values of some keys are chosen by their scores on validation rows.

All trials, from all tuning seeds, are replicas as those of the final training are. No test row is read here.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from jaxtyping import Float64
from scipy.stats import qmc
from tqdm import tqdm

from bancada.base import stage
from bancada.base.refusals import bad
from bancada.base.tables import as_written
from bancada.base.variables import variables
from bancada.networks import metrics, saved
from bancada.networks.saved import Trained
from bancada.training import replica, store
from bancada.training.replica import Replica, Report
from bancada.training.settings import Recipe, TrainingKeys
from bancada.training.space import Search

if TYPE_CHECKING:
    from bancada.training.train import Learned

PLAIN_LINES = 8  # lines of progress if there is no terminal
A_CORE = 6  # trainings that an engine gets at once


@dataclass(frozen=True)
class Found:
    """What a search has found. `described`: for run.json; `trials`: the columns of search.parquet."""

    kept: store.Store  # of the trials' replicas
    keys: TrainingKeys  # with the chosen values
    described: dict[str, Any]
    trials: dict[str, Any]

    def in_words(self) -> str:
        """Return what was chosen, and by what."""
        chosen = ", ".join(f"{key} = {value}" for key, value in self.described["chosen"].items())
        of = f"trial {self.described['trial']} of {self.described['trials']}"
        score = f"{self.described['metric']} {self.described['score']:.6g} on the validation rows"
        return "; ".join(filter(None, [f"{chosen} ({of}: {score})", saved.at_edges(self.described)]))


def search(keys: TrainingKeys, metric: str, learned: Sequence["Learned"], src: Path) -> Found:
    """Train all trials that are not in the store, and choose the best. Raise BadInput where none has a score.

    `learned`: the rows of the study, or those of each tuning seed. `src`: of the user's files.
    """
    asked = keys.search()
    assert asked  # the caller has seen it
    points, seeds = points_of(asked), asked.tuning_seeds()
    recipes = [keys.trial(point).model_copy(update={"seeds": seeds}) for point in points]
    data = {draw: one.data for draw, one in enumerate(learned)}
    keys.at_ends(lambda at: replica.try_first_batch(at, data[0], src))
    of_seeds = list(zip(seeds, list(data) if len(data) > 1 else [0] * len(seeds), strict=True))
    replicas = [Replica(recipe, seed, src=src, draw=draw) for recipe in recipes for seed, draw in of_seeds]
    kept = store.Store(replicas, data)
    with tqdm(total=len(replicas), desc=f"{keys.name}: search", disable=not sys.stderr.isatty()) as bar:
        report = Progress(keys.name, len(replicas), bar)
        at_once = None if variables().ray else stage.cores() * A_CORE  # a cluster has more
        trained = store.train(kept, data, report, "trainings of the search", at_once)
    by_trial = [trained[i : i + len(seeds)] for i in range(0, len(trained), len(seeds))]
    scores = np.array([scored(*of_trial, learned, metric, src) for of_trial in zip(recipes, by_trial, strict=True)])
    best = best_trial(scores, metric in metrics.HIGHER_IS_BETTER)
    if best is None:
        problem = f"no trial of {len(points)} has a score ({metric}) for each of its seeds; try another space or metric"
        raise bad(keys.written_at("search"), None, problem)
    chosen = points[best]
    edges = [key for key, part in asked.space.items() if part.is_edge(chosen[key])]
    described = asked.model_dump() | {"metric": metric, "chosen": chosen}
    described |= {"trial": best + 1, "score": as_written(float(scores[best].mean())), "edges": edges}
    trials = {"trial": np.repeat(np.arange(len(points)) + 1, len(seeds)), "seed": np.tile(seeds, len(points))}
    trials |= {key: _column([point[key] for point in points], len(seeds)) for key in asked.space}
    return Found(kept, keys.with_values(chosen), described, trials | {"score": scores.ravel()})


def points_of(search: Search) -> list[dict[str, Any]]:
    """Return the values of each trial, by the dotted keys of the space.

    They are points of Sobol's sequence, which fills the space more evenly than independent numbers (Bergstra & Bengio
    2012 compare both), and of which the first points stay the same when more are asked for.
    """
    sobol = qmc.Sobol(len(search.space), rng=search.seed)
    shares = sobol.random_base2(math.ceil(math.log2(search.trials)))[: search.trials]
    return [
        {key: part.value(u) for (key, part), u in zip(search.space.items(), row, strict=True)}
        for row in shares.tolist()
    ]


def scored(
    recipe: Recipe, trained: list[Trained], learned: Sequence["Learned"], metric: str, src: Path
) -> Float64[np.ndarray, " seed"]:
    """Return the metric of a trial's networks on the validation rows, as evaluations compute it; NaN for no number."""
    preparations = [one.preparation for one in learned]
    of, shape = recipe.model_dump(mode="json", exclude_none=True), learned[0].data.train.inputs.shape[1:]
    described = saved.description(of, learned[0].rows, shape, preparations)
    networks = saved.restored(*saved.contents(described, trained, preparations))
    if recipe.module:
        torch_network: Any = import_module(saved.evaluated_by(recipe.engine))
        torch_network.SRC = src
    each = [networks.alone(place) for place in range(len(learned))] if len(learned) > 1 else [networks]
    pairs = [(one, of_draw.held_out) for one, of_draw in zip(each, learned, strict=True)]
    values = np.concatenate([metrics.of_rows(one, rows, one.outputs(rows), metric)[metric] for one, rows in pairs])
    ended = [one.diverged is None and math.isfinite(value) for one, value in zip(trained, values, strict=True)]
    return np.where(ended, [as_written(float(value)) for value in values], np.nan)


def best_trial(scores: Float64[np.ndarray, "trial seed"], higher: bool) -> int | None:
    """Return the first of the trials with the best mean; None where each lacks the score of a seed."""
    means = np.array([as_written(float(of_trial.mean())) for of_trial in scores])
    costs = np.where(np.isfinite(means), -means if higher else means, np.inf)
    return int(costs.argmin()) if np.isfinite(costs).any() else None


def _column(values: list[Any], times: int) -> Any:
    """Return a column of search.parquet: numbers of one type as they are, anything else as JSON texts."""
    types = {type(value) for value in values}
    if types == {int} or types == {float}:
        return np.repeat(np.array(values), times)
    return [json.dumps(value) for value in values for _ in range(times)]


class Progress(Report):
    """A report as a bar over all trainings of a search; elsewhere than on a terminal a few lines are printed."""

    def __init__(self, variant: str, count: int, bar: "tqdm[NoReturn]") -> None:
        self.variant, self.count, self.bar, self.done = variant, count, bar, 0

    def ended(self, place: int, trained: Trained) -> None:
        """Show how many have ended."""
        before, self.done = self.done, self.done + 1
        self.bar.update()
        if self.bar.disable and self.done * PLAIN_LINES // self.count > before * PLAIN_LINES // self.count:
            print(f"{self.variant}: {self.done} of {self.count} trainings of the search", flush=True)
