"""`bancada repro`: what `dvc repro` does, with independent stages side by side.

A stage begins as soon as all it depends on is done. Among those that may begin, the short stages go first, because
trainings wait for them, and then the longest training. Each result is in DVC's cache and in dvc.lock as soon as its
stage has ended.
"""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from dvc.lock import LockError

from bancada.base import files, notify, tables
from bancada.base.dvc_errors import line_of, shown, told
from bancada.base.refusals import PARAMS_FILE
from bancada.base.stage import cores
from bancada.data.split import parts_of
from bancada.evaluation.settings import check_predict, new_inputs, refuse_unprepared
from bancada.networks.saved import LR_NULL
from bancada.networks.unknown import ignored, refuse_unknown
from bancada.pipeline import dvc_internals as dvc
from bancada.pipeline import leftovers
from bancada.pipeline.check import CODE_STAGE, named, refuse_other_files, warn_of_other_packages
from bancada.pipeline.params import Params, load
from bancada.pipeline.steps import Pipeline
from bancada.training import preparing
from bancada.training.fit import doubts, preparation
from bancada.training.replica import Data, try_first_batch
from bancada.training.settings import TrainingKeys
from bancada.training.train import as_taken, check_device, prepared

POLL_S = 0.05
BLOCKED_S = 2.0  # how long it leaves the repository to another DVC process, before it looks again
GRACE_S = 10.0  # how long an interrupted stage may take to tidy up
TAIL_LINES = 15  # of a failed stage's output


def repro(targets: Sequence[str], jobs: int, force: bool = False, quiet: bool = False) -> int:
    """Bring up `targets`, or everything, in the current folder.

    The exit status is 0, 1 where a stage failed, or 2 where one refused its input. Raise BadInput, before anything is
    touched, for wrong parameters, tables and targets.
    """
    params = load()
    warn_of_other_packages()
    with closing(Pipeline(targets)) as pipeline:
        refuse_other_files(pipeline.repo, Path.cwd(), params)
        for finding in named(leftovers.find(pipeline.repo, Path.cwd())):
            print(finding, file=sys.stderr)
        run = Run(pipeline, params, jobs, force)
        run.go()
        stale = pipeline.still_stale(run.ran)
    run.explain(logs_stay=not quiet)
    if stale:
        print(f"\nchanged while it ran, so run it again: {', '.join(stale)}", file=sys.stderr)
    status = run.status or (1 if stale else 0)
    if status == 0 and not quiet:
        show_results([study for study in params.studies if f"evaluate@{study}" in run.done])
    tell_overruled(params)
    return status


class Run:
    """One pass over the pipeline: a stage is waiting, then ready to run or up to date, then running, done or failed."""

    def __init__(self, pipeline: Pipeline, params: Params, jobs: int, force: bool) -> None:
        self.pipeline, self.params, self.jobs, self.force = pipeline, params, jobs, force
        self.waiting = list(pipeline.stages)
        self.ready: list[str] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.began: dict[str, float] = {}
        self.notifier = notify.Notifier()
        self.done: set[str] = set()
        self.ran: list[str] = []
        self.named: set[str] = set()  # stages of which was said that another DVC process uses their files
        self.after: set[str] = set()  # stages that ran, and all that depend on one
        self.failed: dict[str, tuple[int, str]] = {}  # the exit status, and why

    def go(self) -> None:
        """Run what is stale. Raise BadInput, before any stage but `code` runs, for data that do not fit."""
        self._look()
        if not (self.ready or self.blocked):
            print(f"nothing to do: all {len(self.done)} stages are up to date")
        try:
            checked = False
            while self.ready or self.running or self.blocked:
                if not checked and self.ready not in ([], [CODE_STAGE]):
                    self._check_data()
                    checked = True
                self._start()
                self._wait()
                self._look()
        finally:
            self._interrupt()
            self.notifier.close()
            self.pipeline.resume()

    def _check_data(self) -> None:
        studies = {_study_of(self.params, name) for name in [*self.ready, *self.waiting]}
        refuse_bad_data(self.params, studies, {name for name in studies if f"split@{name}" in self.done})
        to_do = len(self.ready) + len(self.waiting)
        print(f"{to_do} of {len(self.pipeline.stages)} stages may have to run, {self.jobs} at a time", flush=True)

    @property
    def blocked(self) -> bool:
        """Whether a stage whose inputs are done waits for another DVC process."""
        return any(self.pipeline.upstream[name] <= self.done for name in self.waiting)

    @property
    def status(self) -> int:
        """The exit status: 0, 1 where a stage failed, 2 where all that failed refused their input."""
        return min((2 if status == 2 else 1 for status, _ in self.failed.values()), default=0)

    def explain(self, logs_stay: bool) -> None:
        """Print why stages failed, and which did not run because of that."""
        for name, (_, why) in self.failed.items():
            where = f" (all of it: {shown(self.pipeline.log(name))})" if logs_stay else ""
            print(f"\n{name} failed; the end of its output{where}:", file=sys.stderr)
            lines = tail(self.pipeline.log(name))
            print("\n".join(f"  {line}" for line in (lines if lines[-1:] == [why] else [*lines, why])), file=sys.stderr)
        if self.failed and self.waiting:
            print(f"\nnot run, for they depend on it: {', '.join(self.waiting)}", file=sys.stderr)

    def _look(self) -> None:
        """Ask DVC which of the stages whose inputs are done are stale."""
        for name in list(self.waiting):  # in the pipeline's order, so that one pass is enough
            if self.pipeline.upstream[name] <= self.done:
                try:
                    stale = self.force or self.pipeline.is_stale(name)
                except LockError as error:
                    self._wait_for(name, error)
                    continue
                self.waiting.remove(name)
                if stale:
                    self.ready.append(name)
                else:
                    self.done.add(name)
                    if self.pipeline.upstream[name] & self.after:
                        self.after.add(name)
                        self._notify("found", name)  # a result that was there belongs to what ran now
        self.ready.sort(key=lambda name: -cost(self.params, name))

    def _start(self) -> None:
        while self.ready and len(self.running) < self.jobs:
            name = self.ready.pop(0)
            self.began[name] = time.monotonic()
            try:
                side_by_side = min(self.jobs, len(self.running) + 1 + len(self.ready))
                process = self.pipeline.begin(name, self.force, max(1, cores() // side_by_side))
            except LockError as error:
                self.waiting.append(name)
                self._wait_for(name, error)
                continue
            except Exception as error:  # a file that it needs is missing, for example
                self._fail(name, 1, line_of(error))
                continue
            if process:
                print(f"{name}: started", flush=True)
                self.running[name] = process
                self._notify("began", name)
            elif self._finish(name, "restored from DVC's cache"):
                self._notify("found", name)

    def _wait_for(self, name: str, error: LockError) -> None:
        """Let a stage wait until the DVC process that uses its files has ended."""
        dvc.refuse_without_locks(self.pipeline.repo)
        if name not in self.named:
            print(f"{name}: waits for another DVC process: {told(error)}", file=sys.stderr)
        self.named.add(name)

    def _wait(self) -> None:
        """Wait until a stage ends. Other DVC commands may look at the repository meanwhile."""
        if not (self.running or self.blocked):
            return
        self.pipeline.pause()
        if not self.running:
            time.sleep(BLOCKED_S)
        while self.running and all(process.poll() is None for process in self.running.values()):
            time.sleep(POLL_S)
        self.pipeline.resume()
        if not self.running:
            self.pipeline.load()
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[name]
                if process.returncode:
                    self._fail(name, process.returncode, f"exit status {process.returncode}")
                well = not process.returncode and self._finish(name, "finished")
                self._notify("ended" if well else "failed", name)

    def _finish(self, name: str, how: str) -> bool:
        """Store what the stage made. Return whether that was possible."""
        try:
            self.pipeline.end(name)
            self.pipeline.write_lock(name)
        except Exception as error:  # DVC's errors share no base class; any other is raised again
            self._fail(name, 1, line_of(error))
            return False
        print(f"{name}: {how} in {time.monotonic() - self.began[name]:.1f} s", flush=True)
        self.done.add(name)
        self.ran.append(name)
        self.after.add(name)
        return True

    def _fail(self, name: str, status: int, why: str) -> None:
        try:
            self.pipeline.release(name)
            with self.pipeline.log(name).open("a") as log:
                log.write(f"{why}\n")
        except OSError as error:  # on a full disk, what the stage itself printed is lost, too
            if str(error.strerror) not in why:
                why += f"; its output is lost: {error.strerror}"
        self.failed[name] = status, why
        print(f"{name}: FAILED after {time.monotonic() - self.began[name]:.1f} s", flush=True)

    def _notify(self, event: Literal["began", "ended", "found", "failed"], name: str) -> None:
        """Tell the process that records results in MLflow of trainings and evaluations."""
        kind, _, of = name.partition("@")
        if kind in ("train", "evaluate"):
            folder = files.model(self.params.variants[of].study, of) if kind == "train" else files.evaluation(of)
            self.notifier.tell(event, name, folder)

    def _interrupt(self) -> None:
        """End what runs, as Ctrl-C would, so that a stage leaves no half-written file; then by force."""
        for sent in (signal.SIGINT, signal.SIGKILL):
            for process in self.running.values():
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.killpg(process.pid, sent)
            for process in self.running.values():
                with suppress(subprocess.TimeoutExpired):  # then it is killed
                    process.wait(GRACE_S)


def cost(params: Params, stage: str) -> float:
    """Return about how long a training takes, in updates; other stages take less than any, and go first."""
    kind, _, name = stage.partition("@")
    if kind != "train" or name not in params.variants:
        return math.inf
    recipe = params.recipe(name)
    shape = params.source(recipe.study).table_shape()
    rows = params.studies[recipe.study].split.counts(shape.rows)[0] if shape and shape.rows else 1000
    batch = rows if recipe.train.batch_size == "full" else recipe.train.batch_size
    return float(recipe.train.epochs * math.ceil(rows / batch) * (1 + len(recipe.layers or ())))


def _study_of(params: Params, stage: str) -> str:
    kind, _, name = stage.partition("@")
    return params.variants[name].study if kind == "train" and name in params.variants else name


def refuse_bad_data(params: Params, studies: set[str], divided: set[str]) -> None:
    """Raise BadInput where these studies' tables cannot be read, or be split and learned as params.yaml says.

    This comes before DVC removes the outs of the first stage that is to run. The split of those in `divided` is up to
    date.
    """
    check_device(params.device)
    asked = [name for name, variant in params.variants.items() if variant.study in studies]
    if of_torch := [name for name in asked if params.training(name).engine()[0] == "torch"]:
        print(f"trying a first batch with torch: {', '.join(of_torch)}", flush=True)
    for study in params.studies:
        if study in studies:
            made = files.split(study) / "train.parquet"
            parts = _parts(params, study, study in divided and made.exists())
            rows = parts["train"]
            predict = params.studies[study].predict
            check_predict(study, predict, rows.feature_names, rows.words)
            inputs = new_inputs(predict, rows)
            told = dict[str, list[str]]()
            for variant in params.variants_of(study):
                for sentence in _try_variant(params.training(variant), parts, inputs, made):
                    told.setdefault(sentence, []).append(variant)
            for sentence, variants in told.items():
                print(f"{', '.join(variants)}: {sentence}", file=sys.stderr)


def _try_variant(keys: TrainingKeys, parts: dict[str, tables.Table], inputs: tables.Table, path: Path) -> list[str]:
    """Return what is to be told of a variant on these rows. Raise BadInput if it cannot take or learn them."""
    recipe = keys.recipe()
    rows = as_taken(parts["train"], recipe.network)
    learned = preparation(keys, rows)
    for part in files.PARTS[1:]:
        refuse_unknown(f"{PARAMS_FILE}: {keys.written_at('prepare')}: {part} rows", parts[part], learned)
    refuse_unprepared(recipe.study, inputs, recipe.variant, learned)
    training = prepared(path, rows, learned)
    try_first_batch(keys, Data(training, training.first(0), len(rows.classes)))
    told = [*doubts(keys), *preparing.doubts(rows, recipe.train.prepare, recipe.train.standardize)]
    return told + ignored(parts | {"predict": inputs}, learned)


def _parts(params: Params, study: str, made: bool) -> dict[str, tables.Table]:
    """Return the parts of the table as the stages generate and split made them, or will make them."""
    if made:
        return {part: tables.read(files.split(study) / f"{part}.parquet") for part in files.PARTS}
    table = params.source(study).table(f"studies.{study}.source")
    return parts_of(table, params.studies[study].split, f"studies.{study}.split")


def show_results(studies: Sequence[str]) -> None:
    """Print the leaderboards of studies whose evaluation is up to date, and the next command to type."""
    from bancada.evaluation.leaderboard import EXPLANATION, format_leaderboard

    tables_of = {study: files.evaluation(study) / "leaderboard.csv" for study in studies}
    boards = {study: path for study, path in tables_of.items() if path.exists()}
    for study, path in boards.items():
        with path.open(newline="", encoding="utf-8") as file:
            print("\n" + format_leaderboard(list(csv.DictReader(file)), study))
    if boards:
        print(f"\n{EXPLANATION}")
    if studies:
        print("\nNext: make ui    (bancada track, then mlflow ui; it prints the address of each study's page)")


def tell_overruled(params: Params) -> None:
    """Print which learning rates the `lr` at the top of params.yaml replaces, if any."""
    overruled = [params.training(variant).overruled() for variant in params.variants]
    rates = list(dict.fromkeys(text.partition(" replaces ")[2] for text in overruled if text))
    if rates:
        print(f"\nparams.yaml: lr = {params.lr} replaces {', '.join(rates)}; {LR_NULL}", file=sys.stderr)


def tail(log: Path) -> list[str]:
    """Return the last lines of a stage's output; of a progress bar, what it showed last."""
    text = log.read_bytes().decode(errors="replace") if log.exists() else ""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-TAIL_LINES:]
