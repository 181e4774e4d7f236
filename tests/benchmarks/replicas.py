"""`make bench-replicas`: the torch engine against a training loop written by hand, with the same kernels and batches.

Processor time of one replica inside one process, in turn, medians of ROUNDS; at most 5 % more is demanded. Beside it,
how much faster it is with `bits: this_machine`. Writes replicas.csv beside this file.
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


def ratios(name: str) -> tuple[list[float], float, float]:
    """Return engine / by hand of each round, the median seconds by hand, and portable / this_machine in the median."""
    of = EXAMPLES[name]
    module = of["module"] | {"args": SIZES[name]}
    train = of["train"] | {"epochs": EPOCHS[name], "batch_size": 50}
    one, fast = (
        Replica(recipe({"module": module}, train | {"bits": bits}), 1) for bits in ("portable", "this_machine")
    )
    rows = data(of["shape"], of["classes"], train=1000, validation=200)
    ways = [
        lambda: torch_engine.train(one, rows, nobody),
        lambda: by_hand(one, rows),
        lambda: torch_engine.train(fast, rows, nobody),
    ]
    found, hand, gain = [], [], []
    for turn in range(ROUNDS + 1):
        order = (0, 1, 2) if turn % 2 else (1, 0, 2)  # the loop by hand computes as the one before it or after it
        took = {way: seconds(ways[way]) for way in order}
        if turn:  # the first one loads what is loaded once
            found.append(took[0] / took[1])
            hand.append(took[1])
            gain.append(took[0] / took[2])
    return found, statistics.median(hand), statistics.median(gain)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MODELS, Path(folder, "src/models"))
        os.chdir(folder)
        results = {name: ratios(name) for name in EXAMPLES}
    table = Printed(title=f"A replica on the torch engine against a loop by hand\n{machine()}")
    for column in ("network", "by hand, s", "engine / by hand", "lowest", "highest", "portable / this_machine"):
        table.add_column(column, justify="left" if column == "network" else "right")
    lines = [
        (name, f"{hand:.2f}", *(f"{value:.3f}" for value in (statistics.median(found), min(found), max(found), gain)))
        for name, (found, hand, gain) in results.items()
    ]
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    with (HERE / "replicas.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ("network", "seconds_by_hand", "engine_by_hand", "lowest", "highest", "portable_this_machine")
        writer.writerow((*columns, "machine"))
        writer.writerows((*line, machine()) for line in lines)


if __name__ == "__main__":
    main()
