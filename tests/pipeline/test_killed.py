"""SIGKILL at any moment: no half-written file takes the place of a complete one, and the next run, for
which nobody has to remove a lock, ends in the bytes of a run that nothing disturbed.

The stages are real where their own writing is tried. The bookkeeping of `bancada repro` is tried on stages that compute
nothing, because it does not care what they compute.
"""

import os
import random
import re
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
import idle
import psutil
import pytest
from line import EVALUATION, MODEL, PYTHON, REPRO, Bench

SEED = int(os.environ.get("KILL_SEED") or time.time_ns())  # each run tries other moments; a test prints its own
TRAIN = (*PYTHON, "bancada.training.train", "line_adam")
EVALUATE = (*PYTHON, "bancada.evaluation.evaluate", "line")
MOMENTS = 10

# In the clone's src, where every Python of its stages reads it, and bancada: kills itself just before it does something
# to a file the Nth time, or says at its end how often it did. BEFORE is a part of the file's path.
KILL_BEFORE = """\
import atexit, os, signal, sys
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
    atexit.register(lambda: sys.stderr.write(f"{seen} steps"))
"""


def seconds(bench: Bench, command: Sequence[str]) -> float:
    began = time.monotonic()
    assert bench.start(command).wait(120) == 0
    return time.monotonic() - began


def moments(command: Sequence[str], whole_s: float) -> Iterator[float]:
    """Random ones, spread over the time that the command takes: one in each of MOMENTS equal parts."""
    chosen = random.Random(f"{SEED} {' '.join(command[1:])}")
    for part in chosen.sample(range(MOMENTS), MOMENTS):
        yield whole_s * (part + chosen.random()) / MOMENTS


def kill(start: Callable[[], subprocess.Popen[bytes]], after_s: float, with_stages: bool = False) -> None:
    """SIGKILL to what `start` starts; sooner, where it has ended before, for a busy machine is now and then less so."""
    process = start()
    with suppress(subprocess.TimeoutExpired):  # it still runs, as it should
        assert process.wait(after_s) == 0
        return kill(start, after_s * 0.8, with_stages)
    stages = psutil.Process(process.pid).children(recursive=True) if with_stages else []
    for one in [process, *stages]:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            one.kill()
    process.wait()
    psutil.wait_procs(stages, 10)
    print(f"KILL_SEED={SEED}: {process.args[2:]} killed after {after_s:.2f} s")
    return None


# --- at random moments ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("command", "out"), [(TRAIN, MODEL), (EVALUATE, EVALUATION)], ids=["train", "evaluate"])
def test_a_stage_killed_at_random_moments(complete: Bench, tmp_path: Path, command: tuple[str, ...], out: str) -> None:
    """Over the outs of an older run, and where there are none."""
    bench = complete.copy(tmp_path / "a clone")

    def start(there: bool) -> subprocess.Popen[bytes]:
        if not there:
            shutil.rmtree(bench.root / out)
        return bench.start(command)

    for i, moment in enumerate(moments(command, seconds(bench, command))):
        kill(partial(start, there=i % 2 == 0), moment)
        bench.is_whole_or_not_there()
        if i % 5 == 4:  # else DVC restores what is not there
            shutil.rmtree(bench.root / ".dvc/cache", ignore_errors=True)  # it may not be there
        bench.ends_as_if_undisturbed(("dvc", "repro", "-q") if i % 5 == 3 else REPRO)


@pytest.mark.long
def test_bancada_repro_killed_at_random_moments(fresh: Path, plain_lock: bytes, tmp_path: Path) -> None:
    """With its stages, which do not wait for one that goes on, as those of bancada do."""
    undisturbed = shutil.copytree(fresh, tmp_path / "undisturbed")
    began = time.monotonic()
    assert idle.bancada(undisturbed).returncode == 0
    project, whole_s = tmp_path / "a project", time.monotonic() - began
    for i, moment in enumerate(moments(REPRO, whole_s)):

        def start() -> subprocess.Popen[bytes]:
            shutil.rmtree(project, ignore_errors=True)  # of the last turn, if there was one
            shutil.copytree(fresh, project)
            silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            return subprocess.Popen(REPRO, cwd=project, env=idle.environment(), start_new_session=True, **silent)

        kill(start, moment, with_stages=True)
        in_use = project / ".dvc/tmp/rwlock"  # DVC empties it before it writes it, and alone refuses an empty one
        plain = i % 2 and not (in_use.exists() and in_use.stat().st_size == 0)
        ends_as_if_undisturbed(project, plain_lock, ["dvc", "repro", "-q"] if plain else REPRO)


def ends_as_if_undisturbed(project: Path, plain_lock: bytes, command: Sequence[str] = REPRO) -> None:
    done = idle.run(project, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "dvc.lock").read_bytes() == plain_lock
    assert (project / "scores.csv").read_text() == "trained atrained b"


# --- just before each step of writing -------------------------------------------------------------------------------


Start = Callable[..., subprocess.Popen[bytes]]
NEVER = 10**9


def kill_before(start: Start, hook: Path, program: str, place: str, nth: int) -> bool:
    """Return whether the program was killed before its Nth step on a file of that place."""
    hook.write_text(KILL_BEFORE)
    try:
        return start(KILLED=program, BEFORE=place, NTH=str(nth)).wait(120) == -signal.SIGKILL
    finally:
        hook.unlink()


def steps(start: Start, hook: Path, program: str, place: str) -> int:
    """Return how many steps the program takes on files of that place, in a run that nothing disturbs."""
    hook.write_text(KILL_BEFORE)
    process = start(KILLED=program, BEFORE=place, NTH=str(NEVER), stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=120)
    hook.unlink()
    return int(re.findall(rb"(\d+) steps", errors)[-1])


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.long)])
def test_a_training_killed_before_the_steps_of_its_writing(complete: Bench, tmp_path: Path, every: int) -> None:
    """Over an older model, whose folder has to make way."""
    bench = complete.copy(tmp_path / "a clone")
    start, hook = partial(bench.start, TRAIN), bench.root / "src/sitecustomize.py"
    count = steps(start, hook, "bancada.training.train", "data/models/line")
    assert count >= 6  # of two folders and two files that Python opens; pyarrow's is not seen
    models = bench.root / "data/models/line"
    older = shutil.copytree(models, tmp_path / "older")
    for step in range(SEED % every, count, every):
        shutil.rmtree(models)  # a kill may have left none
        shutil.copytree(older, models)
        assert kill_before(start, hook, "bancada.training.train", "data/models/line", step)
        print(f"KILL_SEED={SEED}: train killed before step {step} of {count}")
        bench.is_whole_or_not_there()
    shutil.rmtree(bench.root / ".dvc/cache")
    bench.ends_as_if_undisturbed()


@pytest.mark.long
def test_an_evaluation_killed_before_a_step_of_its_writing(complete: Bench, tmp_path: Path) -> None:
    bench = complete.copy(tmp_path / "a clone")
    start, hook = partial(bench.start, EVALUATE), bench.root / "src/sitecustomize.py"
    for step in random.Random(SEED).sample(range(steps(start, hook, "bancada.evaluation.evaluate", EVALUATION)), 2):
        assert kill_before(start, hook, "bancada.evaluation.evaluate", EVALUATION, step)
        print(f"KILL_SEED={SEED}: evaluate killed before step {step}")
        bench.is_whole_or_not_there()
        bench.ends_as_if_undisturbed()


LONG = [pytest.param(place, marks=pytest.mark.long) for place in (".dvc/cache", ".dvc/tmp")]


@pytest.mark.parametrize("place", ["dvc.lock", "/rwlock", *LONG])
def test_bancada_repro_killed_before_a_step_of_its_bookkeeping(project: Path, plain_lock: bytes, place: str) -> None:
    """While it takes up what stages left: dvc.lock, DVC's list of files in use, the cache, its temporary files."""
    undisturbed, hook = shutil.copytree(project, project.parent / "undisturbed"), project.parent / "sitecustomize.py"

    def start(folder: Path = project, stderr: int = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[bytes]:
        variables["PYTHONPATH"] = os.pathsep.join([str(hook.parent), idle.environment()["PYTHONPATH"]])
        return subprocess.Popen(
            REPRO, cwd=folder, env=idle.environment(**variables), stdout=subprocess.DEVNULL, stderr=stderr
        )

    count = steps(partial(start, undisturbed), hook, "bancada repro", place)
    step = random.Random(f"{SEED} {place}").randrange(count)
    print(f"KILL_SEED={SEED}: bancada repro killed before step {step} of {count} on {place}")
    assert kill_before(start, hook, "bancada repro", place, step)
    ends_as_if_undisturbed(project, plain_lock, ["dvc", "repro", "-q"] if place == "dvc.lock" else REPRO)


@pytest.mark.parametrize("left", ["", '{"read": {"a": ['])
def test_a_list_of_files_in_use_that_was_cut_off_is_no_obstacle(project: Path, plain_lock: bytes, left: str) -> None:
    """DVC empties the file before it writes it: a process that is killed in between leaves it so."""
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").write_text(left)
    ends_as_if_undisturbed(project, plain_lock)


def test_a_folder_of_the_run_cache_that_holds_no_run_is_no_obstacle(project: Path, plain_lock: bytes) -> None:
    """DVC makes the folder before it writes the run: a process that is killed in between leaves it empty."""
    assert idle.bancada(project).returncode == 0
    runs = list((project / ".dvc/cache/runs").glob("*/*/*"))
    assert runs
    for run in runs:
        run.unlink()
    for made in ("dvc.lock", "scores.csv"):
        (project / made).unlink()
    ends_as_if_undisturbed(project, plain_lock)


# --- with tracking --------------------------------------------------------------------------------------------------


@pytest.mark.long
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
    assert (done.returncode, re.sub(WAITING, "", done.stderr)) == (0, "")
    assert statuses(bench) == [("FINISHED",)] * 3  # two trainings and the report


WAITING = r"train@\w+: waiting for a process that runs this stage to end\n"


def statuses(bench: Bench) -> list[tuple[str]]:
    """Of all runs; none while the database is being made."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(bench.root / "mlflow.db")) as database:
        return database.execute("select status from runs").fetchall()
    return []
