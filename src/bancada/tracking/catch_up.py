"""`bancada track`: write to MLflow what the pipeline's files hold and MLflow does not, and nothing twice.

It is used after an outage, in a fresh clone, and for results that DVC restored from its cache or that DVC experiments
hold. Each result is written as beside its stage (record.py); this module finds out which files belong together.
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
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from bancada.base import BadInput, files, git, index, lockfile
from bancada.base.notify import first_line, tracking, without_credentials
from bancada.tracking import evaluations, live_runs, mirror, surroundings, views
from bancada.tracking.record import Outcome, Recorder
from bancada.tracking.store import SERVED, STORE_ERRORS, Store, open_store, runs_where
from bancada.tracking.surroundings import repository_root, store_uri

DUPLICATE = "bancada.duplicate_of"  # tag
NO_STORE = (UnsupportedModelRegistryStoreURIException, sqlalchemy.exc.ArgumentError, ModuleNotFoundError)


def track(all_experiments: bool) -> int:
    """Write the results of the current folder, the repository's root, and of the DVC experiments if wanted.

    Return the exit status: 1 where the store does not answer, 2 where a model's files are damaged. Raise BadInput where
    MLFLOW_TRACKING_URI names no store that can be used.
    """
    if tracking() == "off":
        print("tracking is switched off: BANCADA_TRACKING=off")
        return 0
    root, tally = repository_root(Path.cwd()), Tally()
    try:
        store = open_store(root)
        live_runs.close_killed(store)
        _write(Recorder(store, surroundings.origin(), restore=True), tally)
        for experiment in surroundings.experiments() if all_experiments else ():
            _write_experiment(store, experiment, tally)
        _mark_duplicates(store, tally)
    except (*NO_STORE, *STORE_ERRORS) as error:
        is_folder = isinstance(error, MlflowException) and urlsplit(store_uri(root)).scheme in ("", "file")
        if is_folder or isinstance(error, NO_STORE):
            raise BadInput(f"MLFLOW_TRACKING_URI = {shown_store(root)}: {first_line(error)}") from None
        why = f"{type(error).__name__}: {first_line(error)}"
        print(f"MLflow's store {shown_store(root)} cannot be written to: {why}", file=sys.stderr)
        return 1
    if not tally.runs and not tally.broken:
        print("there are no results: `dvc repro` makes them, `dvc pull` fetches them", file=sys.stderr)
    print(tally)
    return 2 if tally.broken else 0


def show() -> str:
    """Print the address of each study's page. Return the store's URI, or nothing where a server shows its pages."""
    root = repository_root(Path.cwd())
    try:
        addresses = views.pages(open_store(root))
    except STORE_ERRORS as error:
        raise BadInput(f"MLflow's store {shown_store(root)}: {first_line(error)}") from None
    for study, address in addresses.items():
        print(f"{study}: {address}", flush=True)
    uri = store_uri(root)
    return "" if uri.startswith(SERVED) else uri


def shown_store(root: Path) -> str:
    """Return the store's URI as messages show it, without credentials."""
    return without_credentials(store_uri(root)).partition("?")[0]


@dataclass
class Tally:
    """Counts what happened to the runs."""

    runs: dict[str, str] = field(default_factory=dict)  # run id -> `new`, `completed` or `complete`
    duplicates: int = 0
    broken: int = 0  # models that could not be read

    def add(self, result: mirror.Result, outcome: Outcome, experiment: str | None) -> None:
        """Count the run once, however many experiments have it, and print what was written to it."""
        status = "new" if "new run" in outcome.written else "completed" if outcome.written else "complete"
        if self.runs.get(outcome.run_id, "complete") == "complete":
            self.runs[outcome.run_id] = status
        if outcome.written:
            of = f" ({experiment})" if experiment else ""
            print(f"{result.study}/{result.variant}{of}: {', '.join(outcome.written)} -> {outcome.run_id}", flush=True)

    def __str__(self) -> str:
        count = Counter(self.runs.values())
        runs = f"{count['new']} runs new, {count['completed']} completed, {count['complete']} were complete"
        return f"{runs}, {self.duplicates} marked as duplicates"


# --- the results of a folder ----------------------------------------------------------------------------------------


def _write(recorder: Recorder, tally: Tally, changed: set[str] | None = None) -> None:
    """Write the results of the current folder. `changed`: the studies of an experiment; None for the workspace."""
    lock = lockfile.parse(lockfile.LOCK_FILE.read_text() if lockfile.LOCK_FILE.exists() else "")
    results = list(_readable(tally, lock))
    evaluated = {study: _evaluation(study, lock) for study in sorted({result.study for result in results})}
    without_name = replace(recorder, origin=replace(recorder.origin, experiment=None))
    run_ids = {}
    for result in results:
        split_is_its = lock.agrees(f"train@{result.variant}", result.folder, files.split(result.study))
        named = recorder if changed is None or result.study in changed else without_name
        outcome = named.write(result, evaluated[result.study], split_is_its=split_is_its)
        tally.add(result, outcome, recorder.origin.experiment)
        run_ids[result.variant] = outcome.run_id
    if changed is None:  # results of an experiment do not describe the study
        for study, evaluation in evaluated.items():
            for written in recorder.write_overview(study, evaluation, run_ids) if evaluation else ():
                print(f"{study}: {written}", flush=True)


def _readable(tally: Tally, lock: lockfile.Lock) -> Iterator[mirror.Result]:
    for folder in mirror.results():
        try:
            yield mirror.result(folder, _inputs(folder, lock))
        except (OSError, ValueError, KeyError, TypeError) as error:
            tally.broken += 1
            print(f"{folder}: not a complete model folder: {first_line(error)}", file=sys.stderr)


def _inputs(folder: Path, lock: lockfile.Lock) -> mirror.Inputs:
    """Return what the model was made from: by dvc.lock if it has this model, otherwise by the files beside it."""
    study, variant = folder.parts[-2:]
    known = lock.hashes(f"train@{variant}")
    paths = (files.split(study).as_posix(), files.code("train", variant).as_posix())
    if all(path in known for path in paths) and lock.agrees(f"train@{variant}", folder):
        return mirror.Inputs(*(known[path] for path in paths))
    return mirror.inputs_here(study, variant)


def _evaluation(study: str, lock: lockfile.Lock) -> evaluations.Evaluation | None:
    """Return the study's evaluation if there is one, and if it is of the models in this folder."""
    scores = files.evaluation(study) / "scores.csv"
    if not scores.exists():
        return None
    models, why = files.models(study), ""
    try:
        # At an older commit, dvc.lock has the hash of all models instead of the index's.
        if not (lock.agrees(f"evaluate@{study}", models, files.index(study), scores) and _indexed(study)):
            why = f"it is not of the models in {models}; run `dvc repro evaluate@{study}`"
    except BadInput as error:
        why = str(error)
    if why:
        print(f"{scores.parent}: left out, because {why}", file=sys.stderr)
    return None if why else evaluations.read(study)


def _indexed(study: str) -> bool:
    """Return whether the models that are here are those of the study's index, as far as both exist."""
    known = index.read(study) if files.index(study).exists() else {}
    here = [variant for variant in known if files.model(study, variant).is_dir()]
    return index.of_models(study, here) == {variant: known[variant] for variant in here}


# --- DVC experiments ------------------------------------------------------------------------------------------------


def _write_experiment(store: Store, experiment: surroundings.Experiment, tally: Tally) -> None:
    """Write an experiment's results, with its name on the runs of those studies that differ from its baseline.

    Its scores do not replace those of the workspace, or of a newer experiment.
    """
    commits = (experiment.baseline, experiment.commit)
    before, after = (lockfile.parse(git.git_answer("show", f"{commit}:dvc.lock")).stages for commit in commits)
    recorder = Recorder(store, experiment.origin(), newest=False, restore=True)
    with _files_of(experiment) as folder, chdir(folder):
        changed = {
            path.parent.name
            for path in mirror.results()
            for stage in (f"train@{path.name}", f"evaluate@{path.parent.name}")
            if before.get(stage) != after.get(stage)
        }
        _write(recorder, tally, changed)


@contextmanager
def _files_of(experiment: surroundings.Experiment) -> Iterator[Path]:
    """Yield a temporary folder with the experiment's files, from its commit and DVC's cache, as far as they exist."""
    from dvc.api import DVCFileSystem

    from bancada.base import dvc_errors

    with tempfile.TemporaryDirectory(prefix="bancada-") as name:
        source: Any = DVCFileSystem(str(Path.cwd()), rev=experiment.commit)
        in_git = ("dvc.lock", "requirements.lock", *map(str, files.OF_GIT))
        in_cache = [*source.glob(f"{files.DATA}/models/*/*"), *source.glob(f"{files.DATA}/split/*")]
        for path in (*filter(source.exists, in_git), *in_cache):
            try:
                source.get(path, str(Path(name) / path), recursive=source.isdir(path))
            except Exception as error:  # also of the library that reaches a remote
                files.remove(Path(name) / path)
                found = dvc_errors.cause(error)
                why = dvc_errors.NOWHERE if isinstance(found, FileNotFoundError) else dvc_errors.described(found)
                print(f"{experiment.name}: {path}: {why}", file=sys.stderr)
        yield Path(name)


# --- runs that several machines made at once ------------------------------------------------------------------------


def _mark_duplicates(store: Store, tally: Tally) -> None:
    """Of runs with the same inputs, which machines that share a server may make at once, mark all but the oldest."""
    oldest: dict[tuple[str, str], str] = {}
    for run in runs_where(store, "tags.`bancada.fingerprint` != ''"):
        run_id, tags = str(run.info.run_id), run.data.tags
        name = "/".join(tags.get(f"bancada.{key}", "?") for key in ("study", "variant"))
        first = oldest.setdefault((run.info.experiment_id, tags["bancada.fingerprint"]), run_id)
        if first != run_id and tags.get(DUPLICATE) != first:
            store.client.set_tag(run_id, DUPLICATE, first)
            tally.duplicates += 1
            print(f"{name}: {run_id} has the same inputs as {first}: marked as its duplicate", flush=True)
        elif first == run_id and DUPLICATE in tags:  # someone deleted the run that it was a duplicate of
            store.client.delete_tag(run_id, DUPLICATE)
            print(f"{name}: {run_id} is no longer a duplicate", flush=True)
