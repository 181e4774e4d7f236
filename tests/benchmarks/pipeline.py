"""`make bench-pipeline`: the whole pipeline of the lessons against their own loops, and what it costs beside training.

Everything in one run, in fresh clones of HEAD: about twenty minutes. The lessons' loops are timed for SAMPLE_S seconds
a variant and scaled to the lesson's epochs, one seed each. Then each kind of cold run takes its turn, ROUNDS times, and
medians are printed: by the clock, and of processor time, which a busy neighbour changes less. Studies that are no
lessons stay out. Writes pipeline.csv beside this file.
"""

import csv
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
from dvc.utils.hydra import apply_overrides
from tasks import LESSONS, PARAMS, ROOT, lesson
from training import Printed, machine
from ways import Process

from bancada.networks import kernel

HERE = Path(__file__).parent
SAMPLE_S = 2.0
REPEATS = 5
ROUNDS = 3
STAGES = [f"evaluate@{study}" for study in dict.fromkeys(PARAMS.variants[variant].study for variant in LESSONS)]
# The kinds of cold runs: command, variables of the environment; None: an empty folder.
COLD: dict[str, tuple[str, Mapping[str, str | None]]] = {
    "bancada repro": ("bancada", {}),
    "bancada repro, cold code cache": ("bancada", {"XDG_CACHE_HOME": None}),
    "bancada repro, tracking on": ("bancada", {"BANCADA_TRACKING": "on"}),
    "dvc repro": ("dvc", {}),
}
# Of each stage that is measured: its module, and the function, with its owner, that does its own work. All else is
# start-up, reading and writing.
OWN_WORK = {
    "generate": ("bancada.data.generate", "bancada.data.sources.half_moons:HalfMoons", "make"),
    "split": ("bancada.data.split", "bancada.data.split", "divide"),
    "train": ("bancada.training.train", "bancada.training.replica", "train"),
    "evaluate": ("bancada.evaluation.evaluate", "bancada.evaluation.evaluate", "evaluate"),
}


class Took(NamedTuple):
    """Seconds by the clock, and seconds of processor time."""

    wall: float
    processor: float


def lessons_seconds(variant: str, process: Process, folder: Path) -> float:
    """Processor time for the lesson's epochs, on one core, from as many as SAMPLE_S allows."""
    task = lesson(variant)
    seconds = process.way("lesson", task.write(folder))
    seconds(1)
    took, done, epochs = 0.0, 0, 1
    while done < task.recipe.train.epochs and took < SAMPLE_S:
        took, done, epochs = took + seconds(epochs), done + epochs, epochs * 2
    return took / done * task.recipe.train.epochs


@contextmanager
def clone() -> Iterator[Path]:
    """A fresh clone of HEAD, with nothing in DVC's cache."""
    folder = Path(tempfile.mkdtemp(prefix="bancada-bench-"))
    try:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
        yield folder / "clone"
    finally:
        shutil.rmtree(folder)


def took(folder: Path, *command: str, **environment: str) -> Took:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    fixed = {"PATH": path, "PYTHONPATH": "src", "BANCADA_TRACKING": "off"}
    began, before = time.perf_counter(), used()
    done = subprocess.run(command, cwd=folder, env=os.environ | fixed | environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return Took(time.perf_counter() - began, used() - before)


def used() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    of = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of.ru_utime + of.ru_stime


def medians(many: list[Took]) -> Took:
    return Took(*map(statistics.median, zip(*many, strict=True)))


def cold(kind: str) -> Took:
    """A run of all lessons in a fresh clone."""
    command, environment = COLD[kind]
    with clone() as folder:
        given = {name: str(folder.parent / "empty") if value is None else value for name, value in environment.items()}
        found = took(folder, command, "repro", *STAGES, **given)
    print(f"{kind}: {found.wall:.1f} s, {found.processor:.1f} s of processor time", file=sys.stderr, flush=True)
    return found


def own_work(folder: Path, stage: str, name: str) -> tuple[float, Took]:
    """Seconds of a whole stage that are not in the function that does its work, and those of the function.

    The function is called twice, and the second call is what it takes: the first may import libraries.
    """
    module, owner, function = OWN_WORK[stage]
    code = (
        f"import sys, time, pkgutil, {module} as stage\n"
        f"owner = pkgutil.resolve_name({owner!r})\n"
        f"work = owner.{function}\n"
        "def twice(*given, **named):\n"
        "    work(*given, **named)\n"
        "    began, before = time.perf_counter(), time.process_time()\n"
        "    result = work(*given, **named)\n"
        "    print('own', time.perf_counter() - began, time.process_time() - before)\n"
        "    return result\n"
        f"owner.{function} = twice\n"
        "from bancada.base.stage import run\n"
        f"sys.argv = [{stage!r}, {name!r}]\n"
        f"run(stage.main, of={'variants' if stage == 'train' else 'studies'!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": "src", "BANCADA_TRACKING": "off"}
    command = [sys.executable, "-c", code]
    began = time.perf_counter()
    said = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    whole = time.perf_counter() - began
    own = next(Took(*map(float, line.split()[1:])) for line in said.splitlines() if line.startswith("own "))
    return whole - 2 * own.wall, own


def lessons_loops() -> float:
    """Seconds of all lessons, one seed each, one after another."""
    process = Process()
    with tempfile.TemporaryDirectory() as folder:
        found = sum(lessons_seconds(variant, process, Path(folder)) for variant in LESSONS)
    process.end()
    return found


def measured() -> Iterator[tuple[str, Took, str]]:
    """(what, seconds, remark)"""
    lessons = lessons_loops()
    yield "the lessons' own loops, one seed each, one core", Took(lessons, lessons), f"from {SAMPLE_S:g} s of each"
    kernel.ready()  # the compiled code is in the cache
    rounds = [{kind: cold(kind) for kind in COLD} for _ in range(ROUNDS)]
    base = medians([each["bancada repro"] for each in rounds])
    for kind in COLD:
        middle = medians([each[kind] for each in rounds])
        beside = [each[kind].wall - each["bancada repro"].wall for each in rounds]
        remark = f"{middle.wall / lessons:.3f} of the lessons', of processor time {middle.processor / lessons:.3f}"
        if kind != "bancada repro":
            remark += f"; {statistics.median(beside):+.1f} s ({min(beside):+.1f} to {max(beside):+.1f}) or "
            remark += f"{middle.wall / base.wall - 1:+.1%} beside bancada repro"
        yield f"{kind}, cold, {PARAMS.num_seeds} seeds", middle, remark
    with clone() as folder:
        took(folder, "bancada", "repro", *STAGES)
        yield from when_all_is_there(folder)


def when_all_is_there(folder: Path) -> Iterator[tuple[str, Took, str]]:
    """What a run costs in a clone whose stages are up to date."""
    _, training = own_work(folder, "train", "moons_tanh")
    cores = f"{training.processor / training.wall:.2f} cores"
    yield "the training of a lone train@moons_tanh", training, cores
    status = medians([took(folder, "dvc", "status", "-q", *STAGES) for _ in range(REPEATS)])
    yield "dvc status", status, ""
    nothing = medians([took(folder, "bancada", "repro", *STAGES) for _ in range(REPEATS)])
    yield "bancada repro with nothing to do", nothing, f"{nothing.wall - status.wall:+.1f} s beside dvc status"
    apply_overrides(folder / "params.yaml", ["++variants.line_sgd.train.lr=0.02"])
    yield "line_sgd's lr changed: two stages, tracking off", took(folder, "bancada", "repro", *STAGES), ""
    apply_overrides(folder / "params.yaml", ["++variants.line_sgd.train.lr=0.03"])
    on = took(folder, "bancada", "repro", *STAGES, BANCADA_TRACKING="on")
    yield "line_sgd's lr changed: two stages, tracking on", on, ""
    yield beside_own_work(folder, "evaluate", "moons")  # as long as its models are those of its index
    apply_overrides(folder / "params.yaml", ["studies.moons.train.epochs=20"])
    for stage, name in (("generate", "moons"), ("split", "moons"), ("train", "moons_tanh")):
        yield beside_own_work(folder, stage, name)


def beside_own_work(folder: Path, stage: str, name: str) -> tuple[str, Took, str]:
    found = statistics.median(own_work(folder, stage, name)[0] for _ in range(REPEATS))
    return f"{stage}@{name} outside its own work", Took(found, float("nan")), "tracking off"


def main() -> None:
    os.chdir(ROOT)
    began, rows = time.perf_counter(), []
    of = Printed(f"The pipeline, {machine()}", "what", "seconds", "of processor time", "")
    for what, each, remark in measured():
        row = (what, *("" if number != number else f"{number:.1f}" for number in each), remark)
        of.line(*row)
        rows.append(row)
    with (HERE / "pipeline.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "seconds", "processor_seconds", "remark"), *rows])
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
