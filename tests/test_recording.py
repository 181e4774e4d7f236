"""A stage's, and a whole run's, way to MLflow: nothing that goes wrong there is a reason for them to fail."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy.exc
from toy import SOURCE, count

from bancada import recorder, recording, tracking


def test_a_store_that_cannot_be_reached_costs_one_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with recording.recorded("train", "toy_tanh"):
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("bancada: train@toy_tanh is not recorded in MLflow: ")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_database_that_cannot_be_opened_is_given_up_soon(bench: Path) -> None:
    (bench / "mlflow.db").unlink()
    (bench / "mlflow.db").mkdir()
    began = time.monotonic()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="unable to open database file"):
        tracking.open_store(bench)
    assert time.monotonic() - began < 5


def test_a_stage_that_fails_is_not_recorded_and_does_not_wait(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), recording.recorded("train", "toy_tanh"):
        raise KeyboardInterrupt
    assert time.monotonic() - began < 2
    assert count(bench, "runs") == 0
    assert capfd.readouterr() == ("", "")


real_popen = subprocess.Popen


def test_a_recorder_that_hangs_is_given_up(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recording, "PATIENCE_S", 0.1)
    monkeypatch.setattr(recording.subprocess, "Popen", lambda command, **k: real_popen(["sleep", "60"], **k))
    with recording.recorded("evaluate", "toy"):
        pass
    assert (
        capfd.readouterr().err
        == "bancada: evaluate@toy is not recorded in MLflow: it took longer than 0.1 s; `bancada track` does it later\n"
    )


def test_tracking_off_starts_nothing(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setattr(recording.subprocess, "Popen", None)
    with recording.recorded("train", "toy_tanh"):
        pass
    assert count(bench, "runs") == 0


def test_what_the_stages_import_loads_nothing_heavy() -> None:
    code = "import sys, bancada.recording; sys.exit(bool({'mlflow', 'numpy', 'pydantic'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)


# --- beside a whole `bancada repro` ---------------------------------------------------------------------------------


def recorded_together(*stages: str) -> None:
    together = recorder.Recorder()
    together.start()
    for stage in stages:
        together.ended(stage, began_ms=5)
    together.close()


def test_one_recorder_takes_all_stages(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recorded_together("train@toy_tanh", "train@toy_adam", "evaluate@toy", "train@toy_tanh")
    assert count(bench, "runs") == 2
    run = tracking.find_run(tracking.open_store(bench), "toy", "toy_tanh-f0")
    assert run is not None
    assert run.info.start_time == 5
    assert run.data.metrics["test_error_rate_percent"] == 2.5
    assert run.data.tags["bancada.reproduced"] == "1"
    assert capfd.readouterr() == ("", "")


def test_a_recorder_that_dies_is_no_reason_for_a_run_to_fail(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dying = ["sh", "-c", "exec <&-; echo out of memory >&2; exit 7"]
    monkeypatch.setattr(recorder.subprocess, "Popen", lambda command, **k: real_popen(dying, **k))
    together = recorder.Recorder()
    together.start()
    assert together.process is not None
    together.process.wait(20)
    together.ended("train@toy_tanh", began_ms=5)
    together.close()
    said = "train@toy_tanh: out of memory; `bancada track` does it later"
    assert capfd.readouterr() == ("", f"bancada: not recorded in MLflow: {said}\n")


def test_stages_that_the_one_recorder_cannot_record_are_named_in_one_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    recorded_together("train@toy_tanh", "evaluate@toy")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("bancada: not recorded in MLflow: train@toy_tanh, evaluate@toy: ")
    assert err.endswith("; `bancada track` does it later\n")
    assert err.count("\n") == 1
    assert "secret" not in err
