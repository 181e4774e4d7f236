"""The store of replicas: what a training that was killed left behind, and replicas that are finished.

It lies in .dvc/tmp/bancada/replicas of the main repository, so that temporary experiments share it. An entry is known
by a hash of all that the replica depends on: its recipe and seed, the rows, the code and the installed packages. So it
is never taken where a byte of them differs. It is bounded in size; `bancada clean` empties it.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from bancada.base import files, stage
from bancada.training import checkpoint
from bancada.training.replica import Data, Replica, Trained

MOST_BYTES = 2 * 2**30
DIFFER = 3  # the exit status of pipeline/locked.py where deps or params differ from dvc.lock's
FOLDER = stage.FOLDER / "replicas"
# The end of an entry's name: a state in the middle of a training, a finished replica of a stage that was killed before
# it ended, and one of a stage that ended.
UNDER_WAY, FINISHED, OF_FINISHED_STAGE = ".state", ".trained", ".done"


def folder() -> Path | None:
    """Return the folder of the store; None where nothing is to be taken or kept, as in `bancada verify`."""
    if os.environ.get("BANCADA_REPLICAS", "").lower() == "off" or not stage.DVC_FOLDER.is_dir():
        return None
    return Path(os.environ.get("DVC_ROOT", ".")) / FOLDER


class Store:
    """The entries of the replicas of one stage."""

    def __init__(self, replicas: Sequence[Replica], data: Data) -> None:
        self.replicas, self.recipe, self.folder = replicas, replicas[0].recipe, folder()
        code = files.code("train", self.recipe.variant)
        if not code.exists():  # the stage was started by hand: nobody knows whether the code is the same
            self.folder = None
        self.names = [] if self.folder is None else fingerprints(replicas, data, code.read_text("utf-8"))
        self.given: dict[int, Trained] = {}

    def take(self) -> dict[int, Trained]:
        """Return the finished replicas that are in the store, by position.

        Where dvc.lock already holds this stage with the same deps and params, it was forced, or an out was lost: then
        only what a stage left that did not end.
        """
        for suffix in (FINISHED, OF_FINISHED_STAGE):
            places = [place for place, path in enumerate(self._paths(suffix)) if path.exists()]
            if suffix == OF_FINISHED_STAGE and places and self._is_in_the_lock():
                break
            for place in places:
                stored = checkpoint.read(self._paths(suffix)[place])
                if stored and place not in self.given:
                    self.given[place] = Trained(**stored)
        return self.given

    def put(self, place: int, trained: Trained) -> None:
        """Keep a finished replica."""
        if self.folder is not None and place not in self.given:
            checkpoint.write(self._paths(FINISHED)[place], asdict(trained))
            state = self._paths(UNDER_WAY)[place]
            for path in (state, files.unfinished(state)):
                path.unlink(missing_ok=True)
            prune(self.folder)

    def end(self) -> None:
        """Remember that the stage ended: from now on its replicas are those of a finished stage."""
        for before, after in zip(self._paths(FINISHED), self._paths(OF_FINISHED_STAGE), strict=True):
            with suppress(FileNotFoundError):  # another process has done it, or the store was full
                before.replace(after)

    def missing(self) -> dict[int, Replica]:
        """Return the replicas that have to be trained, by position, each with the file for its state."""
        states = self._paths(UNDER_WAY)
        left = {place: one for place, one in enumerate(self.replicas) if place not in self.given}
        return {place: replace(one, state=states[place]) for place, one in left.items()} if states else left

    def _paths(self, suffix: str) -> list[Path]:
        return [self.folder / f"{name}{suffix}" for name in self.names] if self.folder else []

    def _is_in_the_lock(self) -> bool:
        """Ask DVC, in a process of its own, because no stage imports it. What it cannot say counts as yes."""
        command = [sys.executable, "-m", "bancada.pipeline.locked", f"train@{self.recipe.variant}"]
        return subprocess.run(command, check=False).returncode != DIFFER


def fingerprints(replicas: Sequence[Replica], data: Data, code: str) -> list[str]:
    """Return a hash of all that each replica depends on. `code`: the content of the stage's file in data/code."""
    recipe = replicas[0].recipe
    digest = hashlib.sha256()
    for rows in (data.train, data.validation):
        for array in (rows.inputs, rows.targets):
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    portable = recipe.device == "cpu" and recipe.train.bits == "portable"
    shared = [
        recipe.model_dump(mode="json", exclude={"seeds", "study", "variant"}),
        code,
        {package: version(package) for package in json.loads(code)["packages"]},
        data.classes,
        digest.hexdigest(),
        "" if portable else platform.node(),
    ]
    return [
        hashlib.sha256(json.dumps([*shared, replica.seed], sort_keys=True).encode()).hexdigest()[:40]
        for replica in replicas
    ]


def prune(folder: Path, most: int = MOST_BYTES) -> None:
    """Remove the oldest entries until the others take no more than `most` bytes, and what a kill left half-written."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removes entries, too
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            break
        path.unlink(missing_ok=True)
        total -= size


def clean() -> int:
    """Remove all entries. Return how many there were."""
    at = folder()
    found = list(at.iterdir()) if at and at.is_dir() else []
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
