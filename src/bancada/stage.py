"""The door of every stage: one name as the argument, all of params.yaml checked, bad input told in one line."""

import fcntl
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bancada.config import load
from bancada.model import did_you_mean
from bancada.refusals import BadInput
from bancada.schema import Params

DVC_FOLDER = Path(".dvc")


def run(main: Callable[[Params, str], None], of: Literal["studies", "variants"]) -> None:
    """Call `main` with params and the study or variant that the command line names. Exit status 2 for bad input, 1 for
    a file that cannot be read or written: a full disk, say."""
    try:
        if len(sys.argv) != 2:
            raise BadInput(f"usage: python -m bancada.STAGE NAME, with NAME one of the {of} of params.yaml")
        params, name = load(), sys.argv[1]
        known = params.studies if of == "studies" else params.variants
        if name not in known:
            raise BadInput(f"params.yaml: {of}.{name}: there is none{did_you_mean(name, known)}")
        with _alone(f"{Path(sys.argv[0]).stem}@{name}"):
            main(params, name)
        gc.freeze()  # spares Python a last search for garbage, half a second with torch
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """One process at a time: where a repro was killed, its stage may be at work still, and would write its files later
    than one that was started since, perhaps with other parameters."""
    if not DVC_FOLDER.is_dir():
        yield
        return
    folder = DVC_FOLDER / "tmp" / "bancada"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{stage}: waiting for one that was started before to end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
