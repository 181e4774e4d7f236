"""What MLflow's pages show of a study: in the store, and in a real browser on a real `mlflow ui`."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from servers import mlflow_server
from toy import NOBODY, evaluate

from bancada.evaluation.leaderboard import COLUMNS
from bancada.tracking import catch_up
from bancada.tracking.record import Recorder
from bancada.tracking.store import Store, open_store
from bancada.tracking.views import NOTE, VIEW, run_color, run_note

PATIENCE_S = 60  # for a page, on a machine that is busy


def experiment_tags(opened: Store) -> dict[str, str]:
    found = opened.client.get_experiment_by_name("toy")
    assert found is not None
    return dict(found.tags)


@pytest.fixture
def recorded(bench: Path) -> Store:
    opened = open_store(bench)
    Recorder(opened, NOBODY).write_study("toy")
    return opened


def test_a_study_is_described_by_its_leaderboard_and_a_run_by_its_place(recorded: Store) -> None:
    tags = experiment_tags(recorded)
    note, view = tags[NOTE], json.loads(tags[VIEW])
    assert view["name"] == "Leaderboard"
    assert json.loads(view["state"])["orderByKey"] == "metrics.`test_error_rate_percent`"
    assert note.startswith("2 variants, 3 seeds each.")
    assert re.search(r"1 +toy_tanh +2\.50", note)
    notes = {
        run.info.run_name: run.data.tags[NOTE]
        for run in recorded.client.search_runs([e.experiment_id for e in recorded.client.search_experiments()])
    }
    assert notes == {
        "toy_tanh": "1 of 2 by test_error_rate_percent: mean 2.5, 3 seeds; baseline",
        "toy_adam": "2 of 2 by test_error_rate_percent: median 2.25, 3 seeds, 1 diverged; worse",
    }


def test_the_note_of_a_run_says_that_a_metric_is_not_defined_and_gives_no_place() -> None:
    row = dict.fromkeys(COLUMNS, "") | {"split": "test", "metric": "r2", "diverged_seeds": "0", "num_seeds": "3"}
    row |= {"verdict": "not defined", "note": "r2 is not defined on these rows, for 3 of 3 seeds"}
    assert run_note(row, 2) == "test_r2 is not defined on these rows, for 3 of 3 seeds"


def test_the_note_of_a_run_names_the_rate_that_was_overruled() -> None:
    row = dict.fromkeys(COLUMNS, "") | {"rank": "1", "split": "test", "metric": "mse", "mean": "2", "num_seeds": "3"}
    row |= {"diverged_seeds": "0", "verdict": "worse"}
    assert run_note(row | {"note": "one seed: no interval"}, 2) == "1 of 2 by test_mse: mean 2, 3 seeds; worse"
    overruled = "lr = 0.01 replaces studies.s.train.lr = 0.003"
    told = run_note(row | {"note": f"one seed: no interval; {overruled}"}, 2)
    assert told == f"1 of 2 by test_mse: mean 2, 3 seeds; worse; {overruled}"


def test_changes_and_deletions_made_in_the_ui_stay(recorded: Store) -> None:
    found = recorded.client.get_experiment_by_name("toy")
    assert found is not None
    recorded.client.set_experiment_tag(found.experiment_id, NOTE, "mine")
    recorded.client.delete_experiment_tag(found.experiment_id, VIEW)
    [run] = recorded.client.search_runs([found.experiment_id], "attributes.run_name = 'toy_tanh'")
    recorded.client.set_tag(run.info.run_id, NOTE, "my best")
    evaluate(error="1.25")
    Recorder(recorded, NOBODY).write_study("toy")
    tags = experiment_tags(recorded)
    assert tags[NOTE] == "mine"
    assert VIEW not in tags
    again = recorded.client.get_run(run.info.run_id)
    assert again.data.tags[NOTE] == "my best"
    assert again.data.metrics["test_error_rate_percent"] == 1.25


def test_a_temporary_experiment_does_not_describe_the_study(
    recorded: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = experiment_tags(recorded)
    shutil.copytree("data", tmp_path / "exp/data")
    monkeypatch.setenv("DVC_ROOT", str(recorded.root))
    monkeypatch.chdir(tmp_path / "exp")
    evaluate(error="1.25")
    Recorder(recorded, NOBODY).write_study("toy")
    assert experiment_tags(recorded) == before


def test_runs_of_two_dozen_variants_have_distinct_colours() -> None:
    colors = [run_color(place, f"fingerprint {place}") for place in range(24)]
    parts = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors]
    apart = [
        sum(abs(a - b) for a, b in zip(one, other, strict=True)) for one, other in itertools.combinations(parts, 2)
    ]
    assert min(apart) > 20
    assert run_color(0, "one rate") != run_color(0, "another")


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    with chromium(2500, 1000) as opened:
        yield opened


def test_the_run_table_shows_each_run_with_its_test_error(
    recorded: Store, tmp_path: Path, browser: webdriver.Chrome, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the address that `bancada ui` prints."""
    assert catch_up.show() == f"sqlite:///{recorded.root}/mlflow.db"
    address = capsys.readouterr().out.splitlines()[-1].removeprefix("toy: ")
    with mlflow_server(f"sqlite:///{recorded.root}/mlflow.db", tmp_path / "unused", tmp_path / "log") as port:
        browser.get(address.replace(":5000", f":{port}"))
        cells = WebDriverWait(browser, PATIENCE_S).until(cells_of_the_run_table)
        browser.get(f"{browser.current_url}&compareRunsMode=CHART")
        WebDriverWait(browser, PATIENCE_S).until(lambda page: "Curves by epoch" in text_of(page))
    assert cells["metrics.`test_error_rate_percent`"] == ["2.5", "-"]
    assert cells["metrics.`test_error_rate_percent_median`"] == ["2.25", "50"]
    assert cells["params.`lr`"] == ["0.5", "1e-05"]


def text_of(page: webdriver.Chrome) -> str:
    return str(page.find_element(By.TAG_NAME, "body").text)


def cells_of_the_run_table(page: webdriver.Chrome) -> dict[str, list[str]]:
    """By column, the rows from the top; empty until the names of both runs are there."""
    if not {"toy_tanh", "toy_adam"} <= set(text_of(page).split()):
        return {}
    found: dict[str, list[tuple[int, str]]] = {}
    for cell in page.find_elements(By.CSS_SELECTOR, "[role=row] [role=gridcell][col-id]"):
        place = cell.find_element(By.XPATH, "./ancestor::*[@row-index]").get_attribute("row-index")
        found.setdefault(str(cell.get_attribute("col-id")), []).append((int(str(place)), str(cell.text)))
    return {column: [text for _, text in sorted(cells)] for column, cells in found.items()}
