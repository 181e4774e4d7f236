"""Open the MLflow store: create it where there is none, and correct its locations where its folder was moved.

Everything here names its store: MLflow's own default, which follows the current folder and what lies in it, is never
used.

MLflow stores the locations of artifacts as absolute paths, and neither its client nor its command line can change them
(its issues 3144 and 2577). A relative location becomes absolute when the experiment is created (its pull request 7670),
and `mlflow-artifacts:` needs a server. So `_follow_root` updates MLflow's tables, by MLflow's own classes for them.
"""

import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir, closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow.store.db.utils as database
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun

from bancada.base.files import whole
from bancada.base.notify import first_line
from bancada.tracking.surroundings import note_progress, sqlite_uri, store_lock, store_uri

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # errors are raised and reported in one line

database.MAX_RETRY_COUNT = 3  # of 10, which last 100 s
LOCK_PATIENCE_S = 4.0  # for a SQLite file that another program writes to
ARTIFACTS = "mlartifacts"
STUDY = "bancada.study"  # tag of experiments, runs and registered models
SERVED = ("http://", "https://", "databricks")  # a server decides where its artifacts are kept
# All that a store raises; a refused connection is an OSError.
STORE_ERRORS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)
LOCATIONS: tuple[sqlalchemy.Column[str], ...] = (
    SqlExperiment.artifact_location,
    SqlRun.artifact_uri,
    SqlLoggedModel.artifact_location,
    SqlModelVersion.source,
    SqlModelVersion.storage_location,
)
Failed = dict[str, str]  # what is not recorded -> why


class StoreAway(ConnectionError):
    """The store does not answer any more. The message is the error that showed it."""


class Client(MlflowClient):
    """MLflow's client, which calls `answered` after each answer of the store: that is progress."""

    def __init__(self, uri: str, answered: Callable[[], None]) -> None:
        super().__init__(uri, uri)
        self._answered = answered

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; one of MLflow's public methods with the call after it."""
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def watched(*arguments: Any, **named: Any) -> Any:
            answer = found(*arguments, **named)
            self._answered()
            return answer

        return watched


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    client: MlflowClient
    root: Path
    artifacts: Path | None  # where experiments keep theirs; None where a server decides
    database: Path | None  # the SQLite file, if it is one
    on_progress: Callable[[], None]  # called whenever others that hold the store's lock make progress
    say: Callable[[str], None]  # tells the user something in a line

    def lock(self) -> AbstractContextManager[None]:
        """Let one process at a time create a run or complete a run."""
        return store_lock(self.root, self.on_progress)

    def answers(self) -> bool:
        """Return whether the store can be read, and a SQLite file be written to."""
        try:
            self.client.search_experiments(max_results=1)
            if self.database:
                _check_writable(self.database)
        except STORE_ERRORS:
            return False
        return True

    @contextmanager
    def part(self, name: str, failed: Failed) -> Iterator[None]:
        """Run the block, a part of something larger, and go on after it, whatever fails in it: it is put into `failed`.

        Raise StoreAway only if the store does not answer any more.
        """
        try:
            yield
        except StoreAway:
            raise
        except Exception as error:  # whatever it is, the user reads of it
            if not self.answers():
                raise StoreAway(f"{type(error).__name__}: {first_line(error)}") from error
            failed[name] = cause(error)


def cause(error: Exception) -> str:
    """Say in a line what failed: a file here, or something that the store, which answers, does not take."""
    found = None if is_refused(error) else os_error(error)
    line = f"{type(found or error).__name__}: {first_line(found or error)}"
    refusals = MlflowException | sqlalchemy.exc.SQLAlchemyError | sqlite3.Error
    if found is None and (isinstance(error, refusals) or is_refused(error)):
        return f"the store refuses it: {line}"
    return line


def os_error(error: BaseException | None) -> OSError | None:
    """Return the error of the operating system that led to this one: MLflow raises its own for a full disk, too."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        if isinstance(error, shutil.Error):  # of a folder that is copied: (from, to, why) of each file
            number = re.search(r"\[Errno (\d+)\]", str(error))
            return OSError(int(number[1]), os.strerror(int(number[1])), error.args[0][0][1]) if number else None
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def temporary_files(folder: Path) -> Iterator[None]:
    """Run a block that writes to a temporary folder; an error of the operating system names where that folder is."""
    try:
        yield
    except Exception as error:  # raised again, with the place of the files if the system caused it
        if found := os_error(error):
            raise OSError(found.errno, found.strerror, str(folder.parent)) from error
        raise


def is_refused(error: Exception) -> bool:
    """Return whether a server answered a request with an error."""
    return getattr(error, "response", None) is not None


def open_store(root: Path, on_progress: Callable[[], None] = lambda: None, say: Callable[[str], None] = print) -> Store:
    """Open the store and make sure that it answers; create it where there is none.

    The current folder is the root meanwhile, because mlflow creates its experiment `Default` with a location in it.
    """
    uri = store_uri(root)
    path = database_file(uri)

    def answered() -> None:
        note_progress(root)
        on_progress()

    with store_lock(root, on_progress), chdir(root):
        exists = path is not None and path.is_file() and path.stat().st_size > 0
        if path and exists:
            _check_writable(path)
        elif path and path.parent.is_dir() and not path.is_dir():
            _create(path)
        client = Client(uri, answered)
        experiments = client.search_experiments(ViewType.ALL)
        if path and exists:
            _follow_root(client, {_root_of(each) for each in experiments} - {None, root}, path, root)
    artifacts = None if uri.startswith(SERVED) else root / ARTIFACTS
    return Store(client, root, artifacts, path if path and path.is_file() else None, on_progress, say)


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, as SQLAlchemy reads its URI; None for another store, and one in memory."""
    if not uri.startswith("sqlite:///"):
        return None
    named = sqlalchemy.make_url(uri).database
    return None if not named or named == ":memory:" or named.startswith("file:") else Path(named)


def _make_parent(db_uri: str) -> None:
    """Make the folder of a SQLite file. MLflow's own function, which this replaces, makes one named as in the URI.

    In a URI, `100%` is `100%25`: MLflow would make an empty folder of that name beside the right one.
    """
    if path := database_file(db_uri):
        path.parent.mkdir(parents=True, exist_ok=True)


database._make_parent_dirs_if_sqlite = _make_parent


def _check_writable(path: Path) -> None:
    """Raise sqlite3.OperationalError for a locked or read-only file, sooner and more clearly than mlflow would."""
    read_write = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(read_write, uri=True, timeout=LOCK_PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("begin immediate")


def _create(path: Path) -> None:
    """Create the whole database or nothing: mlflow always refuses one that a full disk or a kill left incomplete."""
    with whole(path) as unfinished:
        engine = database.create_sqlalchemy_engine_with_retry(sqlite_uri(unfinished))  # type: ignore[no-untyped-call]  # no types here
        try:
            database._initialize_tables(engine)  # type: ignore[no-untyped-call]  # no types here
        finally:
            engine.dispose()


def _follow_root(client: MlflowClient, old_roots: set[Path | None], path: Path, root: Path) -> None:
    """Change the locations of artifacts from the old roots to `root`, to which the folder was moved or copied.

    A store outside the root may belong to another folder too: there, only locations that no longer exist change.
    """
    ours = path.absolute().is_relative_to(root)
    moved = [
        old for old in old_roots if old and (ours or ((root / ARTIFACTS).exists() and not (old / ARTIFACTS).exists()))
    ]
    # MLflow writes locations as URIs, except for its experiment `Default`, which has a plain path.
    prefixes = [(f"{old.as_uri()}/", f"{root.as_uri()}/") for old in moved] + [(f"{old}/", f"{root}/") for old in moved]
    with client._tracking_client.store.ManagedSessionMaker(read_only=False) as session:  # all in one transaction
        for (before, after), column in product(prefixes, LOCATIONS):
            location = sqlalchemy.literal(after) + sqlalchemy.func.substr(column, len(before) + 1)
            matches = sqlalchemy.func.substr(column, 1, len(before)) == before
            update = sqlalchemy.update(column.class_).where(matches).values({column.key: location})
            session.execute(update, execution_options={"synchronize_session": False})


def _root_of(experiment: Experiment) -> Path | None:
    """Return the root of the folder in which we created the experiment, or None if its location is not one of ours."""
    split = urlsplit(experiment.artifact_location or "")
    folder = Path(unquote(split.path))
    study = experiment.tags.get(STUDY, experiment.name)
    ours = split.scheme == "file" and folder.name == study and folder.parent.name == ARTIFACTS
    return folder.parent.parent if ours else None


def artifact_paths(store: Store, run: Run, folder: str | None = None) -> set[str]:
    """Return the paths of all files that the run holds."""
    found: set[str] = set()
    for entry in store.client.list_artifacts(run.info.run_id, folder):
        found |= artifact_paths(store, run, entry.path) if entry.is_dir else {entry.path}
    return found
