"""Sheets of panels with fixed margins, and PNG files that have the same bytes each time.

The margins are set in inches instead of by matplotlib's layout engines, which draw a figure twice to find them: drawing
is where the time of an evaluation goes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

matplotlib.rcdefaults()  # whatever matplotlibrc the user has: these files are compared byte by byte
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titley": 1.0,  # or matplotlib measures every tick to find a free place
        "figure.titlesize": 11,
        "figure.dpi": 110,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

WIDTH = 8.0  # inches
LINE = 0.19  # height of a line of text in inches
COLUMNS = 3  # panels side by side
LEGEND_COLUMNS = 4
MOST_TITLE = 88  # characters in a line
LEGEND_MARKER = 5.0  # at least, for those of many rows are too small to tell their colours
PALETTE = 256  # colours of a file, which is then a third of its size


def write(figure: Figure, path: Path) -> None:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)


def sheet(
    count: int,
    title: str,
    height: float,
    columns: int = COLUMNS,
    shared: bool = False,
    left: float = 0.65,
    headings: int = 0,
    entries: int = LEGEND_COLUMNS,
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, each `height` inches tall, with room for `headings` lines of title above each and
    for a legend of so many entries below all. Shared axes carry their numbers on the outer panels alone.
    """
    title = "\n".join(fill(line, MOST_TITLE, break_on_hyphens=False) for line in title.splitlines())
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    between = headings * LINE + (0.1 if shared else 2 * LINE)  # below a panel that shares nothing stand its numbers
    top, bottom = LINE * (1.8 + headings + title.count("\n")), LINE * (2.8 + math.ceil(entries / LEGEND_COLUMNS))
    total = top + rows * height + (rows - 1) * between + bottom
    figure = Figure(figsize=(WIDTH, total))
    width = (WIDTH - left - 0.15) / columns
    gap = 0.12 if shared else 0.6
    axes = figure.subplots(
        *(rows, columns),
        squeeze=False,
        sharex=shared,
        sharey=shared,
        gridspec_kw={
            "left": left / WIDTH,
            "right": 1 - 0.15 / WIDTH,
            "top": 1 - top / total,
            "bottom": bottom / total,
            "wspace": gap / (width - gap * (columns - 1) / columns),
            "hspace": between / height,
        },
    )
    figure.suptitle(literal(title), y=1 - 0.08 / total, va="top")
    for empty in axes.flat[count:]:
        empty.set_axis_off()
    if shared:
        for place in range(count - columns, count):
            axes.flat[place].tick_params(labelbottom=True)  # the lowest of its column, where the last row is not full
    return figure, list(axes.flat[:count])


def literal(text: str) -> str:
    """For matplotlib to show as it is: it takes what stands between two $ for a formula, and does not list in a legend
    what begins with _."""
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$")


def name_axes(panels: Sequence[Axes], across: str, up: str) -> None:
    """Axis names on the outer panels: all others show the same."""
    place = panels[0].get_subplotspec()
    assert place is not None  # sheet() made them
    columns = place.get_gridspec().ncols
    for i, ax in enumerate(panels):
        if i % columns == 0:
            ax.set_ylabel(literal(up))
        if i >= len(panels) - columns:
            ax.set_xlabel(literal(across))


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, with what any of them shows."""
    shown: dict[str, Any] = {}
    for ax in panels:
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    if shown:
        made = figure.legend(
            shown.values(), shown.keys(), loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, borderaxespad=0.2
        )
        for handle in made.legend_handles:
            if isinstance(handle, Line2D):
                handle.set_markersize(max(handle.get_markersize(), LEGEND_MARKER))


def thinned(count: int, points: int) -> Int64[np.ndarray, " kept"]:
    """At most `points` of the places 0 to count - 1, the first and the last among them; denser at the beginning."""
    if count <= points:
        return np.arange(count)
    half = points // 2
    early = np.rint(np.exp(np.linspace(0, math.log(count), half))).astype(np.int64) - 1
    even = np.rint(np.linspace(0, count - 1, points - half)).astype(np.int64)
    return np.unique(np.concatenate([early, even]))


def percentiles(values: Float[np.ndarray, "seed point"]) -> Float[np.ndarray, "3 point"]:
    """10th, 50th and 90th percentile over seeds; the outer two by the nearest rank.

    A missing value counts as the largest there is, and a percentile that falls on one is missing.
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=0)
    last = len(values) - 1
    middle = (ordered[last // 2] + ordered[(last + 1) // 2]) / 2
    picked = np.stack([ordered[math.floor(0.1 * last + 0.5)], middle, ordered[math.ceil(0.9 * last - 0.5)]])
    return np.where(np.isfinite(picked), picked, np.nan)
