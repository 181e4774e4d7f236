"""Open the MLflow store: create it where there is none, and correct its locations where its folder was moved.

MLflow stores the locations of artifacts as absolute paths, and neither its client nor its command line can change them
(its issues 3144 and 2577). A relative location becomes absolute when the experiment is created (its pull request 7670),
and `mlflow-artifacts:` needs a server. So `_follow_root` updates MLflow's tables, by MLflow's own classes for them.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.store.db.utils as database
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun

from bancada.base.files import whole
from bancada.tracking.surroundings import sqlite_uri, store_lock, store_uri

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # errors are raised and reported in one line

database.MAX_RETRY_COUNT = 3  # of 10, which last 100 s
LOCK_PATIENCE_S = 4.0  # for a SQLite file that another program writes to
ARTIFACTS = "mlartifacts"
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
OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    client: MlflowClient
    root: Path
    artifacts: Path | None  # where experiments keep theirs; None where a server decides
    on_progress: Callable[[], None]  # called whenever the store has taken another part of something large


def open_store(root: Path, on_progress: Callable[[], None] = lambda: None) -> Store:
    """Open the store and make sure that it answers; create it where there is none.

    The current folder is the root meanwhile, because mlflow creates its experiment `Default` with a location in it.
    """
    uri = store_uri(root)
    path = Path(unquote(uri.removeprefix("sqlite:///")))
    with store_lock(root), chdir(root):
        exists = uri.startswith("sqlite:///") and path.is_file() and path.stat().st_size > 0
        if exists:
            _check_writable(path)
        elif uri.startswith("sqlite:////") and "?" not in uri and path.parent.is_dir() and not path.is_dir():
            _create(path)
        client = MlflowClient(uri)
        experiments = client.search_experiments(ViewType.ALL)
        if exists:
            _follow_root(client, {_root_of(each) for each in experiments} - {None, root}, path, root)
    on_progress()
    return Store(client, root, None if uri.startswith(SERVED) else root / ARTIFACTS, on_progress)


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
    ours = split.scheme == "file" and folder.name == experiment.name and folder.parent.name == ARTIFACTS
    return folder.parent.parent if ours else None


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's experiment. Create it, or restore one that someone deleted in the UI."""
    found = store.client.get_experiment_by_name(study)
    if found is None:
        location = (store.artifacts / study).as_uri() if store.artifacts else None
        try:
            return str(store.client.create_experiment(study, location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another machine may have created it meanwhile
                raise
            return experiment_id(store, study)
    if found.lifecycle_stage == "deleted":
        store.client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """Return the run with these inputs; the oldest, if machines that share a server made two."""
    condition = f"tags.`bancada.fingerprint` = '{fingerprint}'"
    runs = store.client.search_runs([experiment_id(store, study)], condition, max_results=1, order_by=OLDEST_FIRST)
    return runs[0] if runs else None


def runs_where(store: Store, condition: str) -> Iterator[Run]:
    """Yield the runs of all experiments for which the condition holds, the oldest first."""
    ids = [found.experiment_id for found in store.client.search_experiments()]
    token: str | None = ""
    while ids and token is not None:
        page = store.client.search_runs(ids, condition, max_results=1000, order_by=OLDEST_FIRST, page_token=token)
        yield from page
        token = page.token


def artifact_paths(store: Store, run: Run, folder: str | None = None) -> set[str]:
    """Return the paths of all files that the run holds."""
    found: set[str] = set()
    for entry in store.client.list_artifacts(run.info.run_id, folder):
        found |= artifact_paths(store, run, entry.path) if entry.is_dir else {entry.path}
    return found
