"""A plot for the page of the report: NAME.svg, and NAME.csv with the numbers that the plot shows.

The figure is the PNG file's. Black and grey become `currentColor`, so that lines and letters can be read on a dark page
too. Letters stay letters, which a browser draws with a font that has them.
"""

import csv
import io
import re
import xml.etree.ElementTree as Xml
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from bancada.evaluation.words import short

NAMESPACE = "http://www.w3.org/2000/svg"
TAG, LINK = f"{{{NAMESPACE}}}", "{http://www.w3.org/1999/xlink}"  # before the names of elements, and before href
MOST_POINTS = 2000  # of a plot: the dots of one with more are embedded as PNG
RASTER_DPI = 144
INK = "#000001"  # black on a picture, whose colours stay on a dark page
GREY = "#808080"  # in place of black and other greys in a PNG that lies on the page: light or dark
FONTS = ["DejaVu Sans", "Verdana", "sans-serif"]

Xml.register_namespace("", NAMESPACE)


def write(figure: Figure, shown: Iterable[Sequence[str]], study: str, path: Path) -> None:
    """Write a figure that `sheets.write` has drawn to PATH.svg, and `shown`, a table, to PATH.csv.

    This changes the figure.
    """
    _rasterize(figure)
    for ax in figure.axes:
        on_picture: list[Line2D | Text] = [*ax.lines, *filter(_at_data, ax.texts)] if ax.images else []
        for one in on_picture:
            if to_hex(one.get_color()) == "#000000":
                one.set_color(INK)
    drawn, name = io.BytesIO(), f"{study}-{path.name}"
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": FONTS}):
        figure.savefig(drawn, format="svg", dpi=RASTER_DPI, transparent=True, metadata={"Date": None})
    path.with_suffix(".svg").write_text(_for_a_page(drawn.getvalue(), name, in_words(figure)), encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(shown)


def _rasterize(figure: Figure) -> None:
    """Let layers of dots be drawn as PNG where the plot has many."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() != "None"]
    layers: list[tuple[Artist, int]] = [(line, np.size(line.get_xdata())) for line in lines]
    layers += [(found, len(found.get_paths())) for ax in figure.axes for found in ax.collections]
    if sum(count for _, count in layers) > MOST_POINTS:
        for layer, _ in layers:
            layer.set_rasterized(True)
        for line in lines:
            red, green, blue = to_rgb(line.get_color())
            if red == green == blue and not (line.axes and line.axes.images):
                line.set_color(GREY)


def _at_data(text: Text) -> bool:
    """Return whether the text has a place among the data: in a cell of a matrix."""
    return text.axes is not None and text.get_transform() == text.axes.transData


def _for_a_page(drawn: bytes, name: str, label: str) -> str:
    """Return the SVG with a label for screen readers, with ids that no other plot on a page has, and half as long."""
    root = Xml.fromstring(drawn)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', drawn.decode()))
    for element in list(root.iter()):
        for found in [*element.findall(f"{TAG}metadata"), *element.findall(f"{TAG}style")]:
            element.remove(found)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        element.attrib = {key.removeprefix(LINK): _attribute(key, value, name) for key, value in element.items()}
        dots = element.findall(f"{TAG}use")
        if len({dot.get("style") for dot in dots}) == 1:  # of a layer: said once
            element.set("style", str(dots[0].get("style")))
            for dot in dots:
                del dot.attrib["style"]
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    kept = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label, "class": "plot"}
    # As in matplotlib's own style sheet; it does not write that something is filled with black.
    root.attrib = kept | {"stroke-linejoin": "round", "stroke-linecap": "butt", "fill": "currentColor"}
    return Xml.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    """Return an attribute's value as a page needs it; places have a tenth of a point."""
    if key in ("d", "x", "y"):
        value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", value)
    if key == "id":
        return f"{name}-{value}"
    if key == f"{LINK}href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub(r"(stroke|fill): #(\w\w)\2\2\b", _as_current, value).replace("; ", ";") if key == "style" else value


def _as_current(grey: re.Match[str]) -> str:
    """Return black as `currentColor`, and a grey as black that is partly transparent: both follow the page."""
    opacity = 1 - int(grey[2], 16) / 255
    partly = f"; {grey[1]}-opacity: {opacity:.2f}" * (opacity < 1)
    return f"{grey[1]}: currentColor{partly}" if opacity else grey[0]


def in_words(figure: Figure) -> str:
    """Return what a figure shows: its title, what each panel is about, and what the legend names."""
    legend = [", ".join(text.get_text() for text in one.get_texts()) for one in figure.legends]
    parts = (figure.get_suptitle(), *map(_panel, figure.axes), *(f"shown: {names}" for names in legend if names))
    return ". ".join(plain(text) for text in parts if text.strip())


def _panel(ax: Axes) -> str:
    """Return a panel's title, the names on its axis, or the names of both axes."""
    names = [label.get_text() for label in ax.get_yticklabels() if re.search("[A-Za-z]", label.get_text())]
    axes = " by ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
    return ax.get_title() or ", ".join(names) or axes


def plain(text: str) -> str:
    """Return a text that `sheets.literal` changed as it was, on one line."""
    return ": ".join(line.strip() for line in text.replace(r"\$", "$").splitlines())


def numbers(figure: Figure) -> Iterator[list[str]]:
    """Yield the rows of a table with what each panel shows: the cells of a matrix, or the ends of each curve."""
    matrices = [ax for ax in figure.axes if ax.images and any(map(_at_data, ax.texts))]
    across = list(dict.fromkeys(plain(ax.get_xlabel()) for ax in figure.axes if ax.get_xlabel()))
    up = plain(next(filter(None, (ax.get_ylabel() for ax in figure.axes)), ""))
    if matrices:
        yield from _cells(matrices)
        return
    names = {ax: plain(ax.get_title() or ax.get_xlabel() * (len(across) > 1)) for ax in figure.axes}
    several = any(names.values())
    ends = [f"{across[0]}: from" if len(across) == 1 else "from", "to", f"{up}: first" if up else "first"]
    yield [*["panel"] * several, "what", "points", *ends, "last", "lowest", "highest"]
    for ax, name in names.items():
        yield from ([*[name] * several, *curve] for curve in _curves(ax))


def _cells(matrices: Sequence[Axes]) -> Iterator[list[str]]:
    """Yield the texts in the cells of matrices with the same rows and columns; the outer panels have their names."""
    columns = max(([plain(one.get_text()) for one in ax.get_xticklabels()] for ax in matrices), key=len)
    rows = max(([plain(one.get_text()) for one in ax.get_yticklabels()] for ax in matrices), key=len)
    yield ["panel", "observed", *columns]
    for ax in matrices:
        cells = {text.get_position(): text.get_text() for text in ax.texts}
        for y, name in enumerate(rows):
            yield [plain(ax.get_title()), name, *(cells.get((x, y), "") for x in range(len(columns)))]


def _curves(ax: Axes) -> Iterator[list[str]]:
    for line in ax.lines:
        x, y = np.asarray(line.get_xydata(), dtype=float).T
        seen = np.isfinite(x) & np.isfinite(y)
        if line.get_transform() == ax.transData and not str(line.get_label()).startswith("_") and seen.any():
            ends = (x[seen].min(), x[seen].max(), y[seen][0], y[seen][-1], y[seen].min(), y[seen].max())
            yield [plain(str(line.get_label())), str(seen.sum()), *(short(repr(float(end)), digits=4) for end in ends)]
