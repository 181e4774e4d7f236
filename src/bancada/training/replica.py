"""A replica is one training: a pure function of a recipe, the rows and a seed. Engines train replicas.

The same three give the same bytes: alone, in any company, in any process, and after a kill. So the seeds of a variant,
and whatever else has to be trained, can be spread over processes and machines.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from bancada.base import BadInput
from bancada.base.variables import variables
from bancada.networks.saved import HISTORY_COLUMNS, History, Trained
from bancada.training.settings import Recipe, TrainingKeys

# The module of each engine, which has a function `train` as below. Only the engine that is used is imported.
ENGINES = {
    "compiled": "bancada.training.compiled_engine",
    "scratch": "bancada.training.scratch",
    "torch": "bancada.training.processes",
}
CLUSTER = "bancada.training.cluster.driver"  # which sends replicas to the machines that BANCADA_RAY names


@dataclass(frozen=True)
class Rows:
    """Rows as every engine gets them: scaled inputs, and targets as class indices or as numbers."""

    inputs: Float32[np.ndarray, "row *shape"]
    targets: Shaped[np.ndarray, "row target"]

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, count: int) -> "Rows":
        """Return the first rows."""
        return Rows(self.inputs[:count], self.targets[:count])


@dataclass(frozen=True)
class Data:
    """The rows of a study that a training may read. `classes` is 0 where targets are numbers."""

    train: Rows
    validation: Rows
    classes: int

    def copied(self) -> "Data":
        """Return a copy, whose arrays can be written to."""
        train, validation = (Rows(rows.inputs.copy(), rows.targets.copy()) for rows in (self.train, self.validation))
        return Data(train, validation, self.classes)

    def class_weights(self) -> tuple[Float32[np.ndarray, " class"], Int64[np.ndarray, " row"]]:
        """Return weights with which every class counts the same, and the class of each training row.

        A weight is rows / (classes * rows of the class), as scikit-learn's `balanced` is; 1 for a class without rows.
        """
        labels = self.train.targets[:, 0].astype(np.int64)
        counts = np.bincount(labels, minlength=self.classes)
        weights = np.where(counts > 0, len(labels) / (self.classes * np.maximum(counts, 1)), 1)
        return weights.astype(np.float32), labels


@dataclass(frozen=True)
class Replica:
    """A recipe, one of its seeds and a draw of the data.

    In the file `state`, an engine may keep it while it is trained, to go on later.

    `src`: the folder with the user's files, or with a copy of them.
    """

    recipe: Recipe
    seed: int
    state: Path | None = None
    src: Path = Path("src")
    draw: int = 0


Draws = Mapping[int, Data]  # by number: the rows of the study, or other ones in their place
# Each with the place of its replica, once it is there: what it gives, or why it failed.
Outcomes = Generator[tuple[int, Trained | Exception], None, None]


class Lost(ChildProcessError):
    """A replica's process or machine ended without a result, such as one that was killed. `filename`: whose."""


class Disagreement(OSError):
    """Two machines gave different bytes for one replica. `machines`: their names."""

    machines: tuple[str, ...] = ()


class Report:
    """Who is told how replicas get on: here, nobody. `place` is that of a replica."""

    def epochs(self, place: int, first: int, history: History) -> None:
        """Take the losses and learning rates of the next epochs of a replica, of which `first` is the first."""

    def ended(self, place: int, trained: Trained) -> None:
        """Take the result of a replica, trained now or earlier."""


def history_of(epochs: Sequence[Mapping[str, float]]) -> History:
    """Return the rows of a history as its columns."""
    return {name: np.array([row[name] for row in epochs]) for name in HISTORY_COLUMNS}


def try_first_batch(keys: TrainingKeys, data: Data, src: Path = Path("src")) -> None:
    """Raise BadInput, in one line, for what could otherwise be seen only while training: torch's part of a recipe."""
    recipe = keys.recipe()
    if recipe.device != "cpu" and variables().ray:  # the GPUs are elsewhere
        recipe = recipe.model_copy(update={"device": "cpu"})
    if recipe.engine == "torch":
        where = {key: keys.written_at(key) for key in ("loss", "optimizer", "schedule")}
        import_module(ENGINES[recipe.engine]).try_first_batch(Replica(recipe, recipe.seeds[0], src=src), data, where)


def check_device(device: str) -> None:
    """Raise BadInput if torch cannot use the device. A cluster says itself whether it has one."""
    if device != "cpu" and not variables().ray:
        import_module(ENGINES["torch"]).check_gpu()


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Generator[tuple[int, Trained], None, None]:
    """Train all replicas, which have one engine, here or on a cluster. Yield each result with its place.

    All run, also where one fails; then raise BadInput for what is wrong in the user's file or does not fit it, or
    OSError. Where the results are closed, trainings under way end.
    """
    failed = dict[int, Exception]()
    on_machines = import_module(CLUSTER).train if variables().ray else train_here
    with closing(on_machines(replicas, data, report)) as outcomes:
        for place, outcome in outcomes:
            if isinstance(outcome, Exception):
                failed[place] = outcome
            else:
                yield place, outcome
    if failed:
        error = failed[min(failed)]
        several = isinstance(error, BadInput) and len(failed) > 1
        raise BadInput(f"{error} ({len(failed)} of {len(replicas)} seeds failed)") if several else error


def train_here(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Outcomes:
    """Train all replicas with their engine, on this machine."""
    engine: Any = import_module(ENGINES[next(iter(replicas.values())).recipe.engine])
    yield from engine.train(replicas, data, report)
