"""`bancada track --seeds VARIANT`: a nested run for each seed, with its curves and its scores.

The study's saved view leaves them out, because they have no fingerprint.
"""

import numpy as np
from mlflow.entities import Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bancada.networks.saved import read_history
from bancada.tracking import mirror, runs
from bancada.tracking.evaluations import Evaluation
from bancada.tracking.mirror import Point, Result
from bancada.tracking.store import Store
from bancada.training.live import kept_epochs

SEED = "bancada.seed"  # tag


def write(store: Store, run: Run, result: Result, evaluation: Evaluation) -> int:
    """Create the nested runs of a variant's run, or complete them. Return how many; what a person deleted stays so."""
    client, count = store.client, 0
    with store.lock():
        of_run = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'"
        found = client.search_runs([run.info.experiment_id], of_run, ViewType.ALL)
        by_seed = {each.data.tags.get(SEED): each for each in found}
        for seed in result.recipe["seeds"]:
            nested = by_seed.get(str(seed))
            if nested and (runs.is_finished(nested) or nested.info.lifecycle_stage == "deleted"):
                continue
            if not nested:
                tags, name = (
                    {MLFLOW_PARENT_RUN_ID: run.info.run_id, SEED: str(seed)},
                    f"{run.info.run_name} seed={seed}",
                )
                nested = client.create_run(run.info.experiment_id, tags=tags, run_name=name)

            logged = runs.logged_points(store, nested.info.run_id)
            runs.add_points(store, nested.info.run_id, _points(result, seed, evaluation), logged)
            client.set_terminated(nested.info.run_id, "FINISHED")
            count += 1
    return count


def _points(result: Result, seed: int, evaluation: Evaluation) -> list[Point]:
    """Return the curves of a seed, and its scores under the names that the variant's have."""
    history = read_history(result.folder)
    own = history["seed"] == seed
    epochs = kept_epochs(result.recipe["train"]["epochs"], int(history["epoch"][own].max()))
    own &= np.isin(history["epoch"], epochs)
    curves = mirror.points({name: values[own] for name, values in history.items()})
    scores = [point for point in evaluation.of_seeds.get(result.variant, []) if point.epoch == seed]
    return curves + [Point(point.name.removeprefix("seeds/"), 0, point.value) for point in scores]
