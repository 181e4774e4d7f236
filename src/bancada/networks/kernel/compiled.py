"""How the kernel is compiled, and where its machine code is kept.

numba's own cache trusts code whose own file is unchanged, whatever the functions that it calls have become. Here the
code lies in a folder named after a hash of all the sources and versions that it follows from: what is stale is never
found. The folder does not depend on where the sources lie, so every clone of the same commit uses the same code.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy

# Private, but the base of the locators that numba's documented CACHE_LOCATOR_CLASSES names; numba is pinned below 0.69.
from numba.core.caching import _CacheLocator

# _nrt: no function makes an array, which numba then refuses, or counts the references to every view of one, which takes
# time. No cfunc wrapper: none is called from C.
OPTIONS = {
    "nogil": True,
    "fastmath": False,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
INNER = OPTIONS | {"no_cpython_wrapper": True}  # called from compiled code alone
njit, config = cast(Any, numba.njit), cast(Any, numba.config)  # their types do not know all options
F = TypeVar("F", bound=Callable[..., Any])
UNUSED_DAYS = 30  # after which the code of another version is removed


def fingerprint() -> str:
    """Return a hash of all that the machine code follows from, other than the kind of CPU, which numba looks at."""
    versions = (sys.version, numba.__version__, llvmlite.__version__, numpy.__version__)
    switches = (config.BOUNDSCHECK, config.OPT)
    digest = hashlib.sha256(repr((versions, switches)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def folder() -> Path | None:
    """Return where compiled code is kept; None where no folder is safe to use, and each process compiles for itself.

    It belongs to the user alone, for numba keeps code in pickles: who can write there can run code.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "bancada", "kernel")
        path = root / fingerprint()
        new = not path.exists()
        root.parent.mkdir(parents=True, exist_ok=True)
        for one in (root, path):
            one.mkdir(mode=0o700, exist_ok=True)
            found = one.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                return None
        tempfile.TemporaryFile(dir=path).close()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    if new:
        _remove_unused(root)
    return path


def _remove_unused(root: Path) -> None:
    """Remove the code of versions that no process has used for UNUSED_DAYS."""
    for lock in root.glob("*/lock"):
        if time.time() - lock.stat().st_mtime > UNUSED_DAYS * 24 * 3600:
            shutil.rmtree(lock.parent, ignore_errors=True)  # another process may be removing it


FOLDER = folder()


class BySource(_CacheLocator):
    """Tells numba to keep code in FOLDER."""

    def __init__(self, function: FunctionType) -> None:
        self.name = function.__qualname__

    def get_cache_path(self) -> str:
        """Return where code is kept."""
        return str(FOLDER)

    def get_source_stamp(self) -> str:
        """Return what must be the same for code to be used: the hash that names the folder."""
        return FOLDER.name if FOLDER else ""

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return self.name

    @classmethod
    def from_function(cls, function: FunctionType, file: str) -> "BySource":
        """Return the locator for a function."""
        return cls(function)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let the first of many processes compile; the others wait for it and load what it left."""
    if FOLDER is None:
        yield
        return
    with (FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(file.fileno())  # this version is in use
        yield


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls, and keep its code in FOLDER."""
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.BySource"
    try:
        return cast(Callable[..., Any], njit(cache=FOLDER is not None, **OPTIONS)(function))
    finally:
        config.CACHE_LOCATOR_CLASSES = before


def compiled(function: F) -> F:
    """Compile a function that compiled code alone calls."""
    return cast(F, njit(**INNER)(function))


def small(function: F) -> F:
    """Compile a function of a few numbers into the loop that calls it, which could not run side by side otherwise."""
    return cast(F, njit(forceinline=True, **INNER)(function))


def merged(function: F) -> F:
    """Put a function into the one that calls it before the compiler looks at the loops of either."""
    return cast(F, njit(inline="always", **INNER)(function))
