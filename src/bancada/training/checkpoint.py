"""Any value in one file, and back, bit by bit; and the state of a replica, which is kept now and then.

The file is what Python pickles, after a hash of it. A reader finds the last whole file, whatever happened while the
next one was written.
"""

import hashlib
import os
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bancada.base import files
from bancada.base.variables import variables

DIGEST_BYTES = 32


def write(path: Path, value: Any) -> None:
    """Write the file whole, or not at all. Raise OSError for a full disk.

    Of two processes that write the same file at the same time, one may lose what it wrote.
    """
    stored = pickle.dumps(value)
    lost = suppress(FileNotFoundError)  # the other one took the temporary file
    with lost, files.whole(path) as unfinished, unfinished.open("wb") as file:
        file.write(hashlib.sha256(stored).digest() + stored)
        file.flush()
        os.fsync(file.fileno())  # a power cut leaves the former file or this one


def read(path: Path) -> Any:
    """Return what `write` stored; None where there is no whole file."""
    content = path.read_bytes() if path.exists() else b""
    digest, stored = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return pickle.loads(stored) if hashlib.sha256(stored).digest() == digest else None


class Keeper:
    """Keeps the state of a replica under way in a file; without a path, nowhere."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.last_s = path, time.monotonic()
        self.every_s = variables().checkpoint_s

    def read(self) -> Any:
        """Return the last state, None if there is none."""
        return read(self.path) if self.path else None

    def write(self, state: Callable[[], Any]) -> None:
        """Keep the state, if the last one was kept long enough ago."""
        if self.path and time.monotonic() - self.last_s >= self.every_s:
            write(self.path, state())
            self.last_s = time.monotonic()
