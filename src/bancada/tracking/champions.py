"""The best seed of each variant and the best variant of a study, on the validation rows, from an evaluation's tables.

Never on the test rows: what is chosen by them would be flattered by them.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean, pstdev

from bancada.base import files
from bancada.networks.metrics import HIGHER_IS_BETTER


def best_seeds(study: str) -> dict[str, int]:
    """variant -> seed, by the study's metric on the validation rows; of equals the first. Where no rows are held out
    for validation, the first seed. A seed that diverged is never it, so a variant may have none."""
    held_out = _values(study, "validation")
    if held_out:
        return {variant: min(values, key=values.__getitem__) for variant, values in _that_are_there(held_out)}
    return {variant: next(iter(values)) for variant, values in _that_are_there(_values(study, ""))}


def champion(study: str) -> str | None:
    """The variant with the best mean over seeds, all of which must have come through; of equals the one whose seeds
    differ less, then the first by name. None where no rows are held out for validation."""
    whole = {
        variant: [value for value in values.values() if value is not None]
        for variant, values in _values(study, "validation").items()
        if None not in values.values()
    }
    return min(whole, key=lambda variant: (mean(whole[variant]), pstdev(whole[variant]), variant), default=None)


def _values(study: str, split: str) -> dict[str, dict[int, float | None]]:
    """variant -> seed -> the study's metric (less is better, the sign is turned where it is not) on the split's rows,
    on those of the leaderboard where none is named; None for a seed that diverged."""
    first = next(read_rows(files.evaluation(study) / "leaderboard.csv"), {"split": "", "metric": ""})
    found: dict[str, dict[int, float | None]] = {}
    for row in read_rows(files.evaluation(study) / "per_seed.csv"):
        if (row["split"], row["metric"]) == (split or first["split"], first["metric"]):
            value = float(row["value"]) if row["value"] else None
            turned = -value if value is not None and row["metric"] in HIGHER_IS_BETTER else value
            found.setdefault(row["variant"], {})[int(row["seed"])] = turned
    return found


def _that_are_there(found: Mapping[str, Mapping[int, float | None]]) -> Iterator[tuple[str, dict[int, float]]]:
    for variant, values in found.items():
        there = {seed: value for seed, value in values.items() if value is not None}
        if there:
            yield variant, there


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """A table's rows by the names of its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
