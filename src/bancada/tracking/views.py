"""What MLflow's pages show of a study: descriptions, colours of runs, and a saved view with columns and charts.

MLflow 3.17 keeps a saved view of its run table in a tag of the experiment, `mlflow.sharedViewState.KEY`: JSON with the
view's name, two times and, as JSON once more, those parts of the page's state that differ from the default. What
someone wrote over it, or deleted, stays as they left it.
"""

import colorsys
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Run, RunTag

from bancada.base.notify import without_credentials
from bancada.evaluation.leaderboard import format_leaderboard
from bancada.networks.metrics import HIGHER_IS_BETTER
from bancada.tracking.mirror import Evaluation, score_name
from bancada.tracking.store import Store, experiment

KEY = "bancada"
NAME = "Leaderboard"
VIEW = f"mlflow.sharedViewState.{KEY}"
NOTE = "mlflow.note.content"
SHOWN = "mlflow.bancada.shown"  # hashes of what we wrote to such tags; MLflow's prefix keeps it out of sight
PARAMS = ("lr", "optimizer.name", "loss", "batch_size", "epochs", "layers")
MOST_RUNS = 100  # in a chart
GOLDEN = 0.618034  # of a circle: each further hue falls into one of the widest gaps

Row = dict[str, str]  # of leaderboard.csv


def show_study(store: Store, study: str, evaluation: Evaluation) -> list[str]:
    """Describe the experiment and save its view; in words, what was written."""
    experiment_id = experiment(store, study)
    held = store.client.get_experiment(experiment_id)
    view = {"name": NAME, "createdAt": held.creation_time, "updatedAt": held.creation_time}
    state = json.dumps(view_state(evaluation.leaderboard[0]))
    said = {
        VIEW: json.dumps(view | {"state": state}),
        NOTE: study_note(study, experiment_id, evaluation.leaderboard),
    }
    news = _news(said, held.tags)
    for key, value in news.items():
        store.client.set_experiment_tag(experiment_id, key, value)
    return ["its description and saved view"] if news else []


def pages(store: Store) -> dict[str, str]:
    """Study -> the address of its view: at the server, or where `mlflow ui` will be."""
    served = store.artifacts is None
    base = without_credentials(store.client.tracking_uri).rstrip("/") if served else "http://127.0.0.1:5000"
    found = sorted(store.client.search_experiments(), key=lambda found: found.name)
    return {each.name: f"{base}/{page(each.experiment_id)}" for each in found if VIEW in each.tags}


def page(experiment_id: str) -> str:
    """The address of the saved view, below MLflow's own; with the menu for training, not the one for chats."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def show_run(store: Store, run: Run, evaluation: Evaluation, variant: str) -> list[str]:
    """Describe and colour the run of a variant; in words, what was written."""
    row = next(row for row in evaluation.leaderboard if row["variant"] == variant)
    variants = sorted(row["variant"] for row in evaluation.leaderboard)
    said = {
        NOTE: run_note(row, len(variants)),
        "mlflow.runColor": run_color(variants.index(variant), run.data.tags["bancada.fingerprint"]),
    }
    news = _news(said, run.data.tags)
    if news:
        store.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in news.items()])
    return ["its description"] if news else []


def _news(said: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """Those of the tags `said` that are not `held` yet and that nobody else changed since they were written here."""
    hashes: dict[str, str] = json.loads(held.get(SHOWN, "{}"))
    news = {
        key: value for key, value in said.items() if held.get(key) != value and hashes.get(key) == _md5(held.get(key))
    }
    return news | {SHOWN: json.dumps(hashes | {key: _md5(value) for key, value in news.items()})} if news else {}


def _md5(text: str | None) -> str | None:
    return text if text is None else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# --- descriptions ---------------------------------------------------------------------------------------------------


def study_note(study: str, experiment_id: str, leaderboard: list[Row]) -> str:
    """Markdown: how to read the page, and the leaderboard. Folded up, the page shows its first line alone."""
    view = f"[{NAME}]({page(experiment_id)})"
    variants, seeds = len(leaderboard), leaderboard[0]["num_seeds"]
    table = "\n".join(f"    {line}" for line in format_leaderboard(leaderboard, study).splitlines())
    return f"""\
{variants} variant{"s" * (variants > 1)}, {seeds} seed{"s" * (seeds != "1")} each. To compare them, the view {view}.

A run is a variant with its settings; figures and curves are means over its seeds.

{table}
"""


def run_note(row: Row, variants: int) -> str:
    """One line: place, figure, spread and verdict."""

    def short(column: str) -> str:
        return f"{float(row[column]):.4g}" if row[column] else "none"

    spread = f" (95 % interval {short('ci95_low')} to {short('ci95_high')})" if row["ci95_low"] else ""
    figure = f"mean {short('mean')}{spread}" if row["mean"] else f"median {short('median')}"
    diverged = f", {row['diverged_seeds']} diverged" if row["diverged_seeds"] != "0" else ""
    verdict = f"; {row['verdict']}" if row["verdict"] else ""
    named = score_name(row["split"], row["metric"])
    return f"{row['rank']} of {variants} by {named}: {figure}, {row['num_seeds']} seeds{diverged}{verdict}"


def run_color(place: int, fingerprint: str) -> str:
    """As MLflow writes it, #rrggbb. A hue for each variant, by its place among them, neighbours far apart; runs of one
    variant with other inputs are lighter or darker. By itself MLflow gives several runs of a dozen the same colour."""
    lightness = 0.35 + 0.3 * int(hashlib.sha256(fingerprint.encode()).hexdigest()[:4], 16) / 0xFFFF
    rgb = colorsys.hls_to_rgb(place * GOLDEN % 1, lightness, 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


# --- the saved view -------------------------------------------------------------------------------------------------


def view_state(row: Row) -> dict[str, Any]:
    """The page's state for the study of which `row` is one line of the leaderboard."""
    score = score_name(row["split"], row["metric"])
    metrics = [score, f"{score}_std", f"{score}_median", "diverged_seeds"]
    columns = [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in PARAMS),
        *("tags.`dvc.experiments`", "attributes.`Description`", "attributes.`Duration`"),
    ]
    return {
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": row["metric"] not in HIGHER_IS_BETTER,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {name: max(110, 6 * len(name.split("`")[1]) + 50) for name in columns},  # pixels
        "runsHiddenMode": "SHOW_ALL",  # not the first ten alone
        "compareRunSections": [
            _section("figures", "Figures of the trained networks"),
            _section("curves", "Curves by epoch, mean over seeds"),
            _section("rest", "Model metrics", display=False),
        ],
        "compareRunCharts": [
            _chart("figures", "BAR", score, metricKey=score),
            _chart("figures", "SCATTER", "lr", xaxis=_axis("PARAM", "lr"), yaxis=_axis("METRIC", score)),
            *(_curve(name) for name in ("train_loss", "validation_loss")),
        ],
        "isAccordionReordered": True,
    }


def _section(uuid: str, name: str, display: bool = True) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "display": display, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(section: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    place = {"uuid": f"{section}-{name}", "type": kind, "metricSectionId": section, "displayName": name}
    return place | {"runsCountToCompare": MOST_RUNS, "deleted": False, "isGenerated": False} | more


def _curve(name: str) -> dict[str, Any]:
    """Of a loss, which may fall by many powers of ten."""
    return _chart(
        "curves",
        "LINE",
        name,
        metricKey=name,
        selectedMetricKeys=[name],
        xAxisKey="step",
        xAxisScaleType="linear",
        scaleType="log",
        range={},
        yAxisKey="metric",
        yAxisExpressions=[],
        selectedXAxisMetricKey="",
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        useGlobalXaxisKey=False,
        ignoreOutliers=False,
        displayPoints=False,
    )


def _axis(kind: str, name: str) -> dict[str, str]:
    return {"key": name, "type": kind}
