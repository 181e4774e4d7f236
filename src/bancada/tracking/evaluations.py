"""What the runs of a study say of its evaluation, from the tables in data/evaluation/STUDY. No mlflow here.

leaderboard.csv says which seed of a variant is the best and which variant is the champion, and how they were chosen.
"""

import csv
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bancada.base import files, lockfile
from bancada.base.notify import first_line
from bancada.tracking.mirror import Point

STATISTICS = {"mean": ""} | {name: f"_{name}" for name in ("std", "median", "median_low", "median_high")}
Row = dict[str, str]  # of a table, by the names of its columns
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """A study's evaluation folder, without what is damaged in it."""

    scores: dict[str, dict[str, float]]  # variant -> name of the metric in MLflow -> value; NaN for an empty cell
    of_seeds: dict[str, list[Point]]  # variant -> the study's metric for each seed, which is the step
    leaderboard: list[Row]
    best_seeds: dict[str, int]  # by variant; a variant whose seeds all diverged has none
    champion: str | None  # a variant, none of whose seeds diverged
    artifacts: dict[str, Path]  # tables and plots, by their paths in a run; the curves are metrics of the run
    md5: str  # of the artifacts
    left_out: dict[Path, str]  # files and folders that are not used, and why

    def variants(self) -> list[str]:
        """Return the variants that were evaluated."""
        return list(dict.fromkeys([*self.scores, *(row["variant"] for row in self.leaderboard)]))


def read(study: str, lock: lockfile.Lock = lockfile.NONE) -> Evaluation:
    """Read the folder. What differs from dvc.lock, is missing or cannot be read is left out."""
    folder, left_out = files.evaluation(study), _damaged(study, lock)

    def table(name: str, parse: Callable[[list[Row]], T]) -> T:
        path = folder / name
        try:
            return parse([] if path in left_out else _rows(path))
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            left_out[path] = f"{type(error).__name__}: {first_line(error)}"
            return parse([])

    scores, leaderboard = table("scores.csv", _scores), table("leaderboard.csv", _leaderboard)
    of_seeds = table("per_seed.csv", partial(_of_seeds, leaderboard[0]["metric"] if leaderboard else ""))
    found = [path for path in sorted(folder.glob("*.csv")) if path.name != "loss.csv"]
    found += sorted((folder / "plots").rglob("*.png"))
    artifacts = {_name(path.relative_to(folder)): path for path in found if not {path, *path.parents} & left_out.keys()}
    hashes = "".join(f"{path.relative_to(folder)} {lockfile.md5(path)}\n" for path in artifacts.values())
    md5 = hashlib.md5(hashes.encode(), usedforsecurity=False).hexdigest()
    best_seeds = {row["variant"]: int(row["best_seed"]) for row in leaderboard if row["best_seed"]}
    champion = next((row["variant"] for row in leaderboard if row["champion"] == "true"), None)
    return Evaluation(scores, of_seeds, leaderboard, best_seeds, champion, artifacts, md5, left_out)


def _damaged(study: str, lock: lockfile.Lock) -> dict[Path, str]:
    """Return the tables and the folder of plots that are not those that dvc.lock names, and why."""
    stage, folder = f"evaluate@{study}", files.evaluation(study)
    known = [path for path in map(Path, sorted(lock.hashes(stage))) if path.parent == folder]
    recorded = [path for path in known if path.name == "plots" or (path.suffix == ".csv" and path.name != "loss.csv")]
    return {
        path: f"{lockfile.DIFFERS if path.exists() else 'it is missing'}; `git checkout -- {path}` brings that one back"
        for path in recorded
        if not lock.agrees(stage, path)
    }


def _name(path: Path) -> str:
    """Return the name that a file of the folder has in a run."""
    return path.as_posix() if path.parts[0] == "plots" else f"evaluation/{path}"


def score_name(split: str, metric: str) -> str:
    """Return the name of a score in MLflow; a score that does not depend on rows (an error of weights) has no split.

    The losses of the trained networks are `final_test_loss` and so on, because `train_loss` and `validation_loss` are
    the curves of the training.
    """
    return f"final_{split}_loss" if metric == "loss" else f"{split}_{metric}".lstrip("_")


def _leaderboard(rows: list[Row]) -> list[Row]:
    """Return the rows. Raise KeyError or ValueError where one has lost what this package reads."""
    for row in rows:
        _ = row["variant"], row["split"], row["metric"], int(row["num_seeds"]), int(row["diverged_seeds"])
        _ = row["champion"], int(row["best_seed"] or 0)
    return rows


def _rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if not reader.fieldnames or any(None in row.values() for row in rows):
        raise ValueError("it is cut off")
    return rows


def _scores(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return the scores by variant: `test_error_rate_percent` is the mean, `test_error_rate_percent_std` and so on."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        for column, suffix in STATISTICS.items():
            name = score_name(row["split"], row["metric"]) + suffix
            scores.setdefault(row["variant"], {})[name] = _value(row[column])
    return scores


def _of_seeds(metric: str, rows: list[Row]) -> dict[str, list[Point]]:
    """Return the points `seeds/test_error_rate_percent` and so on by variant; a seed without a value has none."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        if row["metric"] == metric and not math.isnan(value := _value(row["value"])):
            name = f"seeds/{score_name(row['split'], metric)}"
            points.setdefault(row["variant"], []).append(Point(name, int(row["seed"]), value))
    return points


def _value(cell: str) -> float:
    """Return a number with four significant digits, as pages show it; scores.csv has more. NaN for an empty cell."""
    value = float(f"{float(cell or 'nan'):.4g}")
    return value if math.isfinite(value) else math.nan
