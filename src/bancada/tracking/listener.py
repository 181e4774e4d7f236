"""The process beside a stage, or beside all stages of a `bancada repro`: it shows trainings and records results.

base/notify.py starts it in the stages' folder. Its standard input has a line for each event: `began STAGE MS`,
`ended STAGE FOLDER`, which has no `began` before it where DVC had the files already, and `failed STAGE`. The end of
input means that no event follows. Each line of standard output is a sign of life: `recorded STAGE` means that MLflow
has the stage's results, `missed STAGE WHY` that it does not have all of them, and `note TEXT` is for the user. If
nothing is said of a stage, the last line on standard error says why it is not recorded.
"""

import gc
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bancada.base.notify import MISSED, NOTE, RECORDED, grouped
from bancada.tracking import live_runs, mirror, record, reports, surroundings
from bancada.tracking.store import STORE_ERRORS, Failed, Store, cause, open_store
from bancada.training import live

POLL_S = 0.5  # how often the listener looks for something to do
SHOW_S = 3.0  # how often it sends new points of the curves: each call takes as long as a hundred points
RETRY_S = 10.0  # how long it leaves a store alone that has failed


def main() -> None:
    """Follow the events on standard input, and exit with the reason where something is not recorded."""
    sign_of_life()
    listener, events = Listener(), queue.SimpleQueue[str]()
    if listener.origin.problem:
        _tell(NOTE, listener.origin.problem)
    reader = threading.Thread(target=_read, args=(events,), daemon=True)
    reader.start()
    while reader.is_alive() or not events.empty():
        with suppress(queue.Empty):  # there is other work to do
            listener.hear(events.get(timeout=POLL_S))
        if events.empty():
            listener.work()
    listener.finish()
    gc.freeze()  # saves Python's last search for garbage: half a second with mlflow, for which a stage would wait
    if listener.reason:
        sys.exit(listener.reason)


class Listener:
    """What is known of the stages; `work` writes it to the store."""

    def __init__(self) -> None:
        self.origin, self.root = surroundings.origin(), surroundings.repository_root(Path.cwd())
        self.store: Store | None = None
        self.began_ms: dict[str, int] = {}
        self.running: dict[str, live_runs.LiveRun] = {}  # trainings, by stage
        self.tasks: list[Callable[[Store], None]] = []
        self.retry_at = self.show_at = 0.0
        self.reason = ""  # of the last failure

    def hear(self, line: str) -> None:
        """Note an event."""
        event, stage, *more = line.split()
        kind, _, name = stage.partition("@")
        if event == "began":
            self.began_ms[stage] = int(more[0])
            if kind == "train":
                live_runs.remove_stale_curves(name)
                self.running[stage] = live_runs.LiveRun(name, self.origin, self.began_ms[stage])
            return
        training = self.running.pop(stage, None)
        if event == "ended":
            self.tasks.append(partial(self._record, stage, Path(more[0])))
        elif training:
            self.tasks.append(partial(training.end, status="FAILED"))

    def work(self) -> None:
        """Do what can be done now, but nothing for a while after the store failed: each try may take seconds."""
        if time.monotonic() < self.retry_at:
            return
        try:
            if not self.store:
                self.store = open_store(self.root, on_progress=sign_of_life, say=partial(_tell, NOTE))
                live_runs.close_killed(self.store, Failed())  # each of the next commands tries that again
            self._show()
            while self.tasks:
                with self.store.part("a task", failed := Failed()):
                    self.tasks[0](self.store)
                self.reason = failed.get("a task", self.reason)
                del self.tasks[0]
        except STORE_ERRORS as error:
            self.reason = cause(error)
            self.retry_at = time.monotonic() + RETRY_S

    def finish(self) -> None:
        """Do the rest. No event follows, so a training that has not ended was killed."""
        self.tasks += [partial(training.end, status="KILLED") for training in self.running.values()]
        self.running = {}
        self.work()

    def _show(self) -> None:
        """Send the new points of the trainings that run, unless that was done a moment ago."""
        if time.monotonic() < self.show_at:
            return
        self.show_at = time.monotonic() + SHOW_S
        for stage, training in self.running.items():
            if self.store and live.path_of(training.variant).exists():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from now on there is a run whose status must be set
                with self.store.part(stage, failed := Failed()):
                    training.send(self.store)
                self.reason = failed.get(stage, self.reason)  # it is tried again, and its result is recorded

    def _record(self, stage: str, folder: Path, store: Store) -> None:
        """Write the results of a stage."""
        kind, _, name = stage.partition("@")
        recorder = record.Recorder(store, self.origin)
        with store.part(stage, recorder.failed):
            if stage == "report":
                reports.write(recorder, folder)
            elif kind == "evaluate":
                recorder.write_study(name, after_each=self._show)  # trainings go on meanwhile
            else:
                result = mirror.result(folder)
                if not recorder.write(result, began_ms=self.began_ms.get(stage)).run_id:
                    store.say(record.left_deleted([result.name]))
        if recorder.failed:
            why = "; ".join(f"{', '.join(what)}: {why}" for why, what in grouped(recorder.failed).items())
            _tell(MISSED, f"{stage} {why.removeprefix(f'{stage}: ')}")
        else:
            _tell(RECORDED, stage)


def _read(events: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        events.put(line)


def sign_of_life() -> None:
    """Write a line to standard output, so that the stage goes on waiting."""
    print("the store answered", flush=True)


def _tell(word: str, text: str) -> None:
    print(word, " ".join(text.split()), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whoever started this process shows the user this one line
        sys.exit(cause(error))
