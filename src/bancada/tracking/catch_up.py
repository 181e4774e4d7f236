"""`bancada track`: MLflow gets whatever the pipeline's files hold and it does not, and nothing twice.

After an outage, in a fresh clone, for results that DVC restored from its cache or that its experiments hold. Each
result goes the way that it takes beside a stage (tracking.py); here it is found out which files belong together.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy.exc
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from bancada.base import files, lockfile
from bancada.base.git import git_answer
from bancada.base.lockfile import Lock
from bancada.base.notify import first_line, tracking, without_credentials
from bancada.base.refusals import BadInput
from bancada.tracking import mirror
from bancada.tracking.live_runs import close_killed
from bancada.tracking.mirror import Evaluation, Inputs, Result
from bancada.tracking.record import present, record
from bancada.tracking.store import SERVED, STORE_ERRORS, Store, open_store, our_runs
from bancada.tracking.surroundings import (
    Circumstances,
    Experiment,
    circumstances,
    experiments,
    repository_root,
    store_uri,
)
from bancada.tracking.views import pages

LOCK_FILE = Path("dvc.lock")
DUPLICATE = "bancada.duplicate_of"
NO_STORE = (UnsupportedModelRegistryStoreURIException, sqlalchemy.exc.ArgumentError, ModuleNotFoundError)


@dataclass
class Tally:
    """What came of each result: `new`, `completed` or `complete`; and what could not be used, told on stderr."""

    runs: dict[str, str] = field(default_factory=dict)  # run id -> what came of it
    duplicates: int = 0
    broken: int = 0

    def line(self) -> str:
        count = Counter(self.runs.values())
        said = f"{count['new']} runs new, {count['completed']} completed, {count['complete']} were complete"
        return f"{said}, {self.duplicates} marked as duplicates"


def track(all_experiments: bool) -> int:
    """Bring the store up to the files of the current folder, the repository's root.

    The exit status: 1 where the store does not answer. BadInput where it cannot be used, or files of the pipeline are
    damaged.
    """
    if tracking() == "off":
        print("tracking is switched off: BANCADA_TRACKING=off")
        return 0
    root, tally = repository_root(Path.cwd()), Tally()
    try:
        store = open_store(root)
        close_killed(store)
        _write(store, circumstances(), tally)
        for experiment in experiments() if all_experiments else ():
            _write_experiment(store, experiment, tally)
        _mark_duplicates(store, tally)
    except NO_STORE as error:
        raise BadInput(f"MLFLOW_TRACKING_URI = {shown_store(root)}: {first_line(error)}") from None
    except STORE_ERRORS as error:
        if isinstance(error, MlflowException) and urlsplit(store_uri(root)).scheme in ("", "file"):  # a plain folder
            raise BadInput(f"MLFLOW_TRACKING_URI = {shown_store(root)}: {first_line(error)}") from None
        why = f"{type(error).__name__}: {first_line(error)}"
        print(f"MLflow's store {shown_store(root)} cannot be written to: {why}", file=sys.stderr)
        return 1
    if not tally.runs and not tally.broken:
        print("no results are here: `dvc repro` makes them, `dvc pull` gets them", file=sys.stderr)
    print(tally.line())
    return 2 if tally.broken else 0


def show() -> str:
    """Say where each study's page is. The URI of the store whose pages are to be served; empty where a server does."""
    root = repository_root(Path.cwd())
    try:
        addresses = pages(open_store(root))
    except STORE_ERRORS as error:
        raise BadInput(f"MLflow's store {shown_store(root)}: {first_line(error)}") from None
    for study, address in addresses.items():
        print(f"{study}: {address}", flush=True)
    uri = store_uri(root)
    return "" if uri.startswith(SERVED) else uri


def _write(store: Store, asked: Circumstances, tally: Tally, changed: set[str] | None = None) -> None:
    """The results in the current folder. `changed`: studies that an experiment asked for; None where there is none."""
    lock = lockfile.parse(LOCK_FILE.read_text() if LOCK_FILE.exists() else "")
    results = list(_readable(tally, lock))
    evaluations = {study: _evaluation(study, lock) for study in {result.study for result in results}}
    run_ids = dict[str, str]()
    for result in results:
        named = changed is None or result.study in changed
        recorded = record(
            store,
            result,
            asked if named else replace(asked, experiment=None),
            evaluations[result.study],
            split_is_its=lock.agrees(f"train@{result.variant}", result.folder, files.split(result.study)),
            newest=changed is None,
            artifacts_too=True,
        )
        run_ids[result.variant] = recorded.run_id
        before = tally.runs.get(recorded.run_id, "complete")
        tally.runs[recorded.run_id] = before
        if recorded.written:
            if before == "complete":
                tally.runs[recorded.run_id] = "new" if "a new run" in recorded.written else "completed"
            of = f" ({asked.experiment})" if asked.experiment else ""
            said = ", ".join(recorded.written)
            print(f"{result.study}/{result.variant}{of}: {said} -> {recorded.run_id}", flush=True)
    if changed is None:  # an experiment's results have no say beside those of the workspace
        for study, evaluation in sorted(evaluations.items()):
            for said in present(store, study, evaluation, run_ids) if evaluation else ():
                print(f"{study}: {said}", flush=True)


def _readable(tally: Tally, lock: Lock) -> Iterator[Result]:
    for folder in mirror.results():
        try:
            yield mirror.result(folder, _inputs(folder, lock))
        except (OSError, ValueError, KeyError, TypeError) as error:
            tally.broken += 1
            print(f"{folder}: not the folder of a whole model: {first_line(error)}", file=sys.stderr)


def _inputs(folder: Path, lock: Lock) -> Inputs:
    """Return what the model was made from: by dvc.lock where that names this model, else by the files beside it."""
    study, variant = folder.parts[-2:]
    known = lock.hashes(f"train@{variant}")
    paths = (files.split(study).as_posix(), files.code("train", variant).as_posix())
    if all(path in known for path in paths) and lock.agrees(f"train@{variant}", folder):
        return Inputs(*(known[path] for path in paths))
    return mirror.inputs_here(study, variant)


def _evaluation(study: str, lock: Lock) -> Evaluation | None:
    """The study's evaluation, if there is one of the models that are here."""
    scores = files.evaluation(study) / "scores.csv"
    if not scores.exists():
        return None
    if not lock.agrees(f"evaluate@{study}", files.models(study), scores):
        print(f"{scores.parent}: not of these models, so left out: run evaluate@{study}", file=sys.stderr)
        return None
    return mirror.evaluation(study)


# --- DVC experiments ------------------------------------------------------------------------------------------------


def _write_experiment(store: Store, experiment: Experiment, tally: Tally) -> None:
    """An experiment's results. It is named on the runs of those studies in which it differs from its baseline, and its
    figures leave those of the workspace, or of a newer experiment, where they are."""
    before, after = (
        lockfile.parse(git_answer("show", f"{commit}:dvc.lock")) for commit in (experiment.baseline, experiment.commit)
    )
    asked = experiment.circumstances()
    with _files_of(experiment) as folder, chdir(folder):
        changed = {
            path.parent.name
            for path in mirror.results()
            for stage in (f"train@{path.name}", f"evaluate@{path.parent.name}")
            if before.stages.get(stage) != after.stages.get(stage)
        }
        _write(store, asked, tally, changed)


@contextmanager
def _files_of(experiment: Experiment) -> Iterator[Path]:
    """A temporary folder with the experiment's files, from its commit and DVC's cache; models that are not there are
    left out."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError  # of a folder whose listing is nowhere

    with tempfile.TemporaryDirectory(prefix="bancada-") as name:
        source: Any = DVCFileSystem(str(Path.cwd()), rev=experiment.commit)
        for path in (
            "dvc.lock",
            "requirements.lock",
            str(files.CODE),
            str(files.DATA / "evaluation"),
            *_cached(source),
        ):
            if source.exists(path):
                try:
                    source.get(path, str(Path(name) / path), recursive=source.isdir(path))
                except (DvcException, DataIndexDirError, OSError) as error:
                    files.remove(Path(name) / path)
                    print(f"{experiment.name}: {path} is not in DVC's cache: {first_line(error)}", file=sys.stderr)
        yield Path(name)


def _cached(source: Any) -> Iterator[str]:
    for folder, depth in ((files.DATA / "models", 2), (files.DATA / "split", 1)):
        paths = [str(folder)] if source.exists(str(folder)) else []
        for _ in range(depth):
            paths = [inside for path in paths for inside in source.ls(path, detail=False)]
        yield from paths


# --- runs that machines made at once --------------------------------------------------------------------------------


def _mark_duplicates(store: Store, tally: Tally) -> None:
    """Of the runs of the same inputs, which machines that share a server may make at once, the oldest counts."""
    oldest: dict[tuple[str, str], str] = {}
    for run in our_runs(store):
        run_id = str(run.info.run_id)
        first = oldest.setdefault((run.info.experiment_id, run.data.tags["bancada.fingerprint"]), run_id)
        if first != run_id and run.data.tags.get(DUPLICATE) != first:
            store.client.set_tag(run_id, DUPLICATE, first)
            tally.duplicates += 1
            print(f"{_name(run)}: {run_id} has the same inputs as {first}: marked as its duplicate", flush=True)
        elif first == run_id and DUPLICATE in run.data.tags:  # the one that it was a duplicate of is deleted
            store.client.delete_tag(run_id, DUPLICATE)
            print(f"{_name(run)}: {run_id} is no longer a duplicate", flush=True)


def _name(run: Run) -> str:
    return "/".join(run.data.tags.get(f"bancada.{key}", "?") for key in ("study", "variant"))


def shown_store(root: Path) -> str:
    return without_credentials(store_uri(root)).partition("?")[0]
