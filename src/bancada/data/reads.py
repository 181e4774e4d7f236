"""Which files a function of the user's opens: DVC must know each of them, so they lie in data/sources."""

import os
import site
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from bancada.base import BadInput, user_code

EVENTS = ("open", "sqlite3.connect")
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/Library", "/System")

# Of each call that is watched now: its src, and where each path was opened, for reading or for writing.
_watched: list[tuple[Path, dict[tuple[str, bool], str]]] = []


@contextmanager
def only_sources(src: Path, file: str) -> Iterator[None]:
    """Raise BadInput if a file is opened meanwhile that DVC does not watch: of this repository, or from elsewhere.

    Nor may a file of the repository be opened for writing.

    Files of Python, of installed packages, of the system, and temporary ones are nobody's data. Modules are followed by
    the stage code. What libraries in C open by themselves, and what other processes do, is not seen. `file`: of the
    user's, named where no line of it is known.
    """
    src, opened = src.absolute(), dict[tuple[str, bool], str]()
    _install()
    _watched.append((src, opened))
    try:
        yield
    finally:
        _watched.pop()
    for (path, writes), place in opened.items():
        shown = Path(path).relative_to(src.parent) if Path(path).is_relative_to(src.parent) else path
        if writes and shown != path and not _inside(path, _of_python()):
            raise BadInput(
                f"{place or file}: writes {shown}; a source must return its rows, and leave files as they are"
            )
        if Path(path).exists() and not _is_fine(path, src.parent):
            way = "move it into data/sources, where DVC notices when it changes"
            raise BadInput(f"{place or file}: opens {shown}; {way}")


def _is_fine(path: str, root: Path) -> bool:
    module = path.endswith(tuple(all_suffixes()))
    if _inside(path, _of_python()):
        return True
    if _inside(path, [root]):
        return _inside(path, [root / "data" / "sources"]) or (module and _inside(path, [root / "src"]))
    return module or _inside(path, [*SYSTEM, tempfile.gettempdir()])


def _inside(path: str, folders: Iterable[str | Path]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


@cache
def _of_python() -> tuple[str, ...]:
    return (sys.prefix, sys.base_prefix, *site.getsitepackages(), site.getusersitepackages())


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # it stays as long as the process


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event in EVENTS and isinstance(args[0], str | bytes | os.PathLike):
        src, opened = _watched[-1]
        writes = event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
        key = os.path.normpath(Path.cwd() / os.fsdecode(args[0])), writes
        if key not in opened:
            opened[key] = ""  # first of all, for what follows may open files
            opened[key] = user_code.place(src)
