"""A training's losses while it runs: a file that grows, for tracking.py to show. It is no part of the results.

The training holds a lock on its file, so that anyone can tell a training that runs from one that was killed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from bancada.base.locks import try_to_lock
from bancada.base.notify import tracking
from bancada.base.stage import DVC_FOLDER, FOLDER

if TYPE_CHECKING:  # who reads these files does without torch
    from bancada.training.engine import History

COLUMNS = ("train_loss", "validation_loss", "lr")
MOST_POINTS = 320  # of a curve: no chart of MLflow draws more. The whole history is an artifact of the run


def path_of(variant: str) -> Path:
    return FOLDER / f"{variant}.jsonl"


def kept_epochs(planned: int, last: int) -> Int64[np.ndarray, " kept"]:
    """At most MOST_POINTS of the epochs, evenly spread, with the first and the `last` that was trained among them.

    Chosen from the planned number, so that a training can be shown while it runs by the same epochs.
    """
    chosen = np.unique(np.linspace(0, planned - 1, min(planned, MOST_POINTS)).round().astype(np.int64))
    return np.union1d(chosen[chosen <= last], np.array([last], dtype=np.int64))


@contextmanager
def shown(run: Mapping[str, Any]) -> Iterator[Callable[["History"], None]]:
    """What is to be called after every epoch. `run` says what is trained, as run.json will.

    The first line of the file is `run`, each later one is {"epoch": e, "train_loss": [a number per seed], ...}. There
    is no file where nobody tracks, or where DVC has no folder.
    """
    if tracking() == "off" or not DVC_FOLDER.is_dir():
        yield lambda history: None
        return
    lines = Lines(path_of(run["variant"]), run)
    try:
        yield lines.add
    finally:
        lines.close()


class Lines:
    """Where the file cannot be written, nothing is shown, but the training goes on: its results are recorded all the
    same when it has ended."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        planned = run["recipe"]["train"]["epochs"]
        self.kept, self.seeds = set(kept_epochs(planned, planned - 1).tolist()), len(run["recipe"]["seeds"])
        self.path, self.file = path, self.opened(path)
        self.write(run)

    def opened(self, path: Path) -> IO[str] | None:
        with ExitStack() as failed, suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = failed.enter_context(path.open("a", buffering=1))
            if try_to_lock(file):
                file.truncate(0)  # a killed training left this content
                failed.pop_all()
                return file
        return None

    def add(self, history: "History") -> None:
        epoch = history.epochs - 1
        if epoch in self.kept:
            losses = {name: history.columns[name][: self.seeds, epoch].tolist() for name in COLUMNS}
            self.write({"epoch": epoch, **losses})

    def write(self, line: Mapping[str, Any]) -> None:
        if not self.file:
            return
        try:
            self.file.write(json.dumps(line) + "\n")
        except OSError:  # the disk is full: what comes after a gap would mislead
            self.close()

    def close(self) -> None:
        """Also where the training failed; a file that stays is one of a training that was killed."""
        if not self.file:
            return
        file, self.file = self.file, None
        with suppress(OSError):  # a full disk: the rest of a line cannot be written
            self.path.unlink(missing_ok=True)
            file.close()


def running(path: Path) -> bool:
    """Whether the training that writes this file is alive."""
    try:
        with path.open() as file:
            return not try_to_lock(file)
    except FileNotFoundError:
        return False
