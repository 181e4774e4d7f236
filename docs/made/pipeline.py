"""Draws docs/pipeline.svg: the stages of dvc.yaml, in its order, and what each of them makes."""

from pathlib import Path
from typing import Any

import matplotlib
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[2]
CAPTIONS = {
    "code": "which code does\neach stage use?",
    "generate": "makes the rows,\nor reads a table",
    "split": "training, validation\nand test rows",
    "train": "one network\nfrom each seed",
    "index": "which variants\nbelong to the study",
    "evaluate": "scores, statistics,\nplots, leaderboard",
    "report": "one page with\nall results",
}
ABOUT = """params.yaml has every number, src has the code.
DVC runs a stage again only if what it reads has changed.
MLflow keeps a copy of every result."""
EACH = {"${studies}": "for each study", "${variants}": "for each variant"}
WIDTH, HEIGHT, GAP = 1.75, 1.0, 0.4  # of a box, in inches, and between two
BOTTOM, LINE, TOP = 0.75, 2.15, 2.5  # of the row of boxes, of the line above them, of the box above the line
INK, PALE, GREY = "#1f2430", "#dbe7f5", "#777777"


def picture(stages: dict[str, Any]) -> Figure:
    """Return the picture. Each stage reads what those to its left make, and all read what `code` makes."""
    chain = [name for name in stages if name != "code"]
    width = len(chain) * (WIDTH + GAP) + GAP
    figure = Figure(figsize=(width, TOP + HEIGHT + GAP / 2), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, figure.get_figheight()))
    ax.axis("off")
    lefts = [GAP + i * (WIDTH + GAP) for i in range(len(chain))]
    for name, left in zip(chain, lefts, strict=True):
        box(ax, left, BOTTOM, name)
        middle, stage = left + WIDTH / 2, stages[name]
        arrow(ax, (middle, LINE), (middle, BOTTOM + HEIGHT), GREY)
        text(ax, middle, BOTTOM - 0.17, EACH.get(stage.get("foreach", ""), "once"), style="italic", color=GREY)
        text(ax, middle, BOTTOM - 0.42, folder(stage.get("do", stage)), family="monospace")
    for left in lefts[1:]:
        arrow(ax, (left - GAP, BOTTOM + HEIGHT / 2), (left, BOTTOM + HEIGHT / 2), INK)
    box(ax, GAP, TOP, "code")
    ax.plot([GAP + WIDTH / 2] * 2 + [lefts[-1] + WIDTH / 2], [TOP, LINE, LINE], color=GREY, linewidth=1)
    text(ax, GAP * 3 + WIDTH, TOP + HEIGHT / 2, ABOUT, size=11, ha="left", linespacing=1.5)
    return figure


def folder(stage: dict[str, Any]) -> str:
    """Return where the first file that a stage makes lies: `data/raw`."""
    out = stage.get("metrics", stage["outs"])[0]
    path = Path(out if isinstance(out, str) else next(iter(out)))
    return path.as_posix() if path.suffix == ".html" else "/".join(path.parts[:2])


def box(ax: Axes, left: float, bottom: float, name: str) -> None:
    """Draw a stage as a box with its name and what it does."""
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((left, bottom), WIDTH, HEIGHT, boxstyle=style, facecolor=PALE, edgecolor=INK))
    text(ax, left + WIDTH / 2, bottom + 0.77, name, size=12.5, weight="bold")
    text(ax, left + WIDTH / 2, bottom + 0.36, CAPTIONS[name])


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """Draw an arrow."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 1})


def text(ax: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Write words around a point."""
    ax.text(x, y, words, **{"ha": "center", "va": "center", "size": 10, "color": INK} | style)


def draw(path: Path) -> None:
    """Write the picture as SVG, the same bytes every time."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc, or who calls this, has set
        matplotlib.rc("svg", hashsalt="bancada")
        pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        picture(pipeline["stages"]).savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(ROOT / "docs/pipeline.svg")
