"""Find the experiment and the runs of a study in the store, by tags of ours: names may be changed, or be another's.

What somebody deleted in MLflow is found, too: MLflow keeps it, until `mlflow gc` removes it.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from mlflow.entities import Experiment, LifecycleStage, Run, RunInfo, ViewType
from mlflow.exceptions import MlflowException

from bancada.base import BadInput
from bancada.tracking.store import STUDY, Store

OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]
T = TypeVar("T")


def experiments_of(store: Store, study: str) -> list[Experiment]:
    """Return the study's experiments, whatever their names are, the oldest first; deleted ones come last."""
    found = store.client.search_experiments(ViewType.ALL, filter_string=f"tags.`{STUDY}` = '{study}'")
    return sorted(found, key=lambda each: (is_deleted(each), int(each.creation_time or 0)))


def is_deleted(found: Experiment | RunInfo) -> bool:
    """Return whether someone deleted it."""
    return bool(found.lifecycle_stage == LifecycleStage.DELETED)


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's experiment; create it where there is none, or where someone deleted it."""
    location = (store.artifacts / study).as_uri() if store.artifacts else None

    def find() -> str | None:
        return next((each.experiment_id for each in experiments_of(store, study) if not is_deleted(each)), None)

    def create(name: str) -> str:
        return str(store.client.create_experiment(name, location, {STUDY: study}))

    return find() or created(store, "experiment", study, create, find)


def created(store: Store, kind: str, study: str, create: Callable[[str], T], find: Callable[[], T | None]) -> T:
    """Create an experiment or a registered model, with another name where the study's is taken, and say so."""
    name, number = study, 0
    while True:
        try:
            made = create(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if found := find():  # another machine has created it meanwhile
                return found
            number += 1
            name = f"{study} (bancada {number})" if number > 1 else f"{study} (bancada)"
            continue
        if name != study:
            why = f"because MLflow has another {kind} of that name, maybe a deleted one"
            store.say(f"{study}: its {kind} in MLflow is called `{name}`, {why}")
        return made


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """Return the run with these inputs, also a deleted one if there is no other.

    It is the oldest, if machines that share a server made two.
    """
    if not (ids := [each.experiment_id for each in experiments_of(store, study)]):
        return None
    of_these = f"tags.`bancada.fingerprint` = '{fingerprint}'"
    found = store.client.search_runs(ids, of_these, ViewType.ALL, order_by=OLDEST_FIRST)
    return min(found, key=lambda run: is_deleted(run.info), default=None)


def full_id(store: Store, begin: str) -> str:
    """Return the id of the run whose id begins so; `begin` itself where there is none. Raise BadInput for several."""
    if not re.fullmatch("[0-9a-f]{4,31}", begin):
        return begin
    experiments = [each.experiment_id for each in store.client.search_experiments(ViewType.ALL)]
    found = store.client.search_runs(experiments, f"attributes.run_id LIKE '{begin}%'", ViewType.ALL, max_results=9)
    if len(found) > 1:
        raise BadInput(f"{begin}: several runs have ids that begin so: {', '.join(run.info.run_id for run in found)}")
    return str(found[0].info.run_id) if found else begin


def deleted(store: Store, study: str, run: Run | None) -> bool:
    """Return whether someone deleted the run, or, where there is no run, the study's experiment."""
    return is_deleted(run.info) if run else any(map(is_deleted, experiments_of(store, study)[:1]))


def known(get: Callable[[str], T], identity: str) -> T | None:
    """Return what the store has under this identity, or None where somebody removed it."""
    try:
        return get(identity)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
