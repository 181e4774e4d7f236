"""The plots of a study of classes: where and how often each is predicted, and pictures that are taken for another."""

import math

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bancada.base.tables import Table, as_written
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.results import Results, missing, write_why_empty
from bancada.evaluation.sheets import COLORS, COLUMNS, literal, name_axes, of_class, sheet, with_margins
from bancada.evaluation.statistics import summary
from bancada.evaluation.words import ROWS_OF

GRID = (160, 100)  # points of a decision region, across and up
PICTURES = 6  # of rows that a variant decides wrongly
MANY_CLASSES = 5  # from so many on, a confusion has no numbers where no row is


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
    (left, right), (bottom, top) = results.region or [with_margins(values) for values in rows.features.T]
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
            write_why_empty(ax, candidate, "error_rate_percent")
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
