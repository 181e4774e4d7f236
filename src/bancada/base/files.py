"""Where each file lives, relative to the folder that holds params.yaml, and how it is written: whole or not at all."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bancada.base.refusals import PARAMS_FILE, BadInput

DATA = Path("data")
CODE = DATA / "code"
PARTS = ("train", "validation", "test")
WEIGHTS, HISTORY, RUN = "weights.safetensors", "history.parquet", "run.json"  # of a model


def raw(study: str) -> Path:
    return DATA / "raw" / f"{study}.parquet"


def split(study: str) -> Path:
    """The folder of train.parquet, validation.parquet and test.parquet."""
    return DATA / "split" / study


def models(study: str) -> Path:
    return DATA / "models" / study


def model(study: str, variant: str) -> Path:
    """The folder of weights.safetensors, history.parquet and run.json."""
    return models(study) / variant


def evaluation(study: str) -> Path:
    """The folder of metrics/, scores.csv, per_seed.csv, leaderboard.csv, predictions.csv, loss.csv and plots/."""
    return DATA / "evaluation" / study


def code(stage: str, name: str) -> Path:
    """The file that says which code a stage depends on."""
    return CODE / stage / f"{name}.json"


def made_by(path: Path) -> str:
    """The stage that makes this table of rows; empty where none does."""
    folder = path.parent
    if folder == DATA / "raw":
        return f"generate@{path.stem}"
    return f"split@{folder.name}" if folder.parent == DATA / "split" else ""


def refuse_leftovers(study: str, variants: Collection[str]) -> None:
    """BadInput for the model of a variant that is gone: DVC hashes the folder of all models, so that a leftover would
    make the results of this workspace differ from a fresh clone's."""
    folder = models(study)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in variants and not is_hidden(path):
            raise BadInput(f"{path}: left over, for {PARAMS_FILE} has no variant {path.name} in {study}; delete it")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path, beside `path`, to write a file or folder to; it takes the place of `path` if all goes well.

    Killed at any moment, a process leaves `path` as it was, or new, or (a folder) not there. An OSError names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = path.with_name(f".{path.name}.unfinished"), path.with_name(f".{path.name}.old.unfinished")
    remove(unfinished)
    try:
        yield unfinished
        if path.is_dir():  # to remove a folder takes a while, in which it would be half there
            remove(old)
            path.replace(old)
        unfinished.replace(path)
    except OSError as error:  # that a disk is full is said without a name, by pyarrow in words of its own
        if error.errno and (error.filename is None or Path(error.filename).is_relative_to(unfinished)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        remove(unfinished)
        remove(old)


def is_hidden(path: Path) -> bool:
    """What .dvcignore hides from DVC: what a killed process left half-written, ours or DVC's own, and what other
    programs leave around."""
    unfinished = path.name.startswith(".") and path.name.endswith((".unfinished", ".tmp"))
    return unfinished or path.name in (".DS_Store", "__pycache__")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
