"""Trainings in MLflow while they run: their runs have the status RUNNING there, and their curves grow."""

import json
import math
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow.entities import Run

from bancada.base import locks
from bancada.tracking import mirror, runs, surroundings
from bancada.tracking.experiments import find_run, is_deleted
from bancada.tracking.store import Failed, Store
from bancada.training import live


@dataclass
class LiveRun:
    """A training that runs; `send` is called again and again."""

    variant: str
    origin: surroundings.Origin
    began_ms: int
    run_id: str = ""  # empty: not known yet, or not ours to write to
    logged: set[runs.Logged] = field(default_factory=set)  # points that the run has of a training that was killed
    engine: str = ""
    seen: int = 0  # lines of the live file

    def send(self, store: Store) -> None:
        """Log the epochs that are new since the last call. Before the first of them, create or find the run."""
        lines = self._lines()
        if lines and not self.seen:
            run = json.loads(lines[0])
            self._begin(store, mirror.description(run, mirror.inputs_here(run["study"], run["variant"])))
            self.engine, self.seen = run["recipe"]["engine"], 1
        new = lines[self.seen :]
        self.seen += len(new)
        if new and self.run_id:
            with store.lock():
                if _is_closed(store, self.run_id):
                    self.run_id = ""
                else:
                    runs.add_points(store, self.run_id, _points(new, self.engine), self.logged)

    def end(self, store: Store, status: str) -> None:
        """Set the status of a training that ended without a result: FAILED or KILLED."""
        if self.run_id:
            _stop(store, self.run_id, status)

    def _lines(self) -> list[str]:
        """Return the complete lines of the live file; none if the training has ended."""
        # Without a file, the training has ended.
        with suppress(FileNotFoundError), live.path_of(self.variant).open() as file:
            return [line for line in file if line.endswith("\n")]
        return []

    def _begin(self, store: Store, training: mirror.Description) -> None:
        """Create or find the run and set it to RUNNING.

        A run that is finished, or that another process with the same training writes to, is left alone, and so is one
        that someone deleted: this training is recorded anew.
        """
        with store.lock():
            found = find_run(store, training.study, training.fingerprint)
            if found and is_deleted(found.info):
                found = None
            if runs.is_finished(found) or _is_anothers(found, training):
                return
            run, self.logged = runs.begin(store, found, training, self.origin, self.began_ms)
            self.run_id = run.info.run_id


def _points(lines: list[str], engine: str) -> list[mirror.Point]:
    """Return the points of lines that live.Curves describes."""
    entries = [json.loads(line) for line in lines]
    complete = [entry for entry in entries if entry.keys() >= set(live.COLUMNS)]
    columns = {name: np.array([entry[name] for entry in complete]) for name in live.COLUMNS}
    epochs = np.repeat([entry["epoch"] for entry in complete], [len(entry["lr"]) for entry in complete])
    return [
        *(mirror.points({"epoch": epochs} | {name: columns[name].ravel() for name in columns}) if complete else []),
        *(
            mirror.Point(f"live/{name}", entry["epoch"], entry[name])
            for entry in entries
            for name in ("train_loss", "validation_loss")
            if "ahead" in entry and math.isfinite(entry[name])
        ),
        *(mirror.ended(entry["finished"]) for entry in entries if "finished" in entry and engine in mirror.ONE_BY_ONE),
    ]


def _is_anothers(run: Run | None, training: mirror.Description) -> bool:
    own = ("", runs.live_place(training.variant))
    return run is not None and run.info.status == "RUNNING" and run.data.tags.get(runs.LIVE_FILE, "") not in own


def _stop(store: Store, run_id: str, status: str) -> None:
    """Set the status, unless the run is closed."""
    with store.lock():
        if not _is_closed(store, run_id):
            store.client.set_terminated(run_id, status)


def _is_closed(store: Store, run_id: str) -> bool:
    """Return whether another process has completed the run, or someone deleted it in MLflow."""
    run = store.client.get_run(run_id)
    return runs.is_finished(run) or is_deleted(run.info)


# --- trainings that were killed -------------------------------------------------------------------------------------


def remove_stale_curves(variant: str) -> None:
    """Remove the live file of a killed training, before the next training of the variant begins to write."""
    # Curves are not worth a result: a file that cannot be read stays.
    with suppress(OSError), live.path_of(variant).open() as file, locks.attempt(file) as free:
        if free:  # otherwise a training writes it
            live.path_of(variant).unlink(missing_ok=True)


def close_killed(store: Store, failed: Failed) -> None:
    """Set the status KILLED for runs that are RUNNING in MLflow, but whose training does not run any more.

    Runs of other machines are left alone.
    """
    with store.part("the runs of trainings that were killed", failed):
        experiments = [each.experiment_id for each in store.client.search_experiments()]
        running = f"attributes.status = 'RUNNING' and tags.`{runs.LIVE_FILE}` != ''"
        for run in store.client.search_runs(experiments, running):
            host, _, name = run.data.tags[runs.LIVE_FILE].partition(":")
            if host == socket.gethostname() and not live.running(Path(name)):
                _stop(store, run.info.run_id, "KILLED")
