"""Trainings in MLflow while they run: their runs are RUNNING there, and their curves grow."""

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# isort: split  (store.py sets how mlflow is to behave, before mlflow is loaded)
from mlflow.entities import Run

from bancada import live, mirror
from bancada.mirror import Point
from bancada.store import Store, runs_where
from bancada.surroundings import Circumstances
from bancada.tracking import add_points, begin, held_points, is_whole

LIVE_FILE = "bancada.live_file"  # tag: HOST:PATH of what live.py writes


@dataclass
class Shown:
    """One training, which `asked` for by whom and `began_ms`; `send` is called again and again."""

    variant: str
    asked: Circumstances
    began_ms: int
    run: Run | None = None
    held: set[tuple[str, int]] = field(default_factory=set)  # points that the run has of a training that was killed
    read: int = 0  # bytes of the live file

    def send(self, store: Store) -> None:
        """The epochs that have come since; the run is made, or found again, with the first of them."""
        lines = self._new_lines()
        if lines and not self.run:
            self._begin(store, mirror.training(json.loads(lines.pop(0))))
        if lines and self.run and not is_whole(self.run):  # a whole one has all that could be shown
            new = [point for point in _points(lines) if (point.name, point.epoch) not in self.held]
            add_points(store, self.run.info.run_id, new)

    def end(self, store: Store, status: str) -> None:
        """The training ended without a result: FAILED or KILLED."""
        if self.run and not is_whole(self.run):
            store.client.set_terminated(self.run.info.run_id, status)

    def _begin(self, store: Store, training: mirror.Training) -> None:
        place = {LIVE_FILE: f"{socket.gethostname()}:{live.path_of(self.variant).absolute()}"}
        self.run, found = begin(store, training, self.asked, self.began_ms, place)
        if found and not is_whole(self.run):
            self.held = held_points(store, self.run)

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


def close_killed(store: Store) -> None:
    """The trainings of this machine that MLflow takes for running, and that do not run, were KILLED."""
    host = socket.gethostname()
    for run in runs_where(store, f"attributes.status = 'RUNNING' and tags.`{LIVE_FILE}` like '{host}:%'"):
        if not live.running(Path(run.data.tags[LIVE_FILE].removeprefix(f"{host}:"))):
            store.client.set_terminated(run.info.run_id, "KILLED")
