"""`make bench`: microseconds per seed and update on lesson 3's base network, by the usual ways and by the engine.

All in one run on one core, in turn, medians of ROUNDS; processor time, so that a busy neighbour counts less. Writes
training.csv beside this file, and docs/seeds.png.
"""

import csv
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
import numpy as np
import torch
from bancada.training.engine import EncodedRows, encoded, together, train_stack
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as Printed
from sklearn.neural_network import MLPRegressor
from torch import nn

from bancada.base.files import PARTS
from bancada.data.split import divide
from bancada.networks.start import start
from bancada.pipeline.params import load
from bancada.training.replica import Data, Silent
from bancada.training.streams import DROPOUT, ORDER, START, stream
from bancada.training.streams import order as order_of
from bancada.training.train import prepared

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ROUNDS = 7
SEEDS = (1, 10, 32, 128)
ROWS = (1_000, 10_000, 100_000, 1_000_000)
WIDTHS = (2, 3, 5, 5, 2, 1)

Way = Callable[[int], int]  # epochs -> updates made, all seeds together
PARAMS = load(ROOT / "params.yaml")


def moons(rows: int) -> EncodedRows:
    """As many training rows of lesson 3's data."""
    source = PARAMS.source("moons").model_copy(update={"rows": rows + 100})
    split = PARAMS.studies["moons"].split.model_copy(update={"train": rows, "validation": 0, "test": 100})
    made = divide(source.make("studies.moons.source"), split)
    return encoded(PARAMS.recipe("moons_tanh"), Data(*(prepared(made[part], {}) for part in PARTS[:2]), 2))[0]


def network() -> nn.Sequential:
    layers = [module for n, out in pairwise(WIDTHS) for module in (nn.Linear(n, out), nn.Tanh())]
    return nn.Sequential(*layers)


def lesson(rows: EncodedRows) -> Way:
    """The notebook's way: a DataLoader over a list of pairs, `.item()` after every batch."""
    pairs = list(zip(rows.features.T.contiguous(), rows.targets.T.contiguous(), strict=True))
    loader = torch.utils.data.DataLoader(pairs, batch_size=100, shuffle=True)
    model, loss_of = network(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def run(epochs: int) -> int:
        for _ in range(epochs):
            for x, y in loader:
                model.train()
                model.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                optimizer.step()
                loss.item()
        return epochs * len(loader)

    return run


def plain(rows: EncodedRows) -> Way:
    """Without the DataLoader: batches by index from one tensor."""
    x, y = rows.features.T.contiguous(), rows.targets.T.contiguous()
    model, loss_of = network(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def run(epochs: int) -> int:
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                loss_of(model(x[batch]), y[batch]).backward()
                optimizer.step()
        return epochs * -(-len(x) // 100)

    return run


def scikit_learn(rows: EncodedRows) -> Way:
    """Its output is linear: it has no tanh there."""
    x, y = rows.features.T.numpy().astype(np.float64), rows.targets[0].numpy().astype(np.float64)
    settings = {"activation": "tanh", "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.01}

    def run(epochs: int) -> int:
        model = MLPRegressor(
            hidden_layer_sizes=WIDTHS[1:-1], batch_size=100, max_iter=epochs, tol=0, n_iter_no_change=epochs, **settings
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not converged": it was not meant to
            model.fit(x, y)
        return epochs * -(-len(x) // 100)

    return run


def ours(rows: EncodedRows, seeds: int) -> Way:
    asked = PARAMS.model_copy(update={"num_seeds": seeds}).recipe("moons_tanh")
    nothing = EncodedRows(rows.features[:, :0], rows.targets[:, :0])

    def run(epochs: int) -> int:
        settings = asked.train.model_copy(update={"epochs": epochs})
        begin = [start(asked.network.small_layers, [2], asked.train.init, stream(seed, START)) for seed in asked.seeds]
        order = together([order_of(asked.train, len(rows), stream(seed, ORDER)) for seed in asked.seeds])
        dropouts = [stream(seed, DROPOUT) for seed in asked.seeds]
        train_stack(asked.network.small_layers, settings, rows, nothing, begin, order, dropouts, Silent())
        return epochs * -(-len(rows) // 100) * seeds

    return run


def microseconds(way: Way, epochs: int) -> float:
    began = time.process_time()
    updates = way(epochs)
    return (time.process_time() - began) / updates * 1e6


def in_turn(ways: dict[str, tuple[Way, int]]) -> dict[str, float]:
    """The median of each way, which runs so many epochs a round."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way, epochs in ways.values():
        way(max(1, epochs // 4))
    for _ in range(ROUNDS):
        for name, (way, epochs) in ways.items():
            took[name].append(microseconds(way, epochs))
    return {name: statistics.median(times) for name, times in took.items()}


def against_the_usual_ways() -> list[tuple[str, float, float]]:
    rows = moons(1000)
    ways = {
        "lesson's own loop": (lesson(rows), 5),
        "plain PyTorch, indexed batches": (plain(rows), 10),
        "scikit-learn's MLPRegressor": (scikit_learn(rows), 10),
        **{f"bancada, {n} seed{'s' * (n > 1)}": (ours(rows, n), 40) for n in SEEDS},
    }
    took = in_turn(ways)
    base = took["lesson's own loop"]
    return [(name, each, base / each) for name, each in took.items()]


def cost_of_seeds() -> dict[int, dict[int, float]]:
    """rows -> seeds -> seconds for one epoch of all seeds."""
    costs: dict[int, dict[int, float]] = {}
    for count in ROWS:
        rows, epochs = moons(count), max(1, 20_000 // count)
        costs[count] = {}
        for seeds in SEEDS:
            way = ours(rows, seeds)
            times = [microseconds(way, epochs) for _ in range(3 if count < 100_000 else 1)]
            costs[count][seeds] = statistics.median(times) * -(-count // 100) * seeds / 1e6
    return costs


def slope(costs: dict[int, float]) -> float:
    """d log(time) / d log(number): 1 where twice as many take twice as long, 0 where they cost nothing."""
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


def drawn(costs: dict[int, dict[int, float]]) -> Figure:
    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    by_seeds, by_rows = figure.subplots(1, 2)
    for (count, row), marker in zip(costs.items(), "osD^", strict=True):
        by_seeds.plot(list(row), list(row.values()), marker=marker, label=f"{count:,} rows (slope {slope(row):.2f})")
    for seeds, marker in zip(SEEDS, "osD^", strict=True):
        row = {count: by[seeds] for count, by in costs.items()}
        label = f"{seeds} seed{'s' * (seeds > 1)} (slope {slope(row):.2f})"
        by_rows.plot(list(row), list(row.values()), marker=marker, label=label)
    by_seeds.set(xlabel="seeds trained at once", ylabel="seconds per epoch, all seeds", title="more seeds")
    by_rows.set(xlabel="training rows", title="more rows")
    for axes in (by_seeds, by_rows):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{model}, one core of {os.cpu_count()}, torch {torch.__version__.split('+')[0]}, {time.strftime('%Y-%m-%d')}"
    )


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    results, costs = against_the_usual_ways(), cost_of_seeds()
    table = Printed(title=f"Half-moons base network, batches of 100\n{machine()}")
    for column in ("way", "µs per seed and update", "times the lesson's way"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, each, ratio in results:
        table.add_row(name, f"{each:.1f}", f"{ratio:.1f}")
    Console().print(table)
    curve = Printed(title="Seconds per epoch, all seeds together")
    for column in ("rows", *(f"{n} seeds" for n in SEEDS), "slope over seeds"):
        curve.add_column(column, justify="right")
    for count, row in costs.items():
        curve.add_row(f"{count:,}", *(f"{row[n]:.4g}" for n in SEEDS), f"{slope(row):.2f}")
    Console().print(curve)
    with (HERE / "training.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("way", "microseconds_per_seed_and_update", "times_the_lessons_way", "machine"))
        writer.writerows((name, f"{each:.1f}", f"{ratio:.1f}", machine()) for name, each, ratio in results)
    drawn(costs).savefig(HERE.parents[1] / "docs" / "seeds.png")


if __name__ == "__main__":
    main()
