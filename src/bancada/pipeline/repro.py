"""`bancada repro`: what `dvc repro --keep-going` does, with a check before it, and leaderboards and MLflow after it."""

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal

import psutil
from dvc.exceptions import ReproductionError

from bancada.base import files, locks, notify, signals
from bancada.base.dvc_errors import described
from bancada.base.stage import FOLDER
from bancada.networks.saved import LR_NULL
from bancada.pipeline import dvc_internals as dvc
from bancada.pipeline import leftovers
from bancada.pipeline.beforehand import refuse_bad_data
from bancada.pipeline.check import CODE_STAGE, named, refuse_sources, warn_of_other_packages
from bancada.pipeline.params import Params, load
from bancada.pipeline.progress import Progress

TERMINAL_S = 0.5  # Ctrl-C in a terminal has reached the stage, too: how long it is not interrupted a second time
GRACE_S = 10.0  # how long an interrupted stage may take to tidy up


def repro(targets: Sequence[str], force: bool = False, quiet: bool = False) -> int:
    """Bring up `targets`, or everything, in the current folder.

    The exit status is 0, 1 where a stage failed, or 2 where one refused its input. Raise BadInput, before anything is
    touched, for wrong parameters, tables and targets.
    """
    params = load()
    warn_of_other_packages()
    with locks.locked(FOLDER / "repro.lock", on_wait=_tell_wait), closing(dvc.open_repo(Path.cwd())) as repo:
        with dvc.held(repo):
            run = Run(repo, targets, params, force)
            refuse_sources(repo, Path.cwd(), params)
            for finding in named(leftovers.find(repo, Path.cwd())):
                print(finding, file=sys.stderr)
        run.go()
    run.explain()
    if run.status == 0 and not quiet:
        evaluated = [study for study in params.studies if f"evaluate@{study}" in run.done]
        show_results([study for study in evaluated if targets or f"evaluate@{study}" in run.ran], evaluated)
    tell_overruled(params, [name for name in params.variants if f"train@{name}" in run.stages])
    run.tell_end()
    return run.status


def _tell_wait() -> None:
    print("waiting for another `bancada repro` to end", file=sys.stderr)


class Run:
    """One pass of DVC over the pipeline."""

    def __init__(self, repo: Any, targets: Sequence[str], params: Params, force: bool) -> None:
        self.repo, self.targets, self.params, self.force = repo, targets, params, force
        self.stages, self.upstream = dvc.planned(repo, targets)
        self.notifier = notify.Notifier()
        self.progress = Progress([])
        self.done: set[str] = set()  # they ran, or are up to date
        self.started: set[str] = set()
        self.ran: list[str] = []
        self.after: set[str] = set()  # stages that ran, and all that depend on one
        self.failed: dict[str, tuple[int, str]] = {}  # the exit status, and why
        self.changed: list[str] = []  # while it ran
        self.stopped = 0  # the first signal that came, such as that of Ctrl-C

    def go(self) -> None:
        """Run what is stale. Raise BadInput, before any stage but `code` runs, for data that do not fit."""
        # The stages find this Python, and leave it to this process to record their results.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        os.environ["BANCADA_TRACKING"] = "off" if self.notifier.off else "shared"
        log = logging.getLogger("dvc.stage.run")  # nothing but this log tells that a stage's command starts
        log.setLevel(logging.INFO)
        log.addFilter(self._began)
        try:
            stale = self._stale()
            if CODE_STAGE in stale:  # all others depend on the files that it makes
                self._bring_up([CODE_STAGE])
                stale = self._stale()
            if stale and not self.failed:
                studies = {_study_of(self.params, name) for name in stale}
                refuse_bad_data(self.params, studies, {study for study in studies if f"split@{study}" in self.done})
                self.progress = Progress(stale)
                rest = self.progress.rest()
                print(f"{len(stale)} of {len(self.stages)} stages may have to run{rest}", flush=True)
                self._bring_up(self.targets)
                again = {name for name, stage in self.stages.items() if stage.always_changed or stage.is_callback}
                self.changed = [name for name in dvc.changed(self.repo, self.targets) if name in {*self.ran} - again]
        finally:
            log.removeFilter(self._began)
            self.notifier.close()

    def _stale(self) -> list[str]:
        """Return the stages that may have to run: those that changed, and all that depend on one. The others are up."""
        changed, stale = dvc.changed(self.repo, self.targets), list[str]()
        for name in self.stages:
            if name in changed or self.upstream[name] & set(stale) or (self.force and name not in self.done):
                stale.append(name)
        self.done |= self.stages.keys() - stale
        return stale

    def _bring_up(self, targets: Sequence[str]) -> None:
        """Let DVC bring up targets, in a thread, so that a signal never comes in the middle of its writing.

        Meanwhile signals are only noted. The first one stops all; where DVC hangs, the program ends without it.
        """
        errors, events = list[BaseException](), SimpleQueue[int]()  # the numbers of signals; 0: DVC is done

        def note(number: int) -> None:
            self.stopped = self.stopped or number
            events.put(number)

        def reproduce() -> None:
            try:
                self.repo.reproduce(targets or None, on_error="keep-going", repro_fn=self._stage)
            except BaseException as error:  # raised again below
                errors.append(error)
            events.put(0)

        with _noted(note):
            Thread(target=reproduce, daemon=True).start()
            if _first(events):
                _end_stage(events)
        if self.stopped:
            raise KeyboardInterrupt if self.stopped == signal.SIGINT else SystemExit(128 + self.stopped)
        if errors and not isinstance(errors[0], ReproductionError):  # what failed is in self.failed
            raise errors[0]

    def _stage(self, stage: Any, **options: Any) -> None:
        """Bring up a stage. Raise where that fails: DVC then leaves out what depends on it."""
        name, began = stage.addressing, time.monotonic()
        options["force"] = self.force and name not in self.done
        try:
            ran = dvc.bring_up(stage, lambda: self.stopped > 0, **options)
        except Exception as error:  # whatever it is, it is told
            if not self.stopped:
                self.failed[name] = _explained(error)
                print(f"{name}: FAILED after {time.monotonic() - began:.1f} s{self.progress.settle(name)}", flush=True)
                if name in self.started:
                    self._notify("failed", name)
                raise
        if self.stopped:
            sys.exit()  # this thread
        self.done.add(name)
        took = time.monotonic() - began
        progress = self.progress.settle(name, took if ran and name in self.started else None)
        if ran:
            how = "finished" if name in self.started else "restored from DVC's cache"
            print(f"{name}: {how} in {took:.1f} s{progress}", flush=True)
            self.ran.append(name)
        if ran or self.upstream[name] & self.after:
            self.after.add(name)
            self._notify("ended", name)

    def _began(self, record: logging.LogRecord) -> bool:
        """Note that a stage's command starts, from DVC's log, which is shown nowhere."""
        if self.stopped:
            sys.exit()  # the thread that would start it
        if found := re.match("Running stage '(.+)':", record.getMessage()):
            name = found[1]
            print(f"{name}: started", flush=True)
            self.started.add(name)
            self._notify("began", name)
        return False

    @property
    def status(self) -> int:
        """The exit status: 0, 1 where a stage failed, 2 where all that failed refused their input."""
        default = 1 if self.changed else 0
        return min((2 if status == 2 else 1 for status, _ in self.failed.values()), default=default)

    def explain(self) -> None:
        """Print why stages failed, and which did not run because of that."""
        for name, (_, why) in self.failed.items():
            print(f"\n{name} failed: {why}", file=sys.stderr)
        if left := [name for name in self.stages if name not in self.done and name not in self.failed]:
            print(f"\nnot run, because they depend on it: {', '.join(left)}", file=sys.stderr)
        if self.changed:
            print(f"\nchanged while it ran, so run it again: {', '.join(self.changed)}", file=sys.stderr)

    def tell_end(self) -> None:
        """Print in one line how many stages ran."""
        count, fine = len(self.stages), len(self.done) - len(self.ran)
        if fine == count:
            print(f"nothing to do: all {count} stages are up to date")
        else:
            left_out = count - len(self.done) - len(self.failed)
            told = f", {len(self.failed)} failed, {left_out} not run" if self.failed else ""
            print(f"{len(self.ran)} of {count} stages ran{told}, {fine} were up to date")

    def _notify(self, event: Literal["began", "ended", "failed"], name: str) -> None:
        """Tell the process that records results in MLflow of trainings, evaluations and the report."""
        kind, _, of = name.partition("@")
        if kind == "train":
            self.notifier.tell(event, name, files.model(self.params.variants[of].study, of))
        elif kind == "evaluate":
            self.notifier.tell(event, name, files.evaluation(of))
        elif name == "report":
            self.notifier.tell(event, name, files.REPORT)


def _explained(error: Exception) -> tuple[int, str]:
    """Return the exit status of a stage, and why it failed. A shell that outlives its command adds 128 to a signal."""
    if not (found := re.search(r"exited with (-?\d+)$", str(error))):
        return 1, described(error)
    status = int(found[1])
    name = next((number.name for number in signal.Signals if number in (-status, status - 128)), "")
    often = " (often: out of memory)" if name == "SIGKILL" else ""
    return status, f"{f'killed by {name}{often}' if name else f'exit status {status}'}; its output stands above"


@contextmanager
def _noted(note: Callable[[int], None]) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a closed terminal be noted during the block, where they are not ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *signals.ENDING)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda came, _: note(came))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(events: SimpleQueue[int]) -> int:
    """Return the first event. A signal that comes right before a wait does not end it, so no wait is without an end."""
    while True:
        with suppress(Empty):  # nothing has come yet
            return events.get(timeout=TERMINAL_S)


def _end_stage(events: SimpleQueue[int]) -> None:
    """End the stage that runs: first as Ctrl-C, so that it leaves no half-written file, then by force."""
    for sent, patience_s in ((0, TERMINAL_S), (signal.SIGINT, GRACE_S)):
        _send(sent)
        with suppress(Empty):  # it has not ended yet
            if not events.get(timeout=patience_s):
                return
            break  # another signal: no patience
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        _send(signals.KILL)  # also to what DVC has started since
        with suppress(Empty):  # it has not ended yet
            if not events.get(timeout=TERMINAL_S):
                return


def _send(sent: int) -> None:
    """Send a signal to the processes of the stage that runs; the one that records results has a session of its own.

    On Windows, which has neither sessions nor such signals, all of them are ended.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # it has ended by itself
            if not hasattr(os, "getsid"):
                if sent:
                    process.kill()
            elif os.getsid(process.pid) == os.getsid(0):
                process.send_signal(sent)


def _study_of(params: Params, stage: str) -> str:
    kind, _, name = stage.partition("@")
    return params.variants[name].study if kind == "train" and name in params.variants else name


def show_results(boards: Sequence[str], studies: Sequence[str]) -> None:
    """Print leaderboards, a sentence for each of the studies, and the next command to type."""
    from bancada.evaluation.words import report

    if shown := report(boards, studies):
        print(shown)
    if studies:
        print("\nNext: make ui    (mlflow ui; it prints the address of each study's page)")


def tell_overruled(params: Params, variants: Sequence[str]) -> None:
    """Print which learning rates of these variants the `lr` at the top of params.yaml replaces, if any."""
    sentences = [one for variant in variants for one in params.training(variant).overruled().split("; ")]
    start = f"lr = {params.lr} replaces "
    rates = list(dict.fromkeys(one.removeprefix(start) for one in sentences if one.startswith(start)))
    if rates:
        print(f"\nparams.yaml: {start}{', '.join(rates)}; {LR_NULL}", file=sys.stderr)
