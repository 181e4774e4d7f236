"""A run of MLflow: create it, see whether it is finished, and add points and tags to it."""

import json
import platform
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TypeGuard

from mlflow.entities import Metric, Param, Run, RunTag

from bancada.base import BadInput
from bancada.tracking import mirror
from bancada.tracking.experiments import experiment_id, experiments_of, find_run, is_deleted
from bancada.tracking.store import STUDY, Store
from bancada.tracking.surroundings import Origin
from bancada.training import asked, live

POINTS_A_CALL = 1000
LIVE_FILE = "bancada.live_file"  # tag: HOST:PATH of the file that the training writes while it runs
LIBRARIES = ("numpy", "torch")  # whose versions are tags
Logged = tuple[str, int]  # name and step of a point that a run has
MOST_PARAM, MOST_TAG = 6000, 8000  # characters that MLflow takes


def is_finished(run: Run | None) -> TypeGuard[Run]:
    """Return whether there is a run and it holds its whole training."""
    return run is not None and run.info.status == "FINISHED"


def begin(
    store: Store, run: Run | None, training: mirror.Description, origin: Origin, began_ms: int | None
) -> tuple[Run, set[Logged]]:
    """Return the run, RUNNING and with its parameters, and the points that it has; create it where there is none."""
    client, logged = store.client, set[Logged]()
    if run:
        client.update_run(run.info.run_id, "RUNNING")
        set_tags(store, run, with_experiment(run, origin) | {LIVE_FILE: live_place(training.variant)})
        logged = logged_points(store, run.info.run_id)
    else:
        tags = {key: value[:MOST_TAG] for key, value in _tags(training, origin).items()}
        name = _name(store, training, origin.commit)
        run = client.create_run(experiment_id(store, training.study), began_ms, tags, run_name=name)
    params = [Param(key, value[:MOST_PARAM]) for key, value in mirror.parameters(training).items()]
    client.log_batch(run.info.run_id, params=params)  # MLflow takes up to 100 a call
    return run, logged


def restored(store: Store, study: str, fingerprint: str, run: Run | None) -> Run | None:
    """Bring back a run that someone deleted, and its experiment if that was deleted; without a run, the study's."""
    found = experiments_of(store, study)
    experiment = next(each for each in found if run is None or each.experiment_id == run.info.experiment_id)
    if is_deleted(experiment):  # it brings back its runs
        store.client.restore_experiment(experiment.experiment_id)
    elif run:
        store.client.restore_run(run.info.run_id)
    return find_run(store, study, fingerprint)


def _name(store: Store, training: mirror.Description, commit: str) -> str:
    """Return the variant's name, with what was asked where that differs from the parameters of the commit."""
    try:
        return mirror.run_name(training, asked.params_at(store.root, commit)) if commit else training.variant
    except BadInput:  # an unknown commit, or one without parameters
        return training.variant


def _tags(training: mirror.Description, origin: Origin) -> dict[str, str]:
    return {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "bancada.training.train",
        "bancada.fingerprint": training.fingerprint,
        STUDY: training.study,
        "bancada.variant": training.variant,
        **{f"bancada.{name}": training.versions[name] for name in LIBRARIES if name in training.versions},
        "bancada.python": platform.python_version(),
        LIVE_FILE: live_place(training.variant),
        "dvc.stage": f"train@{training.variant}",
        "dvc.experiments": json.dumps([origin.experiment] if origin.experiment else []),
        **origin.tags(),
    }


def live_place(variant: str) -> str:
    """Return the value of the tag LIVE_FILE for a training on this machine, in the current folder."""
    return f"{socket.gethostname()}:{live.path_of(variant).absolute()}"


def add_points(store: Store, run_id: str, points: Iterable[mirror.Point], logged: Collection[Logged] = ()) -> None:
    """Log the points that are not in `logged`, many a call: each call takes milliseconds."""
    now = time.time_ns() // 1_000_000  # in MLflow's unit
    new = [point for point in points if (point.name, point.epoch) not in logged]
    metrics = [Metric(point.name, point.value, now, point.epoch) for point in new]
    for start in range(0, len(metrics), POINTS_A_CALL):
        store.client.log_batch(run_id, metrics[start : start + POINTS_A_CALL])


def logged_points(store: Store, run_id: str) -> set[Logged]:
    """Return the name and step of every point that the run has."""
    client = store.client
    names = client.get_run(run_id).data.metrics
    return {(name, point.step) for name in names for point in client.get_metric_history(run_id, name)}


def with_experiment(run: Run, origin: Origin) -> dict[str, str]:
    """Return the tag that lists the run's DVC experiments, with this one added.

    Return nothing if the experiment is in the list, or if the list is as long as a tag can be.
    """
    names = json.loads(run.data.tags.get("dvc.experiments", "[]"))
    longer = json.dumps([*names, origin.experiment])
    if not origin.experiment or origin.experiment in names or len(longer) > MOST_TAG:
        return {}
    return {"dvc.experiments": longer}


def set_tags(store: Store, run: Run, tags: Mapping[str, str]) -> list[str]:
    """Set the tags whose values differ from the run's. Return what was written, in words."""
    changed = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
    if changed:
        store.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in changed.items()])
    return [f"tag {key}" for key in changed]
