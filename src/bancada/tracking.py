"""The only module that imports mlflow: it mirrors the pipeline's files in MLflow, and nothing twice.

`python -m bancada.tracking train VARIANT` (or `evaluate STUDY`) runs beside a stage; recording.py starts it. There is
one experiment per study and one run per variant and fingerprint. A run is FINISHED when it holds its whole training;
found otherwise, it gets what it lacks.
"""

import json
import math
import os
import platform
import signal
import sys
import time
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

from bancada import config, files, mirror
from bancada.mirror import Result
from bancada.recording import DONE, without_credentials
from bancada.surroundings import Circumstances, circumstances, locked, repository_root, store_uri

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A stage waits for its recording: one line soon is better than the four minutes that mlflow would try.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow.store.db.utils
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

LIFE_AFTER_DONE_S = 120  # a recorder whose stage was killed while it waited does not stay for ever
BATCH = 1000  # points a call
MOST_PARAM, MOST_TAG = 6000, 8000  # characters that MLflow takes


# --- the store ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """An open tracking store. `artifacts`: where experiments keep theirs, None where a server decides."""

    client: MlflowClient
    root: Path
    artifacts: Path | None


def open_store(root: Path) -> Store:
    """Open the store and make sure that it answers; create it where there is none.

    From the root, because mlflow freezes the current folder into the experiment `Default` that it creates beside ours.
    """
    uri = store_uri(root)
    mlflow.store.db.utils.MAX_RETRY_COUNT = 3  # of 10, which last 100 s
    with locked(root), chdir(root):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    served = uri.startswith(("http://", "https://", "databricks"))
    return Store(client, root, None if served else root / "mlartifacts")


def _experiment(store: Store, study: str) -> str:
    """The id of the study's experiment; one that someone deleted in the UI comes back."""
    found = store.client.get_experiment_by_name(study)
    if found is None:
        location = (store.artifacts / study).as_uri() if store.artifacts else None
        return str(store.client.create_experiment(study, location))
    if found.lifecycle_stage == "deleted":
        store.client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """The run of these inputs; the oldest, should machines that share a server have made two."""
    wanted = f"tags.`bancada.fingerprint` = '{fingerprint}'"
    runs = store.client.search_runs(
        [_experiment(store, study)], wanted, max_results=1, order_by=["attributes.start_time ASC"]
    )
    return runs[0] if runs else None


# --- recording ------------------------------------------------------------------------------------------------------


def record_training(store: Store, result: Result, asked: Circumstances, began_ms: int | None = None) -> str:
    """Write a finished training to its run, or confirm the run that has it already. The run's id."""
    with locked(store.root):
        run = find_run(store, result.study, result.fingerprint)
        if run and run.info.status == "FINISHED":
            _confirm(store, run, asked, _verdict(run, result))
            return str(run.info.run_id)
        return str(_complete(store, run, result, asked, began_ms).info.run_id)


def record_evaluation(store: Store, study: str, asked: Circumstances) -> list[str]:
    """Write a study's figures to the runs of its variants, which are made from the files where there are none."""
    evaluation, ids = mirror.evaluation(study), []
    for variant, figures in mirror.scores(study).items():
        result = mirror.result(files.model(study, variant))
        with locked(store.root):
            run = find_run(store, study, result.fingerprint)
            if run is None or run.info.status != "FINISHED":
                run = _complete(store, run, result, asked)
            else:
                _confirm(store, run, asked)
            _add_figures(store, run, figures, evaluation)
        ids.append(str(run.info.run_id))
    return ids


def _complete(store: Store, run: Run | None, result: Result, asked: Circumstances, began_ms: int | None = None) -> Run:
    """A FINISHED run that holds the training. What an unfinished one already holds is not written again."""
    client = store.client
    resumed = run is not None
    if run is None:
        experiment = _experiment(store, result.study)
        run = client.create_run(experiment, began_ms, _tags(result, asked), run_name=result.variant)
    else:
        _confirm(store, run, asked)
    run_id = run.info.run_id
    params = [Param(key, value[:MOST_PARAM]) for key, value in mirror.parameters(result).items()]
    for at in range(0, len(params), 100):
        client.log_batch(run_id, params=params[at : at + 100])
    client.log_inputs(run_id, _datasets(result.study))
    _add_curves(store, run_id, result, resumed)
    for path in [*sorted(result.folder.iterdir()), Path("requirements.lock")]:
        if path.is_file():
            client.log_artifact(run_id, str(path))
    if asked.diff:
        client.log_text(run_id, asked.diff, "git.diff")
    client.set_terminated(run_id, "FINISHED")
    return client.get_run(run_id)


def _tags(result: Result, asked: Circumstances) -> dict[str, str]:
    said = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "bancada.train",
        "bancada.fingerprint": result.fingerprint,
        "bancada.study": result.study,
        "bancada.variant": result.variant,
        "bancada.weights_md5": result.weights_md5,
        "bancada.diverged_seeds": json.dumps(result.diverged),
        **{f"bancada.{library}": version for library, version in result.versions.items()},
        "bancada.python": platform.python_version(),
        "dvc.stage": f"train@{result.variant}",
        "dvc.experiments": json.dumps([asked.experiment] if asked.experiment else []),
        **asked.tags(),
    }
    return {key: value[:MOST_TAG] for key, value in said.items()}


def _datasets(study: str) -> list[DatasetInput]:
    """The split files, as mlflow's MetaDataset would say it, without its import of everything."""
    return [
        DatasetInput(
            Dataset(f"{study}/{part}", mirror.md5(path), "local", json.dumps({"uri": path.as_posix()})),
            [InputTag("mlflow.data.context", part)],
        )
        for part, path in mirror.split_parts(study).items()
    ]


def _add_curves(store: Store, run_id: str, result: Result, resumed: bool) -> None:
    points, now = mirror.curves(result), _now_ms()
    if resumed:
        names = {point.name for point in points}
        held = {(name, old.step) for name in names for old in store.client.get_metric_history(run_id, name)}
        points = [point for point in points if (point.name, point.epoch) not in held]
    metrics = [Metric(point.name, point.value, now, point.epoch) for point in points]
    metrics.append(Metric("diverged_seeds", len(result.diverged), now, 0))
    for at in range(0, len(metrics), BATCH):
        store.client.log_batch(run_id, metrics[at : at + BATCH])


def _add_figures(store: Store, run: Run, figures: dict[str, float], evaluation: mirror.Evaluation) -> None:
    """The newest figures win: they get the evaluation's number as their step, and files take the place of the old."""
    client, run_id = store.client, run.info.run_id
    if run.data.tags.get("bancada.evaluation") == evaluation.md5:
        return
    number, now = int(run.data.tags.get("bancada.evaluations", "0")), _now_ms()
    metrics = [
        Metric(name, value, now, number) for name, value in figures.items() if _news(run.data.metrics, name, value)
    ]
    client.log_batch(run_id, metrics)
    if number:
        _remove_artifacts(store, run, "plots", "evaluation")
    if evaluation.plots.is_dir():
        client.log_artifacts(run_id, str(evaluation.plots), "plots")
    for table in evaluation.tables:
        client.log_artifact(run_id, str(table), "evaluation")
    said = {"bancada.evaluation": evaluation.md5, "bancada.evaluations": str(number + 1)}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in said.items()])


def _news(held: dict[str, float], name: str, value: float) -> bool:
    """Not what the run says already. A figure that is gone is told as NaN, one that never was is not told."""
    old = held.get(name, math.nan)
    return not (value == old or (math.isnan(value) and math.isnan(old)))


def _remove_artifacts(store: Store, run: Run, *folders: str) -> None:
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.client.tracking_uri)
    for folder in folders:
        with suppress(MlflowException, NotImplementedError):  # where that is not allowed, an old plot stays
            repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]  # mlflow has no types here


def _verdict(run: Run, result: Result) -> dict[str, str]:
    """Tags that say what a second training with the same inputs came to."""
    before = run.data.tags.get("bancada.weights_md5")
    if before == result.weights_md5:
        return {"bancada.reproduced": str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)}
    return {"bancada.warning": f"the same inputs gave other weights: {result.weights_md5} after {before}"}


def _confirm(store: Store, run: Run, asked: Circumstances, verdict: dict[str, str] | None = None) -> None:
    """Add the DVC experiment that asked to the run's list; of a list grown too long the oldest go."""
    tags = dict(verdict or {})
    names = json.loads(run.data.tags.get("dvc.experiments", "[]"))
    if asked.experiment and asked.experiment not in names:
        names.append(asked.experiment)
        while len(json.dumps(names)) > MOST_TAG:
            names.pop(0)
        tags["dvc.experiments"] = json.dumps(names)
    if tags:
        store.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- beside a stage -------------------------------------------------------------------------------------------------


def main(kind: str, name: str) -> None:
    """Get everything ready while the stage works; record when it says that it is done, or leave without a trace."""
    began_ms, asked, root = _now_ms(), circumstances(), repository_root(Path.cwd())
    store = _open_ahead(root)
    if sys.stdin.readline() != DONE.decode():
        return
    signal.alarm(LIFE_AFTER_DONE_S)
    _record(store or open_store(root), kind, name, asked, began_ms)


def serve() -> None:
    """Record one stage after another as recorder.py names them, and say in the end which could not be recorded.

    After one that cannot be recorded no other is tried: each would wait as long for a store that does not answer.
    """
    asked, root = circumstances(), repository_root(Path.cwd())
    store, why = _open_ahead(root), ""
    missed: list[str] = []
    for line in sys.stdin:
        stage, began_ms = line.split()
        kind, _, name = stage.partition("@")
        try:
            if not missed:
                store = store or open_store(root)
                _record(store, kind, name, asked, int(began_ms))
                continue
        except Exception as error:  # whatever a store can raise: it is told in the end
            why = _in_one_line(error)
        missed.append(stage)
    if missed:
        sys.exit(f"{', '.join(missed)}: {why}")


def _record(store: Store, kind: str, name: str, asked: Circumstances, began_ms: int) -> None:
    if kind == "evaluate":
        record_evaluation(store, name, asked)
    else:
        study = config.load().variants[name].study
        record_training(store, mirror.result(files.model(study, name)), asked, began_ms)


def _in_one_line(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "")
    return without_credentials(f"{type(error).__name__}: {first_line}")


def _open_ahead(root: Path) -> Store | None:
    """The store, or None: it is then tried again, and told, when there is something to record.

    A SIGTERM does not interrupt it, for half a database would be refused from then on.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return open_store(root)
    except Exception:  # whatever a store can raise: it is raised again, and told, at the second try
        return None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:]) if sys.argv[1:] else serve()
    except Exception as error:  # the last line of defence: whoever started this process tells the user this one line
        sys.exit(_in_one_line(error))
