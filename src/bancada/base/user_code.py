"""The user's own Python files below src/models and src/sources: how they are imported, and how their errors are told.

`src/models/residual.py` is imported as `models.residual`, always from the `src` that is given, never from what is
installed under the same name, and without bytecode files: DVC watches that folder, and an old one could be run.
"""

import importlib
import inspect
import keyword
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path, PurePosixPath
from traceback import walk_stack, walk_tb
from types import ModuleType
from typing import Any, cast

from bancada.base import BadInput
from bancada.base.refusals import did_you_mean

FOLDERS = ("models", "sources")  # of src: networks, and data
LONGEST = 300  # letters of an error's text: some of torch's fill a screen


def load(src: Path, file: str, name: str, folder: str = "models") -> Callable[..., Any]:
    """Return the class or function `name` of the user's `file`. Raise BadInput, in one line, where that is impossible.

    `file` is written as in params.yaml: relative to the folder that holds `src`. A file that was imported before is
    not read again until `forget`; another `src` replaces the first.
    """
    dotted = locate(src, file, folder)
    _serve(src.resolve())
    with told(src, file):
        inside = vars(importlib.import_module(dotted))
    own = [key for key, value in inside.items() if callable(value) and getattr(value, "__module__", "") == dotted]
    if not callable(inside.get(name)):
        raise BadInput(f"{file}: there is no class or function {name} in it{did_you_mean(name, own)}")
    return cast(Callable[..., Any], inside[name])


def call(made: Callable[..., Any], args: Mapping[str, Any], file: str) -> Any:
    """Return `made(**args)`. Raise BadInput for an argument that it does not take or misses, and for its own errors."""
    src = next((finder.src for finder in sys.meta_path if isinstance(finder, _Finder)), Path("src"))
    with told(src, file):
        takes = None
        with suppress(TypeError, ValueError):  # it is written in C and does not say what it takes
            takes = inspect.signature(made)
        try:
            if takes:
                takes.bind(**args)
        except TypeError as error:
            known = list(takes.parameters) if takes else []
            hint = next((did_you_mean(key, known) for key in args if key not in known), "")
            what = f"{error}; it takes {', '.join(known) or 'no arguments'}{hint}"
            raise BadInput(f"{file}: {getattr(made, '__name__', made)}: {what}") from None
        return made(**args)


def forget() -> None:
    """Undo `load`: the same names can then be imported anew, or from elsewhere. What was made of them lives on."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, _Finder)]:
        sys.meta_path.remove(finder)
        _remove_modules()
        sys.modules.update(finder.hidden)


@contextmanager
def told(src: Path, file: str) -> Iterator[None]:
    """Raise BadInput, in one line, for an error in the user's code. `file` is named where no line is known.

    An error of the machine, such as a file that cannot be read, is not the user's if none of the user's lines led to
    it, and passes; so does Ctrl-C, where the process listens to it.
    """
    try:
        yield
    except BadInput:
        raise
    except BaseException as error:  # a user's code may raise anything; what is not its fault is raised again below
        known = _where(error, src)
        ctrl_c = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        if ctrl_c or (isinstance(error, OSError | MemoryError) and not known):
            raise
        raise BadInput(explained(error, src) if known else f"{file}: {explained(error, src)}") from error


def explained(error: BaseException, src: Path) -> str:
    """Return `FILE:LINE: in FUNCTION: TYPE: TEXT`, of the last of the user's lines on the way to the error.

    Only `TYPE: TEXT` where there is no such line; no function for what stands outside of all.
    """
    file, line, function = _where(error, src) or ("", 0, "")
    if isinstance(error, SyntaxError) and not function:
        what = error.msg + ("; save the file as UTF-8" if "'utf-8' codec" in error.msg else "")
    else:
        what = ": ".join(filter(None, (type(error).__name__, _text(error, src))))
    if not file:
        return what
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = as_written(error.name, src.resolve().parent / file, src.resolve())
        what += f"; {hint}" if hint else ""
    return f"{file}:{line}: {'' if function in ('', '<module>') else f'in {function}: '}{what}"


def place(src: Path) -> str:
    """Return `FILE:LINE` of the last of the user's lines that runs now; an empty string if none does."""
    for frame, line in walk_stack(inspect.currentframe()):
        if file := _as_in_params(frame.f_code.co_filename, src):
            return f"{file}:{line}"
    return ""


def locate(src: Path, file: str, folder: str = "models") -> str:
    """Return the name that the user's `file` is imported by. Raise BadInput where there is no such file."""
    try:
        dotted = module_name(file, folder)
    except ValueError as error:
        raise BadInput(f"{file}: {error}") from None
    path = src.parent / file
    if path.is_dir():
        raise BadInput(f"{file}: is a folder, not a file")
    if not path.is_file():
        there = sorted(found.relative_to(src.parent).as_posix() for found in (src / folder).rglob("*.py"))
        raise BadInput(f"{file}: no such file{did_you_mean(file, there)}")
    if not path.resolve().is_relative_to(src.resolve().parent):
        raise BadInput(f"{file}: a link out of the repository, to {path.resolve()}; put the file itself there")
    return dotted


def module_name(file: str, folder: str = "models") -> str:
    """Return the name that a file is imported by, from its path alone. Raise ValueError for a path of another form."""
    top, *parts = PurePosixPath(file.removesuffix(".py")).parts or ("",)
    if top != "src" or parts[:1] != [folder] or len(parts) < 2 or not file.endswith(".py") or ".." in parts:
        raise ValueError(f"must be a Python file below src/{folder}, such as src/{folder}/mine.py")
    for part in parts:
        if not part.isidentifier() or keyword.iskeyword(part):
            raise ValueError(f"cannot be imported, because '{part}' is no Python name; use letters, digits and _")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def as_written(name: str, importer: Path, src: Path) -> str:
    """Return the line by which the file `importer` imports a module of the user's that it imports as a package.

    An empty string if there is no such module. Python's own modules and installed packages are never hidden by one.
    """
    top, *parts = name.split(".")
    if top == "src" and parts[:1] and parts[0] in FOLDERS:
        return f'write "from {".".join(parts[:2])} import ..."'
    folder, dots = importer.parent, "."
    while folder not in (src, folder.parent):
        if (folder / top).is_dir() or (folder / f"{top}.py").is_file():
            return f'write "from {dots}{top} import ..."'
        folder, dots = folder.parent, f"{dots}."
    return ""


class _Source(SourceFileLoader):
    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("bytecode is neither read nor written")


LOADERS = ((_Source, [".py"]), (ExtensionFileLoader, EXTENSION_SUFFIXES))


class _Finder(MetaPathFinder):
    """Finds `models` and `sources` in `src` and nowhere else. `hidden`: modules of these names from elsewhere."""

    def __init__(self, src: Path) -> None:
        self.src, self.hidden = src, _remove_modules()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in FOLDERS:
            return None
        spec = FileFinder(str(self.src.joinpath(*name.split(".")[:-1])), *LOADERS).find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _serve(src: Path) -> None:
    if not any(isinstance(finder, _Finder) and finder.src == src for finder in sys.meta_path):
        forget()
        sys.meta_path.insert(0, _Finder(src))


def _remove_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in FOLDERS]
    return {name: sys.modules.pop(name) for name in names}


def _where(error: BaseException, src: Path) -> tuple[str, int, str] | None:
    """Return file, line and function of the last of the user's lines on the way to the error.

    A file that cannot be parsed has no function.
    """
    if isinstance(error, SyntaxError) and (file := _as_in_params(error.filename or "", src)):
        return file, error.lineno or 1, ""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        if file := _as_in_params(frame.f_code.co_filename, src):
            return file, line, frame.f_code.co_qualname
    return None


def _as_in_params(filename: str, src: Path) -> str:
    """Return the path of one of the user's files as params.yaml has it; an empty string for any other file."""
    path, root = Path(filename), src.resolve()
    own = any(path.is_relative_to(root / folder) for folder in FOLDERS)
    return path.relative_to(root.parent).as_posix() if own else ""


def _text(error: BaseException, src: Path) -> str:
    try:
        text = str(error)
    except Exception as second:  # the user's own `__str__`
        text = f"its text cannot be shown: {type(second).__name__}"
    text = " ".join(text.replace(f"{src.resolve().parent}/", "").split())[:LONGEST]
    return "; ".join([text, *getattr(error, "__notes__", [])])
