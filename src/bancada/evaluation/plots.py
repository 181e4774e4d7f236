"""Every figure of a study. A function takes values and returns a Figure.

Figures are 8 inches wide with letters of at least 9 points, so that they still read when printed small. Variants are
told apart by colour (Okabe and Ito's, for every kind of colour vision) and by line style or marker.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bancada.evaluation.sheets import COLUMNS, legend, literal, name_axes, percentiles, sheet, thinned

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
GRAYS = ("0.6", "0.35", "0.1")
MAX_POINTS = 400  # of a curve over the whole width: more cannot be told apart on paper


class Curves(NamedTuple):
    """A variant's history, NaN after a seed has diverged."""

    train: Float[np.ndarray, "seed epoch"]
    validation: Float[np.ndarray, "seed epoch"] | None
    epochs_to_converge: float  # median over seeds, NaN where there is none


class DrawnRows(NamedTuple):
    """Rows of a split as they are drawn."""

    features: Float[np.ndarray, "row feature"]
    targets: np.ndarray  # [row target]


class Regions(NamedTuple):
    """One variant's decisions: over a grid the share of seeds for each class, and which rows the median seed misses."""

    share: Float[np.ndarray, "y x class"]
    missed: Bool[np.ndarray, " row"]
    subtitle: str


def loss(curves: Mapping[str, Curves], title: str, loss_name: str) -> Figure:
    """Loss by epoch: the median over seeds, and the band from the 10th to the 90th percentile of seeds."""
    columns = min(len(curves), COLUMNS)
    title += "\nlines: median over seeds; bands: 10th to 90th percentile of seeds"
    figure, panels = sheet(len(curves), title, height=1.6 if columns < len(curves) else 3.2, shared=True, headings=2)
    lines = []
    for ax, (name, of) in zip(panels, curves.items(), strict=True):
        kept = thinned(of.train.shape[1], MAX_POINTS // columns)
        for i, (label, values) in enumerate((("training", of.train), ("validation", of.validation))):
            if values is not None:
                low, middle, high = percentiles(values[:, kept])
                ax.fill_between(kept + 1, low, high, color=COLORS[i], alpha=0.2, linewidth=0)
                lines += ax.plot(kept + 1, middle, color=COLORS[i], linestyle=STYLES[i], linewidth=1.2, label=label)
        converged = math.isfinite(of.epochs_to_converge)
        if converged:
            style: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1.3}
            ax.axvline(of.epochs_to_converge, label="99 % of the fall is made", **style)
        said = f"converged: {of.epochs_to_converge:.0f} epochs" if converged else "most seeds diverged"
        ax.set_title(literal(f"{name}\n{said}"))
    _loss_scales(panels, lines)
    name_axes(panels, "epochs of training", loss_name)
    legend(figure, panels)
    return figure


def leaderboard(
    values: Mapping[str, Float[np.ndarray, " seed"]],
    intervals: Mapping[str, tuple[float, float, float]],
    title: str,
    axis: str,
) -> Figure:
    """A dot for each seed, the mean and its 95 % interval (mean, low, high), best variant on top."""
    labels, longest = list(values), max(len(name) for name in values)
    figure, (ax,) = sheet(1, title, height=0.2 + 0.33 * len(values), left=0.3 + 0.085 * max(longest, 17))
    for place, (name, seeds) in enumerate(values.items()):
        there = np.isfinite(seeds)
        beside = place + (0.22 * np.linspace(-1, 1, len(seeds)) if len(seeds) > 1 else np.zeros(1))
        ax.plot(seeds[there], beside[there], "o", color=COLORS[5], markersize=4.5, label="one seed")
        mean, low, high = intervals[name]
        if math.isfinite(low):
            ax.plot([low, high], [place, place], "-", color=COLORS[0], linewidth=2.2, label="95 % interval of the mean")
        if math.isfinite(mean):
            ax.plot([mean], [place], "D", color=COLORS[1], markersize=5.5, label="mean over seeds")
        if not there.all():
            labels[place] += f"\n{len(seeds) - there.sum()} of {len(seeds)} diverged"
    ax.set_yticks(range(len(values)), [literal(label) for label in labels])
    ax.set_ylim(len(values) - 0.5, -0.5)
    _wide_scale(ax, np.concatenate([*values.values()]))
    ax.set_xlabel(axis)
    legend(figure, [ax])
    return figure


def data(rows: DrawnRows, names: Sequence[str], targets: Sequence[str], classes: Sequence[Any], title: str) -> Figure:
    """The training data: classes by two features (or the first two principal components), or targets by feature."""
    if not classes:
        return _targets_by_feature(rows, names, targets, title)
    figure, (ax,) = sheet(1, title, height=4.2, entries=len(classes))
    if len(names) == 1:
        points, axes = np.column_stack([rows.features[:, 0], rows.targets[:, 0]]), [names[0], f"class of {targets[0]}"]
    elif len(names) == 2:
        points, axes = rows.features, list(names)
    else:
        points, shares = _principal(rows.features)
        axes = [f"principal component {i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares)]
    for i, label in enumerate(classes):
        chosen = points[rows.targets[:, 0] == i]
        label = literal(f"{targets[0]} {label} ({len(chosen)})")
        ax.plot(*chosen.T, linestyle="", label=label, **_marker(i, len(points)))
    name_axes([ax], *axes)
    legend(figure, [ax])
    return figure


def decision_regions(
    variants: Mapping[str, Regions],
    rows: DrawnRows,
    region: tuple[tuple[float, float], tuple[float, float]],
    names: Sequence[str],
    classes: Sequence[Any],
    title: str,
) -> Figure:
    """One panel for each variant. Colour: the class that most seeds decide for, paler the fewer of them agree."""
    figure, panels = sheet(
        len(variants), title, height=1.65 if len(variants) > COLUMNS else 3.0, shared=True, headings=2
    )
    colors = np.array([to_rgb(COLORS[i % len(COLORS)]) for i in range(len(classes))])
    for ax, (name, of) in zip(panels, variants.items(), strict=True):
        second, first = np.sort(of.share, axis=2)[:, :, -2:].transpose(2, 0, 1)
        strength = np.where(first > 0, 0.1 + 0.5 * (first - second), 0)[:, :, None]
        picture = 1 - strength * (1 - colors[of.share.argmax(axis=2)])
        ax.imshow(picture, origin="lower", extent=(*region[0], *region[1]), aspect="auto", interpolation="nearest")
        for i, label in enumerate(classes):
            chosen = rows.features[(rows.targets[:, 0] == i) & ~of.missed]
            ax.plot(*chosen.T, ",", color=colors[i] * 0.7)
            ax.plot([], [], "s", color=1 - 0.6 * (1 - colors[i]), markersize=9, label=literal(f"decided {label}"))
        ax.plot(*rows.features[of.missed].T, "x", color="black", markersize=3.5, label="missed by the median seed")
        ax.set_xlim(region[0])
        ax.set_ylim(region[1])
        ax.set_title(literal(f"{name}\n{of.subtitle}"))
        ax.grid(False)
    name_axes(panels, names[0], names[1])
    legend(figure, panels)
    return figure


def confusion(
    matrices: Mapping[str, Float[np.ndarray, "observed decided"]], classes: Sequence[Any], title: str
) -> Figure:
    """One panel for each variant: of the rows of a class, the percentage decided for each class; NaN: no such rows."""
    columns = 2 if len(classes) > 4 else COLUMNS
    height = max(1.2, 0.4 * len(classes))
    left = 0.5 + 0.085 * max(len(str(label)) for label in classes)
    figure, panels = sheet(len(matrices), title, height, columns, shared=True, left=left, headings=1, entries=0)
    for ax, (name, matrix) in zip(panels, matrices.items(), strict=True):
        ax.imshow(np.nan_to_num(matrix), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        if np.isnan(matrix).all():
            ax.text(0.5, 0.5, "every seed diverged", ha="center", va="center", transform=ax.transAxes)
            matrix = matrix[:0]
        for (y, x), share in np.ndenumerate(matrix):
            said = f"{share:.1f}" if math.isfinite(share) else "no rows" if x == 0 else ""
            ax.text(x, y, said, ha="center", va="center", color="white" if share > 55 else "black")
        ax.set_xticks(range(len(classes)), [literal(str(label)) for label in classes])
        ax.set_yticks(range(len(classes)), [literal(str(label)) for label in classes])
        ax.set_title(literal(name))
        ax.grid(False)
    name_axes(panels, "decided class", "observed class")
    return figure


def predicted_vs_observed(
    panels_of: Mapping[str, tuple[Float[np.ndarray, " row"], Float[np.ndarray, "seed row"]]], title: str
) -> Figure:
    """One panel for each variant and target: predicted (mean over seeds, bar from lowest to highest) by observed."""
    figure, panels = sheet(len(panels_of), title, height=2.6, columns=3 if len(panels_of) == 3 else 2, headings=1)
    for ax, (name, (observed, predicted)) in zip(panels, panels_of.items(), strict=True):
        ax.set_title(literal(name))
        ends = [observed.min(), observed.max()]
        ax.plot(ends, ends, "--", color="black", linewidth=1.2, label="predicted = observed")
        if not len(predicted):
            ax.text(0.5, 0.5, "every seed diverged", ha="center", va="center", transform=ax.transAxes)
            continue
        many = len(observed) > 500
        if not many:
            low, high = predicted.min(axis=0), predicted.max(axis=0)
            ax.vlines(observed, low, high, color=COLORS[4], linewidth=2, label="lowest to highest seed")
        marker: dict[str, Any] = {"markersize": 1.5 if many else 3.5, "color": COLORS[0]}
        ax.plot(observed, predicted.mean(axis=0), "o", label="mean over seeds", **marker)
    name_axes(panels, "observed", "predicted")
    legend(figure, panels)
    return figure


def fit(
    parts: Mapping[str, DrawnRows],
    grid: Float[np.ndarray, " point"],
    lines: Mapping[str, Float[np.ndarray, "seed point"]],
    feature: str,
    target: str,
    title: str,
) -> Figure:
    """One feature, one target: the rows, and each variant's median prediction with its band over seeds."""
    title += "\nlines: median over seeds; bands: 10th to 90th percentile of seeds"
    figure, (ax,) = sheet(1, title, height=4.2, entries=len(parts) + len(lines))
    for i, (part, rows) in enumerate(parts.items()):
        style: dict[str, Any] = {"color": GRAYS[i], "marker": MARKERS[i], "markersize": 4, "markerfacecolor": "none"}
        label = f"{part} rows ({len(rows.features)})"
        ax.plot(rows.features[:, 0], rows.targets[:, 0], linestyle="", label=label, **style)
    for i, (name, predicted) in enumerate(lines.items()):
        low, middle, high = percentiles(predicted)
        ax.fill_between(grid, low, high, color=COLORS[i % len(COLORS)], alpha=0.2, linewidth=0)
        ax.plot(grid, middle, color=COLORS[i % len(COLORS)], linestyle=STYLES[i % 4], linewidth=2, label=literal(name))
    name_axes([ax], feature, target)
    legend(figure, [ax])
    return figure


# --- what several of them need --------------------------------------------------------------------------------------


def _loss_scales(panels: Sequence[Axes], lines: Sequence[Line2D]) -> None:
    """Logarithmic where all values allow it, and for epochs where there are many. The panels share their axes."""
    ax, values = panels[0], np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
    there = values[np.isfinite(values)]
    if len(there) and there.min() > 0:
        ax.set_yscale("log")
    epochs = max(int(np.asarray(line.get_xdata())[-1]) for line in lines)
    if epochs > 500:
        ax.set_xscale("log")
    elif epochs < 10:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(panels) > COLUMNS:  # they are small
        ax.minorticks_off()


def _wide_scale(ax: Axes, values: Float[np.ndarray, " value"]) -> None:
    """Logarithmic above some value where a few large ones would press all others against zero."""
    there = values[np.isfinite(values)]
    positive = np.sort(there[there > 0])
    if len(positive) and there.min() >= 0 and positive[-1] > 20 * np.median(there):
        step = 10.0 ** math.floor(math.log10(max(np.median(positive) / 3, positive[-1] / 1e4)))
        ax.set_xscale("symlog", linthresh=step)
        ax.set_xlim(left=0)
    elif len(there) and 0 < np.abs(there).max() < 0.01:
        ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))


def _marker(place: int, count: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[place % len(MARKERS)],
        "color": COLORS[place % len(COLORS)],
        "markersize": 5.0 if count <= 500 else 3.0 if count <= 3000 else 1.5,
        "alpha": 0.7,
        "markeredgewidth": 0,
    }


def _targets_by_feature(rows: DrawnRows, names: Sequence[str], targets: Sequence[str], title: str) -> Figure:
    figure, panels = sheet(len(names), title, height=2.8, left=0.55)
    for ax, name, values in zip(panels, names, rows.features.T, strict=True):
        for i, target in enumerate(targets):
            ax.plot(values, rows.targets[:, i], linestyle="", label=literal(target), **_marker(i, len(values)))
        ax.set_xlabel(literal(name))
    for ax in panels[::COLUMNS]:
        ax.set_ylabel(literal(targets[0]) if len(targets) == 1 else "targets")
    legend(figure, panels)
    return figure


def _principal(features: Float[np.ndarray, "row feature"]) -> tuple[Float[np.ndarray, "row 2"], list[float]]:
    """The two directions of largest variance of the standardised features, and their shares of all variance."""
    varies = np.ptp(features, axis=0) > 0  # the sd of a constant 0.1 is 4e-17
    scaled = np.where(varies, features - features.mean(axis=0), 0) / np.where(varies, features.std(axis=0), 1)
    _, strengths, directions = np.linalg.svd(scaled, full_matrices=False)
    largest = np.abs(directions[:2]).argmax(axis=1)
    signs = np.sign(directions[[0, 1], largest])  # either sign is right: the largest loading is made positive
    return scaled @ (directions[:2] * signs[:, None]).T, [float(s) for s in (strengths**2 / (strengths**2).sum())[:2]]
