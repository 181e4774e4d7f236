"""How the kernel is compiled, and where its machine code is kept.

numba's own cache trusts code whose own file is unchanged, whatever the functions that it calls have become. Here the
code lies in a folder named after a hash of all the sources and versions that it follows from: what is stale is never
found. The folder does not depend on where the sources lie, so every clone of the same commit uses the same code.
"""

import hashlib
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy

# Not documented; numba is pinned below 0.69.
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from bancada.base import compiled_code, files, locks

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
NEEDED_BYTES = 2**24  # many times what the code takes
NO_PART = re.compile("CACHE_|COLOR_|CUDA_|.*THREAD")  # switches of numba that have no part in machine code
HASH_BYTES = hashlib.sha256().digest_size
UNUSED_DAYS = 30  # after which the code of another version is removed


def fingerprint() -> str:
    """Return a hash of all that the machine code follows from."""
    versions = (sys.version, numba.__version__, llvmlite.__version__, numpy.__version__)
    plain = (bool, int, float, str, type(None))
    switches = [one for one in sorted(vars(config).items()) if one[0].isupper() and not NO_PART.match(one[0])]
    switches = [(name, value) for name, value in switches if isinstance(value, plain)]
    machine = cpu_target.target_context.codegen().magic_tuple()  # the kind of CPU and what it can, as numba sees it
    digest = hashlib.sha256(repr((versions, switches, machine)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def folder() -> Path | None:
    """Return where compiled code is kept; None where no folder is safe to use, and each process compiles for itself.

    It belongs to the user alone, for numba keeps code in pickles: who can write there can run code.
    """
    if config.DISABLE_JIT:
        return None
    try:
        root = compiled_code.root()
        path = root / fingerprint()
        new = not path.exists()
        root.parent.mkdir(parents=True, exist_ok=True)
        for one in (root, path):
            one.mkdir(mode=0o700, exist_ok=True)
            found = one.lstat()
            if not stat.S_ISDIR(found.st_mode):
                return None
            if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & 0o022):
                return None
        if not any(path.glob("*.made")):  # code that is there is used where nothing can be written, too
            tempfile.TemporaryFile(dir=path).close()
            if shutil.disk_usage(path).free < NEEDED_BYTES:
                return None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    if new:
        _remove_unused(root)
    return path


def _remove_unused(root: Path) -> None:
    """Remove the code of versions that no process has used for UNUSED_DAYS."""
    for path in root.iterdir():
        with suppress(FileNotFoundError):  # another process may be removing it
            if time.time() - path.stat().st_mtime > UNUSED_DAYS * 24 * 3600:
                shutil.rmtree(path, ignore_errors=True)


FOLDER = folder()


class Kept(NullCache):
    """Keeps the code of a function in FOLDER, if it can: no damaged file and no full disk stops a training.

    In place of numba's own cache, whose files have no hash: changed bytes within machine code would run.
    """

    whole = True  # whether all code that this process compiled is kept

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__name__

    def load_overload(self, signature: Any, context: Any) -> CompileResult | None:
        """Return the code for arguments of these types, or None."""
        context.refresh()
        with suppress(OSError):  # most often there is no file
            kept = self._path(signature).read_bytes()
            if hashlib.sha256(kept[HASH_BYTES:]).digest() == kept[:HASH_BYTES]:
                return cast(CompileResult, CompileResult._rebuild(context, *pickle.loads(kept[HASH_BYTES:])))
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep code. What numba calls dynamic, addresses of this process, cannot be kept."""
        if result.library.has_dynamic_globals:
            return
        code = dumps(result._reduce())
        try:
            with files.whole(self._path(signature)) as path:
                path.write_bytes(hashlib.sha256(code).digest() + code)
        except OSError:  # the disk is full, or can only be read
            Kept.whole = False

    def _path(self, signature: Any) -> Path:
        return cast(Path, FOLDER) / f"{self.name}-{hashlib.sha256(repr(signature).encode()).hexdigest()[:16]}.code"


@contextmanager
def one_at_a_time(part: str) -> Iterator[None]:
    """Let the first of many processes compile a part; the others wait for it and load what it left."""
    with ExitStack() as lock:
        if FOLDER is not None:
            with suppress(OSError):  # where nothing can be written, nobody has to wait
                os.utime(FOLDER)  # this version is in use
                if not (FOLDER / f"{part}.made").exists():
                    lock.enter_context(locks.locked(FOLDER / f"{part}.lock"))
        yield
        if FOLDER is not None and Kept.whole:
            with suppress(OSError):  # where nothing can be written, the code was there already
                (FOLDER / f"{part}.made").touch()


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls, and keep its code in FOLDER."""
    made = njit(**OPTIONS)(function)
    if FOLDER is not None:
        made._cache = Kept(function)  # as enable_caching() of a dispatcher sets its own
    return cast(Callable[..., Any], made)


def compiled(function: F) -> F:
    """Compile a function that compiled code alone calls."""
    return cast(F, njit(**INNER)(function))


def small(function: F) -> F:
    """Compile a function of a few numbers into the loop that calls it, which could not run side by side otherwise."""
    return cast(F, njit(forceinline=True, **INNER)(function))


def merged(function: F) -> F:
    """Put a function into the one that calls it before the compiler looks at the loops of either."""
    return cast(F, njit(inline="always", **INNER)(function))
