"""A small repository with one study, a line, and what an undisturbed run leaves in it: every stage takes seconds."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import clones
import pytest
from once import once

PYTHON = (sys.executable, "-m")
REPRO = (*PYTHON, "bancada", "repro")
# Nothing is held out, which spares each split a second of imports.
PARAMS = """\
seed: 111
num_seeds: 2
lr: null
engine: null
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


@dataclass(frozen=True)
class Bench:
    """A small repository, and what an undisturbed run leaves in it."""

    root: Path
    known: dict[str, str]  # a hash of every out and of dvc.lock

    def copy(self, folder: Path) -> "Bench":
        return Bench(shutil.copytree(self.root, folder, symlinks=True), self.known)

    def start(
        self, command: Sequence[str], stderr: int = subprocess.DEVNULL, **variables: str
    ) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "BANCADA_"))}
        kept |= {"PATH": f"{clones.BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(self.root / "src")}
        kept |= {"BANCADA_TRACKING": "off"} | variables
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": stderr}
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

    def ends_as_if_undisturbed(self, command: Sequence[str] = REPRO, **variables: str) -> None:
        done = clones.run(self.root, *command, **{"BANCADA_TRACKING": "off"} | variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.holds() == self.known


def is_hidden(path: Path) -> bool:
    """As .dvcignore says; written anew, for what hides too much would hide a fault."""
    return any(part.startswith(".") and part.endswith((".unfinished", ".tmp")) for part in path.parts)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository before its first run."""
    root = clones.clone_to(tmp_path_factory.mktemp("killed") / "a clone")
    (root / "params.yaml").write_text(PARAMS)
    clones.succeeds(root, "git", "commit", "-qam", "a small line")
    return root


@pytest.fixture(scope="session")
def complete(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    def make(folder: Path) -> None:
        root = shutil.copytree(untouched, folder / "a clone", symlinks=True)
        clones.succeeds(root, *REPRO, BANCADA_TRACKING="off")

    root = once(tmp_path_factory, "complete", make) / "a clone"
    return Bench(root, Bench(root, {}).holds())
