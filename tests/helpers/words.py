"""A table with words and empty cells, and networks whose preparation was learned from it, for tests of raw rows."""

import json
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from toy import SEEDS, train_variant

from bancada.base import files, tables
from bancada.base.tables import Table
from bancada.networks.settings import Network
from bancada.networks.start import sequential
from bancada.training.prepare import Prepare
from bancada.training.preparing import learned

FEATURES = ["peso", "turno", "sexo", "zona"]  # numbers, and three columns of words
PREPARE = {
    "numbers": {"impute": "median", "indicator": True},
    "words": {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"},
    "targets": {"standardize": True},
    "columns": {
        "turno": {"encode": "one_hot", "unknown": "refuse"},
        "zona": {"encode": "ordinal", "unknown": "ignore", "standardize": True},
    },
}
TRAINING = pd.DataFrame(
    {
        "peso": [12.5, np.nan, 11.9, 13.1, 70.0, 8.25, np.nan, 9.0],
        "turno": ["1", "2", "3", "2", "1", "3", "2", "2"],
        "sexo": ["AA", "B", None, "B", "AA", "B", "B", None],
        "zona": ["10", "20", "20", "30", "10", "10", "30", "20"],
    }
)
NEW = pd.DataFrame(  # with unknown words, and empty cells
    {
        "peso": [10.0, np.nan, 55.5, 3.0, np.nan],
        "turno": ["2", "3", "1", "2", "2"],
        "sexo": ["AA", None, "Ç", "B", "A"],
        "zona": ["10", "99", "30", None, "20"],
    }
)
PRICES = np.array([[10.0], [30.0]] * 4)  # mean 20, standard deviation 10
NORM = {"LayerNorm": {"normalized_shape": 5}}
LAYERS: dict[str, list[Any]] = {"compiled": [5, "tanh", 1], "torch": [5, "GELU", NORM, 1]}


def table_of(frame: pd.DataFrame, targets: np.ndarray) -> Table:
    """Return the table that a CSV file with these cells would be."""
    columns, words = [], dict[str, list[str]]()
    for name in frame:
        if name == "peso":
            columns.append(frame[name].to_numpy())
        else:
            words[name] = sorted(set(frame[name].dropna()))
            columns.append([words[name].index(cell) if isinstance(cell, str) else np.nan for cell in frame[name]])
    return Table(np.column_stack(columns), targets, list(frame), ["precio"], [], words=words)


def trained_on_words(engine: Literal["compiled", "torch"], variant: str = "toy_tanh") -> None:
    """Write the split and a model folder of three seeds with random weights, as train@VARIANT leaves it."""
    rows = table_of(TRAINING, PRICES)
    preparation = learned(rows, Prepare.model_validate(PREPARE), standardize=True)
    inputs = [len(preparation.input_names(FEATURES))]
    described = Network.model_validate({"layers": LAYERS[engine], "loss": "mse"})
    torch.manual_seed(1)
    states = [sequential(described.layers or [], inputs).state_dict() for _ in SEEDS]
    weights = {name: np.stack([state[name].numpy() for state in states]) for name in states[0]}
    train_variant(variant)
    folder = files.model("toy", variant)
    run = json.loads((folder / "run.json").read_text())
    run["recipe"] |= {"engine": engine, "layers": described.model_dump(exclude_none=True)["layers"]}
    run |= {"feature_names": FEATURES, "shape": inputs, "target_names": ["precio"], "classes": []}
    run |= {"outputs": 1, "parameters": 1, "preparation": [asdict(group) for group in preparation.groups]}
    (folder / "run.json").write_text(json.dumps(run))
    save_file(weights | dict(preparation.scaling), folder / "weights.safetensors")
    tables.write(rows, files.split("toy") / "train.parquet")
