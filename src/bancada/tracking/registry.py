"""Models in MLflow: each run has its variant's best seed, and each study's registered model its champion."""

from collections.abc import Mapping

from mlflow.entities import LoggedModel, LoggedModelOutput, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from bancada.tracking import mirror
from bancada.tracking.mirror import Evaluation, Result
from bancada.tracking.packing import packed
from bancada.tracking.store import Store
from bancada.tracking.surroundings import locked

MODEL, SEED, WEIGHTS = "bancada.model", "bancada.best_seed", "bancada.weights_md5"  # tags
CHAMPION = "champion"  # the alias


def log_model(store: Store, run: Run, result: Result, evaluation: Evaluation, *, with_example: bool) -> list[str]:
    """The best seed's network as a model of the run, if it has none yet; in words, what was written."""
    seed, tags, run_id = evaluation.best_seeds.get(result.variant), run.data.tags, run.info.run_id
    if seed is None or tags.get(WEIGHTS) != result.weights_md5 or (MODEL in tags and tags.get(SEED) == str(seed)):
        return []
    client = store.client
    said = {WEIGHTS: result.weights_md5, SEED: str(seed), "bancada.variant": result.variant}
    model = _begun(store, run, seed) or client.create_logged_model(
        run.info.experiment_id, result.variant, run_id, said, mirror.parameters(result), "network"
    )
    with packed(result, seed, model.model_id, run_id, with_example=with_example) as folder:
        client.log_model_artifacts(model.model_id, str(folder))
    store.answered()
    client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.log_batch(run_id, tags=[RunTag(MODEL, model.model_id), RunTag(SEED, str(seed))])
    return ["its model"]


def _begun(store: Store, run: Run, seed: int) -> LoggedModel | None:
    """A model of this seed that was cut off on its way to the run."""
    wanted = f"source_run_id = '{run.info.run_id}' and tags.`{SEED}` = '{seed}'"
    found = store.client.search_logged_models([run.info.experiment_id], wanted, max_results=1)
    return found[0] if found else None


def crown(store: Store, study: str, evaluation: Evaluation, run_ids: Mapping[str, str]) -> list[str]:
    """Let the registered model's alias name the champion of the study, a version of which is made where there is none
    with these weights. `run_ids`: by variant."""
    run_id = run_ids.get(evaluation.champion or "")
    if run_id is None:
        return []
    client, tags = store.client, store.client.get_run(run_id).data.tags
    if MODEL not in tags:
        return []
    same = {key: tags[key] for key in ("bancada.variant", WEIGHTS, SEED)}
    with locked(store.root):
        version = _version(store, study, same)
        if version is None:
            source = f"models:/{tags[MODEL]}"
            version = client.create_model_version(study, source, run_id, same, model_id=tags[MODEL])
        if str(client.get_registered_model(study).aliases.get(CHAMPION)) == str(version.version):
            return []
        client.set_registered_model_alias(study, CHAMPION, str(version.version))
    return [f"version {version.version}, {evaluation.champion}, is its {CHAMPION} now"]


def _version(store: Store, study: str, same: Mapping[str, str]) -> ModelVersion | None:
    """The registered model's version with these tags; the model itself is made where there is none."""
    try:
        store.client.get_registered_model(study)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store.client.create_registered_model(study)
    found = store.client.search_model_versions(f"name = '{study}'")
    return next((version for version in found if same.items() <= version.tags.items()), None)
