"""Stage evaluate@STUDY: scores, leaderboard, predictions, loss curves and plots of all variants of a study.

statistics.py says what the numbers mean, leaderboard.py what the verdicts mean.
"""

import csv
import json
import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from bancada.base import BadInput, files, index, notify, params_file, stage, tables
from bancada.data import vary
from bancada.evaluation import plots, settings, sheets, svg, trials
from bancada.evaluation.candidates import CURVES, PREDICTIONS, Candidate
from bancada.evaluation.entry import DATA_SETS, ONE_DATA_SET, SPLITS, Replicas, Terms
from bancada.evaluation.leaderboard import COLUMNS, Cell, Row, leaderboard
from bancada.evaluation.reference import Reference, references
from bancada.evaluation.results import Results
from bancada.evaluation.statistics import Summary, summary
from bancada.networks import metrics, saved
from bancada.networks.unknown import counted, ignored, refuse_unknown

MOST_NAMED = 5  # seeds in a message


def main(params: params_file.ParamsFile, name: str) -> None:
    """Compare the trained variants of a study and write its evaluation folder. Raise BadInput if a file is missing."""
    study = settings.comparison(params, name)
    parts = {part: tables.read(files.split(name) / f"{part}.parquet") for part in files.PARTS}
    [parts] = with_rows([parts])
    settings.check_predict(name, study.predict, parts["train"].feature_names, parts["train"].words)
    inputs = settings.new_inputs(study.predict, parts["train"])
    folders = {variant: files.model(name, variant) for variant in trained_variants(name)}
    truth = settings.true_line(params, name)
    trained = {variant: saved.load(at) for variant, at in folders.items()}
    draws = with_rows(vary.draws(params, name, range(len(same_seeds(trained)))))
    candidates = [
        Candidate(key, trained[key], saved.read_history(at), parts, truth, study.metric, draws)
        for key, at in folders.items()
    ]
    for candidate in candidates:
        for place, own in enumerate(draws or [parts]):
            for part, rows in own.items():
                where = f"{files.split(name) / part}.parquet: {candidate.name}" + f": draw {place}" * bool(draws)
                refuse_unknown(where, rows, candidate.trained.alone(place).preparation)
        settings.refuse_unprepared(name, inputs, candidate.name, candidate.trained.preparation)
        for sentence in ignored(parts | {"predict": inputs}, candidate.trained.preparation):
            print(f"{candidate.name}: {sentence}", file=sys.stderr)
    with notify.recorded(f"evaluate@{name}", files.evaluation(name)):
        replicas = what_varies(candidates[0], bool(draws) and vary.splits_one_table(params, name))
        evaluate(study, name, candidates, inputs, settings.no_validation(params, name), replicas)
    overruled = Counter(candidate.trained.overruled for candidate in candidates if candidate.trained.overruled)
    for sentence, count in overruled.items():
        where = f"in {count} of {counted(len(candidates), 'variant')}"
        print(f"{name}: {sentence} {where}{saved.way_out(sentence)}", file=sys.stderr)


def what_varies(candidate: Candidate, splits: bool) -> Replicas:
    """Return what differs from one replica of a variant to the next. `splits`: how one table is split."""
    if splits:
        return Replicas(SPLITS, (len(candidate.parts["train"]), len(candidate.parts[candidate.main_split])))
    return Replicas(DATA_SETS if candidate.draws else ONE_DATA_SET)


def over_draws(
    draws: Sequence[dict[str, tables.Table]], split: str, metric: str
) -> tuple[list[Reference], list[float]]:
    """Return the reference rows, each with the median of its values over the draws, and the first one's values.

    A row that lacks its value in some draw has none, and the note of the first such draw.
    """
    each = [references(parts["train"], parts[split], split, metric) for parts in draws]
    rows = []
    for of_draws in zip(*each, strict=True):
        told = max(of_draws, key=lambda one: math.isnan(one.value))  # the first one without a value, if there is one
        rows.append(told._replace(value=float(np.median([one.value for one in of_draws]))))
    return rows, [of[0].value for of in each if of] or [math.nan]


def with_rows(draws: Sequence[dict[str, tables.Table]]) -> list[dict[str, tables.Table]]:
    """Return the parts of each draw that have rows."""
    return [{part: rows for part, rows in parts.items() if len(rows)} for parts in draws]


def trained_variants(study: str) -> list[str]:
    """Return the study's variants, sorted: their order in params.yaml does not change the results.

    Raise BadInput for a model that is missing, or is not the one that the study's index names.
    """
    indexed = index.read(study)
    for name, hashes in index.of_models(study, indexed).items():
        if hashes != indexed[name]:
            problem = f"not the one that {files.index(study)} names; `dvc repro index@{study}` writes that anew"
            raise BadInput(f"{files.model(study, name)}: {problem}")
    return sorted(indexed)


def evaluate(
    study: settings.Comparison,
    name: str,
    candidates: Sequence[Candidate],
    inputs: tables.Table,
    no_validation: str,
    replicas: Replicas,
) -> None:
    """Write all files of the evaluation. `inputs`: rows without targets, to predict."""
    seeds, folder = candidates[0].trained.seeds, files.evaluation(name)
    entries, split, parts = [c.entry(study.metric) for c in candidates], candidates[0].main_split, candidates[0].parts
    simple, of_draws = over_draws(candidates[0].draws or [parts], split, study.metric)
    for left_out in (each for each in simple if each.note):
        print(f"{name}: {left_out.reference} {left_out.note}", file=sys.stderr)
    terms = Terms(
        *(study.metric, split, seeds, study.baseline, study.min_difference, study.fails_beyond),
        reference=[tables.as_written(value) for value in of_draws],  # as the values of seeds
        no_validation=no_validation,
        replicas=replicas,
    )
    board = leaderboard(entries, terms)
    scores = [((c.name, *key), values) for c in candidates for key, values in c.scores.items()]
    summaries = [(*label, *summary(values, label[-1] in metrics.HIGHER_IS_BETTER)) for label, values in scores]
    of_seeds = [(*label, *row) for label, values in scores for row in zip(seeds, values, strict=True)]
    write_csv(folder / "scores.csv", ("variant", "split", "metric", *Summary._fields), summaries)
    write_csv(folder / "per_seed.csv", ("variant", "split", "metric", "seed", "value"), of_seeds)
    write_csv(folder / "leaderboard.csv", COLUMNS, [tuple(row.values()) for row in board])
    write_csv(folder / "reference.csv", Reference._fields, simple)
    write_csv(folder / "predictions.csv", PREDICTIONS, chain.from_iterable(c.predictions(inputs) for c in candidates))
    write_csv(folder / "loss.csv", CURVES, chain.from_iterable(c.mean_curves() for c in candidates))
    by_name = {candidate.name: candidate for candidate in candidates}
    write_metrics(folder / "metrics", board)
    ordered = [by_name[row["variant"]] for row in board]
    searches = [found for one in ordered if (found := trials.read(one.name, files.model(name, one.name)))]
    most, region = sheets.MOST_PANELS, study.decision_region
    results = Results(name, board[:most], ordered[:most], region, searches=searches[:most])
    results = replace(results, left_out=len(ordered) - len(results.candidates))
    write_plots(results, folder / "plots")


def write_plots(results: Results, folder: Path) -> None:
    """Write each plot as PNG, and for the report as SVG, where dvc.yaml has an out for these."""
    drawings, boxes = files.drawings(results.study), set[str]()
    for_report = Path("dvc.yaml").exists() and f"/{drawings.name}:" in Path("dvc.yaml").read_text("utf-8")
    with files.whole(folder) as png, files.whole(drawings) if for_report else nullcontext() as svg_folder:
        for made in filter(None, (png, svg_folder)):
            made.mkdir()
        with warnings.catch_warnings():  # of letters that the font lacks: they are told below, in one line
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")  # see above
            for plot, draw in plots.PLOTS.items():
                if figure := draw(results):
                    boxes |= sheets.write(figure, png / f"{plot}.png")
                    if svg_folder:
                        numbers = plots.NUMBERS[plot](results) if plot in plots.NUMBERS else svg.numbers(figure)
                        svg.write(figure, numbers, results.study, svg_folder / plot)
    if boxes:
        why = f"no font that is installed here has {' '.join(sorted(boxes))}, and the PNG files show boxes instead"
        print(f"{results.study}: {why}; tables and the report have these letters", file=sys.stderr)


def same_seeds(trained: Mapping[str, saved.SavedVariant]) -> list[int]:
    """Return the seeds of all variants. Raise BadInput if they differ: variants are compared seed by seed."""
    name, first = next(iter(trained.items()))
    for other, variant in trained.items():
        if variant.seeds != first.seeds:
            which = ", ".join(map(str, sorted({*variant.seeds} ^ {*first.seeds})[:MOST_NAMED])) or "their order"
            problem = f"trained with other seeds than {name} ({which}); `dvc repro` trains both from the same"
            raise BadInput(f"{files.model(variant.study, other)}: {problem}")
    return first.seeds


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write numbers with 9 significant digits, and an empty cell for None and NaN."""
    with files.whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value + 0.0:.9g}" if math.isfinite(value) else ""  # -0.0 + 0.0 is 0.0
    return "" if value is None else str(value)


def write_metrics(folder: Path, board: Sequence[Row]) -> None:
    """Write one small file for each variant, a row of `dvc metrics show`: median and failed seeds."""
    with files.whole(folder) as unfinished:
        unfinished.mkdir()
        for row in board:
            median, failed = row["median"], row["failed_seeds"]
            known = isinstance(median, float) and math.isfinite(median)
            content = {"median": tables.as_written(median) if known else None, "failed": failed}
            (unfinished / f"{row['variant']}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main, of="studies")
