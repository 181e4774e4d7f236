"""`bancada track`: whatever the files hold and MLflow does not, from the files alone, and nothing twice."""

import json
import os
import shutil
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from catching_up import EVALUATED, NOTHING_NEW, WHOLE, artifacts_of_all, everything, go_to, tracks
from toy import (
    NOBODY,
    PACKAGES,
    count,
    evaluate,
    fingerprint,
    folder_hash,
    md5,
    rows,
    split_hash,
    train_variant,
    write_code,
)

from bancada.base import BadInput, files, index, notify
from bancada.tracking import catch_up, mirror, store
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store
from bancada.tracking.surroundings import Origin


def test_results_of_an_outage_are_written_once_and_a_second_time_changes_nothing(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with notify.recorded("train@toy_tanh", files.model("toy", "toy_tanh")):
            pass
    assert "not recorded in MLflow: train@toy_tanh: " in capfd.readouterr().err
    lines = tracks(capfd)
    assert [line.split(" -> ")[0] for line in lines] == [
        "toy/toy_adam: new run, evaluation, description",
        "toy/toy_tanh: new run, evaluation, description",
        "toy: description and saved view",
        "2 runs new, 0 completed, 0 were complete",
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


def test_results_recorded_beside_their_stage_are_not_changed(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = open_store(bench)
    for variant in ("toy_tanh", "toy_adam", "toy_tanh"):
        Recorder(opened, Origin("brave-cat")).write(mirror.result(files.model("toy", variant)), began_ms=1)
    Recorder(opened, NOBODY).write_study("toy")
    before = everything(bench)
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before
    assert rows(bench, "select value from tags where key = 'bancada.reproduced'") == [("1",)]


def test_a_killed_recording_gets_only_the_steps_that_are_missing(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    result, opened = train_variant("toy_tanh", epochs=1500), open_store(bench)
    log_batch = type(opened.client).log_batch

    def dies_after_the_first_points(self: Any, *args: Any, **kwargs: Any) -> None:
        if count(bench, "metrics"):
            raise ConnectionError("gone")
        log_batch(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(type(opened.client), "log_batch", dies_after_the_first_points)
        Recorder(opened, NOBODY).write(result, began_ms=1)
    first = set(rows(bench, "select key, step, timestamp, value from metrics"))
    assert 0 < len(first) < 1602
    shutil.rmtree(files.evaluation("toy"))
    shutil.rmtree(files.model("toy", "toy_adam"))
    assert tracks(capfd)[0].startswith("toy/toy_tanh: missing parts -> ")
    assert rows(bench, "select status from runs") == [("FINISHED",)]
    assert count(bench, "metrics") == 5 * 320 + 2
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
    assert tracks(capfd)[-1] == "1 runs new, 0 completed, 1 were complete"
    assert not bench.exists()
    assert len(list((moved / "mlartifacts/toy").iterdir())) == 3


def test_a_copy_has_a_store_of_its_own_and_missing_artifacts_are_uploaded_again(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    before = everything(bench)
    copy = bench.with_name("copy")
    shutil.copytree(bench, copy, ignore=shutil.ignore_patterns("mlartifacts"))
    go_to(copy, monkeypatch)
    assert "toy/toy_tanh: 9 missing artifacts -> " in "\n".join(tracks(capfd))
    assert artifacts_of_all(copy) == [WHOLE | EVALUATED] * 2
    assert tracks(capfd) == [NOTHING_NEW]
    assert everything(bench) == before


def test_a_shared_store_does_not_follow_a_second_folder_while_the_first_exists(
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


def test_scores_are_written_as_far_as_the_models_that_are_here_are_those_of_the_index(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def why_left_out() -> str:
        assert catch_up.track(all_experiments=False) == 0
        return capfd.readouterr().err

    path = files.index("toy")
    path.parent.mkdir()
    path.write_text(json.dumps(index.of_models("toy", ["toy_tanh", "toy_adam"])))
    (bench / "dvc.lock").write_text(
        f"stages:\n  evaluate@toy:\n    deps:\n    - path: {path}\n      md5: {md5(path.read_bytes())}\n"
    )
    train_variant("toy_adam", weights=b"other")
    assert why_left_out().startswith(
        "data/evaluation/toy: left out, because it is not of the models in data/models/toy"
    )
    assert artifacts_of_all(bench) == [WHOLE] * 2
    assert rows(bench, "select * from metrics where key like '%error_rate%'") == []
    shutil.rmtree(files.model("toy", "toy_adam"))
    assert why_left_out() == ""
    assert rows(bench, "select count(*) from latest_metrics where key = 'test_error_rate_percent'") == [(1,)]
    path.write_text("{")
    assert "because it is not of the models" in why_left_out()


def test_a_damaged_model_is_named_and_the_others_are_recorded(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (files.model("toy", "toy_adam") / "run.json").write_text("{")
    assert catch_up.track(all_experiments=False) == 1  # something is not recorded
    out, err = capfd.readouterr()
    assert err.startswith("not recorded: data/models/toy/toy_adam: not a complete model folder: ")
    assert err.count("\n") == 1
    assert out.splitlines()[-1].startswith("1 runs new, ")


def test_a_new_evaluation_is_written_and_other_weights_leave_one_warning(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    train_variant("toy_tanh", weights=b"v")
    evaluate(error="1.25")
    assert "toy/toy_tanh: tag bancada.warning, evaluation, description -> " in tracks(capfd)[1]
    assert tracks(capfd) == [NOTHING_NEW]


def test_a_folder_without_results_prints_how_to_get_them(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(files.DATA / "models")  # as a fresh clone before `dvc pull`: the evaluations are kept in git
    assert catch_up.track(all_experiments=False) == 0
    out, err = capfd.readouterr()
    assert out == "0 runs new, 0 completed, 0 were complete\n"
    assert "dvc pull" in err
    assert count(bench, "runs") == 0


# --- which inputs a model was made from -----------------------------------------------------------------------------


def write_lock(variant: str, split: str, code: str, model: str) -> None:
    """A dvc.lock of one training, with these hashes."""
    paths = {files.split("toy"): split, files.code("train", variant): code, files.model("toy", variant): model}
    entries = [f"    - path: {path}\n      md5: '{digest}'\n" for path, digest in paths.items()]
    text = f"schema: '2.0'\nstages:\n  train@{variant}:\n    deps:\n{''.join(entries[:2])}    outs:\n{entries[2]}"
    scores = files.evaluation("toy") / "scores.csv"
    text += f"  evaluate@toy:\n    outs:\n    - path: {scores}\n      md5: {md5(scores.read_bytes())}\n"
    Path("dvc.lock").write_text(text)


def recorded_fingerprint(bench: Path, variant: str) -> str:
    [(found,)] = rows(
        bench,
        "select tags.value from tags join runs using (run_uuid)"
        f" where key = 'bancada.fingerprint' and name = '{variant}'",
    )
    return str(found)


def test_a_model_that_dvc_lock_names_has_the_inputs_that_it_names(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Though other files are beside it: it was trained on what dvc.lock says."""
    write_lock("toy_tanh", "0123.dir", "4567", folder_hash(files.model("toy", "toy_tanh")))
    tracks(capfd)
    assert recorded_fingerprint(bench, "toy_tanh") == fingerprint("toy_tanh", "0123.dir", "4567")
    assert recorded_fingerprint(bench, "toy_adam") == fingerprint("toy_adam")


def test_a_model_that_differs_from_dvc_lock_is_left_out_and_named(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_lock("toy_tanh", "0123.dir", "4567", "the hash of an older model.dir")
    assert catch_up.track(all_experiments=False) == 1
    assert capfd.readouterr().err.startswith(
        "not recorded: data/models/toy/toy_tanh: it is not the one that dvc.lock names; "
    )
    assert recorded_fingerprint(bench, "toy_adam") == fingerprint("toy_adam")
    assert count(bench, "runs") == 1


def test_a_model_that_dvc_lock_does_not_name_has_the_inputs_beside_it(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_lock("toy_adam", "0123.dir", "4567", folder_hash(files.model("toy", "toy_adam")))
    tracks(capfd)
    assert recorded_fingerprint(bench, "toy_tanh") == fingerprint("toy_tanh")


def test_the_versions_of_packages_are_those_of_the_code_that_it_was_trained_with(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_lock("toy_tanh", split_hash(), "4567", folder_hash(files.model("toy", "toy_tanh")))  # other code
    write_code("toy_adam", packages=PACKAGES | {"torch": "2.14.0"})
    tracks(capfd)
    versions = "select name, tags.value from tags join runs using (run_uuid) where key = 'bancada.torch'"
    assert rows(bench, versions) == [("toy_adam", "2.14.0")]  # those of toy_tanh are not known


# --- a store that cannot be used ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hangs", [False, True])
def test_a_server_that_does_not_answer_costs_one_line_without_credentials(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], hangs: bool
) -> None:
    assert 1 <= int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 9  # of the 10 s; here less, to save time
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@127.0.0.1:{port}")
        if not hangs:
            server.close()
        began = time.monotonic()
        assert catch_up.track(all_experiments=False) == 1
    assert time.monotonic() - began < 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"MLflow's store http://127.0.0.1:{port} cannot be written to: ")
    assert err.count("\n") == 1
    assert "s3cret" not in err


@pytest.mark.parametrize("uri", ["nonsense://me:s3cret@host/x", "./mlruns"])
def test_a_store_of_no_known_kind_is_bad_input(bench: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput) as refused:
        catch_up.track(all_experiments=False)
    assert str(refused.value).startswith("MLFLOW_TRACKING_URI = ")
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_another_program_writes_to_is_reported_soon(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert store.LOCK_PATIENCE_S < 10
    monkeypatch.setattr(store, "LOCK_PATIENCE_S", 0.2)
    with closing(sqlite3.connect(bench / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert catch_up.track(all_experiments=False) == 1
    reason = "cannot be written to: OperationalError: database is locked"
    assert capfd.readouterr().err == f"MLflow's store sqlite:///{bench}/mlflow.db {reason}\n"
