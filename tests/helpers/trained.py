"""A trained variant without a training, of one linear layer, for tests of what an evaluation makes of it."""

from typing import Any

import numpy as np

from bancada.networks.preparation import Preparation
from bancada.networks.saved import SavedVariant
from bancada.networks.settings import Network


def trained_by(seeds: list[int], **more: Any) -> SavedVariant:
    """Return a variant of these seeds; `more`: what is not as in one output and one feature, with weights 1 and 0."""
    one = np.ones((len(seeds), 1, 1), np.float32)
    keys: dict[str, Any] = {
        "study": "study",
        "network": Network(layers=[1], loss="mse"),
        "engine": "torch",
        "parameters": 2,
        "output_count": 1,
        "seeds": seeds,
        "feature_names": ["x"],
        "shape": [1],
        "target_names": ["y"],
        "classes": [],
        "diverged": {},
        "kept": {},
        "weights": {"0.weight": one, "0.bias": one[:, 0] - 1},
        "preparation": Preparation(),
    }
    return SavedVariant(**keys | more)
