"""The report in MLflow: a run `report` for each page that the pipeline made, in an experiment of its own."""

from pathlib import Path

from bancada.base import lockfile
from bancada.tracking import runs
from bancada.tracking.experiments import deleted, experiment_id, find_run, is_deleted
from bancada.tracking.record import Recorder, left_deleted
from bancada.tracking.store import STUDY, artifact_paths

NAME = "bancada report"  # of the experiment; no study has a name with a space
FINGERPRINT = "bancada.fingerprint"


def write(recorder: Recorder, page: Path) -> None:
    """Keep the page in its run, unless the run has it or someone deleted it."""
    store, md5 = recorder.store, lockfile.md5(page)
    with store.part(NAME, recorder.failed), store.lock():
        run = find_run(store, NAME, md5)
        if deleted(store, NAME, run):
            if not recorder.restore:
                store.say(left_deleted([NAME]))
                return
            run = runs.restored(store, NAME, md5, run)
        if run is None or is_deleted(run.info):
            tags = {FINGERPRINT: md5, STUDY: NAME, "dvc.stage": "report", **recorder.origin.tags()}
            run = store.client.create_run(experiment_id(store, NAME), tags=tags, run_name="report")
        if page.name not in artifact_paths(store, run):
            store.client.log_artifact(run.info.run_id, str(page))
            store.client.set_terminated(run.info.run_id, "FINISHED")
            recorder.tell(f"{NAME}: {page} -> {run.info.run_id}")
