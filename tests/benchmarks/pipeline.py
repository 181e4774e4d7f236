"""`make bench-pipeline`: the whole pipeline against the lessons' own loops, and what a rerun costs.

Everything in one run, in fresh clones of HEAD: about twenty minutes. The lessons' loops are timed for SAMPLE_S seconds
a variant and scaled to the lesson's epochs, one seed each. What tracking costs is the median of PAIRS: a cold run
without it, then one with it. Writes pipeline.csv beside this file.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
import torch
from bancada.training.engine import EncodedRows, encoded
from rich.console import Console
from rich.table import Table as Printed
from torch import nn

from bancada.data.split import divide
from bancada.networks.start import sequential
from bancada.pipeline.params import load
from bancada.training import fit
from bancada.training.replica import Data
from bancada.training.settings import Recipe
from bancada.training.train import prepared

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SAMPLE_S = 2.0
REPEATS = 5
PAIRS = 3
PARAMS = load(ROOT / "params.yaml")
# Of each stage that is measured: its module, and the function, with its owner, that does its own work. All else is
# start-up, reading and writing.
OWN_WORK = {
    "generate": ("bancada.data.generate", "bancada.data.sources.half_moons:HalfMoons", "make"),
    "split": ("bancada.data.split", "bancada.data.split", "divide"),
    "train": ("bancada.training.train", "bancada.training.replica", "train"),
    "evaluate": ("bancada.evaluation.evaluate", "bancada.evaluation.evaluate", "evaluate"),
}


def lessons_loop(asked: Recipe, rows: EncodedRows, model: nn.Sequential) -> Iterator[None]:
    """One seed by the notebook's way, an epoch at a time: a DataLoader over a list of pairs, `.item()` every batch."""
    loss_of = {"mse": nn.MSELoss(), "half_mse": nn.MSELoss(), "l1": nn.L1Loss(), "bce": nn.BCELoss()}
    targets = rows.targets.argmax(0) if asked.train.loss == "cross_entropy" else rows.targets.T.contiguous()
    loss = loss_of.get(asked.train.loss, nn.CrossEntropyLoss())
    kind = torch.optim.Adam if asked.train.optimizer.name == "adam" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=asked.train.lr)
    pairs = list(zip(rows.features.T.contiguous(), targets, strict=True))
    size = len(rows) if asked.train.batch_size == "full" else int(asked.train.batch_size)
    loader = torch.utils.data.DataLoader(pairs, batch_size=size, shuffle=True)
    while True:
        for x, y in loader:
            model.train()
            model.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            value.item()
        yield


def lessons_seconds(variant: str) -> float:
    """For the lesson's epochs, from as many as SAMPLE_S allows."""
    asked = PARAMS.recipe(variant)
    table = PARAMS.source(asked.study).make(f"studies.{asked.study}.source")
    train_rows = divide(table, PARAMS.studies[asked.study].split)["train"]
    learned = prepared(Path(), train_rows, fit.preparation(PARAMS.training(variant), train_rows))
    rows = encoded(asked, Data(learned, learned, len(train_rows.classes)))[0]
    epochs = lessons_loop(asked, rows, sequential(asked.network.small_layers, [len(rows.features)]))
    next(epochs)
    began, done = time.perf_counter(), 0
    while done < asked.train.epochs and time.perf_counter() - began < SAMPLE_S:
        next(epochs)
        done += 1
    return (time.perf_counter() - began) / done * asked.train.epochs


@contextmanager
def clone() -> Iterator[Path]:
    """A fresh clone of HEAD, with nothing in DVC's cache."""
    folder = Path(tempfile.mkdtemp(prefix="bancada-bench-"))
    try:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
        yield folder / "clone"
    finally:
        shutil.rmtree(folder)


def seconds(folder: Path, *command: str, tracking: str = "off") -> float:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": "src", "BANCADA_TRACKING": tracking}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def median(folder: Path, *command: str) -> float:
    return statistics.median(seconds(folder, *command) for _ in range(REPEATS))


def outside_own_work(folder: Path, stage: str, name: str) -> float:
    """Seconds of a whole stage, tracking off, that are not in the function that does its work.

    The function is called twice, and the second call is what it takes: the first may import libraries.
    """
    module, owner, function = OWN_WORK[stage]
    code = (
        f"import sys, time, pkgutil, {module} as stage\n"
        f"owner = pkgutil.resolve_name({owner!r})\n"
        f"work = owner.{function}\n"
        "def twice(*given, **named):\n"
        "    work(*given, **named)\n"
        "    began = time.perf_counter()\n"
        "    result = work(*given, **named)\n"
        "    print('own', time.perf_counter() - began)\n"
        "    return result\n"
        f"owner.{function} = twice\n"
        "from bancada.base.stage import run\n"
        f"sys.argv = [{stage!r}, {name!r}]\n"
        f"run(stage.main, of={'variants' if stage == 'train' else 'studies'!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": "src", "BANCADA_TRACKING": "off"}
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout
        own = next(float(line.split()[1]) for line in said.splitlines() if line.startswith("own "))
        took.append(time.perf_counter() - began - 2 * own)
    return statistics.median(took)


def replace(folder: Path, old: str, new: str) -> None:
    """In params.yaml."""
    text = (folder / "params.yaml").read_text()
    if old not in text:
        sys.exit(f"params.yaml no longer says {old!r}")
    (folder / "params.yaml").write_text(text.replace(old, new))


def measured() -> Iterator[tuple[str, float, str]]:
    """(what, seconds, remark)"""
    torch.set_num_threads(1)
    lessons = sum(lessons_seconds(variant) for variant in PARAMS.variants)
    yield "the lessons' own loops, one seed each, one after another", lessons, f"from {SAMPLE_S:g} s of each"
    with clone() as folder:
        pairs = [(seconds(folder, "bancada", "repro"), cold("on"))]
        pairs += [(cold("off"), cold("on")) for _ in range(PAIRS - 1)]
        off, on = (statistics.median(took) for took in zip(*pairs, strict=True))
        of_lessons = f"{off / lessons:.2f} of the lessons'"
        yield f"bancada repro, cold, {PARAMS.num_seeds} seeds, tracking off", off, of_lessons
        more = [on / off - 1 for off, on in pairs]
        beside = f"{statistics.median(more):+.1%} beside tracking off ({min(more):+.1%} to {max(more):+.1%})"
        yield "bancada repro, cold, tracking on", on, beside
        status = median(folder, "dvc", "status", "-q")
        yield "dvc status", status, ""
        nothing = median(folder, "bancada", "repro")
        yield "bancada repro with nothing to do", nothing, f"{nothing - status:+.1f} s beside dvc status"
        line = "line_sgd: {study: line, layers: [1]"
        replace(folder, line, line + ", train: {lr: 0.02}")
        yield "line_sgd's lr changed: two stages, tracking off", seconds(folder, "bancada", "repro"), ""
        replace(folder, "lr: 0.02}", "lr: 0.03}")
        yield "line_sgd's lr changed: two stages, tracking on", seconds(folder, "bancada", "repro", tracking="on"), ""
        replace(folder, "epochs: 10000", "epochs: 20")
        for stage, name in (("generate", "moons"), ("split", "moons"), ("train", "moons_tanh"), ("evaluate", "moons")):
            yield f"{stage}@{name} outside its own work", outside_own_work(folder, stage, name), "tracking off"


def cold(tracking: str) -> float:
    with clone() as folder:
        return seconds(folder, "bancada", "repro", tracking=tracking)


def main() -> None:
    table = Printed(title=f"The pipeline, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    for column in ("what", "seconds", ""):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    rows = []
    for what, took, remark in measured():
        print(f"{what}: {took:.1f} s {remark}", flush=True)
        table.add_row(what, f"{took:.1f}", remark)
        rows.append((what, f"{took:.1f}", remark))
    Console().print(table)
    with (HERE / "pipeline.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "seconds", "remark"), *rows])


if __name__ == "__main__":
    main()
