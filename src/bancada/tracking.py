"""The pipeline's files mirrored in MLflow, and nothing twice. Like store.py it imports mlflow, and no stage imports it.

`python -m bancada.tracking train VARIANT` (or `evaluate STUDY`) runs beside a stage; recording.py starts it. There is
one experiment per study and one run per variant and fingerprint. A run is FINISHED when it holds its whole training;
found otherwise, it gets what it lacks.
"""

import json
import math
import platform
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

# isort: split  (store.py sets how mlflow is to behave, before mlflow is loaded)
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bancada import config, files, mirror
from bancada.mirror import Result
from bancada.recording import DONE, without_credentials
from bancada.store import Store, add_inputs, artifact_paths, experiment, find_run, open_store
from bancada.surroundings import Circumstances, circumstances, locked, repository_root

LIFE_AFTER_DONE_S = 120  # a recorder whose stage was killed while it waited does not stay for ever
BATCH = 1000  # points a call
EVALUATION, WEIGHTS = "bancada.evaluation", "bancada.weights_md5"  # tags: hashes of what the run holds
WARNING = "bancada.warning"
MOST_PARAM, MOST_TAG = 6000, 8000  # characters that MLflow takes


# --- recording ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """A run that holds a result. `written`: what it lacked, in words; empty where it had everything."""

    run_id: str
    written: list[str]


def record_training(store: Store, result: Result, asked: Circumstances, began_ms: int | None = None) -> str:
    """Write a finished training to its run, or confirm the run that has it already. The run's id."""
    with locked(store.root):
        run = find_run(store, result.study, result.fingerprint)
        if not _whole(run):
            return str(_complete(store, run, result, asked, began_ms).info.run_id)
        count = {"bancada.reproduced": str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)}
        said = _warning(run, result) or count
        _tag(store, run, _names(run, asked) | said)
        return str(run.info.run_id)


def record_evaluation(store: Store, study: str, asked: Circumstances) -> list[str]:
    """Write a study's figures to the runs of its variants, which are made from the files where there are none."""
    evaluation = mirror.evaluation(study)
    results = [mirror.result(files.model(study, variant)) for variant in evaluation.figures]
    return [record(store, result, asked, evaluation).run_id for result in results]


def record(
    store: Store,
    result: Result,
    asked: Circumstances,
    evaluation: mirror.Evaluation | None = None,
    *,
    split_is_its: bool = True,
    newest: bool = True,
    artifacts_too: bool = False,
) -> Recorded:
    """Write to the result's run what it lacks, from the files alone.

    `split_is_its`: the split files beside the model are those that it learned from. `newest`: what is told here takes
    the place of what is older, where there is room for one only. `artifacts_too`: look, also in a finished run, for
    files that are no longer there.
    """
    with locked(store.root):
        run, written = find_run(store, result.study, result.fingerprint), list[str]()
        found_whole = _whole(run)
        if run and found_whole:
            warning = _warning(run, result) if newest or WARNING not in run.data.tags else {}
            written += _tag(store, run, _names(run, asked, newest) | warning)
        else:
            written.append("what was missing" if run else "a new run")
            run = _complete(store, run, result, asked, split_is_its=split_is_its)
        if evaluation and result.variant in evaluation.figures and (newest or EVALUATION not in run.data.tags):
            written += _add_figures(store, run, evaluation.figures[result.variant], evaluation)
        if artifacts_too and found_whole:
            written += _restore_artifacts(store, run, result, evaluation)
        return Recorded(str(run.info.run_id), written)


def _whole(run: Run | None) -> TypeGuard[Run]:
    return run is not None and run.info.status == "FINISHED"


def _complete(
    store: Store,
    run: Run | None,
    result: Result,
    asked: Circumstances,
    began_ms: int | None = None,
    *,
    split_is_its: bool = True,
) -> Run:
    """A FINISHED run that holds the training. What an unfinished one already holds is not written again."""
    client, points = store.client, mirror.curves(result)
    resumed = run is not None
    if run is None:
        tags = _tags(result, asked)
        run = client.create_run(experiment(store, result.study), began_ms, tags, run_name=result.variant)
    else:
        _tag(store, run, _names(run, asked))
    run_id = run.info.run_id
    params = [Param(key, value[:MOST_PARAM]) for key, value in mirror.parameters(result).items()]
    for at in range(0, len(params), 100):
        client.log_batch(run_id, params=params[at : at + 100])
    if split_is_its:
        add_inputs(store, run_id, _datasets(result.study))
    _add_curves(store, run_id, points, len(result.diverged), resumed)
    for path in _artifacts(result).values():
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
        WEIGHTS: result.weights_md5,
        "bancada.diverged_seeds": json.dumps(result.diverged),
        **{f"bancada.{library}": version for library, version in result.versions.items()},
        "bancada.python": platform.python_version(),
        "dvc.stage": f"train@{result.variant}",
        "dvc.experiments": json.dumps([asked.experiment] if asked.experiment else []),
        **asked.tags(),
    }
    return {key: value[:MOST_TAG] for key, value in said.items()}


def _artifacts(result: Result) -> dict[str, Path]:
    """What a run holds of a training, by the names that the files have there."""
    return {path.name: path for path in [*sorted(result.folder.iterdir()), Path("requirements.lock")] if path.is_file()}


def _datasets(study: str) -> list[DatasetInput]:
    """The split files, as mlflow's MetaDataset would say it, without its import of everything."""
    return [
        DatasetInput(
            Dataset(f"{study}/{part}", mirror.md5(path), "local", json.dumps({"uri": path.as_posix()})),
            [InputTag("mlflow.data.context", part)],
        )
        for part, path in mirror.split_parts(study).items()
    ]


def _add_curves(store: Store, run_id: str, points: list[mirror.Point], diverged: int, resumed: bool) -> None:
    points, now = [*points, mirror.Point("diverged_seeds", 0, diverged)], _now_ms()
    if resumed:
        names = {point.name for point in points}
        held = {(name, old.step) for name in names for old in store.client.get_metric_history(run_id, name)}
        points = [point for point in points if (point.name, point.epoch) not in held]
    metrics = [Metric(point.name, point.value, now, point.epoch) for point in points]
    for at in range(0, len(metrics), BATCH):
        store.client.log_batch(run_id, metrics[at : at + BATCH])


def _add_figures(store: Store, run: Run, figures: dict[str, float], evaluation: mirror.Evaluation) -> list[str]:
    """The newest figures win: they get the evaluation's number as their step, and files take the place of the old."""
    client, run_id = store.client, run.info.run_id
    if run.data.tags.get(EVALUATION) == evaluation.md5:
        return []
    number, now = int(run.data.tags.get("bancada.evaluations", "0")), _now_ms()
    metrics = [
        Metric(name, value, now, number) for name, value in figures.items() if _news(run.data.metrics, name, value)
    ]
    client.log_batch(run_id, metrics)
    if number:
        _remove_artifacts(store, run, "plots", "evaluation")
    _upload(store, run, evaluation.artifacts())
    _tag(store, run, {EVALUATION: evaluation.md5, "bancada.evaluations": str(number + 1)})
    return ["its evaluation"]


def _restore_artifacts(store: Store, run: Run, result: Result, evaluation: mirror.Evaluation | None) -> list[str]:
    """Upload again what is no longer where the run's artifacts are, as far as these files are those of the run."""
    tags, wanted = store.client.get_run(run.info.run_id).data.tags, dict[str, Path]()
    if tags.get(WEIGHTS) == result.weights_md5:
        wanted |= _artifacts(result)
    if evaluation and tags.get(EVALUATION) == evaluation.md5:
        wanted |= evaluation.artifacts()
    held = artifact_paths(store, run)
    missing = {name: path for name, path in wanted.items() if name not in held}
    _upload(store, run, missing)
    return [f"{len(missing)} artifacts that were gone"] if missing else []


def _upload(store: Store, run: Run, paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        store.client.log_artifact(run.info.run_id, str(path), name.rpartition("/")[0] or None)


def _news(held: dict[str, float], name: str, value: float) -> bool:
    """Not what the run says already. A figure that is gone is told as NaN, one that never was is not told."""
    old = held.get(name, math.nan)
    return not (value == old or (math.isnan(value) and math.isnan(old)))


def _remove_artifacts(store: Store, run: Run, *folders: str) -> None:
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.client.tracking_uri)
    for folder in folders:
        with suppress(MlflowException, NotImplementedError):  # where that is not allowed, an old plot stays
            repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]  # mlflow has no types here


def _warning(run: Run, result: Result) -> dict[str, str]:
    """The tag that says that a second training with the same inputs came to other weights."""
    before = run.data.tags.get(WEIGHTS)
    if before in (None, result.weights_md5):
        return {}
    return {WARNING: f"the same inputs gave other weights: {result.weights_md5} after {before}"}


def _names(run: Run, asked: Circumstances, newest: bool = True) -> dict[str, str]:
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


def _tag(store: Store, run: Run, tags: dict[str, str]) -> list[str]:
    """Set those that say something new; in words, what that is."""
    news = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
    if news:
        store.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in news.items()])
    return [f"its tag {key}" for key in news]


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
