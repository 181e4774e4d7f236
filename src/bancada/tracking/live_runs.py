"""Trainings in MLflow while they run: their runs are RUNNING there, and their curves grow."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow.entities import Run

from bancada.base.locks import try_to_lock
from bancada.tracking import mirror, runs
from bancada.tracking.mirror import Description, Point
from bancada.tracking.store import Store, find_run, runs_where
from bancada.tracking.surroundings import Circumstances, locked
from bancada.training import live


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
            self.run_id, self.held = _begin(store, _described(lines.pop(0)), self.asked, self.began_ms)
            self.begun = True
        if lines and self.run_id:
            new = [point for point in _points(lines) if (point.name, point.epoch) not in self.held]
            if not _add_points(store, self.run_id, new):
                self.run_id = ""

    def end(self, store: Store, status: str) -> None:
        """The training ended without a result: FAILED or KILLED."""
        if self.run_id:
            _stop(store, self.run_id, status)

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


def _described(line: str) -> Description:
    run = json.loads(line)
    return mirror.description(run, mirror.inputs_here(run["study"], run["variant"]))


def _points(lines: list[str]) -> list[Point]:
    entries = [json.loads(line) for line in lines]
    columns = {name: np.array([entry[name] for entry in entries]) for name in live.COLUMNS}
    epochs = np.repeat([entry["epoch"] for entry in entries], columns["lr"].shape[1])
    return mirror.points({"epoch": epochs, **{name: values.ravel() for name, values in columns.items()}})


def _begin(
    store: Store, training: Description, asked: Circumstances, began_ms: int
) -> tuple[str, set[tuple[str, int]]]:
    """A training that has begun: its run, RUNNING, and those points of its curves that the run has already. No run
    where the one of these inputs is whole, or is that of another process which trains the same."""
    with locked(store.root):
        found = find_run(store, training.study, training.fingerprint)
        if runs.is_whole(found) or (found and _shown_by_another(found, training.variant)):
            return "", set()
        run = runs.begin(store, found, training, asked, began_ms)
        if not found:
            return run.info.run_id, set()
        store.client.update_run(run.info.run_id, "RUNNING")
        runs.tag(store, run, {runs.LIVE_FILE: runs.live_place(training.variant)})
        return run.info.run_id, runs.held_points(store, run)


def _shown_by_another(run: Run, variant: str) -> bool:
    place = run.data.tags.get(runs.LIVE_FILE, "")
    host, _, path = place.partition(":")
    if run.info.status != "RUNNING" or place in ("", runs.live_place(variant)):
        return False
    return host != socket.gethostname() or live.running(Path(path))


def _add_points(store: Store, run_id: str, points: list[Point]) -> bool:
    """False, and nothing is added, where someone else has completed the run meanwhile."""
    with locked(store.root):
        running = not runs.is_whole(store.client.get_run(run_id))
        if running:
            runs.add_points(store, run_id, points)
        return running


def _stop(store: Store, run_id: str, status: str) -> None:
    """The training ended without a result: FAILED or KILLED, unless its run is whole by another's."""
    with locked(store.root):
        if not runs.is_whole(store.client.get_run(run_id)):
            store.client.set_terminated(run_id, status)


def remove_stale_curves(variant: str) -> None:
    """Remove what a killed training left, before the next one of the variant begins to write."""
    with suppress(FileNotFoundError), live.path_of(variant).open() as file:
        if try_to_lock(file):  # else a training writes it
            live.path_of(variant).unlink(missing_ok=True)


def close_killed(store: Store) -> None:
    """Mark as KILLED the runs that MLflow calls running and whose training does not run any more.

    Those of other machines are left alone. This machine may have had another name, as a container does: a file of the
    same variant at the run's path tells that.
    """
    for run in runs_where(store, f"attributes.status = 'RUNNING' and tags.`{runs.LIVE_FILE}` != ''"):
        host, _, name = run.data.tags[runs.LIVE_FILE].partition(":")
        path, variant = Path(name), (run.data.tags["bancada.study"], run.data.tags["bancada.variant"])
        if (host == socket.gethostname() or _variant_of(path) == variant) and not live.running(path):
            _stop(store, run.info.run_id, "KILLED")


def _variant_of(path: Path) -> tuple[str, str] | None:
    """Return the study and the variant whose training wrote this file."""
    try:
        with path.open() as file:
            run = json.loads(file.readline())
            return run["study"], run["variant"]
    except (OSError, ValueError, KeyError):
        return None
