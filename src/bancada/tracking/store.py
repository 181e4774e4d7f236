"""Open the MLflow store: create it where there is none, and correct its locations where its folder was moved.

Everything here names its store: MLflow's own default, which follows the current folder and what lies in it, is never
used.

MLflow stores the locations of artifacts as absolute paths, and neither its client nor its command line can change them
(its issues 3144 and 2577). A relative location becomes absolute when the experiment is created (its pull request 7670),
and `mlflow-artifacts:` needs a server. So `_follow_root` updates MLflow's tables.
"""

import logging
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
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from bancada.base import BadInput
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
LOCATIONS = {  # columns of MLflow's tables
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
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
                raise StoreAway(cause(error)) from error
            failed[name] = cause(error)


def cause(error: Exception) -> str:
    """Return an error in a line: our own message, or the error's kind and the first line of its message."""
    if isinstance(error, BadInput):
        return first_line(error)
    refused = "the store refuses it: " if getattr(error, "response", None) is not None else ""  # a server's answer
    return f"{refused}{type(error).__name__}: {first_line(error)}"


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
        if path and path.is_file() and path.stat().st_size > 0:
            _check_writable(path)
        elif path and path.parent.is_dir() and not path.is_dir():
            _create(path)
        client = Client(uri, answered)
        client.search_experiments(ViewType.ALL, max_results=1)
        if path and path.is_file():
            _follow_root(path, root)
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


def _follow_root(path: Path, root: Path) -> None:
    """Change the locations of artifacts to `root`, to which the folder of the store was moved or copied.

    A store outside the root may belong to another folder too: there, only locations that no longer exist change.
    """
    with closing(sqlite3.connect(path, timeout=LOCK_PATIENCE_S)) as connection, connection:  # all in one transaction
        ours = "select artifact_location from experiments join experiment_tags using (experiment_id) where key = ?"
        folders = {Path(unquote(urlsplit(found).path)).parent for (found,) in connection.execute(ours, (STUDY,))}
        inside = path.absolute().is_relative_to(root)
        moved = [folder.parent for folder in folders if folder.name == ARTIFACTS and (inside or not folder.exists())]
        # MLflow writes locations as URIs, except for its experiment `Default`, which has a plain path.
        prefixes = [(f"{of(old)}/", f"{of(root)}/") for old in moved if old != root for of in (Path.as_uri, str)]
        columns = [(table, column) for table, names in LOCATIONS.items() for column in names]
        for (before, after), (table, column) in product(prefixes, columns):
            changed = f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?"
            connection.execute(changed, (after, len(before) + 1, len(before), before))


def artifact_paths(store: Store, run: Run, folder: str | None = None) -> set[str]:
    """Return the paths of all files that the run holds."""
    found: set[str] = set()
    for entry in store.client.list_artifacts(run.info.run_id, folder):
        found |= artifact_paths(store, run, entry.path) if entry.is_dir else {entry.path}
    return found
