"""Data sets that are part of scikit-learn."""

from typing import Literal

import numpy as np

from bancada.base.tables import Table
from bancada.data.settings import Source


class Sklearn(Source):
    """A data set that is part of scikit-learn."""

    kind: Literal["sklearn"]
    name: Literal["wine", "iris", "breast_cancer", "digits", "diabetes"]  # which data set

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class."""
        return self.name != "diabetes"

    def make(self, key: str) -> Table:
        """Return the data set as scikit-learn has it, with the names of its classes as labels."""
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.name}")()
        features = np.ascontiguousarray(bunch.data, dtype=np.float64)
        names = [str(name) for name in bunch.feature_names]
        if "target_names" not in bunch:
            return Table(features, bunch.target.astype(np.float64)[:, None], names, ["target"], [])
        classes, index = np.unique(np.asarray(bunch.target_names)[bunch.target], return_inverse=True)
        return Table(features, index.astype(np.int64)[:, None], names, ["target"], classes.tolist())


SOURCE = Sklearn
