"""The pipeline's files mirrored in MLflow, and nothing twice. Like store.py it imports mlflow, and no stage imports it.

There is one experiment per study and one run per variant and fingerprint. A run is FINISHED when it holds its whole
training; found otherwise, it gets what it lacks.
"""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bancada.base import files
from bancada.base.lockfile import md5
from bancada.tracking import mirror
from bancada.tracking.mirror import Point, Result
from bancada.tracking.registry import crown, log_model
from bancada.tracking.runs import LIVE_FILE, add_points, begin, experiments, held_points, is_whole, now_ms, tag
from bancada.tracking.store import Store, add_inputs, artifact_paths, find_run
from bancada.tracking.surroundings import Circumstances, locked
from bancada.tracking.views import show_run, show_study

UPLOADS = 8  # at a time, to a server
EVALUATION, WEIGHTS = "bancada.evaluation", "bancada.weights_md5"  # tags: hashes of what the run holds
WARNING = "bancada.warning"


# --- recording ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A run that holds a result. `written`: what it lacked, in words; empty where it had everything."""

    run_id: str
    written: list[str]


def record_training(store: Store, result: Result, asked: Circumstances, began_ms: int | None = None) -> str:
    """Write a finished training to its run, or confirm the run that has it already. The run's id."""
    with locked(store.root):
        run = find_run(store, result.study, result.fingerprint)
        if not is_whole(run):
            return str(_complete(store, run, result, asked, began_ms).info.run_id)
        count = {"bancada.reproduced": str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)}
        said = _warning(run, result) or count
        tag(store, run, experiments(run, asked) | said)
        return str(run.info.run_id)


def record_evaluation(
    store: Store, study: str, asked: Circumstances, after_each: Callable[[], None] = lambda: None
) -> list[str]:
    """Write a study's figures to the runs of its variants, which are made from the files where there are none. Their
    ids."""
    evaluation, run_ids = mirror.evaluation(study), dict[str, str]()
    for variant in evaluation.figures:
        run_ids[variant] = record(store, mirror.result(files.model(study, variant)), asked, evaluation).run_id
        after_each()
    if Path.cwd().resolve() == store.root:  # a temporary experiment has no say beside the workspace
        present(store, study, evaluation, run_ids)
    return list(run_ids.values())


def record(
    store: Store,
    result: Result,
    asked: Circumstances,
    evaluation: mirror.Evaluation | None = None,
    *,
    split_is_its: bool = True,
    newest: bool = True,
    artifacts_too: bool = False,
) -> Outcome:
    """Write to the result's run what it lacks, from the files alone.

    `split_is_its`: the split files beside the model are those that it learned from. `newest`: what is told here takes
    the place of what is older, where there is room for one only. `artifacts_too`: look, also in a finished run, for
    files that are no longer there.
    """
    with locked(store.root):
        run, written = find_run(store, result.study, result.fingerprint), list[str]()
        found_whole = is_whole(run)
        if run and found_whole:
            warning = _warning(run, result) if newest or WARNING not in run.data.tags else {}
            written += tag(store, run, experiments(run, asked, newest) | warning)
        else:
            written.append("what was missing" if run else "a new run")
            run = _complete(store, run, result, asked, split_is_its=split_is_its)
        if evaluation and result.variant in evaluation.figures and (newest or EVALUATION not in run.data.tags):
            written += _add_figures(store, run, evaluation.figures[result.variant], evaluation)
            written += log_model(store, run, result, evaluation, with_example=split_is_its)
            written += show_run(store, run, evaluation, result.variant)
        if artifacts_too and found_whole:
            written += _restore_artifacts(store, run, result, evaluation)
        return Outcome(str(run.info.run_id), written)


def present(store: Store, study: str, evaluation: mirror.Evaluation, run_ids: dict[str, str]) -> list[str]:
    """What MLflow shows of the study as a whole: its page, and its champion. In words, what was written."""
    return [*show_study(store, study, evaluation), *crown(store, study, evaluation, run_ids)]


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
    client, points = store.client, [*mirror.curves(result), Point("diverged_seeds", 0, len(result.diverged))]
    if run:
        held = held_points(store, run)
        points = [point for point in points if (point.name, point.epoch) not in held]
    run = begin(store, run, result, asked, began_ms)
    run_id = run.info.run_id
    add_points(store, run_id, points)
    tag(store, run, {WEIGHTS: result.weights_md5, "bancada.diverged_seeds": json.dumps(result.diverged)})
    if split_is_its:
        add_inputs(store, run_id, _datasets(result.study))
    _upload(store, run, _artifacts(result))
    if asked.diff:
        client.log_text(run_id, asked.diff, "git.diff")
    client.set_terminated(run_id, "FINISHED")
    whole = client.get_run(run_id)
    if LIVE_FILE in whole.data.tags:  # a path, which may be another one tomorrow
        client.delete_tag(run_id, LIVE_FILE)
    return whole


def _artifacts(result: Result) -> dict[str, Path]:
    """What a run holds of a training, by the names that the files have there."""
    return {path.name: path for path in [*sorted(result.folder.iterdir()), Path("requirements.lock")] if path.is_file()}


def _datasets(study: str) -> list[DatasetInput]:
    """The split files, as mlflow's MetaDataset would say it, without its import of everything."""
    return [
        DatasetInput(
            Dataset(f"{study}/{part}", md5(path), "local", json.dumps({"uri": path.as_posix()})),
            [InputTag("mlflow.data.context", part)],
        )
        for part, path in mirror.split_parts(study).items()
    ]


def _add_figures(store: Store, run: Run, figures: dict[str, float], evaluation: mirror.Evaluation) -> list[str]:
    """The newest figures win: they get the evaluation's number as their step, and files take the place of the old."""
    client, run_id = store.client, run.info.run_id
    if run.data.tags.get(EVALUATION) == evaluation.md5:
        return []
    number, now = int(run.data.tags.get("bancada.evaluations", "0")), now_ms()
    metrics = [
        Metric(name, value, now, number) for name, value in figures.items() if _news(run.data.metrics, name, value)
    ]
    client.log_batch(run_id, metrics)
    if number:
        _remove_artifacts(store, run, "plots", "evaluation")
    _upload(store, run, evaluation.artifacts())
    tag(store, run, {EVALUATION: evaluation.md5, "bancada.evaluations": str(number + 1)})
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
    with ThreadPoolExecutor(1 if store.artifacts else UPLOADS) as pool:
        sent = [
            pool.submit(store.client.log_artifact, run.info.run_id, str(path), name.rpartition("/")[0] or None)
            for name, path in paths.items()
        ]
        try:
            for one in as_completed(sent):
                one.result()
                store.answered()
        except BaseException:  # Ctrl-C, too, need not wait for what has not begun
            pool.shutdown(cancel_futures=True)
            raise


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
