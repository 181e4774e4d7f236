"""The MLflow store: opened, made where there is none, and mended where its folder was moved. Imports mlflow."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.store.db.utils
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run
from mlflow.exceptions import MlflowException

from bancada.base.files import whole
from bancada.tracking.surroundings import locked, sqlite_uri, store_uri

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # errors are raised and reported in one line

LOCK_PATIENCE_S = 4.0  # for a SQLite file that another program is writing to
ARTIFACTS = "mlartifacts"
SERVED = ("http://", "https://", "databricks")  # stores that decide themselves where artifacts are kept
# Whatever a store raises; a refused connection is an OSError.
STORE_ERRORS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)
# Where a SQLite store keeps absolute locations of artifacts.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]


@dataclass(frozen=True)
class Store:
    """An open tracking store. `artifacts`: where experiments keep theirs, None where a server decides. `answered` is
    called when it has taken another piece of something large."""

    client: MlflowClient
    root: Path
    artifacts: Path | None
    answered: Callable[[], None]


def open_store(root: Path, answered: Callable[[], None] = lambda: None) -> Store:
    """Open the store and make sure that it answers; create it where there is none.

    From the root, because mlflow freezes the current folder into the experiment `Default` that it creates beside ours.
    """
    uri = store_uri(root)
    mlflow.store.db.utils.MAX_RETRY_COUNT = 3  # of 10, which last 100 s
    with locked(root), chdir(root):
        path = Path(unquote(uri.removeprefix("sqlite:///")))
        if uri.startswith("sqlite:///") and path.is_file() and path.stat().st_size:
            _mend(path, root)
        elif uri.startswith("sqlite:////") and "?" not in uri and path.parent.is_dir() and not path.is_dir():
            _create(path)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    answered()
    return Store(client, root, None if uri.startswith(SERVED) else root / ARTIFACTS, answered)


def _create(path: Path) -> None:
    """Whole or not at all: mlflow refuses for ever a database whose making was cut off, by a full disk or a kill."""
    with whole(path) as unfinished:
        made_by = mlflow.store.db.utils
        engine = made_by.create_sqlalchemy_engine_with_retry(sqlite_uri(unfinished))  # type: ignore[no-untyped-call]  # no types here
        try:
            made_by._initialize_tables(engine)  # type: ignore[no-untyped-call]  # no types here
        finally:
            engine.dispose()


def _mend(path: Path, root: Path) -> None:
    """Let the artifacts' locations, which are absolute, follow a folder that was moved or copied to `root`.

    A store outside the root may be another folder's too: there only what has gone from its old place follows. On the
    way this finds a file that is locked or read-only, sooner and in clearer words than mlflow.
    """
    read_write = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(read_write, uri=True, timeout=LOCK_PATIENCE_S, isolation_level=None)) as database:
        database.execute("begin immediate")
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        if "experiments" in tables:
            known = database.execute("select name, artifact_location from experiments").fetchall()
            ours = path.absolute().is_relative_to(root)
            for old in {old for name, location in known for old in _old_root(name, location)} - {root}:
                if ours or ((root / ARTIFACTS).exists() and not (old / ARTIFACTS).exists()):
                    for table, column in LOCATIONS:
                        if table in tables:
                            _follow(database, table, column, old, root)
        database.execute("commit")


def _old_root(experiment: str, location: str | None) -> Iterator[Path]:
    """The root of the folder in which our experiment was made; none where its location is not of our making."""
    split = urlsplit(location or "")
    folder = Path(unquote(split.path))
    if split.scheme == "file" and folder.name == experiment and folder.parent.name == ARTIFACTS:
        yield folder.parent.parent


def _follow(database: sqlite3.Connection, table: str, column: str, old: Path, new: Path) -> None:
    """mlflow writes locations as URIs, but for its experiment `Default`, which has a plain path."""
    for before, after in ((f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")):
        query = f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?"
        database.execute(query, (after, len(before) + 1, len(before), before))


def experiment(store: Store, study: str) -> str:
    """The id of the study's experiment; one that someone deleted in the UI comes back."""
    found = store.client.get_experiment_by_name(study)
    if found is None:
        location = (store.artifacts / study).as_uri() if store.artifacts else None
        try:
            return str(store.client.create_experiment(study, location))
        except MlflowException as error:  # another machine may have been quicker
            known = error.error_code == "RESOURCE_ALREADY_EXISTS"
            found = store.client.get_experiment_by_name(study) if known else None
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        store.client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def add_inputs(store: Store, run_id: str, inputs: list[DatasetInput]) -> None:
    """Name the run's data sets, of which the server keeps one row for all runs. Of two machines that bring it the same
    one at once, it refuses one; that one tries again, for the row is then there."""
    try:
        store.client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        store.client.log_inputs(run_id, inputs)


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """The run of these inputs; the oldest, should machines that share a server have made two."""
    wanted = f"tags.`bancada.fingerprint` = '{fingerprint}'"
    runs = store.client.search_runs([experiment(store, study)], wanted, max_results=1, order_by=OLDEST_FIRST)
    return runs[0] if runs else None


def our_runs(store: Store) -> Iterator[Run]:
    """Every run of the bench, of all studies; the oldest first."""
    return runs_where(store, "tags.`bancada.fingerprint` != ''")


def runs_where(store: Store, condition: str) -> Iterator[Run]:
    """Of all experiments; the oldest first."""
    ids = [found.experiment_id for found in store.client.search_experiments()]
    token: str | None = None
    while ids:
        page = store.client.search_runs(ids, condition, max_results=1000, order_by=OLDEST_FIRST, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def artifact_paths(store: Store, run: Run, folder: str | None = None) -> set[str]:
    """Of all files that the run holds, in whatever folder."""
    found: set[str] = set()
    for entry in store.client.list_artifacts(run.info.run_id, folder):
        found |= artifact_paths(store, run, entry.path) if entry.is_dir else {entry.path}
    return found
