"""`make bench`: how fast the compiled engine trains, beside the usual ways; processor time of one core.

What is compared runs in one run, in turn, and medians are printed: lesson 3's base network, the lessons' variants, and
wider networks. PyTorch, scikit-learn and JAX run without bancada's pins, in a process of their own (ways.py); the
engine runs as in a stage, with validation rows. Beside them the same loop in C (floor.c), and curves of time by seeds,
rows, units and threads. About five minutes. Writes training.csv beside this file, and docs/speed.png.
"""

import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from pydantic import TypeAdapter
from tasks import LESSONS, ROOT, Task, lesson
from ways import Process

from bancada.networks.settings import Layers
from bancada.training import compiled_engine, torch_engine
from bancada.training.replica import Data, Replica, Report, Rows
from bancada.training.settings import Recipe, Train

HERE = Path(__file__).parent
ROUNDS = 5
SAMPLE_S = 0.12  # of a way in a round
STACKED = "f365db0"  # the last commit with the engine that trained all seeds in one stack of tensors
FLOOR = ("cc", "-O3", "-march=native", "-ffast-math")
BESIDE_STACKED = "64-64-64-10"
WIDER = {
    BESIDE_STACKED: 32,
    "784-128-10": 64,
    "128-256-256-10": 128,
    "512-512-512-10": 128,
    "1024-1024-10": 128,
}
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
EPOCHS = (100, 1_000, 10_000, 100_000)
PLAIN, LESSON = "plain PyTorch, batches by index", "the lesson's own loop"


class Way(NamedTuple):
    """A way to train, and how many updates an epoch of it makes, those of all seeds together."""

    seconds: Callable[[int], float]  # epochs -> seconds of processor time
    updates: int


def timed(run: Callable[[int], object], clock: Callable[[], float] = time.process_time) -> Callable[[int], float]:
    def seconds(epochs: int) -> float:
        began = clock()
        run(epochs)
        return clock() - began

    return seconds


def kernel_alone(task: Task) -> Way:
    """A seed's training in one call of kernel.train."""

    return Way(timed(task.train), task.updates())


def for_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})


def engine(task: Task, seeds: int) -> Callable[[int], object]:
    """The engine as a stage calls it: slices of all seeds, in a thread for each core of this process."""

    def run(epochs: int) -> object:
        recipe = for_epochs(task.recipe, epochs)
        return list(compiled_engine.train({i: Replica(recipe, i) for i in range(seeds)}, {0: task.data}, Report()))

    return run


def torchs_engine(task: Task) -> Way:
    """The torch engine with `bits: portable`, and with the pins of this process."""
    torchs = task.recipe.model_copy(update={"engine": "torch"})

    def run(epochs: int) -> object:
        return torch_engine.train(Replica(for_epochs(torchs, epochs), 1), task.data, lambda epoch, row: None)

    return Way(timed(run), task.updates())


def by(process: Process, way: str, task: Task, folder: Path, seeds: int = 1) -> Way:
    """A way of ways.py, in its process."""
    return Way(process.way(way, task.write(folder), seeds), task.updates() * seeds)


def epochs_for(way: Way, sample_s: float) -> int:
    """Return how many epochs take about so many seconds. The first one, which may compile, does not count."""
    epochs, took = 1, way.seconds(1)
    while (took := way.seconds(epochs)) < sample_s / 8:
        epochs *= 4
    return max(1, round(epochs * sample_s / took))


def in_turn(ways: Mapping[str, Way], rounds: int = ROUNDS, sample_s: float = SAMPLE_S) -> dict[str, float]:
    """Return microseconds of an update by each way: medians over the rounds."""
    epochs = {name: epochs_for(way, sample_s) for name, way in ways.items()}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            took[name].append(way.seconds(epochs[name]) / epochs[name] / way.updates * 1e6)
    return {name: statistics.median(times) for name, times in took.items()}


def floor(folder: Path) -> Callable[[int], float] | None:
    """The loop in C, if a compiler is at hand."""
    try:
        subprocess.run([*FLOOR, "-o", str(folder / "floor"), str(HERE / "floor.c")], check=True)
    except FileNotFoundError:
        return None

    def seconds(epochs: int) -> float:
        ran = subprocess.run([folder / "floor", str(epochs)], check=True, capture_output=True, text=True)
        return float(ran.stdout)

    return seconds


def base_network(free: Process, folder: Path) -> dict[str, float | str]:
    """Lesson 3's base network: microseconds of an update by each way, or why there are none."""
    task, missing = lesson("moons_tanh"), dict[str, str]()
    usual = {PLAIN: "plain", LESSON: "lesson", "scikit-learn's MLPRegressor": "scikit_learn"}
    ways = {name: by(free, way, task, folder) for name, way in usual.items()}
    for seeds, name in ((1, "JAX, an epoch compiled, 1 seed"), (10, "JAX, an epoch compiled, 10 seeds")):
        if find_spec("jax"):
            ways[name] = by(free, "jax", task, folder, seeds)
        else:
            missing[name] = "not installed"
    for seeds, name in ((1, "bancada, 1 seed"), (10, "bancada, 10 seeds")):
        ways[name] = Way(timed(engine(task, seeds)), task.updates() * seeds)
    in_c = f"the same loop in C, {' '.join(FLOOR)}"
    if seconds := floor(folder):
        ways[in_c] = Way(seconds, task.updates())
    else:
        missing[in_c] = "no cc"
    return in_turn(ways, 2 * ROUNDS + 1, 0.4) | missing  # long enough that the engine's own start does not count


def lessons_variants(free: Process, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    for variant in LESSONS:
        if variant != "line_scratch":  # line_sgd is the same for this engine
            task = lesson(variant)
            usual = {name: by(free, name, task, folder) for name in ("lesson", "plain")}
            yield variant, in_turn({**usual, "bancada": kernel_alone(task)})


def wider(sizes: str, batch: int) -> Task:
    """A network of ReLUs for ten classes, trained by SGD on 1,280 rows of noise, with 128 for validation."""
    features, *units = map(int, sizes.split("-"))
    keys = {"loss": "cross_entropy", "optimizer": {"name": "sgd"}, "lr": 0.01, "batch_size": batch, "epochs": 1}
    layers = TypeAdapter(Layers).validate_python([part for width in units for part in (width, "relu")][:-1])
    of = {"study": "noise", "variant": sizes, "layers": layers, "train": Train.model_validate(keys)}
    recipe = Recipe(**of, scratch=False, seeds=[1], device="cpu", engine="compiled")
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal((rows, features)).astype(np.float32) for rows in (1280, 128)]
    return Task.of(recipe, Data(*(Rows(x, rng.integers(0, 10, (len(x), 1))) for x in noise), 10))


def engines(task: Task, free: Process, folder: Path) -> dict[str, Way]:
    plain = by(free, "plain", task, folder)
    return {"compiled engine": kernel_alone(task), "torch engine": torchs_engine(task), "plain PyTorch": plain}


def wider_networks(free: Process, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    old = stacked(folder)
    for sizes, batch in WIDER.items():
        task = wider(sizes, batch)
        ways = engines(task, free, folder)
        if old and sizes == BESIDE_STACKED:
            ways["stacked engine, 1 seed"] = by(old, "stacked", task, folder)
            ways["stacked engine, 10 seeds"] = by(old, "stacked", task, folder, 10)
        yield f"{sizes}, batches of {batch}", in_turn(ways)
    if old:
        old.end()


def stacked(folder: Path) -> Process | None:
    """A process with the code of the commit STACKED, if this repository has it."""
    clone = folder / "stacked"
    subprocess.run(["git", "clone", "-q", "--no-checkout", str(ROOT), str(clone)], check=True)
    found = subprocess.run(["git", "-C", str(clone), "checkout", "-q", STACKED, "--", "src"], capture_output=True)
    return None if found.returncode else Process(clone / "src")


Curve = dict[int, float]


def curves(free: Process, folder: Path, cores: set[int]) -> dict[str, dict[str, Curve]]:
    """{what grows: {network or way: milliseconds of an epoch}}; by threads, those of the clock."""
    task = lesson("moons_tanh")
    seeds = {n: an_epoch(timed(engine(task, n))) for n in (1, 10, 100)}
    rows = {n: kernel_alone(lesson("moons_tanh", n)) for n in (1_000, 10_000, 100_000, 1_000_000)}
    wide = {n: engines(wider(f"{n}-{n}-{n}-10", 128), free, folder) for n in WIDTHS}
    units = curves_of({name: {n: ways[name] for n, ways in wide.items()} for name in wide[WIDTHS[0]]})
    threads, clock = Curve(), timed(engine(task, 32), time.perf_counter)
    for n in sorted({1, 2, len(cores)} & set(range(len(cores) + 1))):
        pin(sorted(cores)[:n])
        threads[n] = an_epoch(clock)
    return {
        "seeds": {"base network, 1,000 rows": seeds},
        "training rows": curves_of({"base network, 1 seed": rows}),
        "features, and units of two hidden layers": units,
        "threads (by the clock)": {"base network, 32 seeds": threads},
    }


def an_epoch(seconds: Callable[[int], float], epochs: int = 400) -> float:
    """Milliseconds of an epoch, among so many that the start of each seed does not count."""
    return statistics.median(seconds(epochs) for _ in range(ROUNDS)) / epochs * 1e3


def curves_of(lines: Mapping[str, Mapping[int, Way]]) -> dict[str, Curve]:
    """Milliseconds of an epoch of all seeds, everything in turn."""
    took = in_turn({f"{name} {n}": way for name, ways in lines.items() for n, way in ways.items()})
    return {
        name: {n: took[f"{name} {n}"] * way.updates / 1e3 for n, way in ways.items()} for name, ways in lines.items()
    }


def slope(of: Curve) -> float:
    """d log(time) / d log(number): 1 where twice as many take twice as long, 0 where they cost nothing."""
    return float(np.polyfit(np.log(list(of)), np.log(list(of.values())), 1)[0]) if len(of) > 1 else float("nan")


def drawn(found: Mapping[str, Mapping[str, Curve]]) -> Figure:
    figure = Figure(figsize=(9, 7), dpi=110, layout="constrained")
    for axes, (grows, lines) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
        for (name, of), marker in zip(lines.items(), "osD", strict=False):
            axes.plot(list(of), list(of.values()), marker=marker, label=f"{name}: slope {slope(of):.2f}")
        axes.set(xscale="log", yscale="log", xlabel=grows, ylabel="milliseconds of an epoch")
        times = [time for of in lines.values() for time in of.values()]
        axes.set_ylim(min(times) / 2, max(times) * 2)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.minorticks_off()
        axes.set_xticks(list(of), [f"{n:,}" for n in of])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def memory() -> Iterator[tuple[str, str]]:
    """The most MiB that a process held which trained the base network for so many epochs."""
    for epochs in EPOCHS:
        ran = subprocess.run([sys.executable, HERE / "tasks.py", str(epochs)], check=True, stdout=subprocess.PIPE)
        yield f"{epochs:,}", f"{float(ran.stdout):.0f}"


def pin(cores: list[int]) -> None:
    """Run on these cores alone, where the system can do it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{model}, one core of {os.cpu_count()}, torch {torch.__version__.split('+')[0]}, {time.strftime('%Y-%m-%d')}"
    )


class Printed:
    """A table in Markdown, printed line by line."""

    def __init__(self, title: str, *columns: str) -> None:
        print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")

    def line(self, *cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)


def digits(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def print_all(free: Process, folder: Path, cores: set[int]) -> Iterator[tuple[str, str, float]]:
    """Print every table. Yield the lines of training.csv: (network, way, microseconds of an update)."""
    of = Printed("Lesson 3's base network", "way", "µs per seed and update", "plain PyTorch / it", "lesson / it")
    base = base_network(free, folder)
    for name, took in base.items():
        if isinstance(took, str):
            of.line(name, took, "", "")
        else:
            of.line(name, digits(took), digits(base[PLAIN] / took), digits(base[LESSON] / took))
            yield "moons_tanh", name, took
    columns = ("variant", "lesson", "plain", "bancada", "lesson / bancada", "plain / bancada")
    of = Printed("The lessons' variants, µs per update, one seed", *columns)
    for variant, took in lessons_variants(free, folder):
        ratios = (took["lesson"] / took["bancada"], took["plain"] / took["bancada"])
        of.line(variant, *map(digits, [*took.values(), *ratios]))
        yield from ((variant, name, each) for name, each in took.items())
    of = Printed("Wider networks, µs per update", "network", "way", "µs per seed and update", "it / compiled engine")
    for network, took in wider_networks(free, folder):
        for name, each in took.items():
            of.line(network, name, digits(each), digits(each / took["compiled engine"]))
            yield network, name, each
    found = curves(free, folder, cores)
    for grows, lines in found.items():
        numbers = next(iter(lines.values()))
        of = Printed(f"Milliseconds of an epoch by {grows}", "", *(f"{n:,}" for n in numbers), "slope")
        for name, each in lines.items():
            of.line(name, *map(digits, each.values()), f"{slope(each):.2f}")
    drawn(found).savefig(ROOT / "docs/speed.png")
    of = Printed("The base network trained on one core", "epochs", "most memory, MiB")
    for line in memory():
        of.line(*line)


def main() -> None:
    os.chdir(ROOT)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    pin([min(cores)])
    torch.set_num_threads(1)
    began, free = time.perf_counter(), Process()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="bancada-bench-") as folder:
        results = list(print_all(free, Path(folder), cores))
    free.end()
    with (HERE / "training.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "way", "microseconds_per_seed_and_update", "machine"))
        writer.writerows((network, way, f"{each:.4g}", machine()) for network, way, each in results)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
