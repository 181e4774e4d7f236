"""Locks between processes: a process locks a file while it works, and the lock ends with the process."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

POLL_S = 0.02


def attempt(file: IO[str]) -> bool:
    """Lock an open file until it is closed. Return False if another process holds the lock.

    Raise OSError where the file system has no locks, as some NFS and Lustre mounts have none.
    """
    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        raise OSError(error.errno, f"no locks (flock) on this file system: {error.strerror}", file.name) from None


@contextmanager
def locked(path: Path, patience_s: float = math.inf, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of `path` during the block; create the file if it does not exist.

    Call `on_wait` once if another process holds the lock, and wait. Raise TimeoutError after `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not attempt(file):
            on_wait()
            began = time.monotonic()
            while not attempt(file):
                if time.monotonic() - began > patience_s:
                    raise TimeoutError(f"another process has held {path} for {patience_s:g} s")
                time.sleep(POLL_S)
        yield
