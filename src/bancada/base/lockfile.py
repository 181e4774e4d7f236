"""dvc.lock, and DVC's hashes of the files that it names, found by DVC's own code. No stage imports this."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.fs.dvc import DVCFileSystem
from dvc.ignore import DvcIgnoreFilter
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc_data.hashfile.hash import file_md5
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import localfs
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bancada.base import BadInput
from bancada.base.dvc_errors import conflict_in
from bancada.base.git import commit_of, fetch_missing, file_at, refuse_broken

LOCK_FILE = Path("dvc.lock")
DIFFERS = "it is not the one that dvc.lock names"


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock, by stage."""

    stages: dict[str, Any]

    def hashes(self, stage: str) -> dict[str, str]:
        """Return the hashes of all files that the stage last read or made, by path."""
        entry = self.stages.get(stage, {})
        return {item["path"]: item.get("md5", "") for kind in ("deps", "outs") for item in entry.get(kind, ())}

    def agrees(self, stage: str, *paths: Path) -> bool:
        """Return whether these are the files that the stage last read or made; those that dvc.lock does not name count.

        An evaluation, for example, may be older than a model that it is found beside.
        """
        known = self.hashes(stage)
        named = {path: known[path.as_posix()] for path in paths if path.as_posix() in known}
        return all(dvc_md5(path) == md5 for path, md5 in named.items())

    def names(self, stage: str, *paths: Path) -> bool:
        """Return whether these are the files that the stage last read or made, all of which dvc.lock names."""
        known = self.hashes(stage)
        return self.agrees(stage, *paths) and all(known.get(path.as_posix()) for path in paths)


NONE = Lock({})


def here() -> Lock:
    """Read the current folder's dvc.lock, if there is one. Raise BadInput where the file cannot be read."""
    try:
        return parse(LOCK_FILE.read_text("utf-8") if LOCK_FILE.exists() else "")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{LOCK_FILE}: it cannot be read: {error}") from None


def at_head() -> Lock:
    """Read the dvc.lock of the current folder that is committed, if one is. Raise BadInput where git cannot say."""
    head = commit_of(Path())
    return parse(file_at(Path(), head, str(LOCK_FILE))) if head else NONE


def parse(text: str) -> Lock:
    """Read the text of a dvc.lock. Raise BadInput where it is none."""
    try:
        read = YAML(typ="safe").load(text) if text else {}
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f": line {mark.line + 1}" if mark else ""
        raise BadInput(f"{LOCK_FILE}{place}: no YAML{conflict_in(text, LOCK_FILE)}") from None
    stages = (read.get("stages") or {}) if isinstance(read, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise BadInput(f"{LOCK_FILE}: its stages are no mapping; `git checkout -- {LOCK_FILE}` restores it")
    return Lock(stages)


def dvc_md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a folder without files that .dvcignore hides; empty where nothing is."""
    if not path.is_dir():
        return md5(path) if path.exists() else ""
    found = map(Path, DvcIgnoreFilter(localfs, str(Path.cwd())).find(localfs, str(path.absolute())))
    return folder_md5({inside.relative_to(path.absolute()).as_posix(): md5(inside) for inside in found})


def hidden_from_dvc(root: Path) -> Callable[[Path], bool]:
    """Return the question whether a file or folder in the repository at `root` is hidden by a .dvcignore."""
    ignore = DvcIgnoreFilter(localfs, str(root.absolute()))
    return lambda path: bool(ignore.is_ignored(localfs, str(path.absolute())))


def folder_md5(hashes: Mapping[str, str]) -> str:
    """Return DVC's hash of a folder with files of these hashes, by their paths in it."""
    tree = Tree()  # type: ignore[no-untyped-call]  # dvc_data has no types here
    for path, value in hashes.items():
        tree.add(tuple(path.split("/")), Meta(), HashInfo("md5", value))
    tree.digest()
    return str(tree.hash_info.value)


@contextmanager
def files_at(root: Path, commit: str) -> Iterator[Any]:
    """Yield a file system with all files of the repository at `root` as they were at a commit: git's and DVC's.

    Paths are relative to `root`, which need not be git's own. What is in neither DVC's cache nor a remote is listed,
    and an error when it is read.
    """
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # errors are raised
    refuse_broken(root)
    fetch_missing(root, commit)
    with Repo(str(root)) as repo, switch(repo, commit):
        yield DVCFileSystem(repo=repo)


def md5(path: Path) -> str:
    """Return DVC's hash of a file."""
    return str(file_md5(str(path), localfs))
