"""Each study's registered model, whose alias `champion` names the best variant of the committed results.

Many clones, branches and experiments may write to one store. So the alias moves only where the results here are those
of HEAD's dvc.lock, and only forward in git's history: the registered model carries the commit at which its alias was
last set or taken off, which must be an ancestor of HEAD.
"""

from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from bancada.base import files, git, lockfile
from bancada.tracking import views
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.experiments import created, known
from bancada.tracking.models import CODE, MODEL, SEED, WEIGHTS_MD5
from bancada.tracking.store import STUDY, Store

CHAMPION = "champion"  # the alias
REGISTERED = "bancada.registered"  # tag of a run: its model of which a version was created
COMMIT = "bancada.commit"  # tag of a registered model: HEAD when its alias was set or taken off
NO_CHAMPION = f"no variant can be the {CHAMPION}, because none has a value on validation rows for every seed"


def set_champion(
    store: Store, study: str, evaluation: Evaluation, run_ids: Mapping[str, str], *, restore: bool
) -> list[str]:
    """Let the alias of the registered model name the study's champion, or nothing. Return what was written, in words.

    A version is created where there is none with these weights. `run_ids` are by variant. `restore`: a version that
    someone deleted is created again.
    """
    client, variant, head = store.client, evaluation.champion, git.commit_of(Path())
    with store.lock():
        run = client.get_run(run_ids[variant]) if variant and variant in run_ids else None
        registered = _registered(store, study)
        versions = client.search_model_versions(f"name = '{registered.name}'") if registered else []
        number = str(registered.aliases.get(CHAMPION)) if registered else ""
        holder = next((each for each in versions if str(each.version) == number), None)
        best = next((each for each in versions if run and _tags(run).items() <= each.tags.items()), None)
        is_right = holder is best and (best is not None or variant is None)
        if is_right and (best is None or (registered and registered.tags.get(COMMIT) == head)):
            return []
        why = _why_not(study, variant, registered, holder) or (
            "" if best or not variant else _gone(store, run, restore)
        )
        if why:
            if not is_right:
                still = f"; the alias is still on version {holder.version}" if holder else ""
                subject = f"{variant} is not the {CHAMPION} in MLflow yet" if variant else NO_CHAMPION
                store.say(f"{study}: {subject}{still}: {why}")
            return []
        if run and not best:
            registered, best = _created_version(store, study, run)
        assert registered  # there is a version
        client.set_registered_model_tag(registered.name, COMMIT, head)
        if is_right:
            return []
        if best:
            client.set_registered_model_alias(registered.name, CHAMPION, str(best.version))
            if not best.description:  # or a person's stays
                client.update_model_version(registered.name, str(best.version), _description(evaluation, str(variant)))
            return [f"version {best.version}, {variant}, is the {CHAMPION} now"]
        client.delete_registered_model_alias(registered.name, CHAMPION)
        return [f"{NO_CHAMPION}; version {number}, of older results, has lost the alias"]


def _description(evaluation: Evaluation, variant: str) -> str:
    """Return what the version's page says: its place, scores and verdict, and why it is the champion."""
    board = evaluation.leaderboard
    row = next(row for row in board if row["variant"] == variant)
    _, chosen_otherwise, why_not = row["best_seed_is"].partition("the first: ")
    why = f"the baseline, or the first variant: {why_not}" if chosen_otherwise else "the best on the validation rows"
    return f"{variant}, {views.run_note(row, len(board))}.\n\nWhy it is the {CHAMPION}: {why}."


def _why_not(study: str, variant: str | None, registered: RegisteredModel | None, holder: ModelVersion | None) -> str:
    """Say why the alias may not move from the version that has it; nothing where it may. `variant`: the champion."""
    lock, board = lockfile.at_head(), files.evaluation(study) / "leaderboard.csv"
    trained = variant is None or lock.names(f"train@{variant}", files.model(study, variant))
    if not (trained and lock.names(f"evaluate@{study}", board)):
        return "commit dvc.lock and data, then run `bancada track`"
    if holder and WEIGHTS_MD5 not in holder.tags:
        return "somebody gave it that alias, and it is not made by bancada"
    commit = registered.tags.get(COMMIT) if registered else None
    if commit and git.run(Path(), "merge-base", "--is-ancestor", commit, "HEAD").returncode:
        pull = "`git pull`, in a shallow clone with `--unshallow`"
        return f"HEAD does not follow commit {commit[:10]}, of which the alias is; {pull}, or delete the tag `{COMMIT}`"
    return ""


def _gone(store: Store, run: Run | None, restore: bool) -> str:
    """Say why no version can be created of the run's model; nothing where one can be."""
    if not (run and MODEL in run.data.tags and known(store.client.get_logged_model, run.data.tags[MODEL])):
        return "its model is not in MLflow"
    if run.data.tags.get(REGISTERED) == run.data.tags[MODEL] and not restore:
        return "its version was deleted in MLflow; `bancada track --restore` brings it back"
    return ""


def _tags(run: Run) -> dict[str, str]:
    """Return the tags of a version that is the run's model."""
    return {key: run.data.tags.get(key, "") for key in ("bancada.variant", WEIGHTS_MD5, SEED, CODE)}


def _registered(store: Store, study: str) -> RegisteredModel | None:
    """Return the study's registered model, whatever its name is: it has the study as a tag."""
    return next(iter(store.client.search_registered_models(f"tags.`{STUDY}` = '{study}'")), None)


def _created_version(store: Store, study: str, run: Run) -> tuple[RegisteredModel, ModelVersion]:
    """Create a version, in a registered model that is created where there is none."""
    client, model = store.client, store.client.get_logged_model(run.data.tags[MODEL])
    about = f"The best networks of the study {study}: raw rows in, predictions out. The best one is `{CHAMPION}`."
    registered = _registered(store, study) or created(
        store,
        "registered model",
        study,
        create=lambda name: client.create_registered_model(name, {STUDY: study}, about),
        find=lambda: _registered(store, study),
    )
    # Its location, not `models:/ID`: that, MLflow's registry would look up in its default store.
    version = client.create_model_version(
        registered.name, model.artifact_location, run.info.run_id, _tags(run), model_id=model.model_id
    )
    client.set_tag(run.info.run_id, REGISTERED, model.model_id)
    return registered, version
