"""Which plots a study gets, and the values that each is drawn from."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.figure import Figure

from bancada.base.tables import Table
from bancada.evaluation import plots, statistics
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.leaderboard import Entry, rows_of
from bancada.evaluation.plots import Curves, DrawnRows, Regions
from bancada.evaluation.settings import Comparison
from bancada.evaluation.statistics import summary
from bancada.networks import metrics
from bancada.networks.metrics import HIGHER_IS_BETTER, METRICS, OF_WEIGHTS, Values
from bancada.networks.settings import LOSSES

GRID = (160, 100)  # points of a decision region, across and up
FIT_POINTS = 200


def drawn(
    study: Comparison, name: str, main_split: str, candidates: Sequence[Candidate], entries: Sequence[Entry]
) -> Iterator[tuple[str, Figure]]:
    """Each plot's name and figure. `candidates` and `entries` in the order of the leaderboard."""
    parts = candidates[0].parts
    rows, where = parts[main_split], rows_of(main_split)
    yield "loss", loss(candidates, name)
    yield "leaderboard", leaderboard(entries, study.metric, name, where)
    train = parts["train"]
    title = f"{name}: the {len(train)} training rows"
    yield "data", plots.data(_rows(train), train.feature_names, train.target_names, train.classes, title)
    if rows.classes:
        if len(rows.feature_names) == 2:
            yield "decision_regions", decision_regions(study, name, main_split, candidates, entries)
        title = f"{name}: share of each class's rows by decided class (%), {where}"
        title += "\nmean over the seeds that did not diverge"
        matrices = {c.name: confusion_percent(c, main_split) for c in candidates}
        yield "confusion", plots.confusion(matrices, rows.classes, title)
    else:
        yield "predicted_vs_observed", predicted_vs_observed(name, main_split, candidates)
        if len(rows.feature_names) == 1 and len(rows.target_names) == 1:
            yield "fit", fit(name, candidates)


def loss(candidates: Sequence[Candidate], name: str) -> Figure:
    curves = {}
    for candidate in candidates:
        validated = candidate.watched == "validation"
        curves[candidate.name] = Curves(
            candidate.curve("train_loss"),
            candidate.curve("validation_loss") if validated else None,
            summary(candidate.epochs_to_converge).median,
        )
    kinds = {candidate.trained.loss_name for candidate in candidates}
    kind = LOSSES[kinds.pop()] if len(kinds) == 1 else "each variant's own"
    return plots.loss(curves, f"{name}: loss ({kind}) by epoch", "loss")


def leaderboard(entries: Sequence[Entry], metric: str, name: str, where: str) -> Figure:
    intervals = {}
    for entry in entries:
        figures = summary(entry.values, metric in HIGHER_IS_BETTER)
        intervals[entry.variant] = (figures.mean, figures.ci95_low, figures.ci95_high)
    seeds = len(entries[0].values)
    of = "of the learned weights" if metric in OF_WEIGHTS else f"on the {where}"
    axis = METRICS[metric].label
    better = "higher" if metric in HIGHER_IS_BETTER else "lower"
    title = f"{name}: {axis} {of}, {seeds} training seed{'s' * (seeds > 1)} on one data set"
    return plots.leaderboard({e.variant: e.values for e in entries}, intervals, title, f"{axis}, {better} is better")


def decision_regions(
    study: Comparison, name: str, main_split: str, candidates: Sequence[Candidate], entries: Sequence[Entry]
) -> Figure:
    rows = candidates[0].parts[main_split]
    region = study.decision_region or [_wide(values) for values in rows.features.T]
    across, up = (np.linspace(low, high, points) for (low, high), points in zip(region, GRID, strict=True))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    variants = {}
    for candidate, entry in zip(candidates, entries, strict=True):
        decided = candidate.trained.predict(grid)[candidate.there, :, 0]
        share = [np.count_nonzero(decided == i, axis=0) / len(entry.values) for i in range(len(rows.classes))]
        errors = _of_there(candidate, metrics.error_rate_percent(candidate.decided(main_split), rows.targets))
        figures = summary(errors)
        said = (
            f"mean error {statistics.as_written(figures.mean):.2f} %"
            if math.isfinite(figures.mean)
            else _diverged(candidate)
        )
        variants[candidate.name] = Regions(
            np.stack(share, axis=-1).reshape(GRID[1], GRID[0], -1), missed(candidate, main_split, errors), said
        )
    seeds = len(entries[0].values)
    title = f"{name}: decisions of {seeds} seeds (paler: fewer of them agree)\npoints: {rows_of(main_split)}"
    limits = ((region[0][0], region[0][1]), (region[1][0], region[1][1]))
    return plots.decision_regions(variants, _rows(rows), limits, rows.feature_names, rows.classes, title)


def missed(candidate: Candidate, split: str, errors: Values) -> Bool[np.ndarray, " row"]:
    """The rows that the median seed decides wrongly; none where that seed diverged."""
    by_merit = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    median = int(by_merit[(len(errors) - 1) // 2])
    wrong: Bool[np.ndarray, " row"] = (candidate.decided(split)[median] != candidate.parts[split].targets)[:, 0]
    return wrong & (median in candidate.there)


def confusion_percent(candidate: Candidate, split: str) -> Float64[np.ndarray, "observed decided"]:
    """Of the rows of each class, the percentage decided for each class: the mean over the seeds that did not diverge.

    NaN for a class without rows.
    """
    rows = candidate.parts[split]
    classes = len(rows.classes)
    counts = np.zeros((classes, classes))
    for decided in candidate.decided(split)[candidate.there, :, 0]:
        np.add.at(counts, (rows.targets[:, 0], decided), 1)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, 100 * counts / np.where(total > 0, total, 1), np.nan)


def predicted_vs_observed(name: str, main_split: str, candidates: Sequence[Candidate]) -> Figure:
    rows = candidates[0].parts[main_split]
    panels = {}
    for candidate in candidates:
        predicted = candidate.decided(main_split)[candidate.there]
        for i, target in enumerate(rows.target_names):
            panels[f"{candidate.name}: {target}"] = (rows.targets[:, i], predicted[:, :, i])
    return plots.predicted_vs_observed(panels, f"{name}: predicted against observed, {rows_of(main_split)}")


def fit(name: str, candidates: Sequence[Candidate]) -> Figure:
    parts = candidates[0].parts
    rows = {part: table for part, table in parts.items() if part == "train" or part == "test"}
    low, high = _wide(np.concatenate([table.features[:, 0] for table in rows.values()]))
    grid = np.linspace(low, high, FIT_POINTS)
    lines = {c.name: c.trained.predict(grid[:, None])[:, :, 0] for c in candidates}
    train = parts["train"]
    of = {part: _rows(table) for part, table in rows.items()}
    return plots.fit(of, grid, lines, train.feature_names[0], train.target_names[0], f"{name}: fitted lines")


def _rows(table: Table) -> DrawnRows:
    return DrawnRows(table.features, table.targets)


def _wide(values: Float64[np.ndarray, " value"]) -> list[float]:
    """From the lowest to the highest value, and a tenth of that on either side."""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 10 or 1.0
    return [low - margin, high + margin]


def _of_there(candidate: Candidate, values: Values) -> Values:
    return np.array([value if i in candidate.there else np.nan for i, value in enumerate(values)])


def _diverged(candidate: Candidate) -> str:
    return f"{len(candidate.trained.diverged)} of {len(candidate.trained.seeds)} seeds diverged"
