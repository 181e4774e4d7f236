"""Stage evaluate@STUDY: scores, leaderboard, predictions, loss curves and plots of all variants of a study.

What a figure means stands in scores.py, what a verdict means in leaderboard.py.
"""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from bancada.base import files, stage, tables
from bancada.base.notify import recorded
from bancada.base.params_file import ParamsFile
from bancada.base.refusals import BadInput
from bancada.evaluation.candidates import Candidate, Line, entry_of, mean_curves, predictions, scores_of
from bancada.evaluation.drawing import drawn
from bancada.evaluation.leaderboard import COLUMNS, Cell, Entry, leaderboard
from bancada.evaluation.settings import Comparison, check_predict, comparison, true_line
from bancada.evaluation.sheets import write
from bancada.evaluation.statistics import as_written, summary
from bancada.networks.metrics import HIGHER_IS_BETTER
from bancada.networks.saved import load, read_history

FIGURES = ("mean", "std", "median", "ci95_low", "ci95_high", "num_seeds")


def main(params: ParamsFile, name: str) -> None:
    """Compare the trained variants of a study and write its evaluation folder."""
    study = comparison(params, name)
    parts = {part: tables.read(files.split(name) / f"{part}.parquet") for part in files.PARTS}
    parts = {part: rows for part, rows in parts.items() if len(rows)}
    check_predict(name, study.predict, parts["train"].feature_names)
    candidates = [
        Candidate(variant, load(files.model(name, variant)), read_history(files.model(name, variant)), parts)
        for variant in trained_variants(name)
    ]
    inputs = inputs_to_predict(study, parts["train"].feature_names)
    with recorded(f"evaluate@{name}", files.evaluation(name)):
        evaluate(study, name, candidates, inputs, true_line(params, name))


def trained_variants(study: str) -> list[str]:
    """Return the study's variants, sorted: their order in params.yaml is no part of any result.

    Raise BadInput for one that is not trained, and for a folder that belongs to none of them.
    """
    path = files.code("evaluate", study)
    if not path.exists():
        raise BadInput(f"{path}: missing; `dvc repro code` makes it")
    wanted: list[str] = sorted(json.loads(path.read_text("utf-8"))["variants"])
    for name in wanted:
        if not files.model(study, name).is_dir():
            raise BadInput(f"{files.model(study, name)}: missing; dvc repro train@{name} makes it")
    files.refuse_leftovers(study, wanted)
    return wanted


def inputs_to_predict(study: Comparison, features: list[str]) -> Float64[np.ndarray, "input feature"]:
    """`predict` in the order of the features."""
    rows = [given if isinstance(given, list) else [given[feature] for feature in features] for given in study.predict]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(features))


def evaluate(
    study: Comparison,
    name: str,
    candidates: Sequence[Candidate],
    inputs: Float64[np.ndarray, "input feature"],
    truth: Line | None,
) -> None:
    """Write all outs of the study."""
    parts = candidates[0].parts
    main_split = next(part for part in ("test", "validation", "train") if part in parts)
    seeds = same_seeds(candidates)
    found = [score for candidate in candidates for score in scores_of(candidate, truth, main_split)]
    entries = [entry_of(candidate, found, study.metric, main_split) for candidate in candidates]
    board = leaderboard(entries, main_split, study.metric, seeds, study.baseline, study.min_difference)
    folder = files.evaluation(name)
    labels = [(score.variant, score.split, score.metric) for score in found]
    of_seeds = [summary(score.values, score.metric in HIGHER_IS_BETTER) for score in found]
    write_csv(
        folder / "scores.csv",
        ("variant", "split", "metric", *FIGURES),
        [
            (*label, *(getattr(figures, key) for key in FIGURES))
            for label, figures in zip(labels, of_seeds, strict=True)
        ],
    )
    write_csv(
        folder / "per_seed.csv",
        ("variant", "split", "metric", "seed", "value"),
        [(*label, *row) for label, s in zip(labels, found, strict=True) for row in zip(seeds, s.values, strict=True)],
    )
    write_csv(folder / "leaderboard.csv", COLUMNS, [[row[column] for column in COLUMNS] for row in board])
    write_csv(
        folder / "predictions.csv",
        ("input", "features", "variant", "target", *FIGURES),
        [row for candidate in candidates for row in predictions(candidate, inputs)],
    )
    write_csv(
        folder / "loss.csv",
        ("variant", "epoch", "loss", "validation_loss"),
        [row for candidate in candidates for row in mean_curves(candidate)],
    )
    write_metrics(folder / "metrics", study.metric, entries)
    place = {row["variant"]: i for i, row in enumerate(board)}
    candidates = sorted(candidates, key=lambda candidate: place[candidate.name])
    entries = sorted(entries, key=lambda entry: place[entry.variant])
    with files.whole(folder / "plots") as unfinished:
        unfinished.mkdir()
        for plot, figure in drawn(study, name, main_split, candidates, entries):
            write(figure, unfinished / f"{plot}.png")


def same_seeds(candidates: Sequence[Candidate]) -> list[int]:
    """The seeds that all variants share: they are compared seed by seed."""
    first = candidates[0]
    for other in candidates:
        if other.trained.seeds != first.trained.seeds:
            folder = files.model(other.trained.study, other.name)
            raise BadInput(f"{folder}: trained from other seeds than {first.name}; dvc repro trains them alike")
    return first.trained.seeds


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Numbers in 9 significant digits, an empty cell where there is none."""
    with files.whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value + 0.0:.9g}" if math.isfinite(value) else ""  # + 0.0: no -0
    return str(value)


def write_metrics(folder: Path, metric: str, entries: Sequence[Entry]) -> None:
    """One small file for each variant, which `dvc metrics show` makes one row of."""
    with files.whole(folder) as unfinished:
        unfinished.mkdir()
        for entry in entries:
            figures = summary(entry.values, metric in HIGHER_IS_BETTER)
            shown = {
                key: as_written(value) if math.isfinite(value) else None
                for key in ("mean", "ci95_low", "ci95_high")
                for value in [getattr(figures, key)]
            }
            said = {metric: shown, "diverged_seeds": entry.diverged_seeds}
            (unfinished / f"{entry.variant}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main, of="studies")
