"""What MLflow's pages show of a study: in the store, and in a real browser on a real `mlflow ui`."""

import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from browser import chromium
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from servers import clean_environment, free_port
from toy import NOBODY, SOURCE, evaluate, train_variant

from bancada.base import BadInput
from bancada.evaluation.leaderboard import COLUMNS
from bancada.tracking import ui
from bancada.tracking.record import Recorder
from bancada.tracking.store import Store, open_store
from bancada.tracking.views import NOTE, VIEW, model_note, run_color, run_note

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
    assert json.loads(view["state"])["orderByKey"] == "metrics.`test_error_rate_percent_median`"
    assert note.startswith("2 variants, 3 seeds on one data set each.")
    assert re.search(r"1 +toy_tanh +compiled +\d+ +2\.5 +2\.5", note)
    notes = {
        run.info.run_name: run.data.tags[NOTE]
        for run in recorded.client.search_runs([e.experiment_id for e in recorded.client.search_experiments()])
    }
    assert notes == {
        "toy_tanh": "1 of 2 by test_error_rate_percent: median 2.5, 3 seeds on one data set; baseline",
        "toy_adam": "2 of 2 by test_error_rate_percent: median 2.25, 3 seeds on one data set, 1 failed; worse",
    }


def test_scores_are_shown_by_learning_rate_where_there_are_several(bench: Path) -> None:
    def charts(lr: float) -> list[str]:
        train_variant("toy_adam", optimizer={"name": "adam"}, lr=lr)
        Recorder(opened, NOBODY).write_study("toy")
        state = json.loads(json.loads(experiment_tags(opened)[VIEW])["state"])
        return [chart.get("xaxis", {}).get("key") for chart in state["compareRunCharts"]]

    opened = open_store(bench)
    assert "log10_lr" not in charts(0.5)  # as toy_tanh has it
    assert charts(1e-5).count("log10_lr") == 1  # there are no validation rows for a second one


def test_the_note_of_a_run_says_that_a_metric_is_not_defined_and_gives_no_place() -> None:
    row = dict.fromkeys(COLUMNS, "") | {"split": "test", "metric": "r2", "diverged_seeds": "0", "num_seeds": "3"}
    row |= {"verdict": "not defined", "note": "r2 is not defined on these rows, for 3 of 3 seeds"}
    assert run_note(row, 2) == "test_r2 is not defined on these rows, for 3 of 3 seeds"


def test_the_note_of_a_run_names_what_was_overruled() -> None:
    row = dict.fromkeys(COLUMNS, "") | {"rank": "1", "split": "test", "metric": "mse", "median": "2", "num_seeds": "3"}
    row |= {"over": "seeds on one data set", "best_seed": "7", "best_seed_is": "the first: why", "failed_seeds": "0"}
    row |= {"verdict": "undecided", "reason": "ties", "median_low": "1.5", "median_high": "diverged"}
    shown = "1 of 2 by test_mse: median 2 (95 % interval 1.5 to diverged), 3 seeds on one data set; undecided; ties"
    assert run_note(row | {"note": "1 diverged"}, 2) == f"{shown}; best seed 7, the first: why"
    seeds = "studies.s.train.num_seeds = 3 replaces num_seeds = 10"
    overruled = f"lr = 0.01 replaces studies.s.train.lr = 0.003; {seeds}"
    told = run_note(row | {"note": f"1 diverged; {overruled}"}, 2)
    assert told == f"{shown}; {overruled}; best seed 7, the first: why"
    drawn = row | {"over": "data sets and seeds"}
    assert model_note(drawn) == "The network of seed 7, one of 3 data sets and seeds. It was chosen as the first: why."


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


@contextmanager
def bancada_ui(*options: str, **variables: str) -> Iterator[dict[str, str]]:
    """Start the command in the current folder. Yield the addresses that it prints, and end it with Ctrl-C."""
    command = [sys.executable, "-m", "bancada", "ui", *options]
    environment = clean_environment() | {"PYTHONPATH": str(SOURCE), "MLFLOW_WORKERS": "1"} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        try:
            printed: dict[str, str] = {}
            while "MLflow" not in printed and (line := process.stdout.readline()):
                name, _, address = line.strip().partition(": ")
                printed |= {name: address} if address.startswith("http://") else {}
            yield printed
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 130


def status_of(port: int, name: str) -> int:
    """The answer to a browser that asks for this name, wherever the name leads."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/", headers={"Host": name})
        return connection.getresponse().status


@pytest.mark.long
def test_the_run_table_shows_each_run_with_its_test_error(recorded: Store, browser: webdriver.Chrome) -> None:
    """At the address that `bancada ui` prints, for this machine and for a name that is allowed."""
    Path("dvc.yaml").touch()
    port = free_port()
    with bancada_ui("--host", "0.0.0.0", "--allowed-hosts", "team.example", MLFLOW_PORT=str(port)) as printed:
        assert printed["MLflow"] == f"http://team.example:{port}/"
        assert status_of(port, f"team.example:{port}") == 200
        for own in ("localhost", "127.0.0.1", "[::1]", socket.gethostname()):
            assert status_of(port, f"{own}:{port}") == 200
        assert status_of(port, f"evil.example:{port}") == 403
        browser.get(printed["toy"])
        assert browser.current_url.startswith(f"http://127.0.0.1:{port}/")
        cells = WebDriverWait(browser, PATIENCE_S).until(cells_of_the_run_table)
        browser.get(f"{browser.current_url}&compareRunsMode=CHART")
        WebDriverWait(browser, PATIENCE_S).until(lambda page: "Curves by epoch" in text_of(page))
    assert cells["metrics.`test_error_rate_percent`"] == ["2.5", "-"]
    assert cells["metrics.`test_error_rate_percent_median`"] == ["2.25", "50"]
    assert cells["params.`lr`"] == ["0.5", "1e-05"]
    with socket.create_server(("127.0.0.1", port)):  # nothing of it has stayed
        pass


def test_a_port_that_is_taken_is_one_line_before_anything_is_recorded(bench: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BadInput, match=rf"^--host 127\.0\.0\.1 --port {port}: Address already in use; choose another"
        ):
            ui.show("127.0.0.1", port, None)
    assert not (bench / "mlartifacts").exists()


def test_an_address_that_this_machine_does_not_have_is_one_line(bench: Path) -> None:
    with pytest.raises(BadInput, match=r"^--host 192\.0\.2\.1 --port 5000: Cannot assign requested address; choose an"):
        ui.show("192.0.2.1", 5000, None)


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
