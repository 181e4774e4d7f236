"""The plots of a study. To add one, write a function from Results to a Figure, or to None, and add it to DRAWN.

Figures are 8 inches wide with letters of at least 9 points, so that they can be read when they are printed small.
Variants differ in colour (Okabe and Ito's, for every kind of colour vision) and in line style or marker.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bancada.base.tables import Table, as_written
from bancada.evaluation import drawn_rows, searches
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.leaderboard import Row
from bancada.evaluation.sheets import COLORS, COLUMNS, GRAYS, MARKERS, band, literal, name_axes, of_class, sheet
from bancada.evaluation.statistics import summary, thinned
from bancada.evaluation.trials import Searched
from bancada.evaluation.words import ROWS_OF, better, measured_on, over_replicas
from bancada.networks import encoding, metrics, settings
from bancada.networks.preparation import TARGET_SCALING

MAX_POINTS = 400  # of a curve over the whole width: more cannot be seen on paper
GRID = (160, 100)  # points of a decision region, across and up
FIT_POINTS = 200
PICTURES = 6  # of rows that a variant decides wrongly
MANY_CLASSES = 5  # from so many on, a confusion has no numbers where no row is
BANDS = "lines: median; bands: 10th to 90th percentile"


@dataclass(frozen=True)
class Results:
    """What the plots of a study show. `board` and `candidates` are in the order of the leaderboard."""

    study: str
    board: Sequence[Row]
    candidates: Sequence[Candidate]
    region: list[list[float]] | None  # [[x low, x high], [y low, y high]] for the decision regions
    of_first: bool = False  # of seeds that each have data of their own, only the first is shown
    searches: Sequence[Searched] = ()  # of the variants that searched

    @property
    def over(self) -> str:
        """What the replicas differ in, in words, such as "10 seeds on one data set"."""
        seeds = len(self.candidates[0].trained.seeds)
        return "the first seed and its data alone" if self.of_first else over_replicas(seeds, self.board[0]["over"])

    def first(self) -> "Results":
        """Return the results of the first seed, where each has data of its own: rows of one data set can be drawn."""
        if not self.candidates[0].draws:
            return self
        return replace(self, candidates=[candidate.alone(0) for candidate in self.candidates], of_first=True)

    @property
    def split(self) -> str:
        """The main split."""
        return self.candidates[0].main_split

    @property
    def rows(self) -> Table:
        """The rows of the main split."""
        return self.candidates[0].parts[self.split]

    @property
    def train(self) -> Table:
        """The training rows."""
        return self.candidates[0].parts["train"]


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
            converged = f"converged after {epochs:.0f} epochs"
            ax.axvline(epochs, color="black", linestyle=":", linewidth=1.3, label="99 % of the decrease")
        ax.set_title(literal(f"{candidate.name}\n{converged}"))
    _scale_losses(panels, medians)
    name_axes(panels, "epochs of training", "loss")
    return figure


def leaderboard(results: Results) -> Figure:
    """Draw a dot for each seed, the median and its 95 % interval, with the best variant on top."""
    board, metric, seeds = results.board, results.board[0]["metric"], results.board[0]["num_seeds"]
    over = over_replicas(seeds, results.board[0]["over"])
    title = f"{results.study}: {metrics.METRICS[metric].label} {measured_on(metric, results.split)}, {over}"
    labels = [candidate.name for candidate in results.candidates]
    longest = max(map(len, labels))
    figure, (ax,) = sheet(1, title, height=0.2 + 0.33 * len(labels), left=0.3 + 0.085 * max(longest, 17))
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
    ax.set_yticks(range(len(labels)), [literal(label) for label in labels])
    ax.set(ylim=(len(labels) - 0.5, -0.5), xlabel=f"{metrics.METRICS[metric].label}, {better(metric)}")
    if not np.isfinite(values).any():
        ax.set_xticks([])
    _scale_scores(ax, np.concatenate(values))
    return figure


def number(cell: Any) -> float:
    """Return a number of the leaderboard; NaN for a word or an empty cell."""
    return cell if isinstance(cell, float) else math.nan


def missing(candidate: Candidate, metric: str) -> list[str]:
    """Return why seeds have no value of the metric, such as ["2 of 10 diverged"]."""
    return [f"{count} {why}" for why, count in candidate.entry(metric).missing().items()]


def data(results: Results) -> Figure | None:
    """Draw the training rows: classes in the plane, or each target by each feature, as far as features are numbers."""
    return drawn_rows.drawn(results.train, results.study)


def decision_regions(results: Results) -> Figure | None:
    """Draw which class most seeds decide for, paler the fewer of them agree, if there are two features."""
    rows, candidates = results.rows, results.candidates
    if not rows.classes or len(rows.feature_names) != 2 or rows.words:
        return None
    seeds = len(candidates[0].trained.seeds)
    title = f"{results.study}: decisions over {results.over} (paler: fewer agree)\npoints: {ROWS_OF[results.split]}"
    title += " of the first one" * bool(candidates[0].draws)
    title += " without empty cells" * bool(np.isnan(rows.features).any())
    height = 1.65 if len(candidates) > COLUMNS else 3.0
    figure, panels = sheet(len(candidates), title, height, shared=True, headings=2)
    (left, right), (bottom, top) = results.region or [_with_margins(values) for values in rows.features.T]
    across, up = np.linspace(left, right, GRID[0]), np.linspace(bottom, top, GRID[1])
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    colors = np.array([to_rgb(COLORS[i % len(COLORS)]) for i in range(len(rows.classes))])
    for ax, candidate in zip(panels, candidates, strict=True):
        decided = candidate.trained.predict(rows.with_features(grid))[candidate.finished, :, 0]
        counts = np.count_nonzero(decided[..., None] == np.arange(len(rows.classes)), axis=0)
        share = counts.reshape(GRID[1], GRID[0], -1) / seeds
        second, first = np.sort(share, axis=2)[:, :, -2:].transpose(2, 0, 1)
        strength = np.where(first > 0, 0.1 + 0.5 * (first - second), 0)[:, :, None]
        picture = 1 - strength * (1 - colors[share.argmax(axis=2)])
        ax.imshow(picture, origin="lower", extent=(left, right, bottom, top), aspect="auto", interpolation="nearest")
        wrong = wrong_for_the_median_seed(candidate.alone(0) if candidate.draws else candidate)
        whom = "the first seed" if candidate.draws else "the median seed"
        for i, name in enumerate(rows.classes):
            chosen = rows.features[(rows.targets[:, 0] == i) & ~wrong]
            ax.plot(*chosen.T, ",", color=colors[i] * 0.7)
            label = literal(f"predicted {of_class(name)}")
            ax.plot([], [], "s", color=1 - 0.6 * (1 - colors[i]), markersize=9, label=label)
        ax.plot(*rows.features[wrong].T, "x", color="black", markersize=3.5, label=f"wrong for {whom}")
        middle = summary(candidate.scores[results.split, "error_rate_percent"]).median
        without = ", ".join(missing(candidate, "error_rate_percent"))
        subtitle = f"median error rate {as_written(middle):.3g} %" if math.isfinite(middle) else without
        ax.set(xlim=(left, right), ylim=(bottom, top), title=literal(f"{candidate.name}\n{subtitle}"))
        ax.grid(False)
    name_axes(panels, *rows.feature_names)
    return figure


def wrong_for_the_median_seed(candidate: Candidate) -> Bool[np.ndarray, " row"]:
    """Return which rows of the main split the seed with the median error rate decides wrongly; none if it has none."""
    split = candidate.main_split
    errors = candidate.scores[split, "error_rate_percent"]
    best_first = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    median = int(best_first[(len(errors) - 1) // 2])
    wrong: Bool[np.ndarray, " row"] = (candidate.predicted(split)[median] != candidate.parts[split].targets)[:, 0]
    return wrong & bool(np.isfinite(errors[median]))


def confusion(results: Results) -> Figure | None:
    """Draw how many rows of each class are decided for each class, in percent, if targets are classes."""
    results = results.first()
    classes = results.rows.classes
    if not classes:
        return None
    title = f"{results.study}: share of each class's rows by predicted class (%), {ROWS_OF[results.split]}"
    title += f"\nmean over {results.over}, those apart that diverged"
    many = len(classes) >= MANY_CLASSES
    columns = 2 if many else COLUMNS
    height = max(1.2, 0.4 * len(classes))
    places, names = range(len(classes)), [literal(of_class(label)) for label in classes]
    left = 0.5 + 0.085 * max(len(of_class(label)) for label in classes)
    count = len(results.candidates)
    figure, panels = sheet(count, title, height, columns, shared=True, left=left, headings=1, entries=0)
    for ax, candidate in zip(panels, results.candidates, strict=True):
        matrix = confusion_percent(candidate, results.split)
        ax.imshow(np.nan_to_num(matrix), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        if np.isnan(matrix).all():
            _write_why_empty(ax, candidate, "error_rate_percent")
            matrix = matrix[:0]
        for (y, x), share in np.ndenumerate(matrix):
            shown = _share(share, many) if math.isfinite(share) else "no rows" if x == 0 else ""
            ax.text(x, y, shown, ha="center", va="center", color="white" if share > 55 else "black")
        ax.set(xticks=places, xticklabels=names, yticks=places, yticklabels=names, title=literal(candidate.name))
        ax.grid(False)
    name_axes(panels, "predicted class", "observed class")
    return figure


def _share(percent: float, narrow: bool) -> str:
    """Return a percentage for a cell; in a narrow one, nothing in place of 0.0, and 100 in place of 100.0."""
    return f"{percent:.1f}" if not narrow or 0 < percent < 100 else "100" if percent else ""


def confusion_percent(candidate: Candidate, split: str) -> Float64[np.ndarray, "observed decided"]:
    """Return the percentage of each class's rows decided for each class, the mean over the seeds with finite outputs.

    It is NaN for a class without rows.
    """
    rows = candidate.parts[split]
    counts = np.zeros((len(rows.classes), len(rows.classes)))
    np.add.at(counts, (rows.targets[:, 0], candidate.predicted(split)[candidate.usable(split), :, 0]), 1)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, 100 * counts / np.where(total > 0, total, 1), np.nan)


def misclassified(results: Results) -> Figure | None:
    """Draw some of the rows that the best seed of each variant decides wrongly, if rows are pictures of classes."""
    results = results.first()
    rows, pictures = results.rows, as_pictures(results.rows)
    if not rows.classes or pictures is None:
        return None
    title = f"{results.study}: {ROWS_OF[results.split]} that the best seed takes for another class, at most {PICTURES}"
    title += "\nabove each: the observed class, and the predicted one that it is taken for"
    longest = max(17, *(len(candidate.name) for candidate in results.candidates))
    count = len(results.candidates) * PICTURES
    figure, panels = sheet(count, title, 0.85, PICTURES, shared=True, left=0.4 + 0.085 * longest, headings=2, entries=0)
    for ax in panels:
        ax.set_axis_off()
    for i, (row, candidate) in enumerate(zip(results.board, results.candidates, strict=True)):
        own, seed = panels[i * PICTURES : (i + 1) * PICTURES], row["best_seed"]
        wrong, said = np.arange(0), missing(candidate, row["metric"])
        if seed is not None:
            decided = candidate.predicted(results.split)[candidate.trained.seeds.index(seed), :, 0]
            wrong = np.flatnonzero(decided != rows.targets[:, 0])
            said = [f"seed {seed}:", f"{len(wrong)} of {len(rows)} wrong"]
        name = "\n".join([literal(candidate.name), *said])
        own[0].text(-0.15, 0.5, name, ha="right", va="center", transform=own[0].transAxes)
        for ax, at in zip(own, wrong, strict=False):
            ax.imshow(pictures[at], cmap="gray_r", vmin=0, vmax=1)
            observed, taken_for = (str(rows.classes[index]) for index in (rows.targets[at, 0], decided[at]))
            ax.set_title(literal(f"{observed}\ntaken for {taken_for}"))
    return figure


def as_pictures(rows: Table) -> Float64[np.ndarray, "row height width *color"] | None:
    """Return the rows as pictures with values from 0 to 1, if their shape is [height, width] or [1 or 3, ...].

    A list of numbers, such as [20, 2], is no picture: sides have at least 4 numbers, at most one to eight.
    """
    *channels, height, width = [0, *rows.shape][-3:]
    if (
        rows.row_shape is None
        or channels not in ([0], [1], [3])
        or len(rows.shape) > 3
        or min(height, width) < 4
        or max(height, width) > 8 * min(height, width)
    ):
        return None
    low, high = np.nanmin(rows.features), np.nanmax(rows.features)
    pictures = ((rows.features - low) / ((high - low) or 1)).reshape(-1, channels[0] or 1, height, width)
    shown: Float64[np.ndarray, "row height width *color"]
    shown = np.moveaxis(pictures, 1, -1) if channels == [3] else pictures[:, 0]
    return shown


def predicted_vs_observed(results: Results) -> Figure | None:
    """Draw predictions by observed numbers: the mean over seeds, and a bar from the lowest to the highest seed."""
    results = results.first()
    rows = results.rows
    if rows.classes:
        return None
    pairs = [(candidate, i) for candidate in results.candidates for i in range(len(rows.target_names))]
    title = f"{results.study}: predicted against observed, {ROWS_OF[results.split]}\nover {results.over}"
    figure, panels = sheet(len(pairs), title, height=2.6, columns=3 if len(pairs) == 3 else 2, headings=1)
    many = len(rows) > 500
    for ax, (candidate, i) in zip(panels, pairs, strict=True):
        observed = rows.targets[:, i]
        predicted = candidate.predicted(results.split)[candidate.usable(results.split), :, i]
        ax.set_title(literal(f"{candidate.name}: {rows.target_names[i]}"))
        ends = [observed.min(), observed.max()]
        ax.plot(ends, ends, "--", color="black", linewidth=1.2, label="predicted = observed")
        if not len(predicted):
            _write_why_empty(ax, candidate, "mse")
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
    low, high = _with_margins(np.concatenate([rows.features[:, 0] for rows in parts.values()]))
    grid = np.linspace(low, high, FIT_POINTS)
    figure, (ax,) = sheet(
        1, f"{results.study}: fitted lines\nover {results.over}: {BANDS}", 4.2, entries=len(parts) + len(candidates)
    )
    for i, (part, rows) in enumerate(parts.items()):
        x, y = rows.features[:, 0], rows.targets[:, 0]
        label = f"{part} rows ({np.isfinite(x).sum()})"
        ax.plot(x, y, MARKERS[i], color=GRAYS[i], markersize=4, markerfacecolor="none", label=label)
    for i, candidate in enumerate(candidates):
        band(
            ax,
            grid,
            candidate.trained.predict(train.with_features(grid[:, None]))[:, :, 0],
            i,
            candidate.name,
            width=2.0,
        )
    name_axes([ax], train.feature_names[0], train.target_names[0])
    return figure


def search(results: Results) -> Figure | None:
    """Draw the score of each trial of a search against each value."""
    return searches.search(results.study, results.searches)


def parallel(results: Results) -> Figure | None:
    """Draw the values of each trial that go together, where more than two were searched."""
    return searches.parallel(results.study, results.searches)


def tuning(results: Results) -> Figure | None:
    """Draw the best score of each variant by its number of trials."""
    return searches.tuning(results.study, results.searches)


def _write_why_empty(ax: Axes, candidate: Candidate, metric: str) -> None:
    ax.text(0.5, 0.5, "\n".join(missing(candidate, metric)), ha="center", va="center", transform=ax.transAxes)


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


def _with_margins(values: Float64[np.ndarray, " value"]) -> list[float]:
    """Return the lowest and the highest value, with a margin of a tenth of the range on either side. NaN is none."""
    values = values[~np.isnan(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    margin = (high - low) / 10 or 1.0
    return [low - margin, high + margin]


DRAWN = (
    *(loss, leaderboard, data, decision_regions, confusion, misclassified, predicted_vs_observed, fit),
    *(search, parallel, tuning),
)
PLOTS: dict[str, Callable[[Results], Figure | None]] = {draw.__name__: draw for draw in DRAWN}
