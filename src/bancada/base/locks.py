"""Locks between processes: a locked file tells that a process is at work, and is free again as soon as it has ended."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_S = 0.02


def try_to_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed. Return False where another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(
    path: Path, patience_s: float | None = None, on_wait: Callable[[], None] = lambda: None
) -> Iterator[IO[str]]:
    """Hold the lock of `path`, a file that is made where there is none, during the block.

    Call `on_wait` once where another process holds it; raise TimeoutError after `patience_s` seconds (None: wait).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not try_to_lock(file):
            on_wait()
            began = time.monotonic()
            while not try_to_lock(file):
                if patience_s is not None and time.monotonic() - began > patience_s:
                    raise TimeoutError(f"another process has held {path} for {patience_s:g} s")
                time.sleep(POLL_S)
        yield file
