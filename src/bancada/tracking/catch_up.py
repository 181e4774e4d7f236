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
from urllib.parse import urlsplit

import sqlalchemy.exc
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from bancada.base import BadInput, dvc_errors, files, git, index, lockfile
from bancada.base.notify import first_line, grouped, tracking, without_credentials
from bancada.tracking import evaluations, live_runs, mirror, surroundings
from bancada.tracking.experiments import runs_where
from bancada.tracking.record import Outcome, Recorder, left_deleted
from bancada.tracking.store import STORE_ERRORS, Failed, Store, StoreAway, open_store
from bancada.tracking.surroundings import repository_root, store_uri

DUPLICATE = "bancada.duplicate_of"  # tag
NO_STORE = (UnsupportedModelRegistryStoreURIException, sqlalchemy.exc.ArgumentError, ModuleNotFoundError)


def track(all_experiments: bool, restore: bool = False) -> int:
    """Write the results of the current folder, the repository's root, and of the DVC experiments if wanted.

    `restore`: bring back runs and models that someone deleted in MLflow. Return the exit status: 1 where something is
    not recorded. Raise BadInput where MLFLOW_TRACKING_URI names no store that can be used.
    """
    if tracking() == "off":
        print("tracking is switched off: BANCADA_TRACKING=off")
        return 0
    root, tally = repository_root(Path.cwd()), Tally()
    try:
        store = open_store(root)
    except (*NO_STORE, *STORE_ERRORS) as error:
        is_folder = isinstance(error, MlflowException) and urlsplit(store_uri(root)).scheme in ("", "file")
        if is_folder or isinstance(error, NO_STORE):
            raise BadInput(f"MLFLOW_TRACKING_URI = {shown_store(root)}: {first_line(error)}") from None
        why = f"{type(error).__name__}: {first_line(error)}"
        print(f"MLflow's store {shown_store(root)} cannot be written to: {why}", file=sys.stderr)
        return 1
    lock = lockfile.here()
    if not lockfile.LOCK_FILE.exists() and lockfile.at_head().stages:
        raise BadInput(f"{lockfile.LOCK_FILE}: missing, and HEAD has it; `git checkout -- {lockfile.LOCK_FILE}`")
    try:
        live_runs.close_killed(store, tally.failed)
        origin = surroundings.origin()
        if origin.problem:
            print(origin.problem, file=sys.stderr)
        recorder = Recorder(store, origin, mend=True, restore=restore, failed=tally.failed)
        with store.part("the results that are here", tally.failed):
            _write(recorder, lock, tally)
        for experiment in surroundings.experiments() if all_experiments else ():
            with store.part(f"the experiment {experiment.name}", tally.failed):
                _write_experiment(replace(recorder, origin=experiment.origin(), newest=False), experiment, tally)
        with store.part("marks of duplicates", tally.failed):
            _mark_duplicates(store, tally)
    except StoreAway as error:
        tally.failed["the rest"] = f"MLflow's store {shown_store(root)} does not answer any more: {first_line(error)}"
    if not tally.runs and not tally.failed and not tally.deleted:
        print("there are no results: `dvc repro` makes them, `dvc pull` fetches them", file=sys.stderr)
    if tally.deleted:
        print(left_deleted(sorted(tally.deleted)))
    print(tally, flush=True)
    for why, what in grouped(tally.failed).items():
        print(f"not recorded: {', '.join(what)}: {why}", file=sys.stderr)
    return 1 if tally.failed else 0


def shown_store(root: Path) -> str:
    """Return the store's URI as messages show it, without credentials."""
    return without_credentials(store_uri(root)).partition("?")[0]


@dataclass
class Tally:
    """Counts what happened to the runs."""

    runs: dict[str, str] = field(default_factory=dict)  # run id -> `new`, `completed` or `complete`
    duplicates: int = 0
    deleted: set[str] = field(default_factory=set)  # STUDY/VARIANT of runs that someone deleted in MLflow
    failed: Failed = field(default_factory=Failed)

    def add(self, result: mirror.Result, outcome: Outcome, experiment: str | None) -> None:
        """Count the run once, however many experiments have it, and print what was written to it."""
        of = f" ({experiment})" if experiment else ""
        if outcome.deleted:
            self.deleted.add(result.name + of)
            return
        status = "new" if "new run" in outcome.written else "completed" if outcome.written else "complete"
        if self.runs.get(outcome.run_id, "complete") == "complete":
            self.runs[outcome.run_id] = status
        if outcome.written:
            print(f"{result.name}{of}: {', '.join(outcome.written)} -> {outcome.run_id}", flush=True)

    def __str__(self) -> str:
        count = Counter(self.runs.values())
        runs = f"{count['new']} runs new, {count['completed']} completed, {count['complete']} were complete"
        return f"{runs}, {self.duplicates} marked as duplicates"


# --- the results of a folder ----------------------------------------------------------------------------------------


def _write(recorder: Recorder, lock: lockfile.Lock, tally: Tally, changed: set[str] | None = None) -> None:
    """Write the results of the current folder. `changed`: the studies of an experiment; None for the workspace."""
    store, of = recorder.store, recorder.origin.experiment
    recorder = replace(recorder, requirements=lock.agrees("code", Path("requirements.lock")))
    without_name = replace(recorder, origin=replace(recorder.origin, experiment=None))
    results = list(_readable(tally, lock))
    evaluated: dict[str, evaluations.Evaluation | None] = {}
    run_ids: dict[str, dict[str, str]] = {result.study: {} for result in results}  # study -> variant -> id
    for study in sorted(run_ids):
        with store.part(str(files.evaluation(study)), tally.failed):
            evaluated[study] = _evaluation(study, lock, tally)
    for result in results:
        with store.part(result.name, tally.failed):
            named = recorder if changed is None or result.study in changed else without_name
            outcome = named.write(result, evaluated.get(result.study), split_is_its=_split_is_its(result, lock))
            tally.add(result, outcome, of)
            if not outcome.deleted:
                run_ids[result.study][result.variant] = outcome.run_id
    if changed is None:  # results of an experiment do not describe the study
        for study, evaluation in evaluated.items():
            for written in recorder.write_overview(study, evaluation, run_ids[study]) if evaluation else ():
                print(f"{study}: {written}", flush=True)


def _readable(tally: Tally, lock: lockfile.Lock) -> Iterator[mirror.Result]:
    for folder in mirror.results():
        try:
            if not lock.agrees(f"train@{folder.name}", folder):
                tally.failed[str(folder)] = f"{lockfile.DIFFERS}; `dvc checkout --force {folder}` brings that one back"
                continue
            result = mirror.result(folder, _inputs(folder, lock))
            if files.model(result.study, result.variant) == folder:
                yield result
            else:
                tally.failed[str(folder)] = f"its run.json is of {result.name}; `bancada check --prune` removes it"
        except (OSError, ValueError, KeyError, TypeError) as error:
            tally.failed[str(folder)] = f"not a complete model folder: {type(error).__name__}: {first_line(error)}"


def _inputs(folder: Path, lock: lockfile.Lock) -> mirror.Inputs:
    """Return what the model was made from: by dvc.lock if it has this model, otherwise by the files beside it."""
    study, variant = folder.parts[-2:]
    hashes = lock.hashes(f"train@{variant}")
    paths = (files.split(study).as_posix(), files.code("train", variant).as_posix())
    if all(path in hashes for path in paths) and lock.names(f"train@{variant}", folder):
        return mirror.Inputs(*(hashes[path] for path in paths))
    return mirror.inputs_here(study, variant)


def _split_is_its(result: mirror.Result, lock: lockfile.Lock) -> bool:
    """Return whether the split files that are here are those that the model was trained on."""
    split = files.split(result.study)
    return split.exists() and lock.agrees(f"train@{result.variant}", result.folder, split)


def _evaluation(study: str, lock: lockfile.Lock, tally: Tally) -> evaluations.Evaluation | None:
    """Return the study's evaluation if there is one, and if it is of the models in this folder.

    Its files that are not those of dvc.lock are left out.
    """
    folder, stage = files.evaluation(study), f"evaluate@{study}"
    if not folder.exists() and not lock.hashes(stage):
        return None
    if lock.stages and not lock.hashes(stage):
        tally.failed[str(folder)] = f"dvc.lock does not name it; `dvc repro {stage}` brings it up"
        return None
    if not _is_of_these_models(study, lock):
        why = f"left out, because it is not of the models in {files.models(study)}; run `dvc repro {stage}`"
        print(f"{folder}: {why}", file=sys.stderr)
        return None
    evaluation = evaluations.read(study, lock)
    tally.failed |= {str(path): why for path, why in evaluation.left_out.items()}
    return evaluation


def _is_of_these_models(study: str, lock: lockfile.Lock) -> bool:
    """Return whether the evaluation is of the models that are here; those that differ from dvc.lock do not count."""
    # At an older commit, dvc.lock has the hash of all models instead of the index's.
    if not lock.agrees(f"evaluate@{study}", files.models(study), files.index(study)):
        return False
    known = index.read(study) if files.index(study).exists() else {}
    folders = {name: files.model(study, name) for name in known if files.model(study, name).is_dir()}
    here = [name for name, folder in folders.items() if lock.agrees(f"train@{name}", folder)]
    return index.of_models(study, here) == {name: known[name] for name in here}


# --- DVC experiments ------------------------------------------------------------------------------------------------


def _write_experiment(recorder: Recorder, experiment: surroundings.Experiment, tally: Tally) -> None:
    """Write an experiment's results, with its name on the runs of those studies that differ from its baseline.

    Its scores do not replace those of the workspace, or of a newer experiment.
    """
    commits = (experiment.baseline, experiment.commit)
    before, after = (lockfile.parse(git.file_at(Path(), commit, "dvc.lock")) for commit in commits)
    with _files_of(experiment) as folder, chdir(folder):
        changed = {
            path.parent.name
            for path in mirror.results()
            for stage in (f"train@{path.name}", f"evaluate@{path.parent.name}")
            if before.stages.get(stage) != after.stages.get(stage)
        }
        _write(recorder, after, tally, changed)


@contextmanager
def _files_of(experiment: surroundings.Experiment) -> Iterator[Path]:
    """Yield a temporary folder with the experiment's files, from its commit and DVC's cache, as far as they exist."""
    with (
        tempfile.TemporaryDirectory(prefix="bancada-") as name,
        lockfile.files_at(Path.cwd(), experiment.commit) as source,
    ):
        in_git = ("dvc.lock", "requirements.lock", "src", *map(str, files.OF_GIT))
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
