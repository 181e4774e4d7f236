"""Errors of DVC, of its libraries and of the system, each in one line with a way out. No stage imports this module."""

import os
from pathlib import Path

from dvc.config import ConfigError
from dvc.exceptions import ReproductionError
from dvc.stage.exceptions import MissingDataSource
from dvc.utils.serialize import YAMLFileCorruptedError
from dvc.utils.strictyaml import YAMLValidationError, merge_conflict_marker

from bancada.base.notify import without_credentials

PACKAGES = ("dvc", "dvc_data", "dvc_objects", "scmrepo")  # their errors have no base class in common
NOWHERE = "in neither DVC's cache nor a remote"


def told(error: BaseException) -> str:
    """Return an error of DVC, or of the system, in one line; an empty text for any other error."""
    if isinstance(error, ReproductionError) and error.__cause__:
        return told(error.__cause__)
    if isinstance(error, YAMLFileCorruptedError):
        mark = getattr(error.__cause__, "problem_mark", None)
        path = Path(shown(error.path))
        conflict = path.exists() and merge_conflict_marker.search(path.read_text(errors="replace"))
        return f"{path}{f': line {mark.line + 1}' if mark else ''}: no YAML{_side_of(path) if conflict else ''}"
    if isinstance(error, YAMLValidationError):
        first, *others = error.exc.errors
        more = f" (and {len(others)} more)" if others else ""
        return f"{shown(error.path)}: {'.'.join(map(str, first.path))}: {first.error_message}{more}"
    if isinstance(error, ConfigError):
        return f".dvc/config, .dvc/config.local or the user's own: {' '.join(str(error).split())}"
    if isinstance(error, MissingDataSource):
        paths = str(error).partition(": ")[2]
        return f"{paths}: kept by DVC, and missing here; `dvc pull {paths.replace(', ', ' ')}` fetches it"
    if isinstance(error, OSError) and error.strerror:
        return f"{shown(error.filename)}: {error.strerror}" if error.filename else error.strerror
    lines = dict.fromkeys(" ".join(line.split()) for line in str(error).splitlines())
    text = " ".join(filter(None, lines)) if _of_dvc(error) or isinstance(error, OSError) else ""
    return text or (type(error).__name__ if _of_dvc(error) else "")


def described(error: BaseException) -> str:
    """Return an error in one line, whatever it is: the library that reaches a remote has errors of its own."""
    return without_credentials(told(error) or f"{type(error).__name__}: {' '.join(str(error).split())}")


def cause(error: BaseException) -> BaseException:
    """Return the error of the system, or of the library that reaches a remote, that DVC wraps in one of its own."""
    while _of_dvc(error) and error.__cause__:
        error = error.__cause__
    return error


def _of_dvc(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in PACKAGES for kind in type(error).__mro__)


def _side_of(path: Path) -> str:
    """Return what to do where a file has git's marks of a merge conflict."""
    again = ", and `bancada repro` brings it up" if path.name == "dvc.lock" else ""
    return f", with a merge conflict: `git checkout --ours {path}` or `--theirs` chooses a side{again}"


def shown(path: str | bytes | Path) -> str:
    """Return a path below the current folder without that folder."""
    whole = Path(os.fsdecode(path)).absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
