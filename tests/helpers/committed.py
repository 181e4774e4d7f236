"""A small repository whose results are committed, made once; each test spoils a copy of its own."""

import os
import shutil
import sys
from pathlib import Path

import clones
import pytest
from clones import succeeds
from once import once

BANCADA = (sys.executable, "-m", "bancada")
MODEL = Path("data/models/moons/moons_tanh")
METRICS = Path("data/evaluation/moons/metrics/moons_tanh.json")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        root = clones.clone_to(folder / "a clone")
        succeeds(root, *BANCADA, "repro", "-q", BANCADA_TRACKING="off")
        commit(root)

    return once(tmp_path_factory, "committed", make) / "a clone"


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, too."""
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_TRACKING", "BANCADA_", "GIT_"))]:
        monkeypatch.delenv(name)
    root = shutil.copytree(made, tmp_path / "a copy", symlinks=True)
    monkeypatch.chdir(root)
    return root


def commit(root: Path, *paths: str) -> None:
    """These, or everything."""
    succeeds(root, "git", "add", *(paths or ["-A"]))
    succeeds(root, "git", "commit", "-q", "-m", "results")


def edit(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def hash_in_lock(root: Path, stage: str, kind: str, path: str) -> str:
    """What dvc.lock says of one of a stage's deps or outs."""
    entry = (root / "dvc.lock").read_text().split(f"  {stage}:\n")[1]
    return entry.split(f"    {kind}:\n")[1].split(f"- path: {path}\n")[1].split("md5: ")[1].split()[0]


def edit_lock(root: Path, stage: str, kind: str, path: str, new: str) -> None:
    """Let dvc.lock say another hash of one of a stage's deps or outs, and nowhere else."""
    head, entry = (root / "dvc.lock").read_text().split(f"  {stage}:\n")
    before, after = entry.split(f"    {kind}:\n", 1)
    old = hash_in_lock(root, stage, kind, path)
    place = after.index(f"- path: {path}\n")
    after = after[:place] + after[place:].replace(old, new, 1)
    (root / "dvc.lock").write_text(f"{head}  {stage}:\n{before}    {kind}:\n{after}")
