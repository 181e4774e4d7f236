"""Where a system has nothing but what Windows has, too, a small study runs, by both engines, to the same bits."""

import shutil
from pathlib import Path

import pytest
from clones import ROOT, run, succeeds
from committed import BANCADA, commit

from bancada.base import lockfile

HIDES = ROOT / "tests" / "helpers" / "without_unix.py"
VARIANT = "  moons_torch: {study: moons, layers: [3, tanh, 1, tanh], train: {engine: torch}}\n"


@pytest.fixture
def unix_hidden(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that have no fcntl, no os.fork, no os.killpg, no SIGHUP."""
    (tmp_path / "hides").mkdir()
    shutil.copy(HIDES, tmp_path / "hides" / "sitecustomize.py")
    return {"PYTHONPATH": str(tmp_path / "hides")}


def test_no_module_of_ours_sees_what_is_hidden(unix_hidden: dict[str, str], tmp_path: Path) -> None:
    """Else the other test shows nothing."""
    program = "import bancada.base.stage as s; print(hasattr(s.os, 'sched_getaffinity'), __import__('fcntl').__name__)"
    assert succeeds(tmp_path, "python", "-c", program, **unix_hidden).split() == ["False", "fcntl"]


@pytest.mark.long
def test_a_small_study_runs_without_unix(unix_hidden: dict[str, str], made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made, tmp_path / "a copy", symlinks=True)
    with (root / "params.yaml").open("a") as file:
        file.write(VARIANT)
    succeeds(root, *BANCADA, "repro", "-q", BANCADA_TRACKING="off")
    expected = lockfile.parse((root / "dvc.lock").read_text())
    commit(root)
    for folder in ("raw", "split", "models", "evaluation"):
        shutil.rmtree(root / "data" / folder)
    done = run(root, *BANCADA, "repro", "--force", BANCADA_REPLICAS="off", **unix_hidden)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moons_torch: torch engine" in done.stdout
    assert lockfile.parse((root / "dvc.lock").read_text()) == expected
    assert run(root, "git", "status", "--porcelain").stdout == ""
    assert "all that is here is as dvc.lock says" in succeeds(root, *BANCADA, "check", **unix_hidden)
