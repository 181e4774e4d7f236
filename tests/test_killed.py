"""SIGKILL at any moment: no half-written file is found where a whole one belongs, and the next run, without a hand for
any lock, ends in the bytes of a run that nothing disturbed."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest
import test_pipeline as pipeline

SEED = int(os.environ.get("KILL_SEED", "20261126"))  # another one tries other moments
PYTHON = (sys.executable, "-m")
TRAIN = (*PYTHON, "bancada.train", "line_adam")
EVALUATE = (*PYTHON, "bancada.evaluate", "line")
REPRO = (*PYTHON, "bancada", "repro", "-j", "2")
# Nothing is held out, which spares each split a second of imports.
PARAMS = """\
seed: 111
num_seeds: 2
lr: null
device: cpu
studies:
  line:
    source: {kind: linear, rows: 60, weights: [2, -3.4], bias: 4.2, noise_std: 0.01, seed: 5}
    split: {train: 1.0}
    metric: mse
    baseline: line_sgd
    train: {loss: mse, optimizer: {name: sgd}, lr: 0.05, batch_size: 20, epochs: 300}
variants:
  line_sgd: {study: line, layers: [1]}
  line_adam: {study: line, layers: [2, tanh, 1], train: {optimizer: {name: adam}}}
"""
OUTS = ("data/raw", "data/split", "data/models", "data/evaluation")
MODEL, EVALUATION = "data/models/line/line_adam", "data/evaluation/line"

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


@dataclass(frozen=True)
class Bench:
    """A small repository, and what an undisturbed run leaves in it."""

    root: Path
    known: dict[str, str]  # a hash of every out and of dvc.lock

    def copy(self, folder: Path) -> "Bench":
        return Bench(shutil.copytree(self.root, folder, symlinks=True), self.known)

    def start(self, command: Sequence[str], **told: str) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "BANCADA_"))}
        kept |= {"PATH": f"{pipeline.BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(self.root / "src")}
        kept |= {"BANCADA_TRACKING": "off"} | told
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.root, env=kept, start_new_session=True, **silent)

    def holds(self) -> dict[str, str]:
        """Every file that DVC would see."""
        found = [self.root / "dvc.lock", *(path for out in OUTS for path in (self.root / out).rglob("*"))]
        files = [path for path in found if path.is_file() and not is_hidden(path.relative_to(self.root))]
        return {str(path.relative_to(self.root)): digest(path) for path in files}

    def is_whole_or_not_there(self) -> None:
        """No file is half there, and no folder that a stage writes."""
        found = self.holds()
        for name, content in found.items():
            if name != "dvc.lock":  # that has fewer stages
                assert content == self.known[name], f"{name} is not what an undisturbed run leaves"
        for folder in (
            MODEL,
            "data/models/line/line_sgd",
            "data/evaluation/line/plots",
            "data/evaluation/line/metrics",
        ):
            inside = {name for name in self.known if name.startswith(f"{folder}/")}
            assert inside and inside & set(found) in (set(), inside), f"{folder} is half there"

    def ends_as_if_undisturbed(self, command: Sequence[str] = REPRO, **told: str) -> None:
        done = pipeline.run(self.root, *command, **{"BANCADA_TRACKING": "off"} | told)
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.holds() == self.known


def is_hidden(path: Path) -> bool:
    """As .dvcignore says; written anew, for what hides too much would hide a fault."""
    return any(part.startswith(".") and part.endswith((".unfinished", ".tmp")) for part in path.parts)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository before its first run."""
    root = pipeline.clone_to(tmp_path_factory.mktemp("killed") / "a clone")
    (root / "params.yaml").write_text(PARAMS)
    pipeline.succeeds(root, "git", "commit", "-qam", "a small line")
    return root


@pytest.fixture(scope="module")
def complete(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = shutil.copytree(empty, tmp_path_factory.mktemp("complete") / "a clone", symlinks=True)
    pipeline.succeeds(root, *REPRO, BANCADA_TRACKING="off")
    return Bench(root, Bench(root, {}).holds())


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
    print(f"KILL_SEED={SEED}: {process.args} killed after {after_s:.2f} s")
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
        if i % 4 > 1:  # else DVC restores what is not there
            shutil.rmtree(bench.root / ".dvc/cache", ignore_errors=True)
        bench.ends_as_if_undisturbed(("dvc", "repro", "-q") if i % 5 == 3 else REPRO)


def test_bancada_repro_killed_at_random_moments(complete: Bench, empty: Path, tmp_path: Path) -> None:
    """With its stages; and alone, so that the stages that it began go on."""
    whole_s = seconds(Bench(shutil.copytree(empty, tmp_path / "undisturbed", symlinks=True), {}), REPRO)
    for i, moment in enumerate(moments(REPRO, 10, whole_s)):
        bench = Bench(tmp_path / "a clone", complete.known)

        def start(bench: Bench = bench) -> subprocess.Popen[bytes]:
            shutil.rmtree(bench.root, ignore_errors=True)
            shutil.copytree(empty, bench.root, symlinks=True)
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


@pytest.mark.parametrize("there", [True, False])
def test_a_training_killed_before_each_step_of_its_writing(complete: Bench, tmp_path: Path, there: bool) -> None:
    """Over an older model, and where there is none."""
    bench, step = complete.copy(tmp_path / "a clone"), 0
    while True:
        if not there:
            shutil.rmtree(bench.root / MODEL, ignore_errors=True)
        if not kill_before(bench, TRAIN, "bancada.train", "data/models/line", step):
            break
        bench.is_whole_or_not_there()
        step += 1
    print(f"killed before each of {step} steps")
    assert step >= 4  # a folder, two files that Python opens, the folder's name; pyarrow's is not seen
    shutil.rmtree(bench.root / ".dvc/cache")
    bench.ends_as_if_undisturbed()


def test_an_evaluation_killed_before_a_step_of_its_writing(complete: Bench, tmp_path: Path) -> None:
    bench = complete.copy(tmp_path / "a clone")
    for step in random.Random(SEED).sample(range(20), 4):
        assert kill_before(bench, EVALUATE, "bancada.evaluate", EVALUATION, step)
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
