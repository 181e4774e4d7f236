"""`bancada repro` on a small pipeline: failure, interruption, and the dvc.lock that plain `dvc repro` leaves."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from idle import PARAMS, ROOT, bancada, ends, environment, files_of, run, wait_for

from bancada.base import lockfile
from bancada.cli import GOES_ON

CSV = "{kind: csv, path: data/sources/no.csv, task: regression, targets: [y]}"


def test_every_stage_runs_once_and_leaves_the_lock_of_plain_dvc(project: Path, plain_lock: bytes) -> None:
    shutil.copytree(ROOT / "data/evaluation/line", project / "data/evaluation/s")
    done = bancada(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "5 of 5 stages may have to run"
    assert done.stdout.splitlines()[-1] == "5 of 5 stages ran, 0 were up to date"
    assert re.search(r"^train@a: finished in [\d.]+ s; 3 of 5$", done.stdout, re.MULTILINE)
    assert "mlflow ui" in done.stdout
    sentence, board = "\ns: line_sgd is equivalent to line_scratch\n", "\n minus line_scratch "
    assert sentence in done.stdout
    assert board in done.stdout
    assert (project / "dvc.lock").read_bytes() == plain_lock
    assert "Running stage" not in run(project, "dvc", "repro").stdout

    below = project / "data" / "models"
    again = bancada(below).stdout
    assert "nothing to do: all 5 stages are up to date" in again
    assert sentence in again
    assert board not in again


def test_a_failing_stage_stops_what_depends_on_it_and_the_others_are_kept(project: Path, plain_lock: bytes) -> None:
    failed = bancada(project, FAIL="a", STATUS="1")
    assert failed.returncode == 1
    assert failed.stderr == (
        "\ntrain@a failed: exit status 1; its output stands above\n\nnot run, because they depend on it: evaluate@s\n"
    )
    said = failed.stdout.splitlines()
    assert said.index("data.csv: line 3 is the reason") == said.index("train@a: started") + 1
    assert "train@b: finished" in failed.stdout
    assert said[-1] == "3 of 5 stages ran, 1 failed, 1 not run, 0 were up to date"

    again = bancada(project)
    assert again.returncode == 0, again.stderr
    assert "train@a: finished" in again.stdout
    assert "train@b" not in again.stdout
    assert again.stdout.splitlines()[-1] == "2 of 5 stages ran, 3 were up to date"
    made = lockfile.parse((project / "dvc.lock").read_text())  # DVC writes entries in the order in which stages ran
    assert made == lockfile.parse(plain_lock.decode())


def test_a_stage_that_refuses_its_input_gives_exit_status_2(project: Path) -> None:
    refused = bancada(project, "train@a", FAIL="a", STATUS="2")
    assert refused.returncode == 2
    assert "line 3 is the reason" in refused.stdout


def test_a_stage_that_cannot_begin_says_why(project: Path) -> None:
    (project / "train.py").unlink()
    failed = bancada(project, "train@a")
    assert failed.returncode == 1
    assert "train@a: FAILED after" in failed.stdout
    assert failed.stderr.startswith("\ntrain@a failed: ")
    assert "train.py" in failed.stderr


def test_a_stage_that_a_signal_ended_names_the_signal(project: Path) -> None:
    (project / "train.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    killed = bancada(project, "train@a")
    assert killed.returncode == 1
    assert "\ntrain@a failed: killed by SIGKILL (often: out of memory); " in killed.stderr


def test_a_removed_out_comes_back_from_the_cache(project: Path) -> None:
    assert bancada(project, "train@a").returncode == 0
    (project / "data/models/s/a").unlink()
    assert "train@a: restored" in bancada(project, "train@a").stdout


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.long),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_the_next_run_goes_on_where_one_was_stopped(
    project: Path, plain_lock: bytes, sent: signal.Signals, status: int
) -> None:
    command = [sys.executable, "-m", "bancada", "repro"]
    options: dict[str, Any] = {"cwd": project, "env": environment(SLEEP="10"), "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as stopped:
        wait_for(project / "a.started")
        began = time.monotonic()
        stopped.send_signal(sent)
        assert stopped.wait(30) == status
        assert time.monotonic() - began < 5
    if sent != signal.SIGKILL:
        assert ends(int((project / "a.started").read_text()))
    assert not (project / "b.started").exists()

    again = bancada(project)
    assert again.returncode == 0, again.stderr
    assert "generate@s" not in again.stdout
    assert (project / "dvc.lock").read_bytes() == plain_lock


def test_ctrl_c_after_a_closed_terminal_kills_a_stage_that_is_deaf_to_the_first(project: Path) -> None:
    script = project / "train.py"
    script.write_text("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + script.read_text())
    command = [sys.executable, "-m", "bancada", "repro"]
    options: dict[str, Any] = {"cwd": project, "env": environment(SLEEP="60"), "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as stopped:
        wait_for(project / "a.started")
        stopped.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            stopped.wait(0.5)
        stopped.send_signal(signal.SIGINT)
        assert stopped.communicate(timeout=5)[1] == ""
        assert stopped.returncode == 129
    assert ends(int((project / "a.started").read_text()))


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.long)])
def test_after_two_signals_one_right_after_the_other_nothing_goes_on(project: Path, tmp_path: Path, count: int) -> None:
    """However short the time between them, which is 0 to 50 ms."""
    command = [sys.executable, "-m", "bancada", "repro"]
    assert bancada(project, "split@s").returncode == 0
    for i in range(count):
        folder = shutil.copytree(project, tmp_path / f"{i}")
        first, second = [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)][i % 2]
        options: dict[str, Any] = {"cwd": folder, "env": environment(SLEEP="30"), "stdout": subprocess.DEVNULL}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as stopped:
            wait_for(folder / "a.started")
            stopped.send_signal(first)
            time.sleep(0.05 * i / (count - 1))
            stopped.send_signal(second)
            said = stopped.communicate(timeout=15)[1]
        # Of two that arrive together, the system hands them to threads of its choice: either may be noted first.
        assert stopped.returncode in (130, 143), said
        assert said in ("", f"interrupted; {GOES_ON}\n")
        assert ends(int((folder / "a.started").read_text()))
        time.sleep(0.5)
        assert not (folder / "b.started").exists()
        assert "train@a" not in lockfile.parse((folder / "dvc.lock").read_text()).stages


HANGING = """\
import sys, time
from pathlib import Path


def hang(event, args):
    if event == "open" and str(args[0]).endswith(".dvc.lock.unfinished"):
        Path("hangs").write_text("hangs")
        time.sleep(1000)


if "bancada repro" in " ".join(sys.orig_argv):
    sys.addaudithook(hang)
"""


@pytest.mark.long
def test_a_dvc_that_hangs_does_not_keep_the_program(project: Path) -> None:
    hook = project.parent / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(HANGING)
    path = os.pathsep.join([str(hook.parent), environment()["PYTHONPATH"]])
    command = [sys.executable, "-m", "bancada", "repro"]
    options: dict[str, Any] = {"cwd": project, "env": environment(PYTHONPATH=path), "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as stopped:
        wait_for(project / "hangs")
        for _ in range(2):
            stopped.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert stopped.communicate(timeout=20)[1] == f"interrupted; {GOES_ON}\n"
        assert stopped.returncode == 130


# In the midst of DVC's writing, with the file already emptied: the signal comes before the first such moment at which
# another file exists.
SIGNAL_IN_BOOKKEEPING = """\
import json, os, sys
from pathlib import Path

dump, number, after = json.dump, int(os.environ["SIGNAL"]), Path(os.environ["AFTER"])


def interrupted(value, file, **options):
    if Path(file.name).name == "rwlock" and after.exists():
        json.dump = dump
        os.kill(os.getpid(), number)
    return dump(value, file, **options)


if "bancada repro" in " ".join(sys.orig_argv):
    json.dump = interrupted
"""


@pytest.mark.parametrize(
    ("sent", "after", "status", "ran"),
    [
        pytest.param(signal.SIGTERM, "data/raw/s", 143, 4, id="after the first stage"),
        pytest.param(signal.SIGINT, "b.started", 130, 1, id="before the last stage", marks=pytest.mark.long),
    ],
)
def test_a_signal_in_the_midst_of_dvcs_bookkeeping_is_no_failed_stage(
    project: Path, plain_lock: bytes, sent: signal.Signals, after: str, status: int, ran: int
) -> None:
    hook = project.parent / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(SIGNAL_IN_BOOKKEEPING)
    path = os.pathsep.join([str(hook.parent), environment()["PYTHONPATH"]])
    stopped = bancada(project, PYTHONPATH=path, SIGNAL=str(int(sent)), AFTER=after)
    said = f"interrupted; {GOES_ON}\n" if sent == signal.SIGINT else ""
    assert (stopped.returncode, stopped.stderr) == (status, said)
    done = bancada(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{ran} of 5 stages ran, {5 - ran} were up to date"
    assert (project / "dvc.lock").read_bytes() == plain_lock


@pytest.mark.parametrize(
    ("options", "old", "new", "said"),
    [
        ([], "num_seeds: 2", "num_seeds: 0", "params.yaml: num_seeds = 0"),
        ([], "train: 1.0}", "train: 0.7}", "params.yaml: studies.s.split"),
        ([], "source: {kind: linear, rows: 20,", "source: {kind: linear, rows: 3,", "batch_size = 4"),
        (
            [],
            "{kind: linear, rows: 20, weights: [1], bias: 0, noise_std: 0.1, seed: 1}",
            CSV,
            "data/sources/no.csv: No such file",
        ),
        (["train@c"], "", "", "train@c"),
        ([], "device: cpu", "device: cuda", "params.yaml: device = cuda: torch finds no GPU"),
        ([], "b: {study: s, layers: [1]}", "b: {study: s, layers: [1, tanh]}", "variants.b.layers: ends in tanh"),
        ([], "layers: [1]}\n  b:", "layers: [1], train: {init: {name: given, weights: [], biases: []}}}\n  b:", "init"),
        (
            [],
            "variants:",
            "  t: {source: {kind: sklearn, name: wine}, split: {train: 1.0}, metric: loss, train: {}}\nvariants:",
            "no variant",
        ),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    project: Path, options: list[str], old: str, new: str, said: str
) -> None:
    (project / "params.yaml").write_text(PARAMS.replace(old, new))
    before = files_of(project)
    refused = bancada(project, *options)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert said in refused.stderr
    assert files_of(project) == before


def test_the_models_of_variants_that_are_gone_are_named_in_one_line_and_stop_nothing(project: Path) -> None:
    for name in ("gone", "gone_too"):
        (project / "data" / "models" / "s" / name).mkdir(parents=True)
    ran = bancada(project, "train@a")
    todo = "no stage makes it; delete it, or make it an out in dvc.yaml"
    assert (ran.returncode, ran.stderr) == (0, f"data/models/s/gone, data/models/s/gone_too: {todo}\n")


def test_stages_whose_parameters_changed_after_they_ran_are_named(project: Path) -> None:
    (project / "late.sh").write_text("sed -i 's/^seed: 1/seed: 2/' params.yaml\n")
    with (project / "dvc.yaml").open("a") as file:
        file.write("  late:\n    cmd: sh late.sh\n    deps: [scores.csv]\n")
    ran = bancada(project)
    assert (ran.returncode, ran.stderr) == (1, "\nchanged while it ran, so run it again: train@a, train@b\n")


def test_what_only_dvc_understands_is_left_to_dvc(project: Path) -> None:
    """A stage that is always run, a comment in dvc.lock, and another pipeline in a subfolder."""
    with (project / "dvc.yaml").open("a") as file:
        file.write("  always:\n    cmd: echo again\n    always_changed: true\n    deps: [data/split/s]\n")
    (project / "nested").mkdir()
    (project / "nested" / "dvc.yaml").write_text("stages:\n  other:\n    cmd: echo 1 > out\n    outs: [out]\n")
    assert bancada(project).returncode == 0
    assert not (project / "nested" / "out").exists()
    lock = project / "dvc.lock"
    lock.write_text("# mine\n" + lock.read_text())
    again = bancada(project)
    assert (again.returncode, again.stderr) == (0, "")
    assert lock.read_text().startswith("# mine\nschema:")
    nested = bancada(project, "nested/dvc.yaml:other")
    assert nested.returncode == 0
    assert "other:" in (project / "nested" / "dvc.lock").read_text()
    assert "other:" not in lock.read_text()
