"""What all plots share: sheets of panels with fixed margins, styles, and PNG files with the same bytes every time.

The margins are set in inches instead of by matplotlib's layout engines, which draw a figure twice to find them: an
evaluation spends most of its time on drawing.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from bancada.evaluation.statistics import percentiles

matplotlib.rcdefaults()  # whatever the user's matplotlibrc says: these files are compared byte by byte
matplotlib.rc("font", size=9)
matplotlib.rc("figure", titlesize=11, dpi=110)
matplotlib.rc("axes", titlesize=10, grid=True, axisbelow=True, titley=1.0)  # without titley, every tick is measured
matplotlib.rc("axes.spines", top=False, right=False)
matplotlib.rc("grid", alpha=0.3)

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
GRAYS = ("0.6", "0.35", "0.1")

WIDTH = 8.0  # inches
LINE = 0.19  # height of a line of text in inches
COLUMNS = 3  # panels side by side
LEGEND_COLUMNS = 4
MOST_TITLE = 88  # characters in a line of a title
MOST_LABEL = 24  # characters of the label of a class
LEGEND_MARKER = 5.0  # the least size of a marker: smaller ones do not show their colour
PALETTE = 256  # colours of a PNG file, which makes it three times smaller


def write(figure: Figure, path: Path) -> None:
    """Draw the figure, with a legend of what has a label in it, and write it as a PNG file."""
    _legend(figure)
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
    """Return a figure with `count` panels, each `height` inches tall, and the panels.

    There is room for `headings` lines above each panel and for a legend of `entries` below all. Shared axes have their
    numbers on the outer panels only.
    """
    title = "\n".join(fill(line, MOST_TITLE, break_on_hyphens=False) for line in title.splitlines())
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    between = headings * LINE + (0.1 if shared else 2 * LINE)  # the numbers of axes that are not shared
    top, bottom = LINE * (1.8 + headings + title.count("\n")), LINE * (2.8 + math.ceil(entries / LEGEND_COLUMNS))
    total = top + rows * height + (rows - 1) * between + bottom
    figure = Figure(figsize=(WIDTH, total))
    width = (WIDTH - left - 0.15) / columns
    gap = 0.12 if shared else 0.6
    margins = {"left": left / WIDTH, "right": 1 - 0.15 / WIDTH, "top": 1 - top / total, "bottom": bottom / total}
    gaps = {"wspace": gap / (width - gap * (columns - 1) / columns), "hspace": between / height}
    axes = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False, gridspec_kw=margins | gaps)
    figure.suptitle(literal(title), y=1 - 0.08 / total, va="top")
    for empty in axes.flat[count:]:
        empty.set_axis_off()
    for lowest in axes.flat[count - columns : count]:  # of each column, also if the last row is short
        lowest.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def literal(text: str) -> str:
    """Return the text changed so that matplotlib shows it as it is.

    matplotlib takes text between two $ for a formula, and leaves out of a legend what begins with _.
    """
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$")


def of_class(label: object) -> str:
    """Return the label of a class, cut if it is long, for `literal`."""
    text = str(label)
    return text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def name_axes(panels: Sequence[Axes], across: str, up: str) -> None:
    """Name the axes of the outer panels; all panels show the same quantities."""
    columns = len({ax.get_position().x0 for ax in panels})  # side by side
    for ax in panels[::columns]:
        ax.set_ylabel(literal(up))
    for ax in panels[-columns:]:
        ax.set_xlabel(literal(across))


def _legend(figure: Figure) -> None:
    """Draw one legend for all panels below them."""
    shown: dict[str, Any] = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    style: dict[str, Any] = {"loc": "lower center", "ncols": LEGEND_COLUMNS, "frameon": False, "borderaxespad": 0.2}
    for handle in figure.legend(shown.values(), shown.keys(), **style).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(max(handle.get_markersize(), LEGEND_MARKER))


def marker(i: int, count: int) -> dict[str, Any]:
    """Return the style of the markers of the i-th class or target, smaller if there are many of them."""
    return {
        "marker": MARKERS[(i + i // len(COLORS)) % len(MARKERS)],  # the ninth class has the first colour again
        "color": COLORS[i % len(COLORS)],
        "markersize": 5.0 if count <= 500 else 3.0 if count <= 3000 else 1.5,
        "alpha": 0.7,
        "markeredgewidth": 0,
    }


def band(ax: Axes, x: np.ndarray, values: Float[np.ndarray, "seed point"], i: int, label: str, width: float) -> None:
    """Draw the median over seeds as a line, and a band from the 10th to the 90th percentile, in the i-th style."""
    low, middle, high = percentiles(values)
    color, style = COLORS[i % len(COLORS)], STYLES[i % len(STYLES)]
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(x, middle, color=color, linestyle=style, linewidth=width, label=literal(label))


def with_margins(values: Float[np.ndarray, " value"]) -> list[float]:
    """Return the lowest and the highest value, with a margin of a tenth of the range on either side. NaN is none."""
    values = values[~np.isnan(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    margin = (high - low) / 10 or 1.0
    return [low - margin, high + margin]
