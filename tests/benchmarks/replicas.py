"""`make bench-replicas`: the torch engine against a training loop written by hand, with the same kernels and batches.

Processor time of one replica inside one process, in turn, medians of ROUNDS; at most 5 % more is demanded. Writes
replicas.csv beside this file.
"""

import csv
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
from rich.console import Console
from rich.table import Table as Printed

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from by_hand import by_hand
from examples import EXAMPLES, MODELS, data, nobody, recipe
from training import machine

from bancada.training import torch_engine
from bancada.training.replica import Replica

HERE = Path(__file__).parent
ROUNDS = 9
SIZES = {  # closer to what is trained for its own sake than what the tests train
    "cnn": {"channels": 16},
    "lstm": {"hidden": 24},
    "residual": {"features": 64, "width": 64, "depth": 3},
    "buffers": {"features": 64, "width": 64},
    "attention": {"width": 32},
}
EPOCHS = {"cnn": 3, "lstm": 4, "residual": 5, "buffers": 10, "attention": 3}


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def ratios(name: str) -> tuple[list[float], float]:
    """Return engine / by hand of each round, and the median seconds by hand."""
    of = EXAMPLES[name]
    module = of["module"] | {"args": SIZES[name]}
    one = Replica(recipe({"module": module}, of["train"] | {"epochs": EPOCHS[name], "batch_size": 50}), 1)
    rows = data(of["shape"], of["classes"], train=1000, validation=200)
    ways = [lambda: torch_engine.train(one, rows, nobody), lambda: by_hand(one, rows)]
    found, hand = [], []
    for turn in range(ROUNDS + 1):
        order = (0, 1) if turn % 2 else (1, 0)
        took = {way: seconds(ways[way]) for way in order}
        if turn:  # the first one loads what is loaded once
            found.append(took[0] / took[1])
            hand.append(took[1])
    return found, statistics.median(hand)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MODELS, Path(folder, "src/models"))
        os.chdir(folder)
        results = {name: ratios(name) for name in EXAMPLES}
    table = Printed(title=f"A replica on the torch engine against a loop by hand\n{machine()}")
    for column in ("network", "by hand, s", "engine / by hand", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "network" else "right")
    lines = [
        (name, f"{hand:.2f}", *(f"{value:.3f}" for value in (statistics.median(found), min(found), max(found))))
        for name, (found, hand) in results.items()
    ]
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    with (HERE / "replicas.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "seconds_by_hand", "engine_by_hand", "lowest", "highest", "machine"))
        writer.writerows((*line, machine()) for line in lines)


if __name__ == "__main__":
    main()
