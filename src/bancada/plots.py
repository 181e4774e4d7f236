"""Every figure of a study. A function takes values and returns a Figure; `write` makes the same bytes of it each time.

Figures are 8 inches wide with letters of at least 9 points, so that they still read when printed small. Variants are
told apart by colour (Okabe and Ito's, for every kind of colour vision) and by line style or marker.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

matplotlib.rcdefaults()  # whatever matplotlibrc the user has: these files are compared byte by byte
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "figure.titlesize": 11,
        "figure.dpi": 110,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.framealpha": 0.9,
    }
)

WIDTH = 8.0  # inches
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
MAX_POINTS = 400  # of a curve: more cannot be told apart on paper
COLUMNS = 3  # panels side by side


class Curves(NamedTuple):
    """A variant's history, NaN after a seed has diverged."""

    train: Float[np.ndarray, "seed epoch"]
    validation: Float[np.ndarray, "seed epoch"] | None
    epochs_to_converge: float  # median over seeds, NaN where there is none


class Rows(NamedTuple):
    """Rows of a split as they are drawn."""

    features: Float[np.ndarray, "row feature"]
    targets: np.ndarray


def write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": None})


def thinned(count: int, points: int) -> Int64[np.ndarray, " kept"]:
    """At most `points` of the places 0 to count - 1, the first and the last among them; denser at the beginning."""
    if count <= points:
        return np.arange(count)
    half = points // 2
    early = np.rint(np.exp(np.linspace(0, math.log(count), half))).astype(np.int64) - 1
    even = np.rint(np.linspace(0, count - 1, points - half)).astype(np.int64)
    return np.unique(np.concatenate([early, even]))


def loss(curves: Mapping[str, Curves], title: str, loss_name: str) -> Figure:
    """Loss by epoch: the median over seeds, and the band from the 10th to the 90th percentile of seeds."""
    figure, panels = _panels(len(curves), height=2.1 if len(curves) > COLUMNS else 3.2)
    for ax, (name, of) in zip(panels, curves.items(), strict=True):
        kept = thinned(of.train.shape[1], MAX_POINTS)
        for i, (label, values) in enumerate((("training", of.train), ("validation", of.validation))):
            if values is None:
                continue
            low, middle, high = _percentiles(values[:, kept])
            ax.fill_between(kept + 1, low, high, color=COLORS[i], alpha=0.2, linewidth=0)
            ax.plot(kept + 1, middle, color=COLORS[i], linestyle=STYLES[i], linewidth=1.3, label=label)
        _loss_scales(ax, of, kept)
        if math.isfinite(of.epochs_to_converge):
            ax.axvline(
                of.epochs_to_converge, color="black", linestyle=":", linewidth=1.2, label="99 % of the fall made"
            )
            ax.set_title(f"{name}\nconverged: {of.epochs_to_converge:.0f} epochs")
        else:
            ax.set_title(f"{name}\nno epoch of convergence")
    _shared_legend(figure, panels, title + "\nlines: median over seeds; bands: 10th to 90th percentile of seeds")
    figure.supxlabel("epochs of training", fontsize=10)
    figure.supylabel(loss_name, fontsize=10)
    return figure


def leaderboard(
    values: Mapping[str, Float[np.ndarray, " seed"]],
    intervals: Mapping[str, tuple[float, float, float]],
    title: str,
    axis: str,
) -> Figure:
    """A dot for each seed, the mean and its 95 % interval (mean, low, high), best variant on top."""
    figure = Figure(figsize=(WIDTH, 1.5 + 0.36 * len(values)), layout="constrained")
    ax = figure.add_subplot()
    for place, (name, seeds) in enumerate(values.items()):
        there = seeds[np.isfinite(seeds)]
        beside = place + 0.22 * np.linspace(-1, 1, len(seeds))[np.isfinite(seeds)] if len(seeds) > 1 else [place]
        ax.plot(there, beside, "o", color=COLORS[5], markersize=4, alpha=0.9, label="one seed")
        mean, low, high = intervals[name]
        if math.isfinite(low):
            ax.plot([low, high], [place, place], "-", color=COLORS[0], linewidth=2.2, label="95 % interval of the mean")
        if math.isfinite(mean):
            ax.plot([mean], [place], "D", color=COLORS[1], markersize=5.5, label="mean over seeds")
        if len(there) < len(seeds):
            said = f"  {len(seeds) - len(there)} of {len(seeds)} seeds without a value"
            ax.annotate(said, (1, place), xycoords=("axes fraction", "data"), ha="right", va="center", color=COLORS[1])
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.5)
    _wide_scale(ax, np.concatenate([*values.values()]))
    ax.set_xlabel(axis)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.suptitle(title)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def data(rows: Rows, names: Sequence[str], targets: Sequence[str], classes: Sequence[Any], title: str) -> Figure:
    """The training data: classes by two features (or the first two principal components), or targets by feature."""
    if not classes:
        return _targets_by_feature(rows, names, targets, title)
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    ax = figure.add_subplot()
    if len(names) == 1:
        points, labels = (
            np.column_stack([rows.features[:, 0], rows.targets[:, 0]]),
            [names[0], f"class of {targets[0]}"],
        )
    elif len(names) == 2:
        points, labels = rows.features, list(names)
    else:
        points, shares = _principal(rows.features)
        labels = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    for i, label in enumerate(classes):
        chosen = points[rows.targets[:, 0] == i]
        ax.plot(*chosen.T, linestyle="", label=f"{targets[0]} {label} ({len(chosen)})", **_marker(i, len(points)))
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=min(len(classes), 4), frameon=False)
    return figure


class Regions(NamedTuple):
    """One variant's decisions: over a grid the share of seeds for each class, and which rows the median seed misses."""

    share: Float[np.ndarray, "y x class"]
    missed: Bool[np.ndarray, " row"]
    subtitle: str


def decision_regions(
    variants: Mapping[str, Regions],
    rows: Rows,
    region: tuple[tuple[float, float], tuple[float, float]],
    names: Sequence[str],
    classes: Sequence[Any],
    title: str,
) -> Figure:
    """One panel for each variant: colour is the share of seeds that decide for a class, white where none decides."""
    figure, panels = _panels(len(variants), height=2.35, shared=True)
    colors = np.array([matplotlib.colors.to_rgb(COLORS[i % len(COLORS)]) for i in range(len(classes))])
    light = 1 - 0.55 * (1 - colors)
    for ax, (name, of) in zip(panels, variants.items(), strict=True):
        picture = of.share @ light + (1 - of.share.sum(axis=2, keepdims=True))
        picture = np.clip(picture, 0, 1)
        ax.imshow(picture, origin="lower", extent=(*region[0], *region[1]), aspect="auto", interpolation="nearest")
        for i, label in enumerate(classes):
            chosen = rows.features[(rows.targets[:, 0] == i) & ~of.missed]
            ax.plot(*chosen.T, ",", color=colors[i] * 0.6)
            ax.plot([], [], "s", color=light[i], markersize=9, label=f"decided {label}")
        ax.plot(*rows.features[of.missed].T, "x", color="black", markersize=4, label="missed by the median seed")
        ax.set_xlim(region[0])
        ax.set_ylim(region[1])
        ax.set_title(f"{name}\n{of.subtitle}")
        ax.grid(False)
    _shared_legend(figure, panels, title)
    figure.supxlabel(names[0], fontsize=10)
    figure.supylabel(names[1], fontsize=10)
    return figure


def confusion(
    matrices: Mapping[str, Float[np.ndarray, "observed decided"]], classes: Sequence[Any], title: str
) -> Figure:
    """One panel for each variant: of the rows of a class, the percentage decided for each class, mean over seeds."""
    small = len(classes) > 4
    figure, panels = _panels(len(matrices), height=2.3 if not small else 3.0, columns=2 if small else COLUMNS)
    for ax, (name, matrix) in zip(panels, matrices.items(), strict=True):
        ax.imshow(np.nan_to_num(matrix), cmap="Blues", vmin=0, vmax=100)
        for (y, x), share in np.ndenumerate(matrix):
            said = f"{share:.1f}" if math.isfinite(share) else "none"
            ax.text(x, y, said, ha="center", va="center", color="white" if share > 55 else "black")
        ax.set_xticks(range(len(classes)), [str(label) for label in classes])
        ax.set_yticks(range(len(classes)), [str(label) for label in classes])
        ax.set_title(name)
        ax.grid(False)
    figure.suptitle(title)
    figure.supxlabel("decided class", fontsize=10)
    figure.supylabel("observed class", fontsize=10)
    return figure


def predicted_vs_observed(
    panels_of: Mapping[str, tuple[Float[np.ndarray, " row"], Float[np.ndarray, "seed row"]]], title: str
) -> Figure:
    """One panel for each variant and target: observed, and predicted (mean over seeds, bar from lowest to highest)."""
    figure, panels = _panels(len(panels_of), height=3.1, columns=2 if len(panels_of) != 3 else 3)
    for ax, (name, (observed, predicted)) in zip(panels, panels_of.items(), strict=True):
        ax.set_title(name)
        if not len(predicted):
            ax.text(0.5, 0.5, "every seed diverged", ha="center", va="center", transform=ax.transAxes)
            continue
        mean, ends = predicted.mean(axis=0), [observed.min(), observed.max()]
        size = 2.0 if len(observed) > 500 else 4.0
        if len(observed) <= 500:
            ax.vlines(observed, predicted.min(axis=0), predicted.max(axis=0), color=COLORS[5], linewidth=1.2)
        ax.plot(observed, mean, "o", color=COLORS[0], markersize=size, alpha=0.7, label="mean over seeds")
        ax.plot(ends, ends, "--", color="black", linewidth=1.2, label="predicted = observed")
    _shared_legend(figure, panels, title)
    figure.supxlabel("observed", fontsize=10)
    figure.supylabel("predicted", fontsize=10)
    return figure


def fit(
    parts: Mapping[str, Rows],
    grid: Float[np.ndarray, " point"],
    lines: Mapping[str, Float[np.ndarray, "seed point"]],
    feature: str,
    target: str,
    title: str,
) -> Figure:
    """One feature, one target: the rows, and each variant's median prediction with its band over seeds."""
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    ax = figure.add_subplot()
    for i, (part, rows) in enumerate(parts.items()):
        gray = ("0.6", "0.35", "0.1")[i % 3]
        style: dict[str, Any] = {"color": gray, "markersize": 4, "marker": ("o", "s", "^")[i % 3], "markerfacecolor": "none"}
        ax.plot(
            rows.features[:, 0], rows.targets[:, 0], linestyle="", label=f"{part} rows ({len(rows.features)})", **style
        )
    for i, (name, predicted) in enumerate(lines.items()):
        low, middle, high = _percentiles(predicted)
        ax.fill_between(grid, low, high, color=COLORS[i % 8], alpha=0.2, linewidth=0)
        ax.plot(grid, middle, color=COLORS[i % 8], linestyle=STYLES[i % 4], linewidth=2, label=name)
    ax.set_xlabel(feature)
    ax.set_ylabel(target)
    figure.suptitle(title + "\nlines: median over seeds; bands: 10th to 90th percentile of seeds")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


# --- what several of them need --------------------------------------------------------------------------------------


def _panels(count: int, height: float, columns: int = COLUMNS, shared: bool = False) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, 1.2 + height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])


def _shared_legend(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    """One legend for all panels, with what any of them shows."""
    shown: dict[str, Any] = {}
    for ax in panels:
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.suptitle(title)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False)


def _percentiles(values: Float[np.ndarray, "seed point"]) -> Float[np.ndarray, "3 point"]:
    """10th, 50th and 90th percentile over seeds, by the nearest rank. A missing value counts as the largest; NaN there."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=0)
    last = len(values) - 1
    places = [math.floor(0.1 * last + 0.5), last // 2, math.ceil(0.9 * last - 0.5)]
    picked = ordered[places]
    picked[1] = (ordered[last // 2] + ordered[(last + 1) // 2]) / 2
    return np.where(np.isfinite(picked), picked, np.nan)


def _loss_scales(ax: Axes, of: Curves, kept: Int64[np.ndarray, " kept"]) -> None:
    """Logarithmic where all values allow it, and for epochs where there are many."""
    shown = [values[:, kept] for values in (of.train, of.validation) if values is not None]
    if all(np.all(values[np.isfinite(values)] > 0) for values in shown):
        ax.set_yscale("log")
    if of.train.shape[1] > 500:
        ax.set_xscale("log")
    elif of.train.shape[1] < 10:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _wide_scale(ax: Axes, values: Float[np.ndarray, " value"]) -> None:
    """Logarithmic near its top where a few large values would press all others against zero."""
    there = values[np.isfinite(values)]
    positive = np.sort(there[there > 0])
    if len(positive) and there.min() >= 0 and positive[-1] > 20 * np.median(there):
        step = 10.0 ** math.floor(math.log10(max(np.median(positive) / 3, positive[-1] / 1e4)))
        ax.set_xscale("symlog", linthresh=step)
        ax.set_xlim(left=0)


def _marker(place: int, count: int) -> dict[str, Any]:
    size = 3.0 if count > 500 else 5.0
    return {
        "marker": MARKERS[place % len(MARKERS)],
        "color": COLORS[place % len(COLORS)],
        "markersize": size,
        "alpha": 0.7,
        "markeredgewidth": 0,
    }


def _targets_by_feature(rows: Rows, names: Sequence[str], targets: Sequence[str], title: str) -> Figure:
    figure, panels = _panels(len(names), height=3.3)
    for ax, name, values in zip(panels, names, rows.features.T, strict=True):
        for i, target in enumerate(targets):
            ax.plot(values, rows.targets[:, i], linestyle="", label=target, **_marker(i, len(values)))
        ax.set_xlabel(name)
    _shared_legend(figure, panels, title)
    figure.supylabel("target", fontsize=10)
    return figure


def _principal(features: Float[np.ndarray, "row feature"]) -> tuple[Float[np.ndarray, "row 2"], list[float]]:
    """The two directions of largest variance of the standardised features, and their shares of all variance."""
    std = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(std > 0, std, 1)
    _, strengths, directions = np.linalg.svd(scaled, full_matrices=False)
    largest = np.abs(directions[:2]).argmax(axis=1)
    signs = np.sign(directions[[0, 1], largest])  # either sign is right; the largest loading is made positive
    return scaled @ (directions[:2] * signs[:, None]).T, list((strengths**2 / (strengths**2).sum())[:2])
