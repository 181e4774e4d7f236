"""The plots of searches: which values are good, and with how much tuning a variant wins."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bancada.evaluation.results import Results
from bancada.evaluation.sheets import COLORS, LEGEND_COLUMNS, STYLES, at_most, literal, sheet, shortened
from bancada.evaluation.statistics import thinned
from bancada.evaluation.words import Cells, short
from bancada.networks.unknown import counted

MOST_POINTS = 200  # of a curve, and trials in parallel coordinates
MANY_KEYS, MOST_KEYS = 3, 12  # from so many on, parallel coordinates show which values go together; at most so many
MOST_WIDE, MOST_LETTERS = 12, 80  # panels of parallel coordinates, and letters side by side
MOST_TRIALS = 10  # of a variant in a table


def best_of(scores: Float64[np.ndarray, " trial"], count: int) -> tuple[float, float, float]:
    """Return the mean of the best of `count` trials drawn without replacement, and its 2.5 % and 97.5 % points.

    `scores`: the best one first. Dodge et al. 2019, without replacement as Tang et al. 2020 correct it.
    """
    trials = len(scores)
    j = np.arange(trials)
    worse = np.cumprod(np.maximum(trials - count - j, 0) / (trials - j))  # P(all drawn are worse than the j-th best)
    chance = -np.diff(np.concatenate([[1.0], worse]))
    low, high = (float(scores[np.searchsorted(1 - worse, q - 1e-12)]) for q in (0.025, 0.975))
    possible = chance > 0
    return float((chance[possible] * scores[possible]).sum()), low, high


def tuning(results: Results) -> Figure | None:
    """Draw the best score so far by the number of trials, for every variant: with how much tuning does each win?"""
    if not results.searches:
        return None
    first = results.searches[0]
    title = f"{results.study}: best {first.label} on the validation rows, by the number of trials"
    title += "\nlines: mean of the best of so many trials drawn at random; bands: 95 % of such draws"
    figure, (ax,) = sheet(1, title, 3.6, entries=len(results.searches))
    for i, searched in enumerate(results.searches):
        scores = searched.means[searched.order]
        counts = thinned(len(scores), MOST_POINTS) + 1
        mean, low, high = np.array([best_of(scores, int(count)) for count in counts]).T
        color, style = COLORS[i % len(COLORS)], STYLES[i % len(STYLES)]
        ax.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(counts, mean, color=color, linestyle=style, linewidth=2, label=literal(searched.variant))
    ax.set(xlabel="trials", ylabel=f"best {first.label}")
    if max(len(searched.means) for searched in results.searches) > 1:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
    _scale(ax, np.concatenate([searched.means for searched in results.searches]))
    return figure


def search(results: Results) -> Figure | None:
    """Draw the score of each trial against each value that was searched, with the range over its seeds."""
    panels_of = [(searched, key) for searched in results.searches for key in searched.space]
    if not panels_of:
        return None
    title = f"{results.study}: {results.searches[0].label} on the validation rows, by the values that were searched"
    title += "\ndots: mean of a trial over its seeds; lines: lowest to highest seed"
    shown, title = at_most(panels_of, title)
    figure, panels = sheet(len(shown), title, 2.2, headings=3)
    for ax, (searched, key) in zip(panels, shown, strict=True):
        best, finite, x = searched.order[0], np.isfinite(searched.means), searched.places(key)
        low, high = searched.scores[finite].min(axis=1), searched.scores[finite].max(axis=1)
        ax.vlines(x[finite], low, high, color="0.75", linewidth=1)
        ax.plot(x[finite], searched.means[finite], "o", color=COLORS[0], markersize=3.5, label="trial")
        if finite[best]:
            ax.plot(x[best], searched.means[best], "D", color=COLORS[1], markersize=7, label="chosen")
        lost = f", {(~finite).sum()} diverged" * bool((~finite).any())
        at_edge = ", at the edge" * (key in searched.edges)
        chosen = f"{key}\nchosen: {_short(searched.values[key][best])}{at_edge}"
        ax.set_title(literal(f"{searched.variant}: {counted(len(x), 'trial')}{lost}\n{chosen}"))
        _name_places(ax, searched.space[key])
        _scale(ax, searched.scores[finite].ravel())
    panels[0].set_ylabel(results.searches[0].label)
    return figure


def parallel(results: Results) -> Figure | None:
    """Draw each trial as a line through its values, where more than two were searched: which ones go together?"""
    wide = [searched for searched in results.searches if len(searched.space) >= MANY_KEYS]
    if not wide:
        return None
    title = f"{results.study}: the values of each trial (darker: better {wide[0].label}; orange: chosen)"
    shown, title = at_most(wide, title, MOST_WIDE)
    keys_of = [list(searched.space)[:MOST_KEYS] for searched in shown]
    long = any(len(key) > MOST_LETTERS // len(keys) for keys in keys_of for key in keys)
    levels = 4 if long else 1  # of names, below each other
    below = (levels - 1) * LEGEND_COLUMNS
    figure, panels = sheet(len(shown), title, 3.0, columns=1, headings=levels, entries=below, left=0.65)
    for ax, searched, keys in zip(panels, shown, keys_of, strict=True):
        order, places = searched.order[:MOST_POINTS], np.column_stack([searched.places(key) for key in keys])
        for rank, trial in reversed(list(enumerate(order))):
            color = COLORS[1] if rank == 0 else str(round(0.3 + 0.6 * rank / len(order), 3))
            ax.plot(range(len(keys)), places[trial], color=color, linewidth=1.0 if rank else 2.5)
        counts = ((len(keys), len(searched.space), "keys"), (len(order), len(searched.means), "trials"))
        some = "".join(f", {few} of {all_} {what}" for few, all_, what in counts if few < all_)
        ax.set(xlim=(-0.3, len(keys) - 0.7), ylim=(-0.15, 1.15), yticks=[], title=literal(searched.variant + some))
        _name_keys(ax, {key: searched.space[key] for key in keys}, levels)
    return figure


def _name_keys(ax: Axes, space: dict[str, Any], levels: int) -> None:
    """Write keys below their places, on several levels where they are long, and the ends of what was searched."""
    room = MOST_LETTERS // len(space)
    for x, part in enumerate(space.values()):
        low, high = _ends(part)
        ax.text(x, 1.04, shortened(high, room), ha="center", va="bottom")
        ax.text(x, -0.04, shortened(low, room), ha="center", va="top")
    most = room * max(1, levels - 1)
    ax.set_xticks(range(len(space)), ["\n" * (x % levels) + shortened(key, most) for x, key in enumerate(space)])
    if levels > 1:
        ax.get_xticklabels()[-1].set_horizontalalignment("right")  # it would leave the sheet


def best_trials(results: Results) -> Cells:
    """Return a table of the best trials of each search: their values, their scores and the range over their seeds."""
    count = max(len(searched.means) for searched in results.searches)
    values = "values" if count <= MOST_TRIALS else f"values of the best {MOST_TRIALS} trials"
    rows = [["variant", values, results.searches[0].label, "lowest seed", "highest seed"]]
    for searched in results.searches:
        for trial in searched.order[:MOST_TRIALS]:
            chosen = ", ".join(f"{key}: {_short(searched.values[key][trial])}" for key in searched.space)
            scores = (searched.means[trial], searched.scores[trial].min(), searched.scores[trial].max())
            numbers = [short(repr(float(score)), digits=4) if np.isfinite(score) else "diverged" for score in scores]
            rows.append([searched.variant, chosen, *numbers])
    return rows


def _ends(part: dict[str, Any]) -> tuple[str, str]:
    low, high = (part["choices"][0], part["choices"][-1]) if "choices" in part else (part["low"], part["high"])
    return _short(low), _short(high)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:20]


def _name_places(ax: Axes, part: dict[str, Any]) -> None:
    """Write values of a range, or choices, below places from 0 to 1."""
    ax.set_xlim(-0.05, 1.05)
    if "choices" in part:
        choices = part["choices"]
        ax.set_xticks(np.arange(len(choices)) / max(1, len(choices) - 1), [literal(_short(one)) for one in choices])
        return
    low, high, log = part["low"], part["high"], part["log"]
    shares = np.linspace(0, 1, 3)
    values = [low * (high / low) ** u if log else low + (high - low) * u for u in shares]
    ax.set_xticks(shares, [f"{value:.2g}" for value in values])


def _scale(ax: Axes, values: Float64[np.ndarray, " value"]) -> None:
    """Choose a logarithmic axis where a few large scores would hide how others differ."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if len(positive) and finite.min() >= 0 and positive.max() > 20 * np.median(finite):
        ax.set_yscale("symlog", linthresh=10.0 ** math.floor(math.log10(max(positive.min(), positive.max() / 1e4))))
        ax.set_ylim(bottom=0)
