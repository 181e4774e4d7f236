"""Locks between processes: a process locks a file while it works, and the lock ends with the process."""

import fcntl
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_S = 0.02


def try_to_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed. Return False if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, patience_s: float = math.inf, on_wait: Callable[[], None] = lambda: None) -> Iterator[IO[str]]:
    """Hold the lock of `path` during the block; create the file if it does not exist.

    Call `on_wait` once if another process holds the lock, and wait. Raise TimeoutError after `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not try_to_lock(file):
            on_wait()
            began = time.monotonic()
            while not try_to_lock(file):
                if time.monotonic() - began > patience_s:
                    raise TimeoutError(f"another process has held {path} for {patience_s:g} s")
                time.sleep(POLL_S)
        yield file
