"""Locks between processes: a process locks a file while it works, and the lock ends with the process.

Where the file system has no locks of its own, as some NFS and Lustre mounts have none, a file beside it that names the
process takes their place.
"""

import errno
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import SoftFileLock, Timeout, lock_descriptor

POLL_S = 0.02
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # of a file system that has none


@contextmanager
def attempt(file: IO[str]) -> Iterator[bool]:
    """Lock an open file during the block, and until it is closed. Yield False if another process holds the lock."""
    locked, beside = _flock(file), SoftFileLock(f"{file.name}.held", blocking=False)
    if locked is None:
        with suppress(Timeout):  # another process has it
            beside.acquire()
        locked = beside.is_locked
    try:
        yield locked
    finally:
        beside.release()


@contextmanager
def locked(path: Path, patience_s: float = math.inf, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of `path` during the block; create the file if it does not exist.

    Call `on_wait` once if another process holds the lock, and wait. Raise TimeoutError after `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    began, told = time.monotonic(), False
    while True:
        with path.open("w") as file, attempt(file) as mine:
            if mine:
                yield
                return
        if not told:
            on_wait()
            told = True
        if time.monotonic() - began > patience_s:
            raise TimeoutError(f"another process has held {path} for {patience_s:g} s")
        time.sleep(POLL_S)


def exist(folder: Path) -> bool:
    """Return whether the file system of a folder has locks."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return _flock(file) is not None


def _flock(file: IO[Any]) -> bool | None:
    """Lock an open file. Return False if another process holds the lock, None if the file system has no locks."""
    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
