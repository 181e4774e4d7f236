"""`bancada track`: whatever the files hold and MLflow does not, from the files alone, and nothing twice."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import test_pipeline as pipeline
import test_tracking as recorded
from test_tracking import NOBODY, count, evaluate, rows, train_variant

from bancada import catching_up, files, mirror, recording, store, tracking
from bancada.surroundings import Circumstances

pytestmark = recorded.pytestmark
bench, empty_store = recorded.bench, recorded.empty_store  # fixtures

WHOLE = {"weights.safetensors", "history.parquet", "run.json", "requirements.lock"}
EVALUATED = {"plots/loss.png", "plots/regions.png", "evaluation/scores.csv", "evaluation/leaderboard.csv"}


def everything(root: Path) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """All that a store holds: the database's rows, and each artifact's inode and time."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        dump = list(database.iterdump())
    artifacts = [path for path in (root / "mlartifacts").rglob("*") if path.is_file()]
    return dump, {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in artifacts}


def artifacts_of_all(root: Path) -> list[set[str]]:
    opened = tracking.open_store(root)
    return [recorded.artifacts(opened, run_id) for (run_id,) in rows(root, "select run_uuid from runs order by name")]


def go_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process would be there: within one, mlflow remembers where a run's artifacts are."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())


def tracks(capfd: pytest.CaptureFixture[str], status: int = 0) -> list[str]:
    """The lines on stdout of a `bancada track`, which ends with this status and says nothing else."""
    capfd.readouterr()
    assert catching_up.track(all_experiments=False) == status
    out, err = capfd.readouterr()
    assert err == ""
    return out.splitlines()


NOTHING_NEW = "0 runs new, 0 completed, 2 were complete, 0 marked as duplicates"


def test_what_an_outage_left_out_is_written_once_and_a_second_time_changes_nothing(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with recording.recorded("train", "toy_tanh"):
            pass
    assert "toy_tanh is not recorded" in capfd.readouterr().err
    lines = tracks(capfd)
    assert [line.split(" -> ")[0] for line in lines] == [
        "toy/toy_adam: a new run, its evaluation",
        "toy/toy_tanh: a new run, its evaluation",
        "2 runs new, 0 completed, 0 were complete, 0 marked as duplicates",
    ]
    assert rows(bench, "select name, status from runs order by name") == [
        ("toy_adam", "FINISHED"),
        ("toy_tanh", "FINISHED"),
    ]
    assert artifacts_of_all(bench) == [WHOLE | EVALUATED] * 2
    errors = "select value from latest_metrics where key = 'test_error_rate_percent'"
    assert rows(bench, errors) == [(2.5,)]  # toy_adam has none
    before = everything(bench)
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before


def test_what_was_recorded_beside_its_stage_is_left_as_it_is(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = tracking.open_store(bench)
    for variant in ("toy_tanh", "toy_adam", "toy_tanh"):
        tracking.record_training(opened, mirror.result(files.model("toy", variant)), Circumstances("brave-cat"))
    tracking.record_evaluation(opened, "toy", NOBODY)
    before = everything(bench)
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before
    assert rows(bench, "select value from tags where key = 'bancada.reproduced'") == [("1",)]


def test_a_killed_recording_gets_only_the_steps_that_are_missing(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    result, opened = train_variant("toy_tanh", epochs=1500), tracking.open_store(bench)
    log_batch = type(opened.client).log_batch

    def dies_after_the_first_points(self: Any, *args: Any, **kwargs: Any) -> None:
        if count(bench, "metrics"):
            raise ConnectionError("gone")
        log_batch(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(type(opened.client), "log_batch", dies_after_the_first_points)
        tracking.record_training(opened, result, NOBODY)
    first = set(rows(bench, "select key, step, timestamp, value from metrics"))
    assert 0 < len(first) < 5001
    shutil.rmtree(files.evaluation("toy"))
    shutil.rmtree(files.model("toy", "toy_adam"))
    assert tracks(capfd)[0].startswith("toy/toy_tanh: what was missing -> ")
    assert rows(bench, "select status from runs") == [("FINISHED",)]
    assert count(bench, "metrics") == 5 * 1000 + 1
    assert first <= set(rows(bench, "select key, step, timestamp, value from metrics"))


def test_the_store_follows_a_folder_that_was_moved(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    before = everything(bench)[1]
    moved = bench.rename(bench.with_name("100 % moved?"))
    go_to(moved, monkeypatch)
    assert tracks(capfd) == [NOTHING_NEW]
    after = everything(moved)
    assert {Path(path).relative_to(bench): at for path, at in before.items()} == {
        Path(path).relative_to(moved): at for path, at in after[1].items()
    }
    assert not [line for line in after[0] if bench.name in line or bench.as_uri() in line]
    assert artifacts_of_all(moved) == [WHOLE | EVALUATED] * 2
    train_variant("toy_tanh", "f1")
    assert tracks(capfd)[-1] == "1 runs new, 0 completed, 1 were complete, 0 marked as duplicates"
    assert not bench.exists()
    assert len(list((moved / "mlartifacts/toy").iterdir())) == 3


def test_a_copy_has_a_store_of_its_own_and_what_is_missing_there_is_uploaded_again(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    before = everything(bench)
    copy = bench.with_name("copy")
    shutil.copytree(bench, copy, ignore=shutil.ignore_patterns("mlartifacts"))
    go_to(copy, monkeypatch)
    assert "toy/toy_tanh: 8 artifacts that were gone -> " in "\n".join(tracks(capfd))
    assert artifacts_of_all(copy) == [WHOLE | EVALUATED] * 2
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before


def test_a_store_that_two_folders_share_is_not_taken_from_the_one_that_is_still_there(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.move(bench / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tracks(capfd)
    where = rows(tmp_path, "select artifact_uri from runs")
    second = bench.with_name("second")
    shutil.copytree(bench, second)
    go_to(second, monkeypatch)
    assert tracks(capfd) == [NOTHING_NEW]
    assert rows(tmp_path, "select artifact_uri from runs") == where
    shutil.rmtree(bench)
    assert tracks(capfd) == [NOTHING_NEW]
    assert all(uri.startswith(second.as_uri()) for (uri,) in rows(tmp_path, "select artifact_uri from runs"))


def test_of_runs_that_machines_made_at_once_all_but_the_oldest_are_marked(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    client = tracking.open_store(bench).client
    [(made, started, experiment)] = rows(
        bench, "select run_uuid, start_time, experiment_id from runs where name = 'toy_tanh'"
    )
    tags = {"bancada.fingerprint": "toy_tanh-f0"}
    younger, older = (client.create_run(str(experiment), started + by, tags).info.run_id for by in (1, -1))
    lines = tracks(capfd)
    assert lines[-1] == "0 runs new, 1 completed, 1 were complete, 2 marked as duplicates"
    marked = dict(rows(bench, "select run_uuid, value from tags where key = 'bancada.duplicate_of'"))
    assert marked == {made: older, younger: older}
    before = everything(bench)
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before
    client.delete_run(older)
    tracks(capfd)
    assert dict(rows(bench, "select run_uuid, value from tags where key = 'bancada.duplicate_of'")) == {younger: made}


def test_figures_of_other_models_are_not_written(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As after a training whose evaluation was cut off: dvc.lock knows of which models the evaluation is."""
    (bench / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  evaluate@toy:\n    deps:\n    - path: data/models/toy\n      md5: 0123.dir\n"
    )
    assert catching_up.track(all_experiments=False) == 0
    assert "data/evaluation/toy: not of these models" in capfd.readouterr().err
    assert artifacts_of_all(bench) == [WHOLE] * 2
    assert rows(bench, "select * from metrics where key like '%error_rate%'") == []


def test_a_damaged_model_is_named_and_does_not_keep_the_others_back(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (files.model("toy", "toy_adam") / "run.json").write_text("{")
    assert catching_up.track(all_experiments=False) == 2
    out, err = capfd.readouterr()
    assert err.startswith("data/models/toy/toy_adam: not the folder of a whole model: ")
    assert err.count("\n") == 1
    assert out.splitlines()[-1].startswith("1 runs new, ")


def test_a_new_evaluation_is_written_and_other_weights_leave_one_warning(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    train_variant("toy_tanh", weights=b"v")
    evaluate(error="1.25")
    assert "toy/toy_tanh: its tag bancada.warning, its evaluation -> " in tracks(capfd)[1]
    assert tracks(capfd) == [NOTHING_NEW]


# --- a store that cannot be used ------------------------------------------------------------------------------------


def command(folder: Path, *options: str, **told: str) -> subprocess.CompletedProcess[str]:
    (folder / "dvc.yaml").touch()
    return pipeline.run(folder, sys.executable, "-m", "bancada", "track", *options, **told)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_server_that_does_not_answer_costs_one_line_without_credentials(bench: Path, hangs: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not hangs:
            server.close()
        began = time.monotonic()
        done = command(bench, MLFLOW_TRACKING_URI=f"http://me:s3cret@127.0.0.1:{port}")
    assert time.monotonic() - began < 16  # 8 s, and Python's and mlflow's start
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"MLflow's store http://127.0.0.1:{port} cannot be written to: ")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("uri", ["nonsense://me:s3cret@host/x", "sqlite//x.db"])
def test_a_store_of_no_known_kind_is_bad_input(bench: Path, uri: str) -> None:
    done = command(bench, MLFLOW_TRACKING_URI=uri)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("MLFLOW_TRACKING_URI = ")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


def test_a_locked_file_is_told_in_one_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "LOCK_PATIENCE_S", 0.2)
    with closing(sqlite3.connect(bench / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert catching_up.track(all_experiments=False) == 1
    said = "cannot be written to: OperationalError: database is locked"
    assert capfd.readouterr().err == f"MLflow's store sqlite:///{bench}/mlflow.db {said}\n"


# --- the real pipeline ----------------------------------------------------------------------------------------------


def test_clones_and_experiments_are_written_from_git_and_dvc_alone(tmp_path: Path) -> None:
    """One test, because all of it is shown on one small pipeline, that ran without tracking."""
    first = pipeline.clone_to(tmp_path / "first")
    pipeline.reproduce_and_commit(first)
    off = {"BANCADA_TRACKING": "off"}
    pipeline.succeeds(first, "dvc", "exp", "run", "--temp", "-n", "warm-cat", "-S", "lr=0.01", **off)
    fewer = "+variants.moons_tanh.train.epochs=2"
    pipeline.succeeds(first, "dvc", "exp", "run", "--temp", "-n", "cool-dog", "-S", fewer, **off)
    assert not (first / "mlflow.db").exists()
    a_fresh_clone_after_dvc_pull_has_every_result(first, tmp_path / "a fresh clone")
    experiments_get_runs_with_their_names(first)


def a_fresh_clone_after_dvc_pull_has_every_result(first: Path, clone: Path) -> None:
    pipeline.succeeds(first.parent, "git", "clone", "-q", str(first), str(clone))
    empty = command(clone)
    assert (empty.returncode, empty.stdout) == (0, "0 runs new, 0 completed, 0 were complete, 0 marked as duplicates\n")
    assert "dvc pull" in empty.stderr
    pipeline.succeeds(clone, "dvc", "remote", "add", "--local", "-d", "up", str(first / ".dvc/cache"))
    pipeline.succeeds(clone, "dvc", "pull")
    assert command(clone).stdout.splitlines()[-1].startswith("2 runs new, ")
    assert len(rows(clone, "select * from latest_metrics where key = 'test_error_rate_percent'")) == 2
    assert count(clone, "inputs") == 2 * 3
    before = everything(clone)
    again = command(clone)
    assert (again.stdout, again.stderr) == (f"{NOTHING_NEW}\n", "")
    assert everything(clone) == before


def experiments_get_runs_with_their_names(first: Path) -> None:
    done = command(first, "--all-exps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "5 runs new, 0 completed, 0 were complete, 0 marked as duplicates"
    names = rows(
        first,
        "select runs.name, lr.value, epochs.value, tags.value from runs"
        " join params lr on lr.run_uuid = runs.run_uuid and lr.key = 'lr'"
        " join params epochs on epochs.run_uuid = runs.run_uuid and epochs.key = 'epochs'"
        " join tags on tags.run_uuid = runs.run_uuid and tags.key = 'dvc.experiments'",
    )
    assert sorted((name, lr, epochs, tuple(json.loads(asked))) for name, lr, epochs, asked in names) == [
        ("moons_adam", "0.01", "3", ("warm-cat",)),
        ("moons_adam", "0.5", "3", ("cool-dog",)),  # which evaluated it anew beside its own moons_tanh
        ("moons_tanh", "0.01", "3", ("warm-cat",)),
        ("moons_tanh", "0.5", "2", ("cool-dog",)),
        ("moons_tanh", "0.5", "3", ()),
    ]
    assert len(rows(first, "select * from latest_metrics where key = 'test_error_rate_percent'")) == 5
    commit = pipeline.succeeds(first, "git", "rev-parse", "HEAD").strip()
    assert set(rows(first, "select value from tags where key = 'git.commit'")) == {(commit,)}
    [diff] = {path.read_text() for path in (first / "mlartifacts").rglob("git.diff") if "epochs: 2" in path.read_text()}
    assert "lr: 0.01" not in diff
    assert pipeline.succeeds(first, "git", "status", "--porcelain") == ""
    before = everything(first)
    again = command(first, "--all-exps")
    assert again.stdout == "0 runs new, 0 completed, 5 were complete, 0 marked as duplicates\n"
    assert everything(first) == before
