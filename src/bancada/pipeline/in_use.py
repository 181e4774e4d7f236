"""DVC's list of the files that its processes are using (.dvc/tmp/rwlock), so that a killed one leaves nothing to mend.

DVC empties that file before it writes it anew: killed in between, or on a full disk, it leaves one that no DVC command
reads any more. And it tells by the number of a process whether that is still alive, which another may have by now.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from dvc.rwlock import RWLOCK_FILE, RWLockFileCorruptedError, _edit_rwlock, rwlock

from bancada.base.files import whole

OURS = "bancada repro: "


class WholeFiles:
    """As much of a file system as DVC's list needs; it writes a file whole or not at all."""

    join = staticmethod(os.path.join)

    @staticmethod
    @contextmanager
    def open(path: str, mode: str = "r", encoding: str | None = None) -> Iterator[IO[Any]]:
        if mode == "r":
            with Path(path).open(encoding=encoding) as file:
                yield file
            return
        with whole(Path(path)) as unfinished, unfinished.open(mode, encoding=encoding) as file:
            yield file


def using(folder: str, stage: str, read: Sequence[str], write: Sequence[str]) -> AbstractContextManager[None]:
    """Other DVC processes keep off these files meanwhile. LockError where one of them is using them."""
    lock: AbstractContextManager[None] = rwlock(folder, WholeFiles(), f"{OURS}{stage}", read, write, False)
    return lock


def forget_killed(folder: str) -> None:
    """What a killed `bancada repro` left in the list. To be called where no other one runs."""
    path = Path(folder, RWLOCK_FILE)
    if not path.exists() or _is_fine(path.read_text()):
        return
    try:
        with _edit_rwlock(folder, WholeFiles(), False) as lock:
            for file, user in list(lock["write"].items()):
                if user["cmd"].startswith(OURS):
                    del lock["write"][file]
            for file, users in list(lock["read"].items()):
                lock["read"][file] = [user for user in users if not user["cmd"].startswith(OURS)]
    except RWLockFileCorruptedError:
        path.unlink()


def _is_fine(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return f'"{OURS}' not in text
