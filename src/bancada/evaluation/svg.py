"""A plot for the page of the report: NAME.svg, and NAME.csv with the numbers that the plot shows.

The same figure as the PNG file's, so that what is drawn has one home. What the page adds by CSS is left to it: black
and grey become `currentColor`, so that lines and letters can be read on a dark page too, and letters stay letters, which
a browser draws with a font that has them.
"""

import csv
import io
import re
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

NAMESPACE = "http://www.w3.org/2000/svg"
TAG, LINK = f"{{{NAMESPACE}}}", "{http://www.w3.org/1999/xlink}"  # before the names of elements, and before href
MOST_POINTS = 2000  # of a plot: the layers of one with more are embedded as PNG
RASTER_DPI = 144
INK = "#000001"  # black on a picture, whose colours stay on a dark page
OPTIONS = {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"]}

Xml.register_namespace("", NAMESPACE)


def write(figure: Figure, name: str, folder: Path) -> None:
    """Write the two files of a figure that `sheets.write` has drawn. `name`: of the study and the plot."""
    _rasterize(figure)
    for ax in figure.axes:
        if ax.images:
            _keep_black(ax)
    drawn = io.BytesIO()
    with matplotlib.rc_context(OPTIONS | {"svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", dpi=RASTER_DPI, transparent=True, metadata={"Date": None})
    plot = folder / name.partition("-")[2]
    plot.with_suffix(".svg").write_text(_for_a_page(drawn.getvalue(), name, figure), encoding="utf-8")
    with plot.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(_numbers(figure))


def _rasterize(figure: Figure) -> None:
    """Let layers of dots be drawn as PNG where the plot has many."""
    layers = [(line, len(line.get_xdata())) for ax in figure.axes for line in ax.lines if line.get_marker() != "None"]
    layers += [(found, len(found.get_paths())) for found in figure.findobj(LineCollection)]
    if sum(count for _, count in layers) > MOST_POINTS:
        for layer, _ in layers:
            layer.set_rasterized(True)


def _keep_black(ax: Axes) -> None:
    """Let what lies on a picture keep its black."""
    for line in ax.lines:
        if to_hex(line.get_color()) == "#000000":
            line.set_color(INK)
    for text in ax.texts:
        if text.get_transform() == ax.transData and to_hex(text.get_color()) == "#000000":
            text.set_color(INK)


def _for_a_page(drawn: bytes, name: str, figure: Figure) -> str:
    """Return the SVG with a name for screen readers, with ids that no other plot on a page has, and half as long."""
    root = Xml.fromstring(drawn)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', drawn.decode()))
    for element in list(root.iter()):
        for found in [*element.findall(f"{TAG}metadata"), *element.findall(f"{TAG}style")]:
            element.remove(found)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        element.attrib = {key.removeprefix(LINK): _attribute(key, value, name) for key, value in element.items()}
        styles = {child.get("style") for child in element if child.tag == f"{TAG}use"}
        if len(styles) == 1 and len(element) > 1:  # of a layer of dots: once
            element.set("style", str(styles.pop()))
            for child in element.findall(f"{TAG}use"):
                del child.attrib["style"]
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    kept = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": in_words(figure), "class": "plot"}
    root.attrib = kept | {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # as matplotlib's own style sheet
    return Xml.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    """Return an attribute's value as a page needs it, and a path with a tenth of a point."""
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
    property, opacity = grey[1], 1 - int(grey[2], 16) / 255
    shown = f"{property}: currentColor"
    return shown if opacity == 1 else f"{shown}; {property}-opacity: {opacity:.2f}" if opacity else grey[0]


def in_words(figure: Figure) -> str:
    """Return what a figure shows: its title, and the titles of its panels or the names on its axis."""
    panels = [ax.get_title() or ", ".join(label.get_text() for label in ax.get_yticklabels()) for ax in figure.axes]
    return ". ".join(_plain(text) for text in (figure.get_suptitle(), *panels) if text.strip())


def _plain(text: str) -> str:
    return " ".join(text.replace(r"\$", "$").split())


def _numbers(figure: Figure) -> Iterator[list[str]]:
    """Yield the rows of a table with what each panel shows: the cells of a matrix, or the ends of each curve."""
    matrices = [ax for ax in figure.axes if ax.images and any(text.get_transform() == ax.transData for text in ax.texts)]
    if matrices:
        yield ["panel", "observed", *(_plain(label.get_text()) for label in matrices[0].get_xticklabels())]
        for ax in matrices:
            cells = {text.get_position(): text.get_text() for text in ax.texts}
            for y, name in enumerate(ax.get_yticklabels()):
                row = [cells.get((x, y), "") for x in range(len(ax.get_xticklabels()))]
                yield [_plain(ax.get_title()), _plain(name.get_text()), *row]
        return
    across, up = (next(filter(None, (axis(ax) for ax in figure.axes)), "") for axis in (Axes.get_xlabel, Axes.get_ylabel))
    across, up = _plain(across) or "across", _plain(up) or "up"
    yield ["panel", "what", "points", f"{across}: from", "to", f"{up}: first", "last", "lowest", "highest"]
    for ax in figure.axes:
        for line in ax.lines:
            x, y = np.asarray(line.get_data(), dtype=float)
            seen = np.isfinite(x) & np.isfinite(y)
            if not str(line.get_label()).startswith("_") and seen.any():
                x, y = x[seen], y[seen]
                values = (x.min(), x.max(), y[0], y[-1], y.min(), y.max())
                yield [_plain(ax.get_title()), _plain(str(line.get_label())), str(len(x)), *(f"{v:.4g}" for v in values)]
