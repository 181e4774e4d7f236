"""Find the experiment and the runs of a study in the store, by tags of ours: names may be changed, or be another's."""

from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any, TypeVar

from mlflow.entities import Experiment, LifecycleStage, Run, RunInfo, ViewType
from mlflow.exceptions import MlflowException

from bancada.tracking.store import STUDY, Store

OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]
T = TypeVar("T")


def experiments_of(store: Store, study: str) -> list[Experiment]:
    """Return the experiments that hold the study's runs, whatever their names are; deleted ones come last.

    They have the study as a tag. One of an older bancada gets it: its runs have it.
    """
    tagged = store.client.search_experiments(ViewType.ALL, filter_string=f"tags.`{STUDY}` = '{study}'")
    found = sorted(tagged, key=lambda each: int(each.creation_time or 0)) or _without_tag(store, study)
    return sorted(found, key=is_deleted)


def is_deleted(found: Experiment | RunInfo) -> bool:
    """Return whether someone deleted it. MLflow keeps what was deleted, until `mlflow gc` removes it."""
    return bool(found.lifecycle_stage == LifecycleStage.DELETED)


def _without_tag(store: Store, study: str) -> list[Experiment]:
    """Return the experiment into which an older bancada wrote the study's runs, and give it its tag."""
    everything = {each.experiment_id: each for each in every(store.client.search_experiments, ViewType.ALL)}
    runs = runs_where(store, f"tags.`{STUDY}` = '{study}'", list(everything), ViewType.ALL)
    holding = {run.info.experiment_id: everything[run.info.experiment_id] for run in runs}
    # MLflow's own experiment keeps its files in ./mlruns.
    found = [each for each in holding.values() if each.name != Experiment.DEFAULT_EXPERIMENT_NAME]
    best = sorted(found, key=lambda each: (is_deleted(each), each.name != study))[:1]
    for each in best:
        if not is_deleted(each):
            store.client.set_experiment_tag(each.experiment_id, STUDY, study)
    return best


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's experiment. Create it where there is none, or where someone deleted it."""

    def existing() -> str | None:
        found = active_experiment(store, study)
        return str(found.experiment_id) if found else None

    def create(name: str) -> str:
        location = (store.artifacts / study).as_uri() if store.artifacts else None
        return str(store.client.create_experiment(name, location, {STUDY: study}))

    if found := existing():
        return found
    made, name = create_named(study, create, existing)
    if name != study:
        store.say(f"{study}: its experiment in MLflow is called `{name}`, because {_why_taken(store, study)}")
    return made


def active_experiment(store: Store, study: str) -> Experiment | None:
    """Return the study's experiment; none where it was never created, or where someone deleted it."""
    return next((each for each in experiments_of(store, study) if not is_deleted(each)), None)


def _why_taken(store: Store, study: str) -> str:
    """Say which experiment has the study's name."""
    holder = store.client.get_experiment_by_name(study)
    if holder is None or not is_deleted(holder):
        return "MLflow has another experiment of that name, which is not made by bancada"
    if holder.experiment_id in [each.experiment_id for each in experiments_of(store, study)]:
        way_out = "`bancada track --restore` brings back its runs whose results are here"
        return f"the experiment of that name was deleted in MLflow; {way_out}"
    return "MLflow has a deleted experiment of that name, which is not made by bancada"


def create_named(study: str, create: Callable[[str], T], existing: Callable[[], T | None]) -> tuple[T, str]:
    """Create an experiment or a registered model under the study's name, or a similar one where that is taken.

    Return it and its name.
    """
    for name in chain((study, f"{study} (bancada)"), (f"{study} (bancada {number})" for number in count(2))):
        try:
            made = create(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if found := existing():  # another machine has created it meanwhile
                return found, study
            continue
        return made, name
    raise AssertionError("there is always another name")


# --- runs -----------------------------------------------------------------------------------------------------------


def find_run(store: Store, study: str, fingerprint: str) -> Run | None:
    """Return the run with these inputs, also a deleted one if there is no other.

    It is the oldest, if machines that share a server made two.
    """
    ids = [each.experiment_id for each in experiments_of(store, study)]
    found = list(runs_where(store, f"tags.`bancada.fingerprint` = '{fingerprint}'", ids, ViewType.ALL))
    return min(found, key=lambda run: is_deleted(run.info), default=None)


def runs_where(
    store: Store, condition: str, experiments: list[str] | None = None, view: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """Yield the runs for which the condition holds, of these or of all active experiments, the oldest first."""
    if experiments is None:
        experiments = [each.experiment_id for each in every(store.client.search_experiments)]
    if experiments:
        search = store.client.search_runs
        yield from every(search, experiments, condition, view, max_results=1000, order_by=OLDEST_FIRST)


def every(search: Callable[..., Any], *arguments: Any, **named: Any) -> Iterator[Any]:
    """Yield what a search of MLflow's client finds, from all pages of its answer."""
    token = None
    while True:
        page = search(*arguments, page_token=token, **named)
        yield from page
        if not (token := page.token):
            return


def known(get: Callable[[str], T], identity: str) -> T | None:
    """Return what the store has under this identity, or None where somebody removed it."""
    try:
        return get(identity)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
