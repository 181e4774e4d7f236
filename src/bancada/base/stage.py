"""The entry of every stage: one name as the argument, bad input as one line on stderr, one process at a time."""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from bancada.base import BadInput, files, locks, params_file
from bancada.base.variables import variables

DVC_FOLDER = Path(".dvc")
FOLDER = DVC_FOLDER / "tmp" / "bancada"  # locks, logs, loss curves and files of the stages that are running


def run(main: Callable[[params_file.ParamsFile, str], None], of: Literal["studies", "variants", "everything"]) -> None:
    """Call `main` with params.yaml and the study or variant that the command line names; of `everything`, with no name.

    Exit as `told_errors` does.
    """
    with told_errors():
        variables()  # a wrong one is refused before any work
        named = of != "everything"
        if len(sys.argv) != 1 + named:
            more = f" NAME, with NAME one of the {of} of params.yaml" * named
            raise BadInput(f"usage: python -m bancada.PACKAGE.STAGE{more}")
        params, name = params_file.read(), "".join(sys.argv[1:])
        if named:
            params.value(f"{of}.{name}")
        stage = Path(sys.argv[0]).stem + f"@{name}" * named
        wait = f"{stage}: waiting for a process that runs this stage to end"
        alone = locks.locked(FOLDER / f"{stage}.lock", on_wait=lambda: print(wait, file=sys.stderr))
        with alone if DVC_FOLDER.is_dir() else nullcontext():  # a killed `dvc repro` may have left one running
            main(params, name)
        gc.freeze()  # Python searches all objects for garbage when it ends: half a second with torch loaded


@contextmanager
def told_errors() -> Iterator[None]:
    """End the process where the block fails, with one line on stderr.

    The status is 2 for bad input, 1 if a file cannot be read or written, for example on a full disk, 130 for Ctrl-C.
    """
    try:
        yield
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def cores() -> int:
    """Return how many cores this stage may use: BANCADA_CORES, or all that the process may run on."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return variables().cores or own


@contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """Yield an empty folder, which is removed at the end; what a kill left of it, the next one of that name replaces.

    Another process that wants the same folder waits.
    """
    if not DVC_FOLDER.is_dir():
        with tempfile.TemporaryDirectory(prefix="bancada-") as temporary:
            yield Path(temporary)
        return
    folder = FOLDER / name
    with locks.locked(FOLDER / f"{name}.lock"):
        files.remove(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            files.remove(folder)
