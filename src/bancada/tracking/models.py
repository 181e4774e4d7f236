"""Models in MLflow: the best seed of each run's variant.

A model is code (serving.py, and the user's files as they are), weights and a description; nothing is pickled.
"""

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelOutput, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from safetensors.numpy import save

from bancada.base import cells, files, lockfile, tables, user_code
from bancada.networks import saved
from bancada.networks.encoding import last_kind, loss_name
from bancada.tracking import mirror, runs
from bancada.tracking.experiments import known
from bancada.tracking.mirror import Result
from bancada.tracking.store import Store

MODEL, SEED, WEIGHTS_MD5 = "bancada.model", "bancada.best_seed", "bancada.weights_md5"  # tags
CODE = "bancada.serving"  # tag: a hash of serving.py, because an older one may have had a fault
PACKAGES = ("mlflow", "numpy", "pandas", "safetensors", "torch")  # that a model needs
EXAMPLE_ROWS = 3
SERVING = Path(__file__).with_name("serving.py")
NETWORKS = Path(saved.__file__).parent
COPIED = (Path(cells.__file__), *(NETWORKS / f"{name}.py" for name in ("preparation", "portable")))


def log_model(store: Store, run: Run, result: Result, seed: int | None, *, restore: bool) -> list[str]:
    """Log the network of a run's best seed as its model, if it has none yet. Return what was written, in words.

    `seed`: None where all seeds diverged. `restore`: a model that someone deleted in MLflow is logged again; otherwise
    a line says that it is left out.
    """
    client, tags, run_id, experiment = store.client, run.data.tags, run.info.run_id, run.info.experiment_id
    if seed is None or tags.get(WEIGHTS_MD5) != result.weights_md5:
        return []
    model_tags = {WEIGHTS_MD5: result.weights_md5, SEED: str(seed), CODE: _code_hash()}
    if MODEL in tags and model_tags.items() <= tags.items():
        gone = known(client.get_logged_model, tags[MODEL]) is None
        if gone and not restore:
            way_out = "`bancada track --restore` brings it back"
            store.say(f"the model of {result.name} was deleted in MLflow and is left out; {way_out}")
        if not (gone and restore):
            return []
    if "module" in result.recipe and not _users_files_are_its(result):
        way_out = f"`dvc repro train@{result.variant}` and `bancada track` log it"
        store.say(f"the model of {result.name} is left out: src is not the one that it was trained with; {way_out}")
        return []
    model_tags["bancada.variant"] = result.variant
    params = mirror.parameters(result)
    # A model whose upload was interrupted is completed.
    unfinished = f"source_run_id = '{run_id}' and tags.`{SEED}` = '{seed}' and tags.`{CODE}` = '{model_tags[CODE]}'"
    found = client.search_logged_models([experiment], unfinished, max_results=1)
    [model] = found or [client.create_logged_model(experiment, result.variant, run_id, model_tags, params, "network")]
    with packed(result, seed, run_id, model.model_id) as folder:
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    runs.set_tags(store, run, {MODEL: model.model_id, SEED: str(seed), CODE: model_tags[CODE]})
    return ["model"]


# --- the files of a model -------------------------------------------------------------------------------------------


@contextmanager
def packed(result: Result, seed: int, run_id: str, model_id: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of the model; with an example, if its split is here."""
    with tempfile.TemporaryDirectory(prefix="bancada-") as name:
        folder = Path(name)
        trained, example = saved.load(result.folder), _example(result.study) if result.has_its_split() else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)  # without split files
            data, code = _network(folder / "network", trained, result, seed), _code(folder)
            mlflow.pyfunc.save_model(
                folder / "model",
                loader_module=code.stem,
                data_path=str(data),
                code_paths=[str(code)],
                mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
                signature=_signature(trained),
                input_example=example,
                pip_requirements=_requirements(result),
                metadata={"study": result.study, "variant": result.variant, "seed": seed},
            )
        yield folder / "model"


def _network(folder: Path, trained: saved.SavedVariant, result: Result, seed: int) -> Path:
    """Write the network's weights, its description and the user's files into a new folder. Return that."""
    trained = trained.alone(trained.seeds.index(seed))
    keys = ("feature_names", "target_names", "classes", "shape")
    described: dict[str, Any] = {key: getattr(trained, key) for key in keys}
    described |= {key: result.recipe[key] for key in ("layers", "module") if key in result.recipe}
    described |= {"threshold": trained.encoding.threshold, "probabilities": probability_rule(trained)}
    described |= {"preparation": [asdict(group) for group in trained.preparation.groups]}
    described |= {"missing": trained.missing} if trained.missing else {}
    folder.mkdir()
    for path in COPIED:
        shutil.copy(path, folder)
    described |= {"bits": trained.network.bits, "outputs": trained.output_count}
    if trained.network.module:
        _copy_users_files(result, folder / "src")
    weights = {name: np.array(of[0], order="C") for name, of in trained.weights.items()}
    weights |= dict(trained.preparation.scaling)
    (folder / "network.json").write_text(json.dumps(described, indent=1) + "\n")
    (folder / "weights.safetensors").write_bytes(save(weights))
    return folder


def _code(folder: Path) -> Path:
    """Copy serving.py to a name that changes with its content: a process may load models of several versions."""
    return Path(shutil.copy(SERVING, folder / f"bancada_serving_{_code_hash()}.py"))


def _code_hash() -> str:
    content = b"".join(path.read_bytes() for path in (SERVING, *COPIED))
    return hashlib.md5(content, usedforsecurity=False).hexdigest()[:8]


def probability_rule(trained: saved.SavedVariant) -> str | None:
    """Return which of serving's PROBABILITIES turns outputs into probabilities of classes; None where none does.

    It follows from the loss, which may have been given logits, logarithms of probabilities or probabilities.
    """
    loss, last, one = loss_name(trained.network.loss), last_kind(trained.network.layers), trained.output_count == 1
    if not trained.classes:
        return None
    if loss == "BCEWithLogitsLoss":
        return "sigmoid" if one else None
    if loss == "NLLLoss":
        return "exp"
    if last == "softmax" or (one and (last == "sigmoid" or loss in ("bce", "BCELoss"))):
        return "outputs"
    return "softmax" if loss in ("cross_entropy", "CrossEntropyLoss") else None


def _users_files_are_its(result: Result) -> bool:
    """Return whether the user's files that are here are those of the training.

    Its file in data/code must be here, or its packages would not be known, and `src` as the stage `code` last read it.
    """
    return bool(result.versions) and lockfile.here().agrees("code", Path("src"))


def _copy_users_files(result: Result, to: Path) -> None:
    """Copy the user's modules that the network imports, and the data files beside them: a module may read those."""
    modules = json.loads(files.code("train", result.variant).read_text("utf-8"))["modules"]
    for path in [path for folder in user_code.FOLDERS for path in Path("src", folder).rglob("*") if path.is_file()]:
        inside = path.relative_to("src")
        dotted = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
        if "__pycache__" not in inside.parts and (path.suffix != ".py" or dotted in modules):
            (to / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to / inside)


def _requirements(result: Result) -> list[str]:
    """Return the packages that the model needs: for serving.py, and for the user's files those of its training."""
    versions = {package: version(package).split("+")[0] for package in PACKAGES}
    versions |= result.versions if "module" in result.recipe else {}
    return [f"{package}=={versions[package]}" for package in sorted(versions)]


def _signature(trained: saved.SavedVariant) -> ModelSignature:
    types = {type(name) for name in trained.classes}
    params = ParamSchema([ParamSpec("probabilities", DataType.boolean, False)]) if probability_rule(trained) else None
    kind = DataType.double if not types else DataType.long if types == {int} else DataType.string
    kinds = dict.fromkeys(trained.preparation.word_columns(), DataType.string)
    return ModelSignature(  # null passes for both kinds, and serving.py refuses it where nothing is imputed
        inputs=Schema([ColSpec(kinds.get(name, DataType.double), name) for name in trained.feature_names]),
        outputs=Schema([ColSpec(kind, name) for name in trained.target_names]),
        params=params,  # type: ignore[arg-type]  # None is its default
    )


def _example(study: str) -> pd.DataFrame:
    """Return the first training rows, as they are."""
    rows = tables.read(files.split(study) / "train.parquet")
    rows = rows.take(np.arange(min(EXAMPLE_ROWS, len(rows))))
    columns: dict[str, Any] = dict(zip(rows.feature_names, rows.features.T, strict=True))
    return pd.DataFrame(columns | {name: rows.texts(name).to_pylist() for name in rows.words})
