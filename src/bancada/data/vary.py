"""Whether replicas have draws of the data of their own. What makes them is imported only for those that have."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table

DRAWS = "bancada.data.draws"


def draws(params: ParamsFile, study: str, numbers: Sequence[int]) -> list[dict[str, Table]]:
    """Return the parts of the draws with these numbers; nothing where all replicas learn from the same data."""
    source, _ = (params.value(f"studies.{study}.{key}") for key in ("source", "split"))  # a draw depends on both
    if "data" not in source.get("vary", ()):
        return []
    by: Any = import_module(DRAWS)
    found: list[dict[str, Table]] = by.of_study(params, study, numbers)
    return found


def splits_one_table(params: ParamsFile, study: str) -> bool:
    """Return whether the study's draws are of one table, so that they are not independent."""
    by: Any = import_module(DRAWS)
    return not by.sources.of_study(params, study).has_seed
