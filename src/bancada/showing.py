"""Trainings in MLflow while they run: their runs are RUNNING there, and their curves grow."""

import fcntl
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bancada import live, mirror
from bancada.mirror import Point
from bancada.store import Store, runs_where
from bancada.surroundings import Circumstances
from bancada.tracking import LIVE_FILE, add_live_points, begin, stop


@dataclass
class Shown:
    """One training: by whom it was `asked` for and when it `began_ms`; `send` is called again and again."""

    variant: str
    asked: Circumstances
    began_ms: int
    run_id: str = ""
    held: set[tuple[str, int]] = field(default_factory=set)  # points that the run has of a training that was killed
    begun: bool = False
    read: int = 0  # bytes of the live file

    def send(self, store: Store) -> None:
        """The epochs that have come since; the run is made, or found again, with the first of them."""
        lines = self._new_lines()
        if lines and not self.begun:
            self.run_id, self.held = begin(store, mirror.training(json.loads(lines.pop(0))), self.asked, self.began_ms)
            self.begun = True
        if lines and self.run_id:
            new = [point for point in _points(lines) if (point.name, point.epoch) not in self.held]
            if not add_live_points(store, self.run_id, new):
                self.run_id = ""

    def end(self, store: Store, status: str) -> None:
        """The training ended without a result: FAILED or KILLED."""
        if self.run_id:
            stop(store, self.run_id, status)

    def _new_lines(self) -> list[str]:
        """Those that are whole; none any more when the training has ended."""
        try:
            with live.path_of(self.variant).open("rb") as file:
                file.seek(self.read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        return whole.decode().splitlines()


def _points(lines: list[str]) -> list[Point]:
    entries = [json.loads(line) for line in lines]
    columns = {name: np.array([entry[name] for entry in entries]) for name in live.COLUMNS}
    epochs = np.repeat([entry["epoch"] for entry in entries], columns["lr"].shape[1])
    return mirror.points({"epoch": epochs, **{name: values.ravel() for name, values in columns.items()}})


def forget_killed(variant: str) -> None:
    """Remove what a killed training left, before the next one of the variant begins to write."""
    with suppress(FileNotFoundError, BlockingIOError), live.path_of(variant).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who writes it holds the lock
        live.path_of(variant).unlink(missing_ok=True)


def close_killed(store: Store) -> None:
    """The trainings that MLflow takes for running, and that do not run, were KILLED. Those of other machines are left
    alone; but this machine may have had another name, as a container does: then their files tell."""
    for run in runs_where(store, f"attributes.status = 'RUNNING' and tags.`{LIVE_FILE}` != ''"):
        host, _, name = run.data.tags[LIVE_FILE].partition(":")
        path = Path(name)
        ours = host == socket.gethostname() or _fingerprint(path) == run.data.tags["bancada.fingerprint"]
        if ours and not live.running(path):
            stop(store, run.info.run_id, "KILLED")


def _fingerprint(path: Path) -> str | None:
    """Of the training that wrote this live file."""
    try:
        with path.open() as file:
            return str(json.loads(file.readline())["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None
