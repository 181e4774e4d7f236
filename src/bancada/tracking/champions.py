"""Each study's registered model, whose alias `champion` names the best variant of the committed results.

Many clones, branches and experiments may write to one store. So the alias moves only where the results here are those
of HEAD's dvc.lock, and only forward in git's history: the version that has it carries the commit of that time, which
must be an ancestor of HEAD.
"""

from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from bancada.base import files, git, lockfile
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.experiments import create_named, every, known
from bancada.tracking.models import CODE, MODEL, SEED, WEIGHTS_MD5
from bancada.tracking.store import STUDY, Store

CHAMPION = "champion"  # the alias
REGISTERED = "bancada.registered"  # tag of a run: its model of which a version was created
COMMIT = "bancada.commit"  # tag of a version: HEAD when it got the alias


def set_champion(
    store: Store, study: str, evaluation: Evaluation, run_ids: Mapping[str, str], *, restore: bool
) -> list[str]:
    """Let the alias of the registered model name the study's champion. Return what was written, in words.

    A version is created where there is none with these weights. `run_ids` are by variant. `restore`: one that someone
    deleted is created again.
    """
    variant = evaluation.champion or ""
    run = store.client.get_run(run_ids[variant]) if variant in run_ids else None
    if run is None or MODEL not in run.data.tags:
        return []
    tags = run.data.tags
    of_version = {key: tags[key] for key in ("bancada.variant", WEIGHTS_MD5, SEED, CODE) if key in tags}
    with store.lock():
        registered = _registered(store, study)
        versions = _versions(store, registered.name) if registered else []
        best = next((each for each in versions if of_version.items() <= each.tags.items()), None)
        number = str(registered.aliases.get(CHAMPION)) if registered else None
        holder = next((each for each in versions if str(each.version) == number), None)
        is_right, head = holder is not None and holder is best, git.commit_of(Path())
        if holder and is_right and holder.tags.get(COMMIT) == head:
            return []
        why = _why_not(study, variant, holder) or ("" if best or restore else _deleted(store, run))
        if why:
            if not is_right:
                store.say(f"{study}: {variant} is not the {CHAMPION} in MLflow yet: {why}")
            return []
        registered = registered or _create(store, study)
        best = best or _create_version(store, registered.name, run, of_version)
        store.client.set_model_version_tag(registered.name, str(best.version), COMMIT, head)
        if is_right:
            return []
        store.client.set_registered_model_alias(registered.name, CHAMPION, str(best.version))
    return [f"version {best.version}, {variant}, is the {CHAMPION} now"]


def _is_committed(study: str, variant: str) -> bool:
    """Return whether HEAD's dvc.lock holds the evaluation and the model that are here."""
    lock = lockfile.at_head()
    tables = [files.evaluation(study) / name for name in ("scores.csv", "leaderboard.csv", "per_seed.csv")]
    return lock.names(f"evaluate@{study}", *tables) and lock.names(f"train@{variant}", files.model(study, variant))


def _why_not(study: str, variant: str, holder: ModelVersion | None) -> str:
    """Say why the alias may not move from the version that has it; nothing where it may."""
    if not _is_committed(study, variant):
        return "commit dvc.lock and data, then run `bancada track`"
    if holder is None:
        return ""
    if WEIGHTS_MD5 not in holder.tags:
        return f"someone gave that alias to version {holder.version}, which is not made by bancada"
    commit = holder.tags.get(COMMIT)  # an older bancada wrote none
    status = git.run(Path(), "merge-base", "--is-ancestor", commit, "HEAD").returncode if commit else 0
    if not commit or status == 0:
        return ""
    holds = f"version {holder.version} is, of commit {commit[:10]}, which this clone"
    if status > 1:  # a shallow clone, for example
        return f"{holds} does not have; after `git fetch --unshallow`, or `git fetch`, it can be"
    return f"{holds}'s HEAD does not follow; after `git pull`, or with that alias deleted, it can be"


# --- the registry ---------------------------------------------------------------------------------------------------


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
    return create_named(
        store,
        "registered model",
        study,
        create=lambda name: store.client.create_registered_model(name, {STUDY: study}),
        existing=lambda: _registered(store, study),
    )


def _create_version(store: Store, name: str, run: Run, tags: dict[str, str]) -> ModelVersion:
    model = store.client.get_logged_model(run.data.tags[MODEL])
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
