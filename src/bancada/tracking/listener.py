"""The process beside a stage, or beside all of a `bancada repro`: shows trainings while they run, records what ended.

base/notify.py starts it in the stages' folder and says on standard input, a line each, which stage `began STAGE MS`,
`ended STAGE FOLDER` or `failed STAGE`, or that its files were `found STAGE FOLDER` without its having run; the end of
input means that no more is to come. Each line of standard output is a sign of life; `recorded STAGE` says what MLflow
has. What could not be recorded is what stays unsaid, and the last line on standard error says why. No stage imports
this, for it imports mlflow.
"""

import gc
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from bancada.base.notify import RECORDED, first_line
from bancada.base.refusals import BadInput
from bancada.tracking import mirror
from bancada.tracking.live_runs import Shown, close_killed, remove_stale_curves
from bancada.tracking.record import record, record_evaluation, record_training
from bancada.tracking.store import STORE_ERRORS, Store, open_store
from bancada.tracking.surroundings import circumstances, repository_root
from bancada.training import live

POLL_S = 0.5  # how often it is looked what there is to do
SHOW_S = 3.0  # how often the trainings that run are shown: each time costs what a hundred points cost
RETRY_S = 10.0  # how long a store that failed is left alone


class Listener:
    """What is known of the stages; `work` brings the store up to it."""

    def __init__(self) -> None:
        self.asked, self.root = circumstances(), repository_root(Path.cwd())
        self.store: Store | None = None
        self.began_ms: dict[str, int] = {}
        self.running: dict[str, Shown] = {}  # trainings
        self.stopped: list[tuple[Shown, str]] = []  # trainings without a result, and the status that they get
        self.due: list[tuple[str, Path]] = []  # stages that left their files
        self.retry_at = self.show_at = 0.0
        self.why = ""

    def hear(self, line: str) -> None:
        said, stage, *more = line.split()
        kind, _, name = stage.partition("@")
        if said == "began":
            self.began_ms[stage] = int(more[0])
            if kind == "train":
                remove_stale_curves(name)
                self.running[stage] = Shown(name, self.asked, self.began_ms[stage])
            return
        shown = self.running.pop(stage, None)
        if said in ("ended", "found"):
            self.due.append((stage, Path(more[0])))
        elif shown:
            self.stopped.append((shown, "FAILED"))

    def work(self) -> None:
        """What can be done now. After a failure of the store nothing for a while: each try may take seconds."""
        if time.monotonic() < self.retry_at:
            return
        try:
            store = self._open()
            self._show()
            while self.stopped:
                shown, status = self.stopped[0]
                shown.end(store, status)
                del self.stopped[0]
            while self.due:
                self._record(store, *self.due[0])
                del self.due[0]
        except STORE_ERRORS as error:
            self.why, self.retry_at = _one_line(error), time.monotonic() + RETRY_S

    def finish(self) -> None:
        """No more is to come: what still runs was killed."""
        self.stopped += [(shown, "KILLED") for shown in self.running.values()]
        self.running = {}
        self.work()

    def _open(self) -> Store:
        if not self.store:
            self.store = open_store(self.root, answered=sign_of_life)
            close_killed(self.store)
        return self.store

    def _show(self) -> None:
        if time.monotonic() < self.show_at:
            return
        self.show_at = time.monotonic() + SHOW_S
        for stage, shown in list(self.running.items()):
            if self.store and live.path_of(shown.variant).exists():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a run that is shown has to be ended
                try:
                    shown.send(self.store)
                except (ValueError, KeyError) as error:  # not what live.py writes: its result is recorded all the same
                    self.why = _one_line(error)
                    self.stopped.append((self.running.pop(stage), "KILLED"))

    def _record(self, store: Store, stage: str, folder: Path) -> None:
        kind, _, name = stage.partition("@")
        try:
            if kind == "evaluate":
                record_evaluation(store, name, self.asked, self._one_more)
            else:
                result = mirror.result(folder)
                if stage in self.began_ms:
                    record_training(store, result, self.asked, self.began_ms[stage])
                else:
                    record(store, result, self.asked)
            sign_of_life(f"{RECORDED} {stage}")
        except (BadInput, ValueError, KeyError) as error:  # its files are not what they were: others are recorded
            self.why = _one_line(error)

    def _one_more(self) -> None:
        """An evaluation has many runs; trainings go on meanwhile."""
        self._show()


def sign_of_life(said: str = "the store answered") -> None:
    print(said, flush=True)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _read(said: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        said.put(line)


def main() -> None:
    sign_of_life("mlflow is loaded")
    listener = Listener()
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(said,), daemon=True)
    reader.start()
    while reader.is_alive() or not said.empty():
        with suppress(queue.Empty):
            listener.hear(said.get(timeout=POLL_S))
        if said.empty():
            listener.work()
    listener.finish()
    gc.freeze()  # spares Python a last search for garbage, half a second with mlflow, for which a stage would wait
    if listener.why:
        sys.exit(listener.why)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # the last line of defence: whoever started this process tells the user this one line
        sys.exit(_one_line(error))
