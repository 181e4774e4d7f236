"""Write the results in the pipeline's files to MLflow, and nothing twice.

There is one experiment per study, and one run per variant and fingerprint. A run is FINISHED when it holds its whole
training; an unfinished one that is found gets what it lacks, and each one the files that it lacks.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from bancada.base import files, lockfile
from bancada.networks.saved import read_search
from bancada.tracking import champions, evaluations, mirror, models, runs, surroundings, views
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.experiments import deleted, find_run, is_deleted
from bancada.tracking.mirror import Point, Result
from bancada.tracking.store import Failed, Store, artifact_paths

UPLOADS = 8  # at a time, to a server
EVALUATION = "bancada.evaluation"  # tag: a hash of the evaluation that the run holds
WARNING = "bancada.warning"  # tag
TRIALS = "search.json"  # search.parquet as a table that MLflow's pages show


@dataclass(frozen=True)
class Outcome:
    """A run that holds a result."""

    run_id: str  # empty where someone deleted the run in MLflow, so that nothing was written
    written: list[str]  # what the run lacked, in words; empty where it had everything


@dataclass(frozen=True)
class Recorder:
    """Writes results to the store. What the store refuses is left out and put into `failed`; the rest is written.

    `newest`: they replace older ones where a run has room for one. `restore`: runs and models that someone deleted in
    MLflow come back. `requirements`: the results were made with the requirements.lock that is here.
    """

    store: Store
    origin: surroundings.Origin
    newest: bool = True
    restore: bool = False
    requirements: bool = True
    tell: Callable[[str], None] = lambda line: None  # of what was written
    failed: Failed = field(default_factory=Failed)
    statuses: dict[str, str] = field(default_factory=dict)  # run id -> `new`, `completed` or `complete`

    def write_study(self, study: str, after_each: Callable[[], None] = lambda: None) -> list[str]:
        """Write a study's evaluation to the runs of its variants, and its training where a run lacks it.

        Return the runs' ids.
        """
        evaluation, results = evaluations.read(study), list[Result]()
        for variant in evaluation.variants():
            with self.store.part(f"{study}/{variant}", self.failed):
                results.append(mirror.result(files.model(study, variant)))
        return self.write_all(study, results, evaluation, after_each)

    def write_all(
        self,
        study: str,
        results: Iterable[Result],
        evaluation: Evaluation | None,
        after_each: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Write results of a study, its evaluation, and its page and champion. Return the runs' ids."""
        run_ids, left = dict[str, str](), list[str]()
        self.failed.update({str(path): why for path, why in evaluation.left_out.items()} if evaluation else {})
        for result in results:
            with self.store.part(result.name, self.failed):
                if run_id := self.write(result, evaluation).run_id:
                    run_ids[result.variant] = run_id
                else:
                    left.append(result.name)
            after_each()
        if left:
            self.store.say(left_deleted(left))
        if evaluation and Path.cwd().resolve() == self.store.root:  # an experiment's do not describe the study
            self._write_overview(study, evaluation, run_ids)
        return list(run_ids.values())

    def write(self, result: Result, evaluation: Evaluation | None = None, *, began_ms: int | None = None) -> Outcome:
        """Write what the result's run lacks.

        `began_ms`: the time at which its training began, if it has just ended; then it confirms a run that has the
        training already, and begins a new one in place of one that someone deleted.
        """
        store, written = self.store, list[str]()
        with store.lock():
            run = find_run(store, result.study, result.fingerprint)
            if began_ms is None and deleted(store, result.study, run):
                if not self.restore:
                    return Outcome("", [])
                run, written = runs.restored(store, result.study, result.fingerprint, run), ["restored"] if run else []
            elif run and is_deleted(run.info):
                run = None
            if finished := runs.is_finished(run):
                written += runs.set_tags(store, run, self._confirmation(run, result, began_ms))
            else:
                written += ["missing parts" if run else "new run"]
                run = self._complete(run, result, began_ms)
            if evaluation and result.variant in evaluation.variants():
                written += self._add_evaluation(run, result, evaluation)
            missing = self._upload(run, result, self._missing(run, result, evaluation))
            written += [f"{missing} missing artifacts"] if missing and finished else []
        run_id = str(run.info.run_id)
        if self.statuses.get(run_id, "complete") == "complete":
            self.statuses[run_id] = "new" if "new run" in written else "completed" if written else "complete"
        if written:
            of = f" ({self.origin.experiment})" if self.origin.experiment else ""
            self.tell(f"{result.name}{of}: {', '.join(written)} -> {run_id}")
        return Outcome(run_id, written)

    def _write_overview(self, study: str, evaluation: Evaluation, run_ids: dict[str, str]) -> None:
        """Write the study's page and its champion. `run_ids` are by variant; without runs there is nothing to do."""
        store, written = self.store, list[str]()
        if run_ids and evaluation.leaderboard:
            with store.part(f"{study}: description", self.failed):
                written += views.show_study(store, study, evaluation)
        if run_ids and not self.origin.experiment and evaluation.leaderboard:
            with store.part(f"{study}: champion", self.failed):
                written += champions.set_champion(store, study, evaluation, run_ids, restore=self.restore)
        for line in written:
            self.tell(f"{study}: {line}")

    def _confirmation(self, run: Run, result: Result, began_ms: int | None) -> dict[str, str]:
        """Return the tags of a finished run that the same training changes."""
        tags, before = runs.with_experiment(run, self.origin), run.data.tags.get(models.WEIGHTS_MD5)
        if before not in (None, result.weights_md5):
            if self.newest or WARNING not in run.data.tags:
                tags[WARNING] = f"the same inputs gave other weights: {result.weights_md5} after {before}"
        elif began_ms is not None:
            tags["bancada.reproduced"] = str(int(run.data.tags.get("bancada.reproduced", "0")) + 1)
        return tags

    def _complete(self, run: Run | None, result: Result, began_ms: int | None) -> Run:
        """Return a FINISHED run that holds the training. What an unfinished one holds is not written again."""
        store, client = self.store, self.store.client
        points = [*mirror.curves(result), Point("diverged_seeds", 0, len(result.diverged))]
        run, logged = runs.begin(store, run, result, self.origin, began_ms)
        run_id = run.info.run_id
        runs.add_points(store, run_id, points, logged)
        diverged = {"bancada.diverged_seeds": json.dumps(result.diverged)}
        runs.set_tags(store, run, diverged | {models.WEIGHTS_MD5: result.weights_md5})
        if result.has_its_split():
            _add_datasets(store, run_id, result.study)
        if not self.requirements:
            self.failed["requirements.lock"] = lockfile.DIFFERS
        if self.origin.diff:
            with store.part(f"{result.name}: git.diff", self.failed), tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "git.diff")  # mlflow's own log_text takes UTF-8 alone
                path.write_bytes(self.origin.diff)
                client.log_artifact(run_id, str(path))
        if TRIALS not in artifact_paths(store, run) and (search := read_search(result.folder)):
            with store.part(f"{result.name}: {TRIALS}", self.failed):
                trials = pd.DataFrame(search[1]).rename(columns=lambda key: key.replace(".", "/"))
                client.log_table(run_id, trials, TRIALS)  # where a name has a dot, MLflow's page shows empty cells
        client.set_terminated(run_id, "FINISHED")
        finished = client.get_run(run_id)
        if runs.LIVE_FILE in finished.data.tags:  # the path may belong to another training tomorrow
            client.delete_tag(run_id, runs.LIVE_FILE)
        return finished

    def _add_evaluation(self, run: Run, result: Result, evaluation: Evaluation) -> list[str]:
        """Write the scores, the model of the best seed and the description, as far as each can be."""
        if not self.newest and EVALUATION in run.data.tags:
            return []
        store, failed, written = self.store, self.failed, list[str]()
        with store.part(f"{result.name}: evaluation", failed):
            written += self._add_scores(run, result, evaluation)
        with store.part(f"{result.name}: model", failed):
            seed = evaluation.best_seeds.get(result.variant)
            written += models.log_model(store, run, result, seed, restore=self.restore)
        with store.part(f"{result.name}: description", failed):
            run = store.client.get_run(run.info.run_id)  # with its model
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
        points += evaluation.of_seeds.get(result.variant, [])
        runs.add_points(self.store, run.info.run_id, points, self._had(run, points))
        if number:
            tracking_uri = self.store.client.tracking_uri
            repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking_uri)
            for folder in ("plots", "evaluation"):
                with suppress(MlflowException, NotImplementedError):  # where that is not allowed, an old plot stays
                    repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]  # mlflow has no types here
        self._upload(run, result, evaluation.artifacts)
        runs.set_tags(self.store, run, {EVALUATION: evaluation.md5, "bancada.evaluations": str(number + 1)})
        return ["evaluation"]

    def _had(self, run: Run, points: Iterable[Point]) -> set[runs.Logged]:
        """Return the scores of seeds that the run has already: MLflow only adds points, and shows all of a step."""
        names = {point.name for point in points if point.name.startswith("seeds/")} & run.data.metrics.keys()
        history = [each for name in names for each in self.store.client.get_metric_history(run.info.run_id, name)]
        had = {(each.key, each.step): each.value for each in history}
        return {at for point in points if had.get(at := (point.name, point.epoch)) == point.value}

    def _missing(self, run: Run, result: Result, evaluation: Evaluation | None) -> dict[str, Path]:
        """Return the files that the run lacks, by their names in it, if those here are still the run's."""
        tags, wanted = self.store.client.get_run(run.info.run_id).data.tags, dict[str, Path]()
        if tags.get(models.WEIGHTS_MD5) == result.weights_md5:
            wanted |= {name: result.folder / name for name in files.of_model(result.folder)}
            wanted |= {"requirements.lock": Path("requirements.lock")} if self.requirements else {}
        if evaluation and tags.get(EVALUATION) == evaluation.md5:
            wanted |= evaluation.artifacts
        existing = artifact_paths(self.store, run)
        return {name: path for name, path in wanted.items() if name not in existing and path.is_file()}

    def _upload(self, run: Run, result: Result, paths: Mapping[str, Path]) -> int:
        """Upload files. Return how many; one that is refused stops no other."""

        def upload(name: str, path: Path) -> bool:
            with self.store.part(f"{result.name}: {name}", self.failed):
                self.store.client.log_artifact(run.info.run_id, str(path), name.rpartition("/")[0] or None)
                return True
            return False

        with ThreadPoolExecutor(1 if self.store.artifacts else UPLOADS) as pool:
            return sum(pool.map(upload, paths, paths.values()))  # after a failure, or Ctrl-C, it cancels the rest


def left_deleted(names: list[str]) -> str:
    """Say which runs were left out and how to get them back."""
    return f"left out, because deleted in MLflow: {', '.join(names)}; `bancada track --restore` brings them back"


def _add_datasets(store: Store, run_id: str, study: str) -> None:
    """Log the split files that hold rows, in the form of mlflow's MetaDataset, whose import takes long.

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
