"""A seed's network as an MLflow model: code, weights and a description; nothing is pickled. Imports mlflow."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from bancada.base import files, tables
from bancada.networks.encoding import SCALING, encoding
from bancada.networks.settings import Layers, LayerSpec
from bancada.tracking.mirror import Result

THRESHOLDS = {"signs": 0.0, "bits": 0.5}  # by the encoding; others decide by the largest output
NEEDS = ("mlflow", "numpy", "pandas", "safetensors", "torch")
EXAMPLE_ROWS = 3


@contextmanager
def packed(result: Result, seed: int, model_id: str, run_id: str, *, with_example: bool) -> Iterator[Path]:
    """A temporary folder with the model. `with_example`: the split's files are those that the model learned from."""
    described = json.loads((result.folder / files.RUN).read_text())
    with tempfile.TemporaryDirectory(prefix="bancada-") as name:
        folder = Path(name)
        data, code = folder / "network", _code(folder)
        data.mkdir()
        (data / "network.json").write_text(json.dumps(_network(described), indent=1) + "\n")
        save_file(_weights(result, described["recipe"]["seeds"].index(seed)), data / "weights.safetensors")
        mlflow.pyfunc.save_model(
            folder / "model",
            loader_module=code.stem,
            data_path=str(data),
            code_paths=[str(code)],
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            signature=_signature(described),
            input_example=_example(result) if with_example else None,
            pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in NEEDS],
            metadata={"study": result.study, "variant": result.variant, "seed": seed},
        )
        yield folder / "model"


def _code(folder: Path) -> Path:
    """serving.py, by a name that changes with it: one process may load models of several versions."""
    source = Path(__file__).with_name("serving.py")
    digest = hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()[:8]
    return Path(shutil.copy(source, folder / f"bancada_serving_{digest}.py"))


def _network(described: dict[str, Any]) -> dict[str, Any]:
    layers: list[LayerSpec] = TypeAdapter(Layers).validate_python(described["recipe"]["layers"])
    kind = encoding(layers, described["recipe"]["train"]["loss"], len(described["classes"])).kind
    kept = {key: described[key] for key in ("feature_names", "target_names", "classes")}
    return {**kept, "threshold": THRESHOLDS.get(kind), "layers": described["recipe"]["layers"]}


def _weights(result: Result, place: int) -> dict[str, np.ndarray]:
    """One seed's, by nn.Sequential's names, and the scaling of the inputs, which all seeds share."""
    stored = load_file(result.folder / files.WEIGHTS)
    return {name: value if name in SCALING else np.ascontiguousarray(value[place]) for name, value in stored.items()}


def _signature(described: dict[str, Any]) -> ModelSignature:
    names = {type(name) for name in described["classes"]}
    kind = DataType.double if not names else DataType.long if names == {int} else DataType.string
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in described["feature_names"]]),
        outputs=Schema([ColSpec(kind, name) for name in described["target_names"]]),
    )


def _example(result: Result) -> pd.DataFrame:
    """The first rows that it learned from, as they are."""
    rows = tables.read(files.split(result.study) / "train.parquet")
    return pd.DataFrame(rows.features[:EXAMPLE_ROWS], columns=rows.feature_names)
