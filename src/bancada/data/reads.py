"""Which files a function of the user's opens: DVC must know each of them, so they lie in data/sources."""

import os
import site
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any, NamedTuple

from bancada.base import BadInput, user_code

PYTHON = (sys.prefix, sys.base_prefix, *site.getsitepackages(), site.getusersitepackages())
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/Library", "/System")


class _Watch(NamedTuple):
    src: Path
    file: str  # of the user's
    temporary: str  # folder
    problems: list[str]


_watches: list[_Watch] = []


@contextmanager
def only_sources(src: Path, file: str) -> Iterator[None]:
    """Let no file be opened meanwhile that DVC does not watch: of this repository, or from elsewhere.

    Nor may a file of the repository be opened for writing. Who opens one gets BadInput with the line, or with `file`
    where no line of the user's is known, and so does the caller if that is caught.

    Files of Python, of installed packages, of the system, and temporary ones are nobody's data. Modules are followed by
    the stage code. What libraries in C open by themselves, and what other processes do, is not seen.
    """
    _install()
    watch = _Watch(src.absolute(), file, tempfile.gettempdir(), [])
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)
    if watch.problems:
        raise BadInput(watch.problems[0])


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # it stays as long as the process


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watches and event in ("open", "sqlite3.connect") and isinstance(args[0], str | bytes | os.PathLike):
        watch = _watches[-1]
        path = Path(os.path.normpath(Path.cwd() / os.fsdecode(args[0])))
        writes = event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
        if problem := _problem(path, watch, writes):
            watch.problems.append(f"{user_code.place(watch.src) or watch.file}: {problem}")
            raise BadInput(watch.problems[-1])


def _problem(path: Path, watch: _Watch, writes: bool) -> str:
    root, module = watch.src.parent, path.name.endswith(tuple(all_suffixes()))
    if any(path.is_relative_to(folder) for folder in PYTHON):
        return ""
    if path.is_relative_to(root):
        path = path.relative_to(root)
        if writes:
            return f"writes {path}; a source must return its rows, and leave files as they are"
        allowed = path.is_relative_to("data/sources") or (module and path.is_relative_to("src"))
    else:
        allowed = module or any(path.is_relative_to(folder) for folder in (*SYSTEM, watch.temporary))
    if allowed or not (root / path).exists():
        return ""
    return f"opens {path}; move it into data/sources, where DVC notices when it changes"
