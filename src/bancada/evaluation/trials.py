"""The trials of a variant's search: their values and scores, in order; `bancada search` prints them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from bancada.base import files
from bancada.base.params_file import ParamsFile
from bancada.base.refusals import BadInput
from bancada.base.tables import as_written
from bancada.networks import saved
from bancada.networks.metrics import HIGHER_IS_BETTER, METRICS


@dataclass(frozen=True)
class Searched:
    """A variant's trials. `label`: the score in words; `higher`: whether more of it is better."""

    variant: str
    space: dict[str, Any]  # dotted key -> low, high and log, or choices
    values: dict[str, list[Any]]  # dotted key -> its value in each trial
    scores: Float64[np.ndarray, "trial seed"]  # NaN where a training diverged
    label: str
    higher: bool
    edges: Sequence[str] = ()  # the keys whose best value lies at the edge of its range

    @property
    def means(self) -> Float64[np.ndarray, " trial"]:
        """The score of each trial: the mean over its seeds, rounded as the search does; NaN if one of them diverged."""
        return np.array([as_written(float(of_trial.mean())) for of_trial in self.scores])

    @property
    def order(self) -> list[int]:
        """The trials, the best one first; those with a seed that diverged come last."""
        signed = -self.means if self.higher else self.means
        return [int(trial) for trial in np.argsort(np.where(np.isfinite(signed), signed, np.inf), kind="stable")]

    def places(self, key: str) -> Float64[np.ndarray, " trial"]:
        """Return where each trial's value lies in its range, from 0 to 1; choices lie side by side."""
        part, values = self.space[key], self.values[key]
        if "choices" in part:
            choices = [repr(choice) for choice in part["choices"]]
            return np.array([choices.index(repr(value)) for value in values]) / max(1, len(choices) - 1)
        low, high, at = (np.log(x) if part["log"] else np.asarray(x) for x in (part["low"], part["high"], values))
        found: Float64[np.ndarray, " trial"] = (at - low) / (high - low) if high > low else 0.0 * at
        return found


def read(variant: str, folder: Path) -> Searched | None:
    """Return the trials of the variant in this folder; None where it did not search."""
    found = saved.read_search(folder)
    if found is None:
        return None
    asked, columns = found
    seeds, metric, space = asked["seeds"], asked["metric"], asked["space"]
    values, scores = {key: columns[key][::seeds] for key in space}, np.array(columns["score"]).reshape(-1, seeds)
    label, higher = METRICS[metric].label, metric in HIGHER_IS_BETTER
    return Searched(variant, space, values, scores, label, higher, asked["edges"])


def table(params: ParamsFile, variant: str) -> str:
    """Return the trials of a variant that are here as a table, best first. Raise BadInput where there is none."""
    study = params.value(f"variants.{variant}.study")
    searched = read(variant, folder := files.model(study, variant))
    if searched is None:
        raise BadInput(f"{folder / files.SEARCH}: missing: {variant} is not trained, or it has no train.search")
    seeds = [f"seed {i + 1}" for i in range(searched.scores.shape[1])]
    rows = [["trial", *searched.space, searched.label, *seeds]]
    for trial in searched.order:
        values = [str(searched.values[key][trial]) for key in searched.space]
        scores = [f"{score:.6g}" if np.isfinite(score) else "-" for score in searched.scores[trial]]
        mean = searched.means[trial]
        rows.append([str(trial + 1), *values, f"{mean:.6g}" if np.isfinite(mean) else "diverged", *scores])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    chosen = {key: values[searched.order[0]] for key, values in searched.values.items()}
    return "\n".join([*lines, saved.at_edges({"edges": searched.edges, "chosen": chosen})]).strip("\n")
