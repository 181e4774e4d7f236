"""The store of replicas: what a training that was killed left behind, and replicas that are finished.

It lies in .dvc/tmp/bancada/replicas of the main repository, so that temporary experiments share it. An entry is known
by a hash of all that the replica depends on: its recipe and seed, the rows, the code and the installed packages. So it
is never taken where a byte of them differs. Before each training the oldest entries are removed that take more than
MOST_BYTES; `bancada clean` empties the store.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bancada.base import files, stage, syntax, user_code
from bancada.base.variables import variables
from bancada.networks.saved import Trained
from bancada.training import checkpoint, replica
from bancada.training.replica import Data, Disagreement, Draws, Replica, Report

MOST_BYTES = 2 * 2**30
FOLDER = stage.FOLDER / "replicas"
# The end of an entry's name: a state in the middle of a training, a finished replica of a stage that was killed before
# it ended, and one of a stage that ended.
UNDER_WAY, FINISHED, OF_FINISHED_STAGE = ".state", ".trained", ".done"
DIFFER = 3  # the exit status of pipeline/locked.py where deps or params differ from dvc.lock's


def folder() -> Path | None:
    """Return the folder of the store; None where nothing is to be taken or kept, as in `bancada verify`."""
    if variables().replicas == "off" or not stage.DVC_FOLDER.is_dir():
        return None
    return Path(os.environ.get("DVC_ROOT", ".")) / FOLDER


class Store:
    """The entries of the replicas of one stage."""

    def __init__(self, replicas: Sequence[Replica], data: Draws) -> None:
        self.replicas, self.recipe, self.folder = replicas, replicas[0].recipe, folder()
        path, self.names = files.code("train", self.recipe.variant), list[str]()
        if not path.exists():  # the stage was started by hand: nobody knows whether the code is the same
            self.folder = None
        if self.folder:
            code = json.loads(path.read_text("utf-8"))
            if changed := _changed(code["modules"], replicas[0].src):
                why = f"{changed} is not as {path} says, so no seed is taken from the store or kept there"
                print(f"{self.recipe.variant}: {why}; `dvc repro code` brings it up to date", file=sys.stderr)
                self.folder = None
                return
            self.names = fingerprints(replicas, data, code)
            prune(self.folder, self.names)

    def take(self) -> dict[int, Trained]:
        """Return the finished replicas that are in the store, by position.

        Where dvc.lock already holds this stage with the same deps and params, somebody forces it to run: then only what
        a stage left that did not end.
        """
        found = self._read(FINISHED)
        ended = self._read(OF_FINISHED_STAGE)
        return found if not ended or self._is_in_the_lock() else ended | found

    def _read(self, suffix: str) -> dict[int, Trained]:
        read = {place: checkpoint.read(path) for place, path in enumerate(self._paths(suffix))}
        return {place: trained for place, trained in read.items() if trained}

    def _is_in_the_lock(self) -> bool:
        """Ask DVC, in a process of its own, because no stage imports it. What it cannot say counts as yes."""
        command = [sys.executable, "-m", "bancada.pipeline.locked", f"train@{self.recipe.variant}"]
        return subprocess.run(command, check=False).returncode != DIFFER

    def end(self) -> None:
        """Remember that the stage ended: from now on its replicas are those of a finished stage."""
        for before, after in zip(self._paths(FINISHED), self._paths(OF_FINISHED_STAGE), strict=True):
            with suppress(FileNotFoundError):  # another process has done it, or it was taken from there
                before.replace(after)

    def put(self, place: int, trained: Trained) -> None:
        """Keep a finished replica."""
        if self.folder:
            checkpoint.write(self._paths(FINISHED)[place], trained)
            self._paths(UNDER_WAY)[place].unlink(missing_ok=True)

    def missing(self, found: Collection[int]) -> dict[int, Replica]:
        """Return the replicas that are not `found`, by position, each with the file for its state."""
        states = dict(enumerate(self._paths(UNDER_WAY)))
        left = {place: one for place, one in enumerate(self.replicas) if place not in found}
        return {place: replace(one, state=states.get(place)) for place, one in left.items()}

    def _paths(self, suffix: str) -> list[Path]:
        return [self.folder / f"{name}{suffix}" for name in self.names] if self.folder else []


def train(kept: Store, data: Draws, report: Report, what: str = "seeds", at_once: int | None = None) -> list[Trained]:
    """Train the replicas that are not in the store. Return the results of all, in their order.

    `what` they are, in words. `at_once`: how many an engine gets, all of which it may train side by side.
    """
    found, count = kept.take(), len(kept.replicas)
    if found:
        print(f"{kept.recipe.variant}: {len(found)} of {count} {what} from the store", flush=True)
    for place, one in found.items():
        report.ended(place, one)
    left = list(kept.missing(found).items())
    for first in range(0, len(left), at_once or count):
        try:
            with closing(replica.train(dict(left[first : first + (at_once or count)]), data, report)) as trained:
                for place, one in trained:
                    kept.put(place, one)
                    report.ended(place, one)
                    found[place] = one
        except Disagreement as error:
            forget(error.machines)
            raise
    return [found[place] for place in range(count)]


def fingerprints(replicas: Sequence[Replica], data: Draws, code: Mapping[str, Any]) -> list[str]:
    """Return a hash of all that each replica depends on. `code`: the content of the stage's file in data/code.

    The metric of a search, which is there too, chooses among replicas, but changes none.
    """
    machine = variables().ray or platform.node()  # which is not known, where it is one of a cluster
    packages, code = {package: version(package) for package in code["packages"]}, {**code, "metric": None}
    rows = {draw: _digest(data[draw]) for draw in {one.draw for one in replicas}}
    found = []
    for one in replicas:
        recipe = one.recipe.model_dump(mode="json", exclude={"seeds", "study", "variant"})
        portable = one.recipe.device == "cpu" and one.recipe.train.bits == "portable"
        depends_on = [recipe, code, packages, rows[one.draw], "" if portable else machine, one.seed]
        found.append(hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:40])
    return found


def _digest(data: Data) -> str:
    digest = hashlib.sha256(str(data.classes).encode())
    for rows in (data.train, data.validation):
        for array in (rows.inputs, rows.targets):
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _changed(modules: Mapping[str, str], src: Path) -> str | None:
    """Return the first module that is not the one of this hash, if any is. `src` holds the user's files."""
    own = ("bancada", *user_code.FOLDERS)
    ours, users = (syntax.Folder(path, frozenset(modules), own=own) for path in (Path("src"), src))
    for name, digest in modules.items():
        folder = users if name.partition(".")[0] in user_code.FOLDERS else ours
        with suppress(ValueError):  # it cannot be parsed
            path = folder.path_of(name)
            if path and folder.read(name, path).digest == digest:
                continue
        return name
    return None


def prune(folder: Path, own: Collection[str] = ()) -> None:
    """Remove the oldest entries until all take no more than MOST_BYTES. Those with the names `own` stay, but count."""
    found = []
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # another process removes entries, too
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total > MOST_BYTES and path.stem not in own:
            path.unlink(missing_ok=True)
            total -= size


def forget(machines: Collection[str]) -> None:
    """Remove all that these machines of a cluster have trained."""
    at = folder()
    for path in at.glob("*") if at else []:
        trained = checkpoint.read(path) if path.suffix in (FINISHED, OF_FINISHED_STAGE) else None
        if trained and trained.machine in machines:
            path.unlink(missing_ok=True)


def clean() -> int:
    """Remove all entries. Return how many there were."""
    at = folder()
    found = list(at.glob("*")) if at else []
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
