"""A small project whose stages compute nothing: they write a line, fail, or take their time.

DVC, `bancada repro` and their bookkeeping do not care what a stage computes.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PARAMS = """\
seed: 1
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  s:
    source: {kind: linear, rows: 20, weights: [1], bias: 0, noise_std: 0.1, seed: 1}
    split: {train: 1.0}
    metric: mse
    train: {loss: mse, lr: 0.1, epochs: 1, batch_size: 4}
variants:
  a: {study: s, layers: [1]}
  b: {study: s, layers: [1]}
"""

DVC_YAML = """\
stages:
  evaluate:
    foreach: ${studies}
    do:
      cmd: cat data/models/${key}/* > scores.csv
      deps: [data/models/s]
      params: ["studies.${key}"]
      outs: [scores.csv: {cache: false}]
  train:
    foreach: ${variants}
    do:
      cmd: python train.py ${key}
      deps: [data/split/s, train.py]
      params: [seed, num_seeds, lr, "variants.${key}"]
      outs: ["data/models/s/${key}"]
  split:
    foreach: ${studies}
    do:
      cmd: cp data/raw/${key} data/split/${key}
      deps: [data/raw/s]
      outs: [data/split/s]
  generate:
    foreach: ${studies}
    do:
      cmd: echo rows > data/raw/${key}
      params: ["studies.${key}.source"]
      outs: [data/raw/s]
"""

# Told by the environment to fail, or to take long.
TRAIN = """\
import os, sys, time
from pathlib import Path
name = sys.argv[1]
Path(f"{name}.started").write_text(str(os.getpid()))
if os.environ.get("FAIL") == name:
    print("data.csv: line 3 is the reason")
    sys.exit(int(os.environ["STATUS"]))
time.sleep(float(os.environ.get("SLEEP", 0)))
Path(f"data/models/s/{name}").write_text(f"trained {name}")
"""


def environment(**variables: str) -> dict[str, str]:
    ours = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "BANCADA_TRACKING": "off",
    }
    return {**os.environ, **ours, **variables}


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=120
    )


def bancada(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, "-m", "bancada", "repro", *options, **variables)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything but what DVC and git keep for themselves."""
    kept = [path for path in folder.rglob("*") if path.is_file() and not {".dvc", ".git"} & set(path.parts)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before anything ran; its path has a space."""
    folder = tmp_path_factory.mktemp("fresh") / "a project"
    for made in ("data/raw", "data/split", "data/models/s"):
        (folder / made).mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "train.py").write_text(TRAIN)
    (folder / ".gitignore").write_text("/data\n/scores.csv\n*.started\n")
    assert run(folder, "git", "init", "-q").returncode == 0
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    return folder


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fresh, tmp_path / "a project")


@pytest.fixture(scope="session")
def plain_lock(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The dvc.lock that plain `dvc repro` leaves."""
    folder = shutil.copytree(fresh, tmp_path_factory.mktemp("plain") / "a project")
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    return (folder / "dvc.lock").read_bytes()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until, f"{path.name} never came"
        time.sleep(0.02)


def ends(pid: int, within_s: float = 5) -> bool:
    """Return whether the process ends in time. A zombie has ended: it waits for its parent, which may be any."""
    with suppress(psutil.NoSuchProcess):  # it has ended
        process, until = psutil.Process(pid), time.monotonic() + within_s
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
    return True
