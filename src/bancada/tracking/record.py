"""Write the results in the pipeline's files to MLflow, and nothing twice.

There is one experiment per study, and one run per variant and fingerprint. A run is FINISHED when it holds its whole
training; an unfinished one that is found gets what it lacks.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bancada.base import files, lockfile
from bancada.tracking import champions, evaluations, mirror, models, runs, surroundings, views
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.experiments import find_run, is_deleted
from bancada.tracking.mirror import Point, Result
from bancada.tracking.store import Failed, Store, artifact_paths, cause, is_refused, temporary_files

UPLOADS = 8  # at a time, to a server
EVALUATION = "bancada.evaluation"  # tag: a hash of the evaluation that the run holds
WARNING = "bancada.warning"  # tag


@dataclass(frozen=True)
class Outcome:
    """A run that holds a result."""

    run_id: str
    written: list[str]  # what the run lacked, in words; empty where it had everything
    deleted: bool = False  # by someone in MLflow, so nothing was written


@dataclass(frozen=True)
class Recorder:
    """Writes results to the store. What the store refuses is left out and put into `failed`; the rest is written.

    `newest`: they replace older ones where a run has room for one. `mend`: artifacts that a finished run has lost
    are uploaded again. `restore`: runs and models that someone deleted in MLflow come back. `requirements`: the results
    were made with the requirements.lock that is here.
    """

    store: Store
    origin: surroundings.Origin
    newest: bool = True
    mend: bool = False
    restore: bool = False
    requirements: bool = True
    failed: Failed = field(default_factory=Failed)
    logged: models.Logged = field(default_factory=models.Logged)

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
        store, written = self.store, list[str]()
        with store.lock():
            run = find_run(store, result.study, result.fingerprint)
            if run and is_deleted(run.info):
                if began_ms is None and not self.restore:
                    return Outcome(str(run.info.run_id), [], deleted=True)
                run, written = (runs.restored(store, run), ["restored"]) if began_ms is None else (None, [])
            if finished := runs.is_finished(run):
                written += runs.set_tags(store, run, self._confirmation(run, result, began_ms))
            else:
                written += ["missing parts" if run else "new run"]
                run = self._complete(run, result, began_ms, split_is_its)
            if evaluation and result.variant in evaluation.variants():
                written += self._add_evaluation(run, result, evaluation, split_is_its)
            if self.mend and finished:
                with store.part(f"{result.name}: artifacts", self.failed):
                    written += self._mend(run, result, evaluation)
            return Outcome(str(run.info.run_id), written)

    def write_study(self, study: str, after_each: Callable[[], None] = lambda: None) -> list[str]:
        """Write a study's evaluation to the runs of its variants, and its training where a run lacks it.

        Return the runs' ids.
        """
        evaluation, run_ids, deleted = evaluations.read(study), dict[str, str](), list[str]()
        self.failed.update({str(path): why for path, why in evaluation.left_out.items()})
        for variant in evaluation.variants():
            with self.store.part(f"{study}/{variant}", self.failed):
                outcome = self.write(mirror.result(files.model(study, variant)), evaluation)
                if outcome.deleted:
                    deleted.append(f"{study}/{variant}")
                else:
                    run_ids[variant] = outcome.run_id
            after_each()
        if deleted:
            self.store.say(left_deleted(deleted))
        if Path.cwd().resolve() == self.store.root:  # results of a temporary experiment do not describe the study
            self.write_overview(study, evaluation, run_ids)
        return list(run_ids.values())

    def write_overview(self, study: str, evaluation: Evaluation, run_ids: dict[str, str]) -> list[str]:
        """Write the study's page and its champion. Return what was written, in words. `run_ids` are by variant."""
        store, written = self.store, list[str]()
        if run_ids and evaluation.leaderboard:
            with store.part(f"{study}: description", self.failed):
                written += views.show_study(store, study, evaluation)
        if not self.origin.experiment:
            with store.part(f"{study}: champion", self.failed):
                written += champions.set_champion(store, study, evaluation, run_ids, restore=self.restore)
        return written

    def _confirmation(self, run: Run, result: Result, began_ms: int | None) -> dict[str, str]:
        """Return the tags of a finished run that the same training changes."""
        tags = runs.with_experiment(run, self.origin)
        before = run.data.tags.get(models.WEIGHTS_MD5, result.weights_md5)
        if before != result.weights_md5 and (self.newest or WARNING not in run.data.tags):
            tags[WARNING] = f"the same inputs gave other weights: {result.weights_md5} after {before}"
        if began_ms is not None and WARNING not in tags:
            tags["bancada.reproduced"] = str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)
        return tags

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
        self._upload(run, result, self._artifacts(result))
        if not self.requirements:
            self.failed["requirements.lock"] = lockfile.DIFFERS
        if self.origin.diff:
            with store.part(f"{result.name}: git.diff", self.failed):
                _log_bytes(store, run_id, "git.diff", self.origin.diff)
        client.set_terminated(run_id, "FINISHED")
        finished = client.get_run(run_id)
        if runs.LIVE_FILE in finished.data.tags:  # the path may belong to another training tomorrow
            client.delete_tag(run_id, runs.LIVE_FILE)
        return finished

    def _add_evaluation(self, run: Run, result: Result, evaluation: Evaluation, split_is_its: bool) -> list[str]:
        """Write the scores, the files, the model of the best seed and the description, as far as each can be."""
        if not self.newest and EVALUATION in run.data.tags:
            return []
        store, failed, written = self.store, self.failed, list[str]()
        with store.part(f"{result.name}: evaluation", failed):
            written += self._add_scores(run, result, evaluation)
        with store.part(f"{result.name}: model", failed):
            model = models.NewModel(run, result, evaluation.best_seeds.get(result.variant), split_is_its)
            written += models.log_model(store, model, self.logged, restore=self.restore)
        with store.part(f"{result.name}: description", failed):
            written += views.show_run(store, run, evaluation, result.variant)
        return written

    def _add_scores(self, run: Run, result: Result, evaluation: Evaluation) -> list[str]:
        """Log the newest scores, with the evaluation's number as their step, and let its files replace the old ones.

        An evaluation that has lost files adds nothing to a run that has the same scores already.
        """
        if run.data.tags.get(EVALUATION) == evaluation.md5:
            return []
        number, before = int(run.data.tags.get("bancada.evaluations", "0")), run.data.metrics
        points = [
            Point(name, number, value)
            for name, value in evaluation.scores.get(result.variant, {}).items()
            # NaN is logged only for a score that has gone.
            if value != before.get(name) and not (math.isnan(value) and math.isnan(before.get(name, math.nan)))
        ]
        if evaluation.left_out and number and not points:
            return []
        store = self.store
        runs.add_points(store, run.info.run_id, points)
        if number:
            repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.client.tracking_uri)
            for folder in ("plots", "evaluation"):
                with suppress(MlflowException, NotImplementedError):  # where that is not allowed, an old plot stays
                    repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]  # mlflow has no types here
        self._upload(run, result, evaluation.artifacts)
        runs.set_tags(store, run, {EVALUATION: evaluation.md5, "bancada.evaluations": str(number + 1)})
        return ["evaluation"]

    def _artifacts(self, result: Result) -> dict[str, Path]:
        """Return the files of a training, by the names that they have in a run."""
        found = [result.folder / name for name in files.MODEL_FILES]
        found += [Path("requirements.lock")] if self.requirements else []
        return {path.name: path for path in found if path.is_file()}

    def _mend(self, run: Run, result: Result, evaluation: Evaluation | None) -> list[str]:
        """Upload the artifacts that the run has lost, if the files here are still those of the run."""
        tags, wanted = self.store.client.get_run(run.info.run_id).data.tags, dict[str, Path]()
        if tags.get(models.WEIGHTS_MD5) == result.weights_md5:
            wanted |= self._artifacts(result)
        if evaluation and tags.get(EVALUATION) == evaluation.md5:
            wanted |= evaluation.artifacts
        existing = artifact_paths(self.store, run)
        missing = {name: path for name, path in wanted.items() if name not in existing}
        uploaded = self._upload(run, result, missing)
        return [f"{uploaded} missing artifacts"] if uploaded else []

    def _upload(self, run: Run, result: Result, paths: dict[str, Path]) -> int:
        """Upload files, except those that failed before. Return how many; one that is refused stops no other."""
        wanted = {name: path for name, path in paths.items() if f"{result.name}: {name}" not in self.failed}

        def upload(name: str, path: Path) -> bool:
            try:
                self.store.client.log_artifact(run.info.run_id, str(path), name.rpartition("/")[0] or None)
            except Exception as error:  # raised again, unless it concerns this file alone
                if not is_refused(error) and os.access(path, os.R_OK):
                    raise
                self.failed[f"{result.name}: {name}"] = cause(error)
                return False
            return True

        with ThreadPoolExecutor(1 if self.store.artifacts else UPLOADS) as pool:
            return sum(pool.map(upload, wanted, wanted.values()))  # after a failure, or Ctrl-C, it cancels the rest


def _log_bytes(store: Store, run_id: str, name: str, content: bytes) -> None:
    """Upload bytes as they are; mlflow's own log_text takes UTF-8 alone."""
    with tempfile.TemporaryDirectory(prefix="bancada-") as folder:
        with temporary_files(Path(folder)):
            Path(folder, name).write_bytes(content)
        store.client.log_artifact(run_id, str(Path(folder, name)))


def left_deleted(names: list[str]) -> str:
    """Say which runs were left out and how to get them back."""
    return f"left out, because deleted in MLflow: {', '.join(names)}; `bancada track --restore` brings them back"


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
