"""What MLflow's pages show of a study: descriptions, colours of runs, and a saved view with columns and charts.

MLflow 3.17 keeps a saved view of its run table in a tag of the experiment, `mlflow.sharedViewState.KEY`: JSON with the
view's name, two times and, as a string of JSON, those parts of the page's state that differ from the default. A
description or a view that someone changed or deleted stays as they left it.
"""

import colorsys
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run, ViewType

from bancada.evaluation import words
from bancada.networks.metrics import HIGHER_IS_BETTER
from bancada.networks.unknown import counted
from bancada.tracking import evaluations, runs
from bancada.tracking.experiments import experiment_id, known
from bancada.tracking.models import MODEL, SEED
from bancada.tracking.store import Store

KEY = "bancada"
NAME = "Leaderboard"
VIEW = f"mlflow.sharedViewState.{KEY}"
NOTE = "mlflow.note.content"
SHOWN = "mlflow.bancada.shown"  # hashes of what we wrote to such tags; the UI hides tags with MLflow's prefix
STATE = Path(__file__).with_name("view.json")  # with SCORE in place of the name of the study's score
GOLDEN = 0.618034  # of a circle: each further hue falls into one of the widest gaps


def show_study(store: Store, study: str, evaluation: evaluations.Evaluation) -> list[str]:
    """Describe the study's experiment and save its view. Return what was written, in words."""
    experiment = store.client.get_experiment(experiment_id(store, study))
    found = store.client.search_runs([experiment.experiment_id], "tags.`bancada.fingerprint` != ''", ViewType.ALL)
    several = len({run.data.params.get("lr") for run in found}) > 1
    view = {
        "name": NAME,
        "createdAt": experiment.creation_time,
        "updatedAt": experiment.creation_time,
        "state": json.dumps(view_state(evaluation, several)),
    }
    note = study_note(study, experiment.experiment_id, evaluation.leaderboard)
    tags = _changed({VIEW: json.dumps(view), NOTE: note}, experiment.tags)
    for key, value in tags.items():
        store.client.set_experiment_tag(experiment.experiment_id, key, value)
    return ["description and saved view"] if tags else []


def show_run(store: Store, run: Run, evaluation: evaluations.Evaluation, variant: str) -> list[str]:
    """Describe the run of a variant on the leaderboard, and its model, and colour it. Return what was written."""
    row = next((row for row in evaluation.leaderboard if row["variant"] == variant), None)
    if row is None:
        return []
    variants = sorted(row["variant"] for row in evaluation.leaderboard)
    color = run_color(variants.index(variant), run.data.tags["bancada.fingerprint"])
    tags = _changed({NOTE: run_note(row, len(variants)), "mlflow.runColor": color}, run.data.tags)
    written = ["description"] if runs.set_tags(store, run, tags) else []
    model = known(store.client.get_logged_model, run.data.tags[MODEL]) if MODEL in run.data.tags else None
    note = {NOTE: model_note(row)} if row["best_seed"] == run.data.tags.get(SEED) else {}
    if model and (tags := _changed(note, model.tags)):
        store.client.set_logged_model_tags(model.model_id, tags)
        written.append("description of the model")
    return written


def _changed(tags: Mapping[str, str], existing: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that have another value now, and that nobody else changed since we wrote them."""
    ours: dict[str, str] = json.loads(existing.get(SHOWN, "{}"))
    changed = {
        key: value
        for key, value in tags.items()
        if existing.get(key) != value and ours.get(key) == _md5(existing.get(key))
    }
    return changed | {SHOWN: json.dumps(ours | {key: _md5(value) for key, value in changed.items()})} if changed else {}


def _md5(text: str | None) -> str | None:
    return None if text is None else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def pages(store: Store) -> dict[str, str]:
    """Return the address of each study's view below that of MLflow's server."""
    experiments = sorted(store.client.search_experiments(), key=lambda each: each.name)
    return {each.name: _page(each.experiment_id) for each in experiments if VIEW in each.tags}


def _page(experiment: str) -> str:
    """Return the view's address at the server; with MLflow's menu for training, not the one for chats."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


# --- descriptions ---------------------------------------------------------------------------------------------------


def study_note(study: str, experiment: str, leaderboard: list[evaluations.Row]) -> str:
    """Return Markdown that explains the page and holds the leaderboard. The page shows its first line when folded."""
    over = words.over_replicas(int(leaderboard[0]["num_seeds"]), leaderboard[0]["over"])
    board = words.format_leaderboard(leaderboard, study, words.read(study, "reference"))
    table = "\n".join(f"    {line}" for line in board.splitlines())
    counts = f"{counted(len(leaderboard), 'variant')}, {over} each"
    return f"""\
{counts}. To compare them, open the view [{NAME}]({_page(experiment)}).

A run is a variant with its settings; scores and curves are means over them.

{table}
"""


def run_note(row: evaluations.Row, variants: int) -> str:
    """Return one line with the variant's place, median, interval and verdict, and how its best seed was chosen."""
    name = evaluations.score_name(row["split"], row["metric"])
    if not row["rank"]:
        return f"{name.removesuffix(row['metric'])}{row['note']}"
    low, median, high = (words.short(row[key], digits=4) for key in ("median_low", "median", "median_high"))
    interval = f" (95 % interval {low} to {high})" if low else ""
    failed = f", {row['failed_seeds']} failed" if row["failed_seeds"] not in ("", "0") else ""
    verdict = "".join(f"; {text}" for text in (row["verdict"], row["reason"]) if text)
    overruled = "".join(f"; {note}" for note in row["note"].split("; ") if " replaces " in note)
    over = words.over_replicas(int(row["num_seeds"]), row["over"])
    best = f"; best seed {row['best_seed']}, {row['best_seed_is']}" if row["best_seed"] else ""
    return f"{row['rank']} of {variants} by {name}: median {median}{interval}, {over}{failed}{verdict}{overruled}{best}"


def model_note(row: evaluations.Row) -> str:
    """Return which seed's network the model of a variant is, and why."""
    over = words.over_replicas(int(row["num_seeds"]), row["over"])
    return f"The network of seed {row['best_seed']}, one of {over}. It was chosen as {row['best_seed_is']}."


def run_color(place: int, fingerprint: str) -> str:
    """Return the colour of a run as MLflow writes it, #rrggbb.

    Each variant has a hue, by its place among the variants, with neighbours far apart; runs of one variant with other
    inputs are lighter or darker. MLflow's own choice gives several of a dozen runs the same colour.
    """
    lightness = 0.35 + 0.3 * int(hashlib.sha256(fingerprint.encode()).hexdigest()[:4], 16) / 0xFFFF
    rgb = colorsys.hls_to_rgb(place * GOLDEN % 1, lightness, 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


# --- the saved view -------------------------------------------------------------------------------------------------


def view_state(evaluation: evaluations.Evaluation, several_rates: bool) -> dict[str, Any]:
    """Return the page's state for a study: view.json with the names of its scores, on the main split and validation.

    The charts of scores by learning rate are there where there are several rates, and one is of validation rows if
    there are any. MLflow's charts of this kind have no logarithmic axis, so they are drawn over `log10_lr`.
    """
    row = evaluation.leaderboard[0]
    score, held_out = (evaluations.score_name(split, row["metric"]) for split in (row["split"], "validation"))
    text = STATE.read_text("utf-8").replace("SCORE", score).replace("VALIDATION", held_out)
    state: dict[str, Any] = json.loads(text)
    watched = held_out != score and any(held_out in scores for scores in evaluation.scores.values())
    left_out = ["scores-lr"] * (not several_rates) + ["validation-lr"] * (not (several_rates and watched))
    columns = state["selectedColumns"]
    return state | {
        "compareRunCharts": [chart for chart in state["compareRunCharts"] if chart["uuid"] not in left_out],
        "orderByAsc": row["metric"] not in HIGHER_IS_BETTER,
        "columnOrder": columns,
        "columnWidths": {name: max(110, 6 * len(name.split("`")[1]) + 50) for name in columns},  # pixels
    }
