"""The plots of a study. To add one, write a function from Results to a Figure, or to None, and add it to DRAWN.

Figures are 8 inches wide with letters of at least 9 points, so that they can be read when they are printed small.
Variants differ in colour (Okabe and Ito's, for every kind of colour vision) and in line style or marker.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bancada.evaluation import drawn_rows
from bancada.evaluation.of_classes import confusion, decision_regions, misclassified
from bancada.evaluation.results import Results, missing, write_why_empty
from bancada.evaluation.searches import best_trials, parallel, search, tuning
from bancada.evaluation.sheets import (
    COLORS,
    COLUMNS,
    GRAYS,
    MARKERS,
    MOST_NAME,
    at_most,
    band,
    literal,
    name_axes,
    room_for,
    sheet,
    shortened,
    with_margins,
)
from bancada.evaluation.statistics import summary, thinned
from bancada.evaluation.words import ROWS_OF, Cells, better, measured_on
from bancada.networks import encoding, metrics, settings
from bancada.networks.preparation import TARGET_SCALING

MAX_POINTS = 400  # of a curve over the whole width: more cannot be seen on paper
FIT_POINTS = 200
BANDS = "lines: median; bands: 10th to 90th percentile"


def loss(results: Results) -> Figure:
    """Draw the loss by epoch: the median over seeds, and the band from the 10th to the 90th percentile of seeds."""
    candidates, medians = results.candidates, []
    losses = [candidate.trained.network.loss for candidate in candidates]
    scaled = [TARGET_SCALING[0] in candidate.trained.preparation.scaling for candidate in candidates]
    same = all(loss == losses[0] for loss in losses) and len(set(scaled)) == 1
    name = encoding.loss_name(losses[0]) if same else "each variant's own"
    kind = settings.LOSSES.get(name, name) + " of standardized targets" * (same and scaled[0])
    title = f"{results.study}: loss ({kind}) by epoch\nover {results.over}: {BANDS}"
    height = 1.6 if len(candidates) > COLUMNS else 3.2
    figure, panels = sheet(len(candidates), title, height, shared=True, headings=2)
    for ax, candidate in zip(panels, candidates, strict=True):
        for i, part in enumerate(part for part in ("train", "validation") if part in candidate.parts):
            values = candidate.curve(f"{part}_loss")
            kept = thinned(values.shape[1], MAX_POINTS // min(len(candidates), COLUMNS))
            band(ax, kept + 1, values[:, kept], i, "training" if part == "train" else part, width=1.2)
        medians += ax.get_lines()
        if candidate.ends:  # early stopping watches the validation loss
            last = np.array(list(candidate.ends.values()))
            losses_there = candidate.curve("validation_loss")[list(candidate.ends), last]
            ax.plot(last + 1, losses_there, "|", color="black", markersize=9, label="end of a seed's training")
        epochs, converged = summary(candidate.epochs_to_converge).median, ", ".join(missing(candidate, "loss"))
        if math.isfinite(epochs):
            converged = f"99 % of its fall by epoch {epochs:.0f}"
            ax.axvline(epochs, color="black", linestyle=":", linewidth=1.3, label="99 % of the decrease")
        ax.set_title(literal(f"{candidate.name}\n{converged}"))
    _scale_losses(panels, medians)
    name_axes(panels, "epochs of training", "loss")
    return figure


def leaderboard(results: Results) -> Figure:
    """Draw a dot for each seed, the median and its 95 % interval, with the best variant on top."""
    board, metric, seeds = results.board, results.board[0]["metric"], results.board[0]["num_seeds"]
    title = f"{results.study}: {metrics.METRICS[metric].label} {measured_on(metric, results.split)}, {results.over}"
    labels = [candidate.name for candidate in results.candidates]
    figure, (ax,) = sheet(1, title, height=0.2 + 0.33 * len(labels), left=0.3 + room_for(labels))
    values = [candidate.entry(metric).values for candidate in results.candidates]
    for place, (row, of_seeds) in enumerate(zip(board, values, strict=True)):
        finite = np.isfinite(of_seeds)
        beside = place + (0.22 * np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1))
        ax.plot(of_seeds[finite], beside[finite], "o", color=COLORS[5], markersize=4.5, label="one seed")
        low, middle, high = (number(row[key]) for key in ("median_low", "median", "median_high"))
        if math.isfinite(low) or math.isfinite(high):  # one of them may fall on a seed without a value
            ends = [np.fmax(low, of_seeds[finite].min()), np.fmin(high, of_seeds[finite].max())]
            ax.plot(ends, [place, place], "-", color=COLORS[0], linewidth=2.2, label="95 % interval of the median")
        if math.isfinite(middle):
            ax.plot([middle], [place], "D", color=COLORS[1], markersize=5.5, label="median over seeds")
        labels[place] += "".join(f"\n{why}" for why in missing(results.candidates[place], metric))
    ax.set_yticks(range(len(labels)), [shortened(label, MOST_NAME) for label in labels])
    ax.set(ylim=(len(labels) - 0.5, -0.5), xlabel=f"{metrics.METRICS[metric].label}, {better(metric)}")
    if not np.isfinite(values).any():
        ax.set_xticks([])
    _scale_scores(ax, np.concatenate(values))
    return figure


def number(cell: Any) -> float:
    """Return a number of the leaderboard; NaN for a word or an empty cell."""
    return cell if isinstance(cell, float) else math.nan


def data(results: Results) -> Figure | None:
    """Draw the training rows: classes in the plane, or each target by each feature, as far as features are numbers."""
    return drawn_rows.drawn(results.train, results.study)


def predicted_vs_observed(results: Results) -> Figure | None:
    """Draw predictions by observed numbers: the mean over seeds, and a bar from the lowest to the highest seed."""
    results = results.first()
    rows = results.rows
    if rows.classes:
        return None
    pairs = [(candidate, i) for candidate in results.candidates for i in range(len(rows.target_names))]
    title = f"{results.study}: predicted against observed, {ROWS_OF[results.split]}\nover {results.over}"
    shown, title = at_most(pairs, title)
    figure, panels = sheet(len(shown), title, height=2.6, columns=3 if len(shown) == 3 else 2, headings=1)
    many = len(rows) > 500
    for ax, (candidate, i) in zip(panels, shown, strict=True):
        observed = rows.targets[:, i]
        predicted = candidate.predicted(results.split)[candidate.usable(results.split), :, i]
        ax.set_title(literal(f"{candidate.name}: {rows.target_names[i]}"))
        ends = [observed.min(), observed.max()]
        ax.plot(ends, ends, "--", color="black", linewidth=1.2, label="predicted = observed")
        if not len(predicted):
            write_why_empty(ax, candidate, "mse")
            continue
        if not many:
            low, high = predicted.min(axis=0), predicted.max(axis=0)
            ax.vlines(observed, low, high, color=COLORS[4], linewidth=2, label="lowest to highest seed")
        size = 1.5 if many else 3.5
        ax.plot(observed, predicted.mean(axis=0), "o", color=COLORS[0], markersize=size, label="mean over seeds")
    name_axes(panels, "observed", "predicted")
    return figure


def fit(results: Results) -> Figure | None:
    """Draw the rows and the predictions of each variant, if there are one feature and one target, a number."""
    train, candidates = results.train, results.candidates
    if train.classes or len(train.feature_names) > 1 or len(train.target_names) > 1 or train.words:
        return None
    parts = {part: rows for part, rows in candidates[0].parts.items() if part != "validation"}
    low, high = with_margins(np.concatenate([rows.features[:, 0] for rows in parts.values()]))
    grid = np.linspace(low, high, FIT_POINTS)
    title = f"{results.study}: fitted lines\nover {results.over}: {BANDS}"
    figure, (ax,) = sheet(1, title, 4.2, entries=len(parts) + len(candidates))
    for i, (part, rows) in enumerate(parts.items()):
        x, y = rows.features[:, 0], rows.targets[:, 0]
        label = f"{part} rows ({np.isfinite(x).sum()})"
        ax.plot(x, y, MARKERS[i], color=GRAYS[i], markersize=4, markerfacecolor="none", label=label)
    for i, candidate in enumerate(candidates):
        lines = candidate.trained.predict(train.with_features(grid[:, None]))[:, :, 0]
        band(ax, grid, lines, i, candidate.name, width=2.0)
    name_axes([ax], train.feature_names[0], train.target_names[0])
    return figure


def _scale_losses(panels: Sequence[Axes], lines: Sequence[Line2D]) -> None:
    """Choose logarithmic axes if all losses are positive, and if there are many epochs. The panels share their axes."""
    ax, values = panels[0], np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
    if np.any(values > 0) and not np.any(values <= 0):  # the others are NaN
        ax.set_yscale("log")
    epochs = max(int(np.asarray(line.get_xdata())[-1]) for line in lines)
    if epochs > 500:
        ax.set_xscale("log")
    elif epochs < 10:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(panels) > COLUMNS:  # small panels
        ax.minorticks_off()


def _scale_scores(ax: Axes, values: Float[np.ndarray, " value"]) -> None:
    """Choose an axis that is logarithmic above some value, if a few large values would hide how others differ."""
    finite = values[np.isfinite(values)]
    positive = np.sort(finite[finite > 0])
    if len(positive) and finite.min() >= 0 and positive[-1] > 20 * np.median(finite):
        step = 10.0 ** math.floor(math.log10(max(np.median(positive) / 3, positive[-1] / 1e4)))
        ax.set_xscale("symlog", linthresh=step)
        ax.set_xlim(left=0)
    elif len(finite) and 0 < np.abs(finite).max() < 0.01:
        ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))


DRAWN = (
    *(loss, leaderboard, data, decision_regions, confusion, misclassified, predicted_vs_observed, fit),
    *(search, parallel, tuning),
)
PLOTS: dict[str, Callable[[Results], Figure | None]] = {draw.__name__: draw for draw in DRAWN}
NUMBERS: dict[str, Callable[[Results], Cells]] = {"search": best_trials}  # for the report, not the figure's own
