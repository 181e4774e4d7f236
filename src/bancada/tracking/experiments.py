"""Find the experiment and the runs of a study in the store, by tags of ours: names may be changed, or be another's.

What somebody deleted in MLflow is found, too: MLflow keeps it, until `mlflow gc` removes it.
"""

from collections.abc import Callable
from typing import TypeVar

from mlflow.entities import Experiment, LifecycleStage, Run, RunInfo, ViewType
from mlflow.exceptions import MlflowException

from bancada.base import BadInput
from bancada.tracking.store import STUDY, Store

OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]
T = TypeVar("T")


def experiment_of(store: Store, study: str) -> Experiment | None:
    """Return the study's experiment, whatever its name is, also a deleted one; None where there is none."""
    found = store.client.search_experiments(ViewType.ALL, filter_string=f"tags.`{STUDY}` = '{study}'")
    return min(found, key=lambda each: int(each.creation_time or 0), default=None)


def is_deleted(found: Experiment | RunInfo) -> bool:
    """Return whether someone deleted it."""
    return bool(found.lifecycle_stage == LifecycleStage.DELETED)


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's experiment; create it where there is none."""
    found = experiment_of(store, study)
    if found is None:
        client, location = store.client, (store.artifacts / study).as_uri() if store.artifacts else None
        found = created(
            "experiment",
            study,
            create=lambda: client.get_experiment(client.create_experiment(study, location, {STUDY: study})),
            find=lambda: experiment_of(store, study),
        )
    return str(found.experiment_id)


def created(kind: str, study: str, create: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Create an experiment or a registered model. Raise BadInput where its name belongs to somebody else's."""
    try:
        return create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if found := find():  # another machine has created it meanwhile
            return found
        taken = f"MLflow has another {kind} of that name, maybe a deleted one, which is not made by bancada"
        raise BadInput(f"{study}: {taken}; rename it, or the study") from None


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """Return the run with these inputs, also a deleted one if there is no other.

    It is the oldest, if machines that share a server made two.
    """
    if (experiment := experiment_of(store, study)) is None:
        return None
    of_these = f"tags.`bancada.fingerprint` = '{fingerprint}'"
    found = store.client.search_runs([experiment.experiment_id], of_these, ViewType.ALL, order_by=OLDEST_FIRST)
    return min(found, key=lambda run: is_deleted(run.info), default=None)


def deleted(store: Store, study: str, run: Run | None) -> bool:
    """Return whether someone deleted the run, or, where there is no run, the study's experiment."""
    if run:
        return is_deleted(run.info)
    experiment = experiment_of(store, study)
    return experiment is not None and is_deleted(experiment)


def known(get: Callable[[str], T], identity: str) -> T | None:
    """Return what the store has under this identity, or None where somebody removed it."""
    try:
        return get(identity)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
