"""What all plots share: sheets of panels with fixed margins, styles, and PNG files with the same bytes every time.

The margins are set in inches instead of by matplotlib's layout engines, which draw a figure twice to find them: an
evaluation spends most of its time on drawing.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, TypeVar

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from bancada.evaluation.statistics import percentiles

T = TypeVar("T")
matplotlib.rcdefaults()  # whatever the user's matplotlibrc says: these files are compared byte by byte
matplotlib.rc("font", size=9)
matplotlib.rc("figure", titlesize=11, dpi=110)
matplotlib.rc("axes", titlesize=10, grid=True, axisbelow=True, titley=1.0)  # without titley, every tick is measured
matplotlib.rc("axes.spines", top=False, right=False)
matplotlib.rc("grid", alpha=0.3)
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font that has a letter may be thin or bold

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
MOST_NAME = 40  # characters of a variant's name beside its row
MOST_ENTRIES, MOST_ENTRY = 24, 30  # of a legend, and characters of one
MOST_PANELS = 48
OWN_FONT, OF_MATPLOTLIB = "sans-serif", matplotlib.get_data_path()  # with the defaults above: DejaVu Sans
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
LETTER, TITLE_LETTER = 0.085, 0.078  # widths in inches: wide ones, and those of a usual name
LEAST_TITLE = 12  # characters above a small panel
LEGEND_MARKER = 5.0  # the least size of a marker: smaller ones do not show their colour
PALETTE = 256  # colours of a PNG file, which makes it three times smaller


def write(figure: Figure, path: Path) -> set[str]:
    """Draw the figure, with a legend of what has a label in it and names as long as there is room, as a PNG file.

    Letters that matplotlib's own font lacks are drawn with fonts that have them, where such are installed. Return those
    that none has, which are drawn as boxes.
    """
    canvas: Any = FigureCanvasAgg(figure)
    _legend(figure)
    for ax in figure.axes:
        _fit_names(ax, canvas.get_renderer())
    canvas.draw()
    texts = figure.findobj(Text)
    families, boxes = _other_fonts({letter for text in texts for letter in text.get_text() if not letter.isspace()})
    if families:
        for text in texts:
            text.set_fontfamily([OWN_FONT, *families])
        canvas.draw()
        for text in texts:
            text.set_fontfamily(OWN_FONT)  # in the report, the reader's browser chooses
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)
    return boxes


def _other_fonts(letters: set[str]) -> tuple[list[str], set[str]]:
    """Return the installed fonts that draw those of the letters that matplotlib's own lacks, and letters that none has.

    The font with most of them comes first, then those that come with matplotlib, which are the same on every machine.
    """
    lacking = letters - _has(findfont(FontProperties()), letters)
    has: dict[str, set[str]] = {}
    for font in sorted(fontManager.ttflist, key=lambda font: (OF_MATPLOTLIB not in font.fname, font.name, font.fname)):
        if lacking and font.style == "normal" and not font.name.startswith("Last Resort"):  # it has a box for each
            has.setdefault(font.name, _has(font.fname, lacking))
    families = list[str]()
    for name in sorted(has, key=lambda name: -len(has[name])):
        if has[name] & lacking:
            families.append(name)
            lacking -= has[name]
    return families, lacking


def _has(font_file: str, letters: set[str]) -> set[str]:
    try:
        return {letter for letter in letters if get_font(font_file).get_char_index(ord(letter))}
    except (OSError, RuntimeError):  # removed since matplotlib listed it; not to be read
        return set()


def _fit_names(ax: Axes, renderer: Any) -> None:
    """Shorten what is longer than its place: the lines of a panel's title, and the names of its axes."""
    place = ax.get_window_extent()  # in pixels
    across, up = (int(side / ax.figure.dpi / TITLE_LETTER) for side in (place.width, place.height))
    long = max(map(len, ax.get_title().splitlines()), default=0) > across  # to measure each title takes time
    if long and ax.title.get_window_extent(renderer).width > place.width:
        ax.title.set_text(shortened(ax.get_title(), max(LEAST_TITLE, across)))
    ax.xaxis.label.set_text(shortened(ax.get_xlabel(), max(MOST_LABEL, across)))
    ax.yaxis.label.set_text(shortened(ax.get_ylabel(), max(MOST_LABEL, up)))


def shortened(text: str, most: int) -> str:
    """Return a text for matplotlib with lines of at most so many letters: of a longer one, the beginning and the end.

    Names of variants often differ in their ends.
    """
    lines = [line.replace(r"\$", "$") for line in text.splitlines()]
    end = most // 3
    return literal(
        "\n".join(line if len(line) <= most else f"{line[: most - end - 1]}{ELLIPSIS}{line[-end:]}" for line in lines)
    )


def room_for(names: Sequence[str]) -> float:
    """Return the inches that names take to the left of a panel; longer ones are `shortened` to MOST_NAME."""
    return LETTER * min(max(17, *map(len, names)), MOST_NAME)


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
    top, bottom = (
        LINE * (1.8 + headings + title.count("\n")),
        LINE * (2.8 + math.ceil(min(entries, MOST_ENTRIES + 1) / LEGEND_COLUMNS)),
    )
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


def at_most(panels: Sequence[T], title: str, most: int = MOST_PANELS) -> tuple[Sequence[T], str]:
    """Return what the first panels show, and the title, which says if there is no room for all."""
    return panels[:most], title + f"; {most} of {len(panels)} panels" * (len(panels) > most)


def literal(text: str) -> str:
    """Return the text changed so that matplotlib shows it as it is.

    matplotlib takes text between two $ for a formula, and leaves out of a legend what begins with _.
    """
    return f"{' ' * text.startswith('_')}{text}".replace("$", r"\$")


def of_class(label: object) -> str:
    """Return the label of a class, cut if it is long, for `literal`."""
    text = str(label)
    return text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 1]}{ELLIPSIS}"


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
    if (more := len(shown) - MOST_ENTRIES) > 1:
        shown = dict(list(shown.items())[:MOST_ENTRIES]) | {f"and {more} more": Line2D([], [], linestyle="")}
    names = [name if len(name) <= MOST_ENTRY else shortened(name, MOST_ENTRY) for name in shown]
    style: dict[str, Any] = {"loc": "lower center", "ncols": LEGEND_COLUMNS, "frameon": False, "borderaxespad": 0.2}
    for handle in figure.legend(shown.values(), names, **style).legend_handles:
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
