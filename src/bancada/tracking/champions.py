"""Each study's registered model, whose alias `champion` names the best variant of the committed results.

Many clones, branches and experiments may write to one store. So the alias moves only where the results here are those
of HEAD's dvc.lock, and only forward in git's history: the version that has it carries the commit of that time, which
must be an ancestor of HEAD. By the same rule it is taken off where no variant of those results can be the champion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from bancada.base import files, git, lockfile
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.experiments import create_named, every, known
from bancada.tracking.models import CODE, MODEL, SEED, WEIGHTS_MD5
from bancada.tracking.store import STUDY, Store

CHAMPION = "champion"  # the alias
REGISTERED = "bancada.registered"  # tag of a run: its model of which a version was created
COMMIT = "bancada.commit"  # tag of a version: HEAD when it got the alias; of a model: HEAD when its version lost it
NO_CHAMPION = f"no variant can be the {CHAMPION}, because none has a value on validation rows for every seed"


class Held(NamedTuple):
    """What the registry holds of a study."""

    registered: RegisteredModel | None
    versions: list[ModelVersion]
    holder: ModelVersion | None  # the version that has the alias


def set_champion(
    store: Store, study: str, evaluation: Evaluation, run_ids: Mapping[str, str], *, restore: bool
) -> list[str]:
    """Let the alias of the registered model name the study's champion. Return what was written, in words.

    A version is created where there is none with these weights. `run_ids` are by variant; without runs there is
    nothing to do. `restore`: a version that someone deleted is created again.
    """
    with store.lock():
        held = _held(store, study) if run_ids else Held(None, [], None)
        if evaluation.champion is None:
            known_to_be_none = not evaluation.left_out.keys() & set(_tables(study))
            return _take_off(store, study, held) if known_to_be_none else []
        run = store.client.get_run(run_ids[evaluation.champion]) if evaluation.champion in run_ids else None
        if run and MODEL in run.data.tags:
            return _move(store, study, held, run, restore=restore)
    if held.holder and held.holder.tags.get("bancada.variant") != evaluation.champion:
        _say_not_yet(store, study, evaluation.champion, f"its model is not there; {_still(held.holder)}")
    return []


def _move(store: Store, study: str, held: Held, run: Run, *, restore: bool) -> list[str]:
    """Give the alias to the version with the model of the champion's run, where that is allowed."""
    tags, head = run.data.tags, git.commit_of(Path())
    variant = tags["bancada.variant"]
    of_version = {key: tags[key] for key in ("bancada.variant", WEIGHTS_MD5, SEED, CODE) if key in tags}
    best = next((each for each in held.versions if of_version.items() <= each.tags.items()), None)
    is_right = held.holder is not None and held.holder is best
    if held.holder and is_right and held.holder.tags.get(COMMIT) == head:
        return []
    why = _why_not(study, variant, held) or ("" if best or restore else _deleted(store, run))
    if why:
        if not is_right:
            _say_not_yet(store, study, variant, why)
        return []
    best = best or _create_version(store, study, held.registered, run, of_version)
    store.client.set_model_version_tag(best.name, str(best.version), COMMIT, head)
    if is_right:
        return []
    store.client.set_registered_model_alias(best.name, CHAMPION, str(best.version))
    if held.registered and COMMIT in held.registered.tags:
        store.client.delete_registered_model_tag(best.name, COMMIT)
    return [f"version {best.version}, {variant}, is the {CHAMPION} now"]


def _take_off(store: Store, study: str, held: Held) -> list[str]:
    """Take the alias from the version that has it, where that is allowed: no variant of these results can have it."""
    if held.registered is None or held.holder is None:
        return []
    if why := _why_not(study, None, held):
        store.say(f"{study}: {NO_CHAMPION}; {_still(held.holder)}: {why}")
        return []
    # Without a version that has the alias, the model says of which commit that is.
    store.client.set_registered_model_tag(held.registered.name, COMMIT, git.commit_of(Path()))
    store.client.delete_registered_model_alias(held.registered.name, CHAMPION)
    return [f"{NO_CHAMPION}; version {held.holder.version}, of older results, has lost the alias"]


def _say_not_yet(store: Store, study: str, variant: str, why: str) -> None:
    store.say(f"{study}: {variant} is not the {CHAMPION} in MLflow yet: {why}")


def _still(holder: ModelVersion) -> str:
    return f"version {holder.version} of the registered model {holder.name} still has the alias"


def _why_not(study: str, variant: str | None, held: Held) -> str:
    """Say why the alias may not move from the version that has it; nothing where it may. `variant`: the champion."""
    if not _is_committed(study, variant):
        return "commit dvc.lock and data, then run `bancada track`"
    if held.registered is None:
        return ""
    holder = held.holder
    if holder and WEIGHTS_MD5 not in holder.tags:
        return f"someone gave that alias to version {holder.version}, which is not made by bancada"
    commit = (holder or held.registered).tags.get(COMMIT)  # an older bancada wrote none
    status = git.run(Path(), "merge-base", "--is-ancestor", commit, "HEAD").returncode if commit else 0
    if not commit or status == 0:
        return ""
    lacks = status > 1  # a shallow clone, for example, does not have that commit
    where = f"of commit {commit[:10]}, which this clone" + (" does not have" if lacks else "'s HEAD does not follow")
    after = "`git fetch --unshallow`, or `git fetch`" if lacks else "`git pull`"
    if holder:
        return f"version {holder.version} is, {where}; after {after}, or with that alias deleted, it can be"
    return f"there is none, {where}; after {after}, or with the model's tag `{COMMIT}` deleted, it can be"


def _is_committed(study: str, variant: str | None) -> bool:
    """Return whether HEAD's dvc.lock holds the evaluation, and the champion's model, that are here."""
    lock = lockfile.at_head()
    if not lock.names(f"evaluate@{study}", *_tables(study)):
        return False
    return variant is None or lock.names(f"train@{variant}", files.model(study, variant))


def _tables(study: str) -> list[Path]:
    """Return the paths of the tables that say which variant is the champion."""
    return [files.evaluation(study) / "leaderboard.csv"]


# --- the registry ---------------------------------------------------------------------------------------------------


def _held(store: Store, study: str) -> Held:
    registered = _registered(store, study)
    versions = _versions(store, registered.name) if registered else []
    number = str(registered.aliases.get(CHAMPION)) if registered else None
    return Held(registered, versions, next((each for each in versions if str(each.version) == number), None))


def _registered(store: Store, study: str) -> RegisteredModel | None:
    """Return the study's registered model, whatever its name is: it has the study as a tag.

    One of an older bancada gets the tag. Its versions are ours from the first on; somebody else's model, into which an
    older bancada may have put versions, is left alone.
    """
    found: list[RegisteredModel] = list(every(store.client.search_registered_models, f"tags.`{STUDY}` = '{study}'"))
    if found:
        return found[0]
    ours = every(store.client.search_model_versions, f"tags.`{WEIGHTS_MD5}` != ''")
    for name in sorted({each.name for each in ours}, key=lambda name: name != study):
        first = _versions(store, name)[0]
        registered: RegisteredModel = store.client.get_registered_model(name)
        if WEIGHTS_MD5 in first.tags and STUDY not in registered.tags and _study_of(store, first) == study:
            store.client.set_registered_model_tag(name, STUDY, study)
            return registered
    return None


def _versions(store: Store, name: str) -> list[ModelVersion]:
    """Return all versions, the oldest first."""
    found = every(store.client.search_model_versions, f"name = '{name}'")
    return sorted(found, key=lambda each: int(each.version))


def _study_of(store: Store, version: ModelVersion) -> str | None:
    run = known(store.client.get_run, str(version.run_id))
    return str(version.name) if run is None else run.data.tags.get(STUDY)


def _create(store: Store, study: str) -> RegisteredModel:
    made, name = create_named(
        study,
        create=lambda name: store.client.create_registered_model(name, {STUDY: study}),
        existing=lambda: _registered(store, study),
    )
    if name != study:
        why = "MLflow has another registered model of that name, which is not made by bancada"
        store.say(f"{study}: its registered model in MLflow is called `{name}`, because {why}")
    return made


def _create_version(
    store: Store, study: str, registered: RegisteredModel | None, run: Run, tags: dict[str, str]
) -> ModelVersion:
    """Create a version, in a registered model that is created where there is none."""
    model = store.client.get_logged_model(run.data.tags[MODEL])
    name = (registered or _create(store, study)).name
    # Its location, not `models:/ID`: that, MLflow's registry would look up in its default store.
    version = store.client.create_model_version(
        name, model.artifact_location, run.info.run_id, tags, model_id=model.model_id
    )
    store.client.set_tag(run.info.run_id, REGISTERED, model.model_id)
    return version


def _deleted(store: Store, run: Run) -> str:
    """Say what someone deleted of the run's model; nothing where all is there, or was never registered."""
    model = run.data.tags[MODEL]
    gone = "version" if run.data.tags.get(REGISTERED) == model else ""
    gone = gone if known(store.client.get_logged_model, model) else "model"
    return f"its {gone} was deleted in MLflow; `bancada track --restore` brings it back" if gone else ""
