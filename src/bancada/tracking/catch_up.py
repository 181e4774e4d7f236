"""`bancada track`: write to MLflow what the pipeline's files hold and MLflow does not, and nothing twice.

It is used after an outage, in a fresh clone, and for results that DVC restored from its cache or that DVC experiments
hold. Each result is written as beside its stage (record.py); this module finds out which files belong together.
"""

import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy.exc
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from bancada.base import BadInput, dvc_errors, files, git, index, lockfile
from bancada.base.notify import first_line, grouped, without_credentials
from bancada.base.refusals import did_you_mean
from bancada.base.variables import variables
from bancada.tracking import evaluations, live_runs, mirror, of_seeds, reports, surroundings
from bancada.tracking.experiments import find_run, is_deleted
from bancada.tracking.record import Recorder
from bancada.tracking.store import STORE_ERRORS, Failed, Store, StoreAway, cause, open_store
from bancada.tracking.surroundings import repository_root, store_uri

NO_STORE = (UnsupportedModelRegistryStoreURIException, sqlalchemy.exc.ArgumentError, ModuleNotFoundError)


def track(all_experiments: bool, restore: bool = False, seeds_of: str = "") -> int:
    """Write the results of the current folder, the repository's root, and of the DVC experiments if wanted.

    `restore`: bring back runs and models that someone deleted in MLflow. `seeds_of`: of this variant, also a run for
    each seed. Return the exit status: 1 where something is not recorded. Raise BadInput where MLFLOW_TRACKING_URI names
    no store that can be used, and for a variant that is not trained.
    """
    trained = {folder.name: folder for folder in mirror.results()}
    if seeds_of and seeds_of not in trained:
        raise BadInput(f"--seeds {seeds_of}: no trained variant{did_you_mean(seeds_of, trained)}")
    if variables().tracking == "off":
        print("tracking is switched off: BANCADA_TRACKING=off")
        return 0
    root = repository_root(Path.cwd())
    try:
        store = open_store(root)
    except (*NO_STORE, *STORE_ERRORS) as error:
        is_folder = isinstance(error, MlflowException) and urlsplit(store_uri(root)).scheme in ("", "file")
        if is_folder or isinstance(error, NO_STORE):
            raise BadInput(f"MLFLOW_TRACKING_URI = {shown_store(root)}: {first_line(error)}") from None
        print(f"MLflow's store {shown_store(root)} cannot be written to: {cause(error)}", file=sys.stderr)
        return 1
    lock = lockfile.here()
    if not lockfile.LOCK_FILE.exists() and lockfile.at_head().stages:
        raise BadInput(f"{lockfile.LOCK_FILE}: missing, and HEAD has it; `git checkout -- {lockfile.LOCK_FILE}`")
    recorder = Recorder(store, surroundings.origin(), restore=restore, tell=partial(print, flush=True))
    if recorder.origin.problem:
        print(recorder.origin.problem, file=sys.stderr)
    failed = recorder.failed
    try:
        live_runs.close_killed(store, failed)
        with store.part("the results that are here", failed):
            _write(recorder, lock)
        if seeds_of:
            with store.part(f"the seeds of {seeds_of}", failed):
                _write_seeds(store, mirror.result(trained[seeds_of], _inputs(trained[seeds_of], lock)))
        for experiment in surroundings.experiments() if all_experiments else ():
            with store.part(f"the experiment {experiment.name}", failed):
                _write_experiment(replace(recorder, origin=experiment.origin(), newest=False), experiment)
    except StoreAway as error:
        failed["the rest"] = f"MLflow's store {shown_store(root)} does not answer any more: {first_line(error)}"
    if not mirror.results() and not recorder.statuses:
        print("there are no results: `dvc repro` makes them, `dvc pull` fetches them", file=sys.stderr)
    count = Counter(recorder.statuses.values())
    print(f"{count['new']} runs new, {count['completed']} completed, {count['complete']} were complete", flush=True)
    for why, what in grouped(failed).items():
        print(f"not recorded: {', '.join(what)}: {why}", file=sys.stderr)
    return 1 if failed else 0


def shown_store(root: Path) -> str:
    """Return the store's URI as messages show it, without credentials."""
    return without_credentials(store_uri(root)).partition("?")[0]


# --- the results of a folder ----------------------------------------------------------------------------------------


def _write(recorder: Recorder, lock: lockfile.Lock, changed: Container[str] | None = None) -> None:
    """Write the results of the current folder. `changed`: of these studies alone."""
    recorder = replace(recorder, requirements=lock.agrees("code", Path("requirements.lock")))
    results = defaultdict[str, list[mirror.Result]](list)
    for result in _readable(recorder.failed, lock):
        if changed is None or result.study in changed:
            results[result.study].append(result)
    for study, found in results.items():
        evaluation = None
        with recorder.store.part(f"the evaluation of {study}", recorder.failed):
            evaluation = _evaluation(study, found, lock)
        recorder.write_all(study, found, evaluation)
    if changed is None and files.REPORT.exists():
        if lock.agrees("report", files.REPORT):
            reports.write(recorder, files.REPORT)
        else:
            recorder.failed[str(files.REPORT)] = f"{lockfile.DIFFERS}; `dvc checkout {files.REPORT}` brings that back"


def _write_seeds(store: Store, result: mirror.Result) -> None:
    """Write a run for each seed, below the run of the variant."""
    run = find_run(store, result.study, result.fingerprint)
    if run is None or is_deleted(run.info):
        raise BadInput("the variant has no run in MLflow, or it was deleted; `bancada track --restore` brings it back")
    count = of_seeds.write(store, run, result, evaluations.read(result.study))
    print(f"{result.name}: {count} runs of seeds new, {len(result.recipe['seeds']) - count} were there or deleted")


def _readable(failed: Failed, lock: lockfile.Lock) -> Iterator[mirror.Result]:
    for folder in mirror.results():
        try:
            if not lock.agrees(f"train@{folder.name}", folder):
                failed[str(folder)] = f"{lockfile.DIFFERS}; `dvc checkout --force {folder}` brings that one back"
                continue
            result = mirror.result(folder, _inputs(folder, lock))
            if files.model(result.study, result.variant) == folder:
                yield result
            else:
                failed[str(folder)] = f"its run.json is of {result.name}; `bancada check --prune` removes it"
        except (OSError, ValueError, KeyError, TypeError) as error:
            failed[str(folder)] = f"not a complete model folder: {cause(error)}"


def _inputs(folder: Path, lock: lockfile.Lock) -> mirror.Inputs | None:
    """Return what the model was made from, by dvc.lock; None, for the files beside it, if that has not this model."""
    study, variant = folder.parts[-2:]
    hashes = lock.hashes(f"train@{variant}")
    paths = (files.split(study).as_posix(), files.code("train", variant).as_posix())
    named = all(path in hashes for path in paths) and lock.names(f"train@{variant}", folder)
    return mirror.Inputs(*(hashes[path] for path in paths)) if named else None


def _evaluation(study: str, results: Sequence[mirror.Result], lock: lockfile.Lock) -> evaluations.Evaluation | None:
    """Return the study's evaluation if there is one and it is of these models, without what is damaged in it.

    Raise BadInput where dvc.lock does not name it.
    """
    folder, stage = files.evaluation(study), f"evaluate@{study}"
    if not folder.exists() and not lock.hashes(stage):
        return None
    if lock.stages and not lock.hashes(stage):
        raise BadInput(f"{folder}: dvc.lock does not name it; `dvc repro {stage}` brings it up")
    agrees = lock.agrees(stage, files.index(study))
    known = index.read(study) if agrees and files.index(study).exists() else {}
    here = [result.variant for result in results if result.variant in known]
    if not agrees or index.of_models(study, here) != {name: known[name] for name in here}:
        why = f"left out, because it is not of the models in {files.models(study)}; run `dvc repro {stage}`"
        print(f"{folder}: {why}", file=sys.stderr)
        return None
    return evaluations.read(study, lock)


# --- DVC experiments ------------------------------------------------------------------------------------------------


def _write_experiment(recorder: Recorder, experiment: surroundings.Experiment) -> None:
    """Write an experiment's results, of those studies that differ from its baseline, with its name on the runs.

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
        _write(recorder, after, changed)


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
