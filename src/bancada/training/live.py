"""The losses of a training while it runs, in a file that grows; MLflow shows it. The file is not a result.

The training holds a lock on the file, so that other processes can see whether it is running or was killed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from bancada.base import locks, notify, stage

if TYPE_CHECKING:  # readers of these files do without torch
    from bancada.training.engine import History

COLUMNS = ("train_loss", "validation_loss", "lr")
MOST_POINTS = 320  # of a curve, as many as MLflow draws; the whole history is an artifact of the run


def path_of(variant: str) -> Path:
    """Return the path of the file while the variant is trained."""
    return stage.FOLDER / f"{variant}.jsonl"


def kept_epochs(planned: int, last: int) -> Int64[np.ndarray, " kept"]:
    """Return at most MOST_POINTS + 1 epochs from 0 to `last`, evenly spaced, including both.

    They are chosen from the planned epochs, so that a running training and a finished one show the same.
    """
    chosen = np.unique(np.linspace(0, planned - 1, min(planned, MOST_POINTS)).round().astype(np.int64))
    return np.union1d(chosen[chosen <= last], np.array([last], dtype=np.int64))


@contextmanager
def shown(run: Mapping[str, Any]) -> Iterator[Callable[["History"], None]]:
    """Yield a function to call after every epoch, which writes the losses. `run`: the content of run.json.

    The first line of the file is `run`. Each later line is {"epoch": e, "train_loss": [a number per seed], ...}. There
    is no file if tracking is off or there is no folder .dvc. If the file cannot be written, the training goes on.
    """
    with ExitStack() as held:
        wanted = notify.tracking() != "off" and stage.DVC_FOLDER.is_dir()
        file = _opened(path_of(run["variant"]), held) if wanted else None
        yield _adding(run, file) if file else lambda history: None


def _adding(run: Mapping[str, Any], file: IO[str]) -> Callable[["History"], None]:
    """Write the first line. Return the function that writes the others."""
    planned, seeds = run["recipe"]["train"]["epochs"], len(run["recipe"]["seeds"])
    kept = set(kept_epochs(planned, planned - 1).tolist())

    def add(history: "History") -> None:
        epoch = history.epochs - 1
        if epoch in kept:
            losses = {name: history.columns[name][:seeds, epoch].tolist() for name in COLUMNS}
            _write(file, {"epoch": epoch, **losses})

    _write(file, run)
    return add


def _opened(path: Path, held: ExitStack) -> IO[str] | None:
    """Return the file, empty and locked until `held` ends, which deletes it; None if that is impossible."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(path.open("a", buffering=1))
        if held.enter_context(locks.attempt(file)):
            file.truncate(0)  # the content is from a training that was killed
            held.callback(_delete, file)
            return file
    return None


def _write(file: IO[str], line: Mapping[str, Any]) -> None:
    if not file.closed:
        try:
            file.write(json.dumps(line) + "\n")
        except OSError:  # a full disk: a curve with a gap would mislead
            _delete(file)


def _delete(file: IO[str]) -> None:
    if not file.closed:  # once it is closed, the name may belong to another training
        with suppress(OSError):  # a full disk: the rest of a line cannot be written
            Path(file.name).unlink(missing_ok=True)
            file.close()


def running(path: Path) -> bool:
    """Return whether the training that writes this file is running."""
    try:
        with path.open() as file, locks.attempt(file) as free:
            return not free
    except FileNotFoundError:
        return False
