"""SIGKILL at any moment: no half-written file is found where a whole one belongs, and the next run, without a hand for
any lock, ends in the bytes of a run that nothing disturbed."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import clones
import psutil
import pytest
from line import EVALUATION, MODEL, PYTHON, REPRO, Bench

SEED = int(os.environ.get("KILL_SEED", "20261126"))  # another one tries other moments
TRAIN = (*PYTHON, "bancada.training.train", "line_adam")
EVALUATE = (*PYTHON, "bancada.evaluation.evaluate", "line")

# In the clone's src, where every Python of its stages reads it, and bancada: kills itself just before it does something
# to a file the Nth time. BEFORE is a part of its path.
KILL_BEFORE = """\
import os, signal, sys
from pathlib import Path

program, place, left = os.environ["KILLED"], os.environ["BEFORE"], int(os.environ["NTH"])
seen = 0
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod"}


def kill(event, args):
    global seen
    if event != "open" and event not in CHANGES:
        return
    if event == "open" and not (isinstance(args[1], str) and set(args[1]) & set("wax+") or args[2] & os.O_CREAT):
        return
    if not any(place in os.fsdecode(name) for name in args[:2] if isinstance(name, (str, bytes))):
        return
    if seen == left:
        os.kill(os.getpid(), signal.SIGKILL)
    seen += 1


if program in " ".join(sys.orig_argv):
    sys.addaudithook(kill)
"""


def seconds(bench: Bench, command: Sequence[str]) -> float:
    began = time.monotonic()
    assert bench.start(command).wait(120) == 0
    return time.monotonic() - began


def moments(command: Sequence[str], count: int, whole_s: float) -> Iterator[float]:
    """Random ones, spread over the time that the command takes: one in each of `count` equal parts."""
    chosen = random.Random(f"{SEED} {' '.join(command[1:])}")
    for part in chosen.sample(range(count), count):
        yield whole_s * (part + chosen.random()) / count


def kill(start: Callable[[], subprocess.Popen[bytes]], after_s: float, with_stages: bool = False) -> None:
    """SIGKILL to what `start` starts; sooner, where it has ended before, for a busy machine is now and then less so."""
    process = start()
    with suppress(subprocess.TimeoutExpired):
        assert process.wait(after_s) == 0
        return kill(start, after_s * 0.8, with_stages)
    stages = psutil.Process(process.pid).children(recursive=True) if with_stages else []
    for one in [process, *stages]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(stages, 10)
    print(f"KILL_SEED={SEED}: {process.args[2:]} killed after {after_s:.2f} s")
    return None


# --- at random moments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "out"), [(TRAIN, MODEL), (EVALUATE, EVALUATION)], ids=["train", "evaluate"])
def test_a_stage_killed_at_random_moments(complete: Bench, tmp_path: Path, command: tuple[str, ...], out: str) -> None:
    """Over the outs of an older run, and where there are none."""
    bench = complete.copy(tmp_path / "a clone")

    def start(there: bool) -> subprocess.Popen[bytes]:
        if not there:
            shutil.rmtree(bench.root / out)
        return bench.start(command)

    for i, moment in enumerate(moments(command, 10, seconds(bench, command))):
        kill(partial(start, there=i % 2 == 0), moment)
        bench.is_whole_or_not_there()
        if i % 5 == 4:  # else DVC restores what is not there
            shutil.rmtree(bench.root / ".dvc/cache", ignore_errors=True)
        bench.ends_as_if_undisturbed(("dvc", "repro", "-q") if i % 5 == 3 else REPRO)


def test_bancada_repro_killed_at_random_moments(complete: Bench, untouched: Path, tmp_path: Path) -> None:
    """With its stages; and alone, so that the stages that it began go on."""
    whole_s = seconds(Bench(shutil.copytree(untouched, tmp_path / "undisturbed", symlinks=True), {}), REPRO)
    for i, moment in enumerate(moments(REPRO, 10, whole_s)):
        bench = Bench(tmp_path / "a clone", complete.known)

        def start(bench: Bench = bench) -> subprocess.Popen[bytes]:
            shutil.rmtree(bench.root, ignore_errors=True)
            shutil.copytree(untouched, bench.root, symlinks=True)
            return bench.start(REPRO)

        kill(start, moment, with_stages=i % 2 == 0)
        bench.is_whole_or_not_there()
        bench.ends_as_if_undisturbed(("dvc", "repro", "-q") if i in (3, 4) else REPRO)


# --- just before each step of writing -------------------------------------------------------------------------------


def kill_before(bench: Bench, command: Sequence[str], program: str, place: str, nth: int) -> bool:
    """Whether it came to that."""
    hook = bench.root / "src/sitecustomize.py"
    hook.write_text(KILL_BEFORE)
    try:
        process = bench.start(command, KILLED=program, BEFORE=place, NTH=str(nth))
        return process.wait(120) == -signal.SIGKILL
    finally:
        hook.unlink()


def test_a_training_killed_before_each_step_of_its_writing(complete: Bench, tmp_path: Path) -> None:
    """Over an older model, whose folder has to make way."""
    bench, step = complete.copy(tmp_path / "a clone"), 0
    while kill_before(bench, TRAIN, "bancada.training.train", "data/models/line", step):
        bench.is_whole_or_not_there()
        step += 1
    print(f"killed before each of {step} steps")
    assert step >= 6  # of two folders and two files that Python opens; pyarrow's is not seen
    shutil.rmtree(bench.root / ".dvc/cache")
    bench.ends_as_if_undisturbed()


def test_an_evaluation_killed_before_a_step_of_its_writing(complete: Bench, tmp_path: Path) -> None:
    bench = complete.copy(tmp_path / "a clone")
    for step in random.Random(SEED).sample(range(20), 2):
        assert kill_before(bench, EVALUATE, "bancada.evaluation.evaluate", EVALUATION, step)
        print(f"KILL_SEED={SEED}: evaluate killed before step {step}")
        bench.is_whole_or_not_there()
        bench.ends_as_if_undisturbed()


@pytest.mark.parametrize("place", ["dvc.lock", "/rwlock", "order.json", ".dvc/cache", ".dvc/tmp"])
def test_bancada_repro_killed_before_a_step_of_its_bookkeeping(complete: Bench, tmp_path: Path, place: str) -> None:
    """While it takes up what stages left: dvc.lock, DVC's list of files in use, its own journal, the cache."""
    bench, step = complete.copy(tmp_path / "a clone"), random.Random(f"{SEED} {place}").randrange(12)
    for folder in ("data/models", ".dvc/cache"):
        shutil.rmtree(bench.root / folder)
    print(f"KILL_SEED={SEED}: bancada repro killed before step {step} on {place}")
    assert kill_before(bench, REPRO, "bancada repro", place, step)
    bench.is_whole_or_not_there()
    bench.ends_as_if_undisturbed()


# --- with tracking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_stages", [True, False], ids=["with all that it started", "alone"])
def test_where_a_tracked_repro_was_killed_no_run_stays_running(
    complete: Bench, empty_store: Path, tmp_path: Path, with_stages: bool
) -> None:
    bench = complete.copy(tmp_path / "a clone")
    shutil.copy(empty_store, bench.root / "mlflow.db")
    longer = (bench.root / "params.yaml").read_text().replace("epochs: 300", "epochs: 10000")
    (bench.root / "params.yaml").write_text(longer)  # a training that is shown while it runs
    process = bench.start(REPRO, BANCADA_TRACKING="on")
    until = time.monotonic() + 120
    while ("RUNNING",) not in statuses(bench):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    stages = psutil.Process(process.pid).children(recursive=True) if with_stages else []
    for one in [process, *stages]:
        one.kill()
    process.wait()
    done = clones.run(bench.root, *REPRO)
    assert (done.returncode, done.stderr.replace(WAITING, "")) == (0, "")
    assert statuses(bench) == [("FINISHED",)] * 2


WAITING = "waiting for another bancada repro, or for the stages of one that was killed, to end\n"


def statuses(bench: Bench) -> list[tuple[str]]:
    """Of all runs; none while the database is being made."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(bench.root / "mlflow.db")) as database:
        return database.execute("select status from runs").fetchall()
    return []
