"""A training while it runs: its live file grows, and its run in MLflow too. If it is killed, the run does not stay
RUNNING; if it runs again, the run is completed and nothing is logged twice. Real processes, a real store."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import NOBODY, SOURCE, count, rows, write_code

from bancada.base import files, notify, tables
from bancada.tracking import catch_up, mirror, runs
from bancada.tracking.live_runs import LiveRun, close_killed, remove_stale_curves
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store
from bancada.training import live

EPOCHS = 400_000  # a second or two
PARAMS = f"""
seed: 111
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  toy:
    source: {{kind: half_moons, rows: 40, radius: 10, distance: -4, width: 6, seed: 1}}
    split: {{train: 20, validation: 10, test: 10}}
    metric: error_rate_percent
    train: {{loss: mse, lr: 0.1, batch_size: full, epochs: {EPOCHS}}}
variants:
  slow: {{study: toy, layers: [3, tanh, 1, tanh]}}
"""
MODEL = files.model("toy", "toy_tanh")
POINTS = 5 * 320 + 3  # losses, their spreads and the rate; diverged_seeds, parameters, log10_lr
Train = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def train(bench: Path) -> Iterator[Train]:
    """Return a function that starts the training of `slow`, whose split is written already."""
    shutil.rmtree("data")
    (bench / "params.yaml").write_text(PARAMS)
    write_code("slow")
    draw = np.random.default_rng(1)
    for part in files.PARTS:
        table = tables.Table(draw.normal(size=(20, 2)), np.arange(20)[:, None] % 2, ["x", "y"], ["moon"], [-1, 1])
        tables.write(table, files.split("toy") / f"{part}.parquet")
    # The file in data/code is a toy's, so the store of replicas could not be used: it would say so.
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "BANCADA_REPLICAS": "off"}
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bancada.training.train", "slow"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **silent))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def hold(process: subprocess.Popen[str], then: Callable[[], object]) -> None:
    """Let the training log a few more epochs, then stop it: it would end before a slow machine has looked."""
    seen = epochs_written()
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: epochs_written() > seen)
    process.send_signal(signal.SIGSTOP)
    wait_until(then)


def epochs_written() -> int:
    """Count the lines of the live file that hold losses, which the run gets."""
    path = live.path_of("slow")
    return sum(b'"epoch": ' in line for line in path.read_bytes().splitlines()) if path.exists() else 0


def status(bench: Path) -> list[str]:
    return [found for (found,) in rows(bench, "select status from runs")]


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_curves_grow_while_a_training_runs(bench: Path, train: Train) -> None:
    process = train()
    hold(process, lambda: count(bench, "metrics"))
    assert status(bench) == ["RUNNING"]
    assert rows(bench, "select value from params where key = 'epochs'") == [(str(EPOCHS),)]
    first = count(bench, "metrics")
    hold(process, lambda: count(bench, "metrics") > first)
    assert status(bench) == ["RUNNING"]
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[1] == ""
    assert (process.returncode, status(bench)) == (0, ["FINISHED"])
    assert rows(bench, "select count(*), count(distinct key || ' ' || step) from metrics") == [(POINTS, POINTS)]
    sent = np.array(rows(bench, "select distinct timestamp from metrics order by 1"))[:, 0]
    assert np.diff(sent).max() < 5000  # milliseconds


def test_a_killed_training_is_marked_and_run_again_sends_only_what_is_missing(bench: Path, train: Train) -> None:
    process = train()
    hold(process, lambda: count(bench, "metrics"))
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: status(bench) == ["KILLED"], 20)  # its listener outlives it by a moment
    before = set(rows(bench, "select key, step, timestamp, value from metrics"))
    assert 0 < len(before) < POINTS
    assert train().communicate(timeout=90)[1] == ""
    after = rows(bench, "select key, step, timestamp, value from metrics")
    assert status(bench) == ["FINISHED"]
    assert before < set(after)
    assert len({(key, step) for key, step, *_ in after}) == len(after) == POINTS


def test_if_the_listener_was_killed_too_the_next_command_marks_the_run(bench: Path, train: Train) -> None:
    process = train()
    hold(process, lambda: count(bench, "metrics"))
    assert catch_up.track(all_experiments=False) == 0
    assert status(bench) == ["RUNNING"]  # because the training does run
    for pid in (*children(process), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert status(bench) == ["RUNNING"]
    assert catch_up.track(all_experiments=False) == 0
    assert status(bench) == ["KILLED"]


def test_a_training_that_fails_is_marked(bench: Path, described: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError), notify.recorded("train@toy_tanh", MODEL), live.shown(described) as curves:
        show(curves, 0)
        wait_until(lambda: count(bench, "metrics"))
        raise ZeroDivisionError
    assert status(bench) == ["FAILED"]
    assert set(rows(bench, "select key, step, value from metrics")) == {
        ("train_loss", 0, 2.0),
        ("train_loss_std", 0, 1.0),
        ("validation_loss", 0, 3.0),
        ("validation_loss_std", 0, 1.0),
        ("lr", 0, 0.5),
    }


def show(curves: live.Curves, epoch: int) -> None:
    """Show an epoch of the toy's three seeds."""
    losses = {"train_loss": [1.0, 2.0, 3.0], "validation_loss": [2.0, 3.0, 4.0], "lr": [0.5] * 3}
    for place in range(3):
        curves.epochs(place, epoch, {name: np.array(values[place : place + 1]) for name, values in losses.items()})


def test_the_live_file_exists_and_is_locked_while_the_training_runs(bench: Path, described: dict[str, Any]) -> None:
    path = live.path_of("toy_tanh")
    with live.shown(described) as curves:
        show(curves, 0)
        assert live.running(path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[0] == described
        assert lines[1] == {"epoch": 0, "train_loss": [1, 2, 3], "validation_loss": [2, 3, 4], "lr": [0.5] * 3}
    assert not path.exists()
    assert not live.running(path)


def test_a_live_file_that_cannot_be_written_stops_no_training(bench: Path, described: dict[str, Any]) -> None:
    Path(".dvc/tmp").touch()  # where a folder is wanted
    with live.shown(described) as curves:
        show(curves, 0)


def test_a_full_disk_stops_no_training(bench: Path, described: dict[str, Any]) -> None:
    with live.shown(described) as curves:
        written = live.path_of("toy_tanh").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (written + 10, hard))
        try:
            show(curves, 0)
            show(curves, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not live.path_of("toy_tanh").exists()


# --- several at once, and what the killed leave ---------------------------------------------------------------------


@pytest.fixture
def described(bench: Path) -> dict[str, Any]:
    """Describe a training that has begun and that MLflow does not know yet."""
    found: dict[str, Any] = json.loads((MODEL / "run.json").read_text())
    del found["diverged"]
    return found


def test_of_two_equal_trainings_at_once_one_is_shown_and_no_point_is_logged_twice(
    bench: Path, described: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two temporary folders of DVC experiments share a store in this way."""
    opened, other = open_store(bench), shutil.copytree(bench, bench.with_name("other"))
    first, second = (LiveRun("toy_tanh", NOBODY, 0) for _ in range(2))
    with live.shown(described) as curves:
        show(curves, 0)
        first.send(opened)
        assert count(bench, "metrics") == 5
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(other)
            with live.shown(described) as others:
                show(others, 1)
                second.send(opened)
                assert count(bench, "metrics") == 5
            second.end(opened, "FAILED")
            assert status(bench) == ["RUNNING"]
            Recorder(opened, NOBODY).write(mirror.result(files.model("toy", "toy_tanh")), began_ms=1)
        show(curves, 1)
        first.send(opened)
    first.end(opened, "KILLED")
    assert status(bench) == ["FINISHED"]
    assert rows(bench, "select count(*), count(distinct key || ' ' || step) from metrics") == [(5 * 5 + 2,) * 2]


def test_a_run_that_is_deleted_while_its_training_runs_is_left_alone_and_recorded_anew(
    bench: Path, described: dict[str, Any]
) -> None:
    opened, training = open_store(bench), LiveRun("toy_tanh", NOBODY, 0)
    with live.shown(described) as curves:
        show(curves, 0)
        training.send(opened)
        [(run_id,)] = rows(bench, "select run_uuid from runs")
        opened.client.delete_run(run_id)
        show(curves, 1)
        training.send(opened)
        assert count(bench, "metrics") == 5
    training.end(opened, "KILLED")
    Recorder(opened, NOBODY).write(mirror.result(files.model("toy", "toy_tanh")), began_ms=1)
    stages = rows(bench, "select lifecycle_stage, status from runs order by lifecycle_stage")
    assert stages == [("active", "FINISHED"), ("deleted", "RUNNING")]


@pytest.mark.parametrize(("host", "status_then"), [("{host}", "KILLED"), ("another-machine", "RUNNING")])
def test_the_next_command_closes_killed_trainings_of_this_machine_only(
    bench: Path, described: dict[str, Any], host: str, status_then: str
) -> None:
    opened, path = open_store(bench), live.path_of("toy_tanh")
    with live.shown(described) as curves:
        show(curves, 0)
        LiveRun("toy_tanh", NOBODY, 0).send(opened)
    [(run_id,)] = rows(bench, "select run_uuid from runs")
    place = f"{host.format(host=socket.gethostname())}:{path.absolute()}"
    opened.client.set_tag(run_id, runs.LIVE_FILE, place)
    close_killed(opened, {})
    assert status(bench) == [status_then]


def test_a_store_that_fails_at_the_first_epoch_is_tried_again_and_gets_that_epoch_too(
    bench: Path, described: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, training = open_store(bench), LiveRun("toy_tanh", NOBODY, 0)

    def dies(*args: Any) -> None:
        raise ConnectionError("gone")

    with live.shown(described) as curves:
        show(curves, 0)
        with monkeypatch.context() as patched, pytest.raises(ConnectionError):
            patched.setattr(runs, "begin", dies)
            training.send(opened)
        show(curves, 1)
        training.send(opened)
        assert count(bench, "metrics") == 2 * 5


def test_a_recording_that_was_killed_is_closed_too(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, result = open_store(bench), mirror.result(files.model("toy", "toy_tanh"))

    def dies(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(runs, "add_points", dies)
        Recorder(opened, NOBODY).write(result, began_ms=1)
    assert status(bench) == ["RUNNING"]
    close_killed(opened, {})
    assert status(bench) == ["KILLED"]


def test_the_live_file_of_a_killed_training_is_removed_before_the_next_one(
    bench: Path, described: dict[str, Any]
) -> None:
    path = live.path_of("toy_tanh")
    with live.shown(described) as curves:
        show(curves, 0)
        remove_stale_curves("toy_tanh")
        assert path.exists()  # it runs
        written = path.read_text()
    path.write_text(written)
    remove_stale_curves("toy_tanh")
    assert not path.exists()
    remove_stale_curves("toy_tanh")
