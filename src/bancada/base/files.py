"""Where each file lives, relative to the folder of params.yaml, and how to write one: completely or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bancada.base.refusals import BadInput

DATA = Path("data")
CODE, INDEX, EVALUATION = DATA / "code", DATA / "index", DATA / "evaluation"
REPORT = DATA / "report.html"
OF_GIT = (CODE, INDEX, EVALUATION)  # what git keeps of the folders in which there are outs alone
MADE = (*OF_GIT, DATA / "raw", DATA / "split", DATA / "models")  # all of those folders
PARTS = ("train", "validation", "test")
WEIGHTS, HISTORY, RUN = "weights.safetensors", "history.parquet", "run.json"
MODEL_FILES = (WEIGHTS, HISTORY, RUN)  # the files of every model
SEARCH = "search.parquet"  # of the trials, where there was a search


def root() -> Path:
    """Return the folder of the repository that the current folder belongs to. Raise BadInput where there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").exists():
            return folder
    raise BadInput(f"{here}: neither this folder nor one above it holds a dvc.yaml")


def raw(study: str) -> Path:
    """Return the path of the study's table of all rows."""
    return DATA / "raw" / f"{study}.parquet"


def split(study: str) -> Path:
    """Return the folder of train.parquet, validation.parquet and test.parquet."""
    return DATA / "split" / study


def models(study: str) -> Path:
    """Return the folder of the models of all variants of a study."""
    return DATA / "models" / study


def model(study: str, variant: str) -> Path:
    """Return the folder of weights.safetensors, history.parquet and run.json."""
    return models(study) / variant


def of_model(folder: Path) -> list[str]:
    """Return the names of the files of the model in a folder."""
    return [*MODEL_FILES, *([SEARCH] if (folder / SEARCH).exists() else [])]


def index(study: str) -> Path:
    """Return the path of the file that names the study's trained variants."""
    return INDEX / f"{study}.json"


def evaluation(study: str) -> Path:
    """Return the folder of metrics/, plots/, and the tables scores.csv, leaderboard.csv and others."""
    return EVALUATION / study


def drawings(study: str) -> Path:
    """Return the folder of the study's plots as the report shows them."""
    return evaluation(study) / "svg"


def code(stage: str, name: str) -> Path:
    """Return the path of the file that names the code that a stage depends on."""
    return CODE / stage / f"{name}.json"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or folder to. It replaces `path` if the block succeeds.

    If the process is killed, `path` is the old version, the new version or, for a folder, missing; it is never half
    written. An OSError names `path`; a folder is never replaced by a file, nor a file by a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{path.name}.{end}") for end in ("unfinished", "old.unfinished"))
    remove(new)
    try:
        yield new
        if path.is_dir() and not new.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.is_dir():  # to remove a folder takes time: rename it first, so that it is never half removed
            remove(old)
            path.replace(old)
        new.replace(path)
    except OSError as error:  # a full disk: the error names no file, and pyarrow has a message of its own
        if error.errno and (error.filename is None or Path(error.filename).is_relative_to(new)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        remove(new)
        remove(old)


def remove(path: Path) -> None:
    """Delete a file, or a folder with its content; do nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
