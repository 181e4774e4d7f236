"""The losses of a training while it runs, in a file that grows; MLflow shows it. The file is not a result.

The training holds a lock on the file, so that other processes can see whether it is running or was killed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from bancada.base import locks, stage
from bancada.base.variables import variables

if TYPE_CHECKING:  # readers of these files do without torch
    from bancada.networks.saved import History, Trained

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


class Curves:
    """The losses of replicas as they grow, and the lines of the file. Replicas need not be in the same epoch.

    Where all replicas have passed an epoch or have ended, a line holds the losses of all. A replica that was stopped
    has those of the epoch that it keeps, one that diverged has NaN. Until then, where replicas are trained `apart` and
    do not advance together, the one that is furthest ahead has a line of its own for the epoch, marked `ahead`. A line
    `finished` counts the replicas that have ended.
    """

    def __init__(self, seeds: int, planned: int, write: Callable[[dict[str, Any]], None], apart: bool = True) -> None:
        self.write, self.planned, self.apart = write, planned, apart
        self.chosen = kept_epochs(planned, planned - 1).tolist()
        self.values = np.full((len(COLUMNS), seeds, len(self.chosen)), np.nan)
        self.passed = np.full(seeds, -1)  # the last epoch of each replica; all of them, once it has ended
        self.ended_count = self.complete = 0  # `complete`: how many chosen epochs all replicas have passed
        self.ahead = -1  # the furthest chosen epoch of any replica

    def epochs(self, place: int, first: int, history: "History") -> None:
        """Take the losses of the next epochs of a replica, of which `first` is the first."""
        after = first + len(history["lr"])
        self.passed[place] = after - 1
        known = range(*np.searchsorted(self.chosen, [first, after]).tolist())
        for i in known:
            self.values[:, place, i] = [history[name][self.chosen[i] - first] for name in COLUMNS]
        self._complete()
        for i in known if self.apart else ():
            epoch = self.chosen[i]
            if epoch > self.ahead and self.complete <= i:
                own = {name: float(history[name][epoch - first]) for name in COLUMNS[:2]}
                self.write({"ahead": place, "epoch": epoch, **own})
            self.ahead = max(self.ahead, epoch)

    def ended(self, place: int, trained: "Trained") -> None:
        """Take the end of a replica."""
        epochs = np.array(self.chosen)
        trained_epochs = epochs[epochs < len(trained.history["lr"])]
        for column, name in zip(self.values, COLUMNS, strict=True):
            history = trained.history[name]
            column[place, : len(trained_epochs)] = history[trained_epochs]
            column[place, len(trained_epochs) :] = np.nan if trained.kept is None else history[trained.kept]
        self.passed[place] = self.planned
        self.ended_count += 1
        if self.ended_count < len(self.passed):
            self.write({"finished": self.ended_count})
            self._complete()

    def mean_epochs(self) -> float:
        """Return how many epochs the replicas are through, in the mean."""
        return float(np.minimum(self.passed + 1, self.planned).mean())

    def _complete(self) -> None:
        while self.complete < len(self.chosen) and (self.passed >= self.chosen[self.complete]).all():
            losses = {name: of[:, self.complete].tolist() for name, of in zip(COLUMNS, self.values, strict=True)}
            self.write({"epoch": self.chosen[self.complete], **losses})
            self.complete += 1


@contextmanager
def shown(run: Mapping[str, Any]) -> Iterator[Curves]:
    """Yield the curves, which are written to the file. `run`: the content of run.json.

    The first line of the file is `run`. Each later line is {"epoch": e, "train_loss": [a number per seed], ...}, or one
    that Curves describes. There is no file if tracking is off or there is no folder .dvc. If the file cannot be
    written, the training goes on.
    """
    with ExitStack() as held:
        wanted = variables().tracking != "off" and stage.DVC_FOLDER.is_dir()
        write = _writer(path_of(run["variant"]), held) if wanted else lambda line: None
        write(run)
        recipe = run["recipe"]
        apart = recipe["engine"] != "compiled" or variables().ray != ""
        yield Curves(len(recipe["seeds"]), recipe["train"]["epochs"], write, apart)


def _writer(path: Path, held: ExitStack) -> Callable[[Mapping[str, Any]], None]:
    """Return what writes a line to the file, which is locked until `held` ends and deletes it."""
    with suppress(OSError):  # curves are not worth a training
        path.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(path.open("a", buffering=1))
        if held.enter_context(locks.attempt(file)):
            file.truncate(0)  # the content is from a training that was killed
            held.callback(_delete, file)
            return partial(_write, file)
    return lambda line: None


def _write(file: IO[str], line: Mapping[str, Any]) -> None:
    if not file.closed:
        try:
            file.write(json.dumps(line) + "\n")
        except OSError:  # a full disk: a curve with a gap would mislead
            _delete(file)


def _delete(file: IO[str]) -> None:
    with suppress(OSError):  # a full disk: the rest of a line cannot be written
        if not file.closed:  # once it is closed, the name may belong to another training
            Path(file.name).unlink(missing_ok=True)
            file.close()


def running(path: Path) -> bool:
    """Return whether the training that writes this file is running."""
    try:
        with path.open() as file, locks.attempt(file) as free:
            return not free
    except FileNotFoundError:
        return False
