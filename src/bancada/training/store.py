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
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bancada.base import files, stage, syntax, user_code
from bancada.training import checkpoint
from bancada.training.replica import Data, Replica, Trained

MOST_BYTES = 2 * 2**30
FOLDER = stage.FOLDER / "replicas"
UNDER_WAY, FINISHED = ".state", ".trained"  # the end of an entry's name


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
        self.names = fingerprints(replicas, data, code.read_text("utf-8")) if self.folder else []
        if self.folder:
            prune(self.folder, self.names)

    def take(self) -> dict[int, Trained]:
        """Return the finished replicas that are in the store, by position."""
        found = {place: checkpoint.read(path) for place, path in enumerate(self._paths(FINISHED))}
        return {place: trained for place, trained in found.items() if trained}

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


def clean() -> int:
    """Remove all entries. Return how many there were."""
    at = folder()
    found = list(at.glob("*")) if at else []
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
