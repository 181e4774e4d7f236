"""The lessons' variants, as params.yaml has them, trained by one engine or the other."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from bancada.base.tables import Table
from bancada.data.split import divide
from bancada.evaluation.candidates import Candidate
from bancada.networks import saved
from bancada.networks.preparation import Preparation
from bancada.networks.saved import Trained
from bancada.pipeline.params import Params, load
from bancada.training import compiled_engine, fit
from bancada.training.replica import Data, Replica, Report
from bancada.training.settings import Recipe
from bancada.training.train import as_taken, prepared

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
BOTH = ("compiled", "torch")  # engines, for the variants that both can train
AGAIN = ("moons_redrawn", "moons_tuned")  # studies with networks of lesson 3
VARIANTS = [name for name, one in PARAMS.variants.items() if one.layers and not one.scratch and one.study not in AGAIN]
SEEDS = range(PARAMS.seed, PARAMS.seed + 3)


def with_seeds(num_seeds: int, engine: str | None = None) -> Params:
    return PARAMS.model_copy(update={"num_seeds": num_seeds, "engine": engine})


@cache
def data(study: str) -> dict[str, Table]:
    return divide(PARAMS.source(study).table(f"studies.{study}.source"), PARAMS.studies[study].split)


def learned(recipe: Recipe, preparation: Preparation) -> Data:
    """The rows as a training of this recipe takes them."""
    learn, watch = (as_taken(data(recipe.study)[part], recipe.network) for part in ("train", "validation"))
    return Data(*(prepared(Path(), part, preparation) for part in (learn, watch)), len(learn.classes))


@dataclass(frozen=True)
class Outcome:
    """What one seed of a variant comes to."""

    variant: str
    engine: str
    seed: int
    score: float  # of the study's metric, on the rows that decide
    seconds: float  # of a processor
    trained: Trained


def outcome(variant: str, engine: str, seed: int) -> Outcome:
    """Train one seed, in this process alone."""
    keys = with_seeds(1, engine).training(variant)
    recipe = keys.recipe().model_copy(update={"seeds": [seed]})
    assert recipe.engine == engine
    parts = data(recipe.study)
    preparation = fit.preparation(keys, parts["train"])
    rows, one = learned(recipe, preparation), Replica(recipe, seed)
    begin = time.process_time()
    if engine == "torch":
        trained = import_module("bancada.training.torch_engine").train(one, rows, lambda epoch, row: None)
    else:
        [(_, trained)] = compiled_engine.train({0: one}, {0: rows}, Report())
    seconds = time.process_time() - begin
    return Outcome(variant, engine, seed, score(recipe, preparation, rows, trained), seconds, trained)


def score(recipe: Recipe, preparation: Preparation, rows: Data, trained: Trained) -> float:
    """The study's metric on test rows; where there are none, on validation or training rows."""
    study, parts = PARAMS.studies[recipe.study], data(recipe.study)
    source = study.source
    truth = (list(map(float, source["weights"])), float(source["bias"])) if source["kind"] == "linear" else None
    asked = recipe.model_dump(mode="json", exclude_none=True)
    described = saved.description(asked, parts["train"], rows.train.inputs.shape[1:], [preparation])
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "model"
        saved.save(at, described, [trained], [preparation])
        with_rows = {name: part for name, part in parts.items() if len(part)}
        candidate = Candidate(recipe.variant, saved.load(at), saved.read_history(at), with_rows, truth)
    return float(candidate.scores[candidate.main_split, study.metric][0])


def outcomes() -> Iterator[Outcome]:
    """Every variant by both engines from every seed, each on one core, as many at once as there are cores."""
    tasks = [(variant, engine, seed) for seed in SEEDS for engine in BOTH for variant in VARIANTS]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(outcome, *task) for task in tasks]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def apart(one: Outcome, other: Outcome) -> float:
    """The relative difference of all parameters and running statistics."""
    a, b = (
        np.concatenate([value.ravel().astype(np.float64) for name, value in of.items() if "num_batches" not in name])
        for of in (one.trained.weights, {name: other.trained.weights[name] for name in one.trained.weights})
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
