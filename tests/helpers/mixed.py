"""A made-up table of trees, with words and empty cells, as the stage generate leaves it; and a study of it."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table, coded

WORDS, NUMBERS = ["tree", "soil"], ["height", "age", "girth"]


def frame(rows: int = 60, seed: int = 3) -> pd.DataFrame:
    """Return height and age with empty cells, girth without; tree with empty cells and two words that tie, soil."""
    draw = np.random.default_rng(seed)
    height, age = draw.normal(20, 5, rows), draw.integers(1, 90, rows).astype(float)
    height[draw.permutation(rows)[: rows // 6]] = np.nan
    age[draw.permutation(rows)[: rows // 10]] = np.nan
    tree = np.resize(np.array(["oak", "ash", "elm", "oak", "ash", None], dtype=object), rows)
    soil = np.array(["clay", "sand", "Ärde"], dtype=object)[draw.integers(0, 3, rows)]
    words = {name: pd.Series(cells, dtype=object) for name, cells in (("tree", tree), ("soil", soil))}
    numbers = {"height": height, "age": age, "girth": draw.normal(1e3, 1e2, rows)}
    return pd.DataFrame(words | numbers)[["height", "tree", "age", "soil", "girth"]]


def table(cells: pd.DataFrame, targets: np.ndarray | None = None, classes: Any = ()) -> Table:
    """Return the table of these columns: texts are words, None and NaN empty. Without `targets`: two numbers."""
    columns, words = [], {}
    for name in cells:
        if name in WORDS:
            codes, words[name] = coded(pa.array([None if pd.isna(cell) else cell for cell in cells[name]], pa.string()))
            columns.append(codes)
        else:
            columns.append(cells[name].to_numpy(dtype=np.float64))
    if targets is None:
        place = np.arange(len(cells), dtype=np.float64)
        targets = np.column_stack([10 + 3 * np.sin(place), 1e4 + place**2])
    names = [f"y{i}" for i in range(targets.shape[1])] if targets.shape[1] > 1 else ["y"]
    return Table(np.column_stack(columns), targets, list(cells), names, list(classes), None, words)


def study(prepare: dict[str, Any] | None, variants: dict[str, Any] | None = None, **more: Any) -> ParamsFile:
    """Return params.yaml with one study, of which `more` are keys; its variant, by default, is `mine`."""
    train = {"loss": "mse", "lr": 0.01, "epochs": 2, "batch_size": 8} | ({"prepare": prepare} if prepare else {})
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "regression", "targets": ["y0", "y1"]}
    keys = {
        "source": source,
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "metric": "mse",
        "train": train | more.pop("train", {}),
    }
    return ParamsFile(
        {
            **{"seed": 111, "num_seeds": 2, "lr": None, "engine": None, "device": "cpu"},
            "studies": {"study": keys | more},
            "variants": variants or {"mine": {"study": "study", "layers": [3, "tanh", 2]}},
        }
    )
