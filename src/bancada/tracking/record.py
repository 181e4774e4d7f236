"""Write the results in the pipeline's files to MLflow, and nothing twice.

There is one experiment per study, and one run per variant and fingerprint. A run is FINISHED when it holds its whole
training; an unfinished one that is found gets what it lacks.
"""

import json
import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bancada.base import files, lockfile
from bancada.tracking import evaluations, mirror, models, runs, surroundings, views
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.mirror import Point, Result
from bancada.tracking.store import Store, artifact_paths, find_run

UPLOADS = 8  # at a time, to a server
EVALUATION = "bancada.evaluation"  # tag: a hash of the evaluation that the run holds
WARNING = "bancada.warning"  # tag


@dataclass(frozen=True)
class Outcome:
    """A run that holds a result."""

    run_id: str
    written: list[str]  # what the run lacked, in words; empty where it had everything


@dataclass(frozen=True)
class Recorder:
    """Writes results to the store.

    `newest`: they replace older ones where a run has room for one. `restore`: artifacts that a finished run has lost
    are uploaded again.
    """

    store: Store
    origin: surroundings.Origin
    newest: bool = True
    restore: bool = False

    def write(
        self,
        result: Result,
        evaluation: Evaluation | None = None,
        *,
        split_is_its: bool = True,
        began_ms: int | None = None,
    ) -> Outcome:
        """Write what the result's run lacks.

        `split_is_its`: the split files are those that it was trained on. `began_ms`: the time at which its training
        began, if it has just ended; then it confirms a run that has the training already.
        """
        with surroundings.store_lock(self.store.root):
            run = find_run(self.store, result.study, result.fingerprint)
            if finished := runs.is_finished(run):
                tags = runs.with_experiment(run, self.origin)
                before = run.data.tags.get(models.WEIGHTS_MD5, result.weights_md5)
                if before != result.weights_md5 and (self.newest or WARNING not in run.data.tags):
                    tags[WARNING] = f"the same inputs gave other weights: {result.weights_md5} after {before}"
                if began_ms is not None and WARNING not in tags:
                    tags["bancada.reproduced"] = str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)
                written = runs.set_tags(self.store, run, tags)
            else:
                written = ["missing parts" if run else "new run"]
                run = self._complete(run, result, began_ms, split_is_its)
            scored = evaluation and result.variant in evaluation.scores
            if evaluation and scored and (self.newest or EVALUATION not in run.data.tags):
                written += _add_scores(self.store, run, result.variant, evaluation)
                written += models.log_model(self.store, run, result, evaluation, with_example=split_is_its)
                written += views.show_run(self.store, run, evaluation, result.variant)
            if self.restore and finished:
                written += _restore_artifacts(self.store, run, result, evaluation)
            return Outcome(str(run.info.run_id), written)

    def write_study(self, study: str, after_each: Callable[[], None] = lambda: None) -> list[str]:
        """Write a study's evaluation to the runs of its variants, and its training where a run lacks it.

        Return the runs' ids.
        """
        evaluation, run_ids = evaluations.read(study), dict[str, str]()
        for variant in evaluation.scores:
            run_ids[variant] = self.write(mirror.result(files.model(study, variant)), evaluation).run_id
            after_each()
        if Path.cwd().resolve() == self.store.root:  # results of a temporary experiment do not describe the study
            self.write_overview(study, evaluation, run_ids)
        return list(run_ids.values())

    def write_overview(self, study: str, evaluation: Evaluation, run_ids: dict[str, str]) -> list[str]:
        """Write the study's page and its champion. Return what was written, in words. `run_ids` are by variant."""
        written = views.show_study(self.store, study, evaluation)
        return written + models.set_champion(self.store, study, evaluation, run_ids)

    def _complete(self, run: Run | None, result: Result, began_ms: int | None, split_is_its: bool) -> Run:
        """Return a FINISHED run that holds the training. What an unfinished one holds is not written again."""
        store, client = self.store, self.store.client
        points = [*mirror.curves(result), Point("diverged_seeds", 0, len(result.diverged))]
        logged = runs.logged_points(store, run.info.run_id) if run else ()
        run = runs.begin(store, run, result, self.origin, began_ms)
        run_id = run.info.run_id
        runs.add_points(store, run_id, points, logged)
        diverged = {"bancada.diverged_seeds": json.dumps(result.diverged)}
        runs.set_tags(store, run, diverged | {models.WEIGHTS_MD5: result.weights_md5})
        if split_is_its:
            _add_datasets(store, run_id, result.study)
        _upload(store, run, _artifacts(result))
        if self.origin.diff:
            _upload_text(store, run, "git.diff", self.origin.diff)
        client.set_terminated(run_id, "FINISHED")
        finished = client.get_run(run_id)
        if runs.LIVE_FILE in finished.data.tags:  # the path may belong to another training tomorrow
            client.delete_tag(run_id, runs.LIVE_FILE)
        return finished


def _add_datasets(store: Store, run_id: str, study: str) -> None:
    """Log the split files that hold rows as data sets, in the form of mlflow's MetaDataset, whose import takes long.

    A server keeps one row of each data set for all runs. If two machines bring the same new one at once, it refuses
    one of them, and takes it the next time, because then the row exists.
    """
    datasets = [
        DatasetInput(
            Dataset(f"{study}/{part}", lockfile.md5(path), "local", json.dumps({"uri": path.as_posix()})),
            [InputTag("mlflow.data.context", part)],
        )
        for part in files.PARTS
        if (path := files.split(study) / f"{part}.parquet").exists() and pq.read_metadata(path).num_rows
    ]
    try:
        store.client.log_inputs(run_id, datasets)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        store.client.log_inputs(run_id, datasets)


def _add_scores(store: Store, run: Run, variant: str, evaluation: Evaluation) -> list[str]:
    """Log the newest scores, with the evaluation's number as their step, and let its files replace the old ones."""
    if run.data.tags.get(EVALUATION) == evaluation.md5:
        return []
    number, before = int(run.data.tags.get("bancada.evaluations", "0")), run.data.metrics
    points = [
        Point(name, number, value)
        for name, value in evaluation.scores[variant].items()
        # NaN is logged only for a score that has gone.
        if value != before.get(name) and not (math.isnan(value) and math.isnan(before.get(name, math.nan)))
    ]
    runs.add_points(store, run.info.run_id, points)
    if number:
        repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.client.tracking_uri)
        for folder in ("plots", "evaluation"):
            with suppress(MlflowException, NotImplementedError):  # where that is not allowed, an old plot stays
                repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]  # mlflow has no types here
    _upload(store, run, evaluation.artifacts)
    runs.set_tags(store, run, {EVALUATION: evaluation.md5, "bancada.evaluations": str(number + 1)})
    return ["evaluation"]


# --- artifacts ------------------------------------------------------------------------------------------------------


def _artifacts(result: Result) -> dict[str, Path]:
    """Return the files of a training, by the names that they have in a run."""
    return {path.name: path for path in [*sorted(result.folder.iterdir()), Path("requirements.lock")] if path.is_file()}


def _restore_artifacts(store: Store, run: Run, result: Result, evaluation: Evaluation | None) -> list[str]:
    """Upload the artifacts that the run has lost, if the files here are still those of the run."""
    tags, wanted = store.client.get_run(run.info.run_id).data.tags, dict[str, Path]()
    if tags.get(models.WEIGHTS_MD5) == result.weights_md5:
        wanted |= _artifacts(result)
    if evaluation and tags.get(EVALUATION) == evaluation.md5:
        wanted |= evaluation.artifacts
    existing = artifact_paths(store, run)
    missing = {name: path for name, path in wanted.items() if name not in existing}
    _upload(store, run, missing)
    return [f"{len(missing)} missing artifacts"] if missing else []


def _upload(store: Store, run: Run, paths: dict[str, Path]) -> None:
    def upload(name: str, path: Path) -> None:
        store.client.log_artifact(run.info.run_id, str(path), name.rpartition("/")[0] or None)

    with ThreadPoolExecutor(1 if store.artifacts else UPLOADS) as pool:
        for _ in pool.map(upload, paths, paths.values()):  # after a failure, or Ctrl-C, it cancels the rest
            store.on_progress()


def _upload_text(store: Store, run: Run, name: str, content: bytes) -> None:
    """Upload bytes as they are; mlflow's own log_text takes UTF-8 alone."""
    with tempfile.TemporaryDirectory(prefix="bancada-") as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        _upload(store, run, {name: path})
