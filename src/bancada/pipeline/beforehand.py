"""What is tried before any stage runs: whether tables can be read, split and learned, and a cluster be used."""

import subprocess
import sys
from pathlib import Path

from bancada.base import BadInput, files, tables
from bancada.base.refusals import PARAMS_FILE
from bancada.base.variables import variables
from bancada.data.split import parts_of
from bancada.evaluation.settings import new_inputs, refuse_unprepared
from bancada.networks.unknown import ignored, refuse_unknown
from bancada.pipeline.params import Params, check_inputs
from bancada.training import preparing
from bancada.training.fit import doubts, preparation
from bancada.training.replica import Data, check_device, try_first_batch
from bancada.training.settings import TrainingKeys
from bancada.training.train import as_taken, prepared


def refuse_bad_data(params: Params, studies: set[str], divided: set[str]) -> None:
    """Raise BadInput where these studies' tables cannot be read, or be split and learned as params.yaml says.

    This comes before DVC removes the outs of the first stage that is to run. The split of those in `divided` is up to
    date.
    """
    check_device(params.device)
    check_cluster("CPU" if params.device == "cpu" else "GPU")
    asked = [name for name, variant in params.variants.items() if variant.study in studies]
    if of_torch := [name for name in asked if params.training(name).engine()[0] == "torch"]:
        print(f"trying a first batch with torch: {', '.join(of_torch)}", flush=True)
    for study in params.studies:
        if study in studies:
            made = files.split(study) / "train.parquet"
            parts = _parts(params, study, study in divided and made.exists())
            rows = parts["train"]
            check_inputs(study, params.studies[study], rows)
            inputs = new_inputs(params.studies[study].predict, rows)
            told = dict[str, list[str]]()
            for variant in params.variants_of(study):
                for sentence in _try_variant(params.training(variant), parts, inputs, made):
                    told.setdefault(sentence, []).append(variant)
            for sentence, variants in told.items():
                print(f"{', '.join(variants)}: {sentence}", file=sys.stderr)


def check_cluster(needs: str) -> None:
    """Raise BadInput where the cluster that BANCADA_RAY names, if any, cannot give this machine's bytes.

    A process of its own asks: Ray's threads are none of this one's.
    """
    command = [sys.executable, "-m", "bancada.training.cluster.machines", needs]
    if variables().ray and subprocess.run(command, check=False).returncode:
        raise BadInput(f"the Ray cluster at {variables().ray} cannot be used, so nothing was run")


def _try_variant(keys: TrainingKeys, parts: dict[str, tables.Table], inputs: tables.Table, path: Path) -> list[str]:
    """Return what is to be told of a variant on these rows. Raise BadInput if it cannot take or learn them."""
    recipe = keys.recipe()
    rows = as_taken(parts["train"], recipe.network)
    learned = preparation(keys, rows)
    for part in files.PARTS[1:]:
        refuse_unknown(f"{PARAMS_FILE}: {keys.written_at('prepare')}: {part} rows", parts[part], learned)
    refuse_unprepared(recipe.study, inputs, recipe.variant, learned)
    training = prepared(path, rows, learned)
    data = Data(training, training.first(0), len(rows.classes))
    try_first_batch(keys, data)
    keys.at_ends(lambda at: try_first_batch(at, data))
    told = [*doubts(keys), *preparing.doubts(rows, recipe.train.prepare)]
    return told + ignored(parts | {"predict": inputs}, learned)


def _parts(params: Params, study: str, made: bool) -> dict[str, tables.Table]:
    """Return the parts of the table as the stages generate and split made them, or will make them."""
    if made:
        return {part: tables.read(files.split(study) / f"{part}.parquet") for part in files.PARTS}
    table = params.source(study).table(f"studies.{study}.source")
    return parts_of(table, params.studies[study].split, f"studies.{study}.split")
