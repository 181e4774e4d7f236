"""The store of replicas: what a training that was killed left behind, and replicas that are finished.

It lies in .dvc/tmp/bancada/replicas of the main repository, so that temporary experiments share it. An entry is known
by a hash of all that the replica depends on: its recipe and seed, the rows, the code and the installed packages. So it
is never taken where a byte of them differs. It is bounded in size, but for the entries of the stages that are running;
`bancada clean` empties it.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np

from bancada.base import files, stage, syntax, user_code
from bancada.networks.saved import HISTORY_COLUMNS
from bancada.training import checkpoint
from bancada.training.replica import Data, Replica, Trained

MOST_BYTES = 2 * 2**30
LEFT_S = 24 * 3600.0  # what is half-written for so long was left by a kill
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
        elif self.folder and (changed := _changed(json.loads(code.read_text("utf-8"))["modules"], replicas[0].src)):
            why = f"{changed} is not as {code} says, so no seed is taken from the store or kept there"
            print(f"{self.recipe.variant}: {why}; `dvc repro code` brings it up to date", file=sys.stderr)
            self.folder = None
        self.names = [] if self.folder is None else fingerprints(replicas, data, code.read_text("utf-8"))
        self.given: dict[int, Trained] = {}
        self.pruning = Pruning(self.names)

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
                if _has_form(stored) and place not in self.given:
                    self.given[place] = Trained(**stored)
        return self.given

    def put(self, place: int, trained: Trained) -> None:
        """Keep a finished replica."""
        if self.folder is not None and place not in self.given:
            checkpoint.write(self._paths(FINISHED)[place], asdict(trained))
            state = self._paths(UNDER_WAY)[place]
            for path in (state, files.unfinished(state)):
                path.unlink(missing_ok=True)
            self.pruning.written(self._paths(FINISHED)[place])

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


def _has_form(stored: Any) -> bool:
    """Return whether what was stored has the fields of Trained, and values of their types."""
    types = {name: dict if get_origin(hint) is dict else hint for name, hint in get_type_hints(Trained).items()}
    if not isinstance(stored, dict) or stored.keys() != types.keys():
        return False
    plain = all(isinstance(stored[name], of) for name, of in types.items())
    arrays = [value for part in stored.values() if isinstance(part, dict) for value in part.values()]
    return plain and stored["history"].keys() == set(HISTORY_COLUMNS) and all(isinstance(a, np.ndarray) for a in arrays)


def prune(folder: Path, own: Collection[str] = ()) -> int:
    """Remove the oldest entries until all take no more than MOST_BYTES, and what a kill left half-written.

    Entries with the names `own` stay, but count. Return how many bytes are left of MOST_BYTES.
    """
    found = []
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # another process removes entries, too
            of = path.stat()
            if not path.name.startswith("."):
                found.append((of.st_mtime, of.st_size, path))
            elif time.time() - of.st_mtime > LEFT_S:
                path.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            break
        if path.stem not in own:
            path.unlink(missing_ok=True)
            total -= size
    return MOST_BYTES - total


class Pruning:
    """Prunes the folder when what was written may be too much: to look takes as long as to train a small replica."""

    def __init__(self, own: Collection[str]) -> None:
        self.own, self.room = own, 0  # bytes that may be written before the next look

    def written(self, path: Path) -> None:
        """Prune, if there may be no room left for a file that was written. Entries of `own` stay."""
        self.room -= path.stat().st_size
        if self.room < 0:
            self.room = prune(path.parent, self.own)


def clean() -> int:
    """Remove all entries. Return how many there were."""
    at = folder()
    found = list(at.iterdir()) if at and at.is_dir() else []
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
