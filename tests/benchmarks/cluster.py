"""`make bench-ray`: what a Ray cluster costs for small work, and how the driver keeps up with many replicas.

First, stages of ten seeds on this machine and on a cluster of two nodes of one core each on the same machine: seconds,
and whether the bytes are the same. Then replicas that only SLEEP for half a second, on a node that counts more cores
than it has: how near the driver comes to the shortest time that is possible. Writes cluster.csv beside this file.
"""

import csv
import math
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bancada  # noqa: F401  (its pins must be set before numpy loads)

# isort: split
import numpy as np
from rich.console import Console
from rich.table import Table as Printed

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from examples import SEED, data, recipe
from ray_nodes import Nodes

from bancada.networks.saved import HISTORY_COLUMNS, Trained
from bancada.training import replica
from bancada.training.cluster import driver, recheck, worker
from bancada.training.replica import Replica, Report

HERE = Path(__file__).parent
NAP_S = 0.5
SLOTS = (16, 64)
REPLICAS = (1, 10, 100, 1000, 10_000)
MOST_S = 120.0  # of a measurement
SMALL = {"loss": "cross_entropy", "lr": 0.1, "batch_size": 16}
WORK = {  # network, training and engine
    "layers 5-tanh-4, 100 epochs": ({"layers": [5, "tanh", 4]}, SMALL | {"epochs": 100}, "compiled"),
    "layers 64-64-64-4, 2,000 epochs": ({"layers": [64, "tanh"] * 3 + [4]}, SMALL | {"epochs": 2000}, "compiled"),
    "layers 5-tanh-4, torch, 300 epochs": ({"layers": ["Flatten", 5, "tanh", 4]}, SMALL | {"epochs": 300}, "torch"),
}


def nap(replicas: Mapping[int, Replica], rows: Mapping[int, Any], packages: list[str]) -> Iterator[list[Any]]:
    """Sleep in the place of a training, and answer as one does."""

    def sleep(messages: worker.Messages) -> None:
        weights = {"0.weight": np.zeros((50, 50), np.float32)}
        for place in replicas:
            time.sleep(NAP_S)
            history = {name: np.zeros(100) for name in HISTORY_COLUMNS}
            messages.put([worker.Ended(place, Trained(weights, history, 2500, 1), seconds=NAP_S)])
        messages.put(None)

    yield from worker.gathered(sleep, packages)


def processor_s() -> float:
    """Return the processor time of this process: the driver."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def small_work(nodes: Nodes) -> list[dict[str, Any]]:
    """Return the seconds of ten seeds here and on the cluster."""
    found = []
    for name, (network, train, engine) in WORK.items():
        asked = recipe(network, train, engine)
        replicas, rows = {i: Replica(asked, SEED + i) for i in range(10)}, {0: data()}
        took, digests = dict[str, float](), dict[str, list[str]]()
        for where, address in (("here", ""), ("cluster", nodes.address)):
            os.environ["BANCADA_RAY"] = address
            began = time.perf_counter()
            trained = dict(replica.train(replicas, rows, Report()))
            took[where] = time.perf_counter() - began
            digests[where] = [recheck.digest(trained[place]) for place in replicas]
        same = "yes" if digests["here"] == digests["cluster"] else "NO"
        found.append({"what": name, "here_s": took["here"], "cluster_s": took["cluster"], "same_bytes": same})
    return found


def naps(slots: int) -> list[dict[str, Any]]:
    """Return, for each number of replicas, the efficiency and the driver's share of a core."""
    found = []
    asked = recipe({"layers": [4]}, SMALL | {"epochs": 100}, "compiled")
    replicas = {i: Replica(asked, i) for i in range(max(REPLICAS))}
    took = math.inf
    while took > 2 * NAP_S:  # until all workers are up, which start one after another
        began = time.perf_counter()
        for _ in driver.train(dict(list(replicas.items())[:slots]), {0: data()}, Report(), nap):
            pass
        took = time.perf_counter() - began
    for count in [one for one in REPLICAS if one * NAP_S / slots < MOST_S]:
        began, used = time.perf_counter(), processor_s()
        for _ in driver.train(dict(list(replicas.items())[:count]), {0: data()}, Report(), nap):
            pass
        took = time.perf_counter() - began
        ideal, own = NAP_S * math.ceil(count / slots), processor_s() - used
        row = {"what": f"{count:,} replicas that sleep {NAP_S} s", "slots": slots, "seconds": took}
        found.append(row | {"efficiency": ideal / took, "driver": own / took, "driver_ms_each": own / count * 1e3})
    return found


def in_a_process(which: str) -> list[dict[str, Any]]:
    """Return what this script gives in a process of its own, with a cluster of its own: Ray is joined once in each."""
    import json
    import subprocess

    done = subprocess.run([sys.executable, __file__, which], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(which: str) -> list[dict[str, Any]]:
    """Start a cluster, and measure on it: `small`, or a number of slots."""
    nodes = Nodes(Path("/tmp") / f"ray-bench-{os.getpid()}")
    try:
        for name in ("n1", "n2") if which == "small" else ("n1",):
            nodes.add(name, 1 if which == "small" else int(which))
        if which == "small":
            return small_work(nodes)
        os.environ["BANCADA_RAY"], os.environ["BANCADA_RECHECK"] = nodes.address, "0"
        return naps(int(which))
    finally:
        import ray

        ray.shutdown()  # else it waits for the head when this process ends
        nodes.kill()


def main() -> None:
    """Measure all, print tables and write cluster.csv."""
    rows = [row for which in ("small", *map(str, SLOTS)) for row in in_a_process(which)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (HERE / "cluster.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()})
    for part in (WORK.keys(), None):
        chosen = [row for row in rows if (row["what"] in WORK) == (part is not None)]
        printed = Printed(*chosen[0])
        for row in chosen:
            printed.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
        Console(width=120).print(printed)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        import json

        print(json.dumps(measure(sys.argv[1])))
