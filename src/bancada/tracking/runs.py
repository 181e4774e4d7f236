"""A run of MLflow: begun, found whole or not, and given points and tags. Like store.py it imports mlflow."""

import json
import platform
import socket
import time
from collections.abc import Iterable
from typing import TypeGuard

from mlflow.entities import Metric, Param, Run, RunTag

from bancada.tracking import mirror
from bancada.tracking.mirror import Description, Point
from bancada.tracking.store import Store, experiment
from bancada.tracking.surroundings import Circumstances
from bancada.training import live

BATCH = 1000  # points a call
LIVE_FILE = "bancada.live_file"  # tag: HOST:PATH of what live.py writes while the training runs
LIBRARIES = ("numpy", "torch")  # whose versions are tags
MOST_PARAM, MOST_TAG = 6000, 8000  # characters that MLflow takes


def is_whole(run: Run | None) -> TypeGuard[Run]:
    return run is not None and run.info.status == "FINISHED"


def begin(store: Store, run: Run | None, training: Description, asked: Circumstances, began_ms: int | None) -> Run:
    """The run, made where there is none, with the params."""
    client = store.client
    if run:
        tag(store, run, experiments(run, asked))
    else:
        tags = _tags(training, asked)
        run = client.create_run(experiment(store, training.study), began_ms, tags, run_name=training.variant)
    params = [Param(key, value[:MOST_PARAM]) for key, value in mirror.parameters(training).items()]
    for at in range(0, len(params), 100):
        client.log_batch(run.info.run_id, params=params[at : at + 100])
    return run


def _tags(training: Description, asked: Circumstances) -> dict[str, str]:
    said = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "bancada.training.train",
        "bancada.fingerprint": training.fingerprint,
        "bancada.study": training.study,
        "bancada.variant": training.variant,
        **{f"bancada.{name}": training.versions[name] for name in LIBRARIES if name in training.versions},
        "bancada.python": platform.python_version(),
        LIVE_FILE: live_place(training.variant),
        "dvc.stage": f"train@{training.variant}",
        "dvc.experiments": json.dumps([asked.experiment] if asked.experiment else []),
        **asked.tags(),
    }
    return {key: value[:MOST_TAG] for key, value in said.items()}


def live_place(variant: str) -> str:
    return f"{socket.gethostname()}:{live.path_of(variant).absolute()}"


def add_points(store: Store, run_id: str, points: Iterable[Point]) -> None:
    now = now_ms()
    metrics = [Metric(point.name, point.value, now, point.epoch) for point in points]
    for at in range(0, len(metrics), BATCH):
        store.client.log_batch(run_id, metrics[at : at + BATCH])
        store.answered()


def held_points(store: Store, run: Run) -> set[tuple[str, int]]:
    """Name and step of all that the run has of its curves; `run` may be older than the last of them."""
    run = store.client.get_run(run.info.run_id)
    return {
        (name, old.step) for name in run.data.metrics for old in store.client.get_metric_history(run.info.run_id, name)
    }


def experiments(run: Run, asked: Circumstances, newest: bool = True) -> dict[str, str]:
    """The list of DVC experiments, with the one that asked; of a list grown too long the oldest go, or it stays out."""
    names = json.loads(run.data.tags.get("dvc.experiments", "[]"))
    if not asked.experiment or asked.experiment in names:
        return {}
    names.append(asked.experiment)
    while len(json.dumps(names)) > MOST_TAG:
        if not newest:
            return {}
        names.pop(0)
    return {"dvc.experiments": json.dumps(names)}


def tag(store: Store, run: Run, tags: dict[str, str]) -> list[str]:
    """Set those that say something new; in words, what that is."""
    news = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
    if news:
        store.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in news.items()])
    return [f"its tag {key}" for key in news]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
