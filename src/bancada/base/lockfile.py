"""dvc.lock, and DVC's hashes of the files that it names, found by DVC's own code. No stage imports this."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.fs.dvc import DVCFileSystem
from dvc.ignore import DvcIgnoreFilter
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash import file_md5
from dvc_objects.fs.local import localfs

from bancada.base import BadInput
from bancada.base.dvc_errors import told
from bancada.base.git import commit_of, fetch_missing, file_at, refuse_broken

LOCK_FILE = Path("dvc.lock")
DIFFERS = "it is not the one that dvc.lock names"


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock, by stage."""

    stages: dict[str, Any]

    def hashes(self, stage: str, *kinds: str) -> dict[str, str]:
        """Return the hashes of all files that the stage last read or made, by path; `kinds`: of its deps or outs."""
        entry = self.stages.get(stage, {})
        items = [item for kind in kinds or ("deps", "outs") for item in entry.get(kind, ())]
        return {item["path"]: item.get("md5", "") for item in items}

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


def here(root: Path = Path()) -> Lock:
    """Read the dvc.lock in a folder, if there is one. Raise BadInput where the file cannot be read."""
    path = root / LOCK_FILE
    try:
        return parse(path.read_text("utf-8") if path.exists() else "")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{LOCK_FILE}: it cannot be read: {error}") from None


def at_head() -> Lock:
    """Read the dvc.lock of the current folder that is committed, if one is. Raise BadInput where git cannot say."""
    head = commit_of(Path())
    return parse(file_at(Path(), head, str(LOCK_FILE))) if head else NONE


def parse(text: str) -> Lock:
    """Read the text of a dvc.lock. Raise BadInput where it is none."""
    try:
        read = parse_yaml(text, LOCK_FILE)
    except YAMLFileCorruptedError as error:
        raise BadInput(told(error)) from None
    stages = (read.get("stages") or {}) if isinstance(read, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise BadInput(f"{LOCK_FILE}: its stages are no mapping; `git checkout -- {LOCK_FILE}` restores it")
    return Lock(stages)


def dvc_md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a folder without files that .dvcignore hides; empty where nothing is."""
    if not path.exists():
        return ""
    ignore = DvcIgnoreFilter(localfs, str(Path.cwd()))
    _, _, made = build(HashFileDB(localfs, ""), str(path.absolute()), localfs, "md5", dry_run=True, ignore=ignore)
    return str(made.hash_info.value)


def hidden_from_dvc(root: Path) -> Callable[[Path], bool]:
    """Return the question whether a file or folder in the repository at `root` is hidden by a .dvcignore."""
    ignore = DvcIgnoreFilter(localfs, str(root.absolute()))
    return lambda path: bool(ignore.is_ignored(localfs, str(path.absolute())))


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
