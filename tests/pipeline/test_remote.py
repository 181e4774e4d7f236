"""Results shared through a DVC remote: whoever clones and pulls has them all, and nothing is left to run."""

import sys
from pathlib import Path

import clones


def test_push_clone_pull_and_nothing_is_left_to_run(repository: Path, tmp_path: Path) -> None:
    first, second = repository, tmp_path / "second clone"
    clones.succeeds(first, "dvc", "remote", "add", "-q", "-d", "shared", str(tmp_path / "a remote"))
    clones.succeeds(first, "git", "commit", "-q", "-am", "a remote")
    clones.succeeds(first, "dvc", "push", "-q")

    clones.succeeds(tmp_path, "git", "clone", "-q", str(first), str(second))
    assert not (second / "data/models").exists()
    clones.succeeds(second, "dvc", "pull", "-q")
    assert models(second) == models(first)
    assert clones.executed(clones.succeeds(second, "dvc", "repro")) == []
    assert "nothing to do: all 8 stages are up to date" in clones.succeeds(
        second, sys.executable, "-m", "bancada", "repro", BANCADA_TRACKING="off"
    )
    assert clones.succeeds(second, "git", "status", "--porcelain") == ""


def models(clone: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(clone)): path.read_bytes() for path in (clone / "data/models").rglob("*.*")}
    assert len(found) == 2 * 3  # of each variant: the weights, the history, the description
    return found
