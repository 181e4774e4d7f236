"""The process beside a stage or a run of the pipeline: whatever goes wrong in it, they do not fail."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy.exc
from toy import SOURCE, costs_one_line, count, fingerprint, rows, train_variant

from bancada.base import files, notify
from bancada.tracking import surroundings
from bancada.tracking.experiments import find_run
from bancada.tracking.store import open_store
from bancada.training import live

MODEL = files.model("toy", "toy_tanh")


def test_a_store_that_cannot_be_reached_costs_one_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with notify.recorded("train@toy_tanh", MODEL):
        pass
    costs_one_line(capfd, "train@toy_tanh", "secret")


def test_a_database_that_cannot_be_opened_raises_soon(bench: Path) -> None:
    (bench / "mlflow.db").unlink()
    (bench / "mlflow.db").mkdir()
    began = time.monotonic()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="unable to open database file"):
        open_store(bench)
    assert time.monotonic() - began < 5


def test_a_live_file_that_cannot_be_read_costs_no_result(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    live.path_of("toy_tanh").mkdir(parents=True)
    with notify.recorded("train@toy_tanh", MODEL):
        pass
    assert capfd.readouterr() == ("", "")
    assert rows(bench, "select name, status from runs") == [("toy_tanh", "FINISHED")]


def test_a_stage_that_fails_is_not_recorded_and_does_not_wait(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), notify.recorded("train@toy_tanh", MODEL):
        raise KeyboardInterrupt
    assert time.monotonic() - began < 2
    assert count(bench, "runs") == 0
    assert capfd.readouterr() == ("", "")


real_popen = subprocess.Popen


def test_a_stage_does_not_wait_for_a_listener_that_hangs(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notify, "SILENCE_S", 0.1)
    monkeypatch.setattr(notify.subprocess, "Popen", lambda command, **k: real_popen(["sleep", "60"], **k))
    with notify.recorded("evaluate@toy", files.evaluation("toy")):
        pass
    reason = "evaluate@toy: the store did not answer in time; `bancada track` does it later"
    assert capfd.readouterr().err == f"bancada: not recorded in MLflow: {reason}\n"


def test_a_stage_waits_for_a_listener_that_works(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a busy machine mlflow alone may take longer to load than a silent listener is waited for."""
    monkeypatch.setattr(notify, "SILENCE_S", 1.0)
    busy = "import time\nwhile time.process_time() < 2: pass\nprint('recorded evaluate@toy')"
    monkeypatch.setattr(notify.subprocess, "Popen", lambda command, **k: real_popen([sys.executable, "-c", busy], **k))
    with notify.recorded("evaluate@toy", files.evaluation("toy")):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_lock_is_waited_for_while_its_holder_makes_progress(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "LOCK_PATIENCE_S", 0.4)
    monkeypatch.setattr(surroundings, "LOOK_S", 0.05)
    held, ended = threading.Event(), threading.Event()

    def hold(progress: int) -> None:
        with surroundings.store_lock(bench):
            held.set()
            for _ in range(progress):
                time.sleep(0.1)
                surroundings.note_progress(bench)
            ended.wait(20)

    for progress in (12, 0):
        held.clear()
        ended.clear()
        holder, signs = threading.Thread(target=hold, args=(progress,)), list[float]()
        holder.start()
        held.wait()
        began = time.monotonic()
        try:
            with (
                pytest.raises(TimeoutError, match="bancada-tracking"),
                surroundings.store_lock(bench, on_progress=lambda: signs.append(time.monotonic())),  # noqa: B023  (called in this turn alone)
            ):
                pass
        finally:
            ended.set()
            holder.join()
        assert time.monotonic() - began > 0.1 * progress
        assert (len(signs) > 3) == (progress > 0)


@pytest.mark.long
def test_eight_stages_that_end_at_once_on_a_busy_machine_are_all_recorded(bench: Path) -> None:
    for i in range(8):
        train_variant(f"v{i}", epochs=1500)
    code = "import sys\nfrom bancada.base import files, notify\n" + (
        "with notify.recorded('train@' + sys.argv[1], files.model('toy', sys.argv[1])): pass"
    )
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        stages = [
            subprocess.Popen([sys.executable, "-c", code, f"v{i}"], stderr=subprocess.PIPE, env=environment)
            for i in range(8)
        ]
        assert [stage.communicate()[1] for stage in stages] == [b""] * 8
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert rows(bench, "select status, count(*) from runs") == [("FINISHED", 8)]


def test_tracking_off_starts_nothing(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setattr(notify.subprocess, "Popen", None)
    with notify.recorded("train@toy_tanh", MODEL):
        pass
    assert count(bench, "runs") == 0


def test_what_the_stages_import_loads_nothing_heavy() -> None:
    code = "import sys, bancada.base.notify; sys.exit(bool({'mlflow', 'numpy', 'pydantic'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)


def test_credentials_of_the_environment_are_removed_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s3/cr@et@host/db")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2")
    reason = notify.without_credentials("postgresql://me:s3/cr@et@host/db: no; http://a:b@c/d; token hunter2")
    assert reason == "postgresql://host/db: no; http://c/d; token ***"


# --- beside a whole `bancada repro` ---------------------------------------------------------------------------------


def folder_of(stage: str) -> Path:
    kind, _, name = stage.partition("@")
    return files.model("toy", name) if kind == "train" else files.evaluation(name)


def recorded_together(*stages: str) -> None:
    together = notify.Notifier()
    for stage in stages:
        together.tell("began", stage)
    for stage in stages:
        together.tell("ended", stage, folder_of(stage))
    together.close()


def test_one_listener_records_all_stages(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began_ms = time.time_ns() // 1_000_000
    recorded_together("train@toy_tanh", "train@toy_adam", "evaluate@toy", "train@toy_tanh")
    ended_ms = time.time_ns() // 1_000_000
    assert count(bench, "runs") == 2
    run = find_run(open_store(bench), "toy", fingerprint("toy_tanh"))
    assert run is not None
    assert began_ms <= run.info.start_time <= ended_ms
    assert run.data.metrics["test_error_rate_percent"] == 2.5
    assert run.data.tags["bancada.reproduced"] == "1"
    assert capfd.readouterr() == ("", "")


def test_a_result_that_cannot_be_read_stops_no_other(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (MODEL / "run.json").write_text("{")
    recorded_together("train@toy_tanh", "train@toy_adam", "evaluate@toy")
    assert rows(bench, "select name, status from runs") == [("toy_adam", "FINISHED")]
    assert rows(bench, "select value from latest_metrics where key = 'test_error_rate_percent_median'") == [(50.0,)]
    out, err = capfd.readouterr()
    assert out == ""
    first, second = sorted(err.splitlines())
    why = "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert second == f"bancada: not recorded in MLflow: train@toy_tanh: {why}; `bancada track` does it later"
    assert first == f"bancada: not recorded in MLflow: evaluate@toy: toy/toy_tanh: {why}; `bancada track` does it later"


def test_files_of_stages_that_did_not_run_are_recorded_and_confirm_nothing(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    together = notify.Notifier()
    for _ in range(2):
        together.tell("ended", "train@toy_tanh", MODEL)
        together.tell("ended", "evaluate@toy", files.evaluation("toy"))
    together.close()
    run = find_run(open_store(bench), "toy", fingerprint("toy_tanh"))
    assert run is not None
    assert run.data.metrics["test_error_rate_percent"] == 2.5
    assert "bancada.reproduced" not in run.data.tags
    assert count(bench, "runs") == 2
    assert capfd.readouterr() == ("", "")


def test_a_listener_that_dies_does_not_let_a_run_fail(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dying = ["sh", "-c", "exec <&-; echo out of memory >&2; exit 7"]
    monkeypatch.setattr(notify.subprocess, "Popen", lambda command, **k: real_popen(dying, **k))
    together = notify.Notifier()
    together.tell("began", "train@toy_tanh")
    assert together.process is not None
    together.process.wait(20)
    together.tell("ended", "train@toy_tanh", MODEL)
    together.close()
    reason = "train@toy_tanh: out of memory; `bancada track` does it later"
    assert capfd.readouterr() == ("", f"bancada: not recorded in MLflow: {reason}\n")


def test_all_stages_that_are_not_recorded_are_named_in_one_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    recorded_together("train@toy_tanh", "evaluate@toy")
    costs_one_line(capfd, "train@toy_tanh, evaluate@toy", "secret")
