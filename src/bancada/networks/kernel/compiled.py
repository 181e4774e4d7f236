"""How the kernel is compiled, and where its machine code is kept.

numba's own cache trusts code whose own file is unchanged, whatever the functions that it calls have become. Here the
code lies in a folder named after a hash of all the sources and versions that it follows from: what is stale is never
found. The folder does not depend on where the sources lie, so every clone of the same commit uses the same code.
"""

import hashlib
import os
import pickle
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

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
NO_PART = re.compile("CACHE_|COLOR_|CUDA_|.*THREAD")  # switches of numba that have no part in machine code
HASH_BYTES = hashlib.sha256().digest_size


def fingerprint() -> str:
    """Return a hash of all that the machine code follows from."""
    versions = (sys.version, numba.__version__, llvmlite.__version__, numpy.__version__)
    names = [name for name in sorted(vars(config)) if name.isupper() and not NO_PART.match(name)]
    switches = [(name, getattr(config, name)) for name in names]
    switches = [pair for pair in switches if isinstance(pair[1], bool | int | float | str | None)]
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
        for one in (root, path):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = one.lstat()
            others = hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022)
            if others or not stat.S_ISDIR(found.st_mode):
                return None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return path


FOLDER = folder()


class Kept(NullCache):
    """Keeps the code of a function in FOLDER, if it can: no damaged file and no full disk stops a training.

    In place of numba's own cache, whose files have no hash: changed bytes within machine code would run.
    """

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
        if not result.library.has_dynamic_globals:
            code = dumps(result._reduce())
            with suppress(OSError), files.whole(self._path(signature)) as path:  # the disk may be full
                path.write_bytes(hashlib.sha256(code).digest() + code)

    def _path(self, signature: Any) -> Path:
        return cast(Path, FOLDER) / f"{self.name}-{hashlib.sha256(repr(signature).encode()).hexdigest()[:16]}.code"


@contextmanager
def one_at_a_time(function: str) -> Iterator[None]:
    """Let the first of many processes compile what ends with this function; the others wait and load what it left."""
    with ExitStack() as lock:
        if FOLDER is not None and not any(FOLDER.glob(f"{function}-*.code")):
            with suppress(OSError):  # where nothing can be written, nobody has to wait
                lock.enter_context(locks.locked(FOLDER / f"{function}.lock"))
        yield


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls, and keep its code in FOLDER."""
    made = njit(**OPTIONS)(function)
    if FOLDER is not None:
        made._cache = Kept(function)  # as enable_caching() of a dispatcher sets its own
    return cast(Callable[..., Any], made)


compiled = njit(**INNER)  # a function that compiled code alone calls
# A function of a few numbers: compiled into the loop that calls it, which could not run side by side otherwise.
small = njit(forceinline=True, **INNER)
# Put into the function that calls it before the compiler looks at the loops of either.
merged = njit(inline="always", **INNER)
