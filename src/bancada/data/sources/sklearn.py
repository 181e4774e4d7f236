"""Data sets that come with scikit-learn."""

from typing import Literal

import numpy as np

from bancada.base.tables import Table
from bancada.data.settings import DataShape, Source


class Sklearn(Source):
    """A data set that comes with scikit-learn."""

    kind: Literal["sklearn"]
    name: Literal["wine", "iris", "breast_cancer", "digits", "diabetes"]

    def shape(self) -> DataShape:
        return {
            "wine": DataShape(13, 1, 3, 178),
            "iris": DataShape(4, 1, 3, 150),
            "breast_cancer": DataShape(30, 1, 2, 569),
            "digits": DataShape(64, 1, 10, 1797),
            "diabetes": DataShape(10, 1, 0, 442),
        }[self.name]

    def feature_names(self) -> list[str] | None:
        return None

    def make(self, key: str) -> Table:
        """A data set as scikit-learn gives it, its classes by their names."""
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.name}")()
        features = np.ascontiguousarray(bunch.data, dtype=np.float64)
        names = [str(name) for name in bunch.feature_names]
        if "target_names" not in bunch:
            return Table(features, bunch.target.astype(np.float64)[:, None], names, ["target"], [])
        classes, index = np.unique(np.asarray(bunch.target_names)[bunch.target], return_inverse=True)
        return Table(features, index.astype(np.int64)[:, None], names, ["target"], classes.tolist())


SOURCE = Sklearn
