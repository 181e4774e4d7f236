"""Which files a function of the user's opens: DVC must know each of them, so they lie in data/sources."""

import os
import site
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from bancada.base import BadInput, user_code

PYTHON = (sys.prefix, sys.base_prefix, *site.getsitepackages(), site.getusersitepackages())
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/Library", "/System")
WHY = "where DVC notices when it changes"


_refusals: list[Callable[[Path, bool], None]] = []  # of the blocks that run now


@contextmanager
def only_sources(src: Path, file: str) -> Iterator[None]:
    """Let no file be opened meanwhile that DVC does not watch: of this repository, or from elsewhere.

    Nor may a file of the repository be opened for writing. Who opens one gets BadInput with the line, or with `file`
    where no line of the user's is known, and so does the caller if that is caught.

    Files of Python, of installed packages, of the system, and temporary ones are nobody's data. Modules are followed by
    the stage code. What libraries in C open by themselves, and what other processes do, is not seen.
    """
    _install()
    problems, root = list[str](), src.absolute().parent
    nobodys = (*SYSTEM, tempfile.gettempdir())

    def refuse(path: Path, writes: bool) -> None:
        if problem := _problem(path, root, nobodys, writes):
            problems.append(f"{user_code.place(src) or file}: {problem}")
            raise BadInput(problems[-1])

    _refusals.append(refuse)
    try:
        yield
    finally:
        _refusals.remove(refuse)
    if problems:
        raise BadInput(problems[0])


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # it stays as long as the process


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _refusals and event in ("open", "sqlite3.connect") and isinstance(args[0], str | bytes | os.PathLike):
        path = Path(os.path.normpath(Path.cwd() / os.fsdecode(args[0])))
        _refusals[-1](path, event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR)))


def _problem(path: Path, root: Path, nobodys: Sequence[str], writes: bool) -> str:
    module, inside = path.name.endswith(tuple(all_suffixes())), path.is_relative_to(root)
    if _lies_in(path, PYTHON) or (not inside and (module or _lies_in(path, nobodys))):
        return ""
    shown = path.relative_to(root) if inside else path
    if inside and writes:
        return f"writes {shown}; a source must return its rows, and leave files as they are"
    watched = path.is_relative_to(root / "data/sources") or (module and path.is_relative_to(root / "src"))
    return "" if watched or not path.exists() else f"opens {shown}; move it into data/sources, {WHY}"


def _lies_in(path: Path, folders: Sequence[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
