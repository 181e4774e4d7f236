"""Temporary clones and the files of a commit: of a project in a subfolder, whatever kind of clone the repository is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import run, succeeds
from committed import BANCADA, commit, edit

from bancada.base import lockfile
from bancada.base.git import commit_of
from bancada.pipeline.clone import clone_of, fetch_inputs

TABLE = "x,y\n1,2\n"
ALLOWED = ("git", "-c", "protocol.file.allow=always")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the folder `bench` of a repository: a table that DVC keeps, and one in a submodule; two commits."""
    base = tmp_path_factory.mktemp("clones")
    tables, folder = base / "tables", base / "a repository/bench"
    for root in (tables, folder.parent):
        root.mkdir()
        succeeds(root, "git", "init", "-q")
        succeeds(root, "git", "config", "uploadpack.allowFilter", "true")
        succeeds(root, "git", "config", "uploadpack.allowAnySHA1InWant", "true")
    (tables / "t.csv").write_text(TABLE)
    commit(tables)
    (folder / "data").mkdir(parents=True)
    succeeds(folder, "dvc", "init", "-q", "--subdir")
    for name, content in {"dvc.yaml": "stages: {}\n", "data/kept.csv": TABLE, "params.yaml": "seed: 1\n"}.items():
        (folder / name).write_text(content)
    succeeds(folder, "dvc", "add", "-q", "data/kept.csv")
    succeeds(folder, *ALLOWED, "submodule", "add", "-q", str(tables), "sources")
    commit(folder.parent)
    (folder / "params.yaml").write_text("seed: 2\n")
    commit(folder.parent)
    return folder


def itself(project: Path, to: Path) -> Path:
    return project


def worktree(project: Path, to: Path) -> Path:
    succeeds(project, "git", "worktree", "add", "-q", "--detach", str(to))
    succeeds(to, *ALLOWED, "submodule", "update", "-q", "--init")
    return to / "bench"


def cloned(*options: str) -> Callable[[Path, Path], Path]:
    def clone(project: Path, to: Path) -> Path:
        succeeds(project, *ALLOWED, "clone", "-q", *options, "--recurse-submodules", project.parent.as_uri(), str(to))
        return to / "bench"

    return clone


@pytest.mark.parametrize(
    "kind",
    [itself, worktree, cloned("--depth=1"), cloned("--filter=blob:none")],
    ids=["plain", "worktree", "shallow", "blobless"],
)
def test_a_commit_is_brought_back_with_what_dvc_and_submodules_keep(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path, Path], Path]
) -> None:
    here = kind(project, tmp_path / "of this kind")
    if here != project:
        succeeds(here, "dvc", "config", "--local", "cache.dir", str(project / ".dvc/cache"))
    monkeypatch.chdir(here)
    older = commit_of(here, "HEAD^")  # a shallow clone does not have it
    for rev, seed in [(commit_of(here), 2), *([(older, 1)] if older else [])]:
        with clone_of(here, rev, "test") as clone:
            assert (clone.root / "params.yaml").read_text() == f"seed: {seed}\n"
            assert (clone.root / "sources/t.csv").read_text() == TABLE
            fetch_inputs(clone)
            assert (clone.root / "data/kept.csv").read_text() == TABLE
        with lockfile.files_at(here, rev) as files:
            assert files.read_text("params.yaml") == f"seed: {seed}\n"
            assert files.read_text("data/kept.csv") == TABLE
            assert files.glob("data/*.csv") == ["data/kept.csv"]


@pytest.mark.long
def test_in_a_subfolder_experiments_are_found_and_results_come_out_again(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "a repository"
    root.mkdir()
    succeeds(root, "git", "clone", "-q", str(made), "bench")
    for folder in (".git", "data/evaluation"):
        assert (root / "bench" / folder).exists()
    (root / "bench/.git").rename(tmp_path / "git of before")
    bench = root / "bench"
    (bench / "data/sources/more.csv").write_text(TABLE)
    succeeds(root, "git", "init", "-q")
    succeeds(bench, "dvc", "add", "-q", "data/sources/more.csv")
    succeeds(bench, *BANCADA, "repro", "-q", BANCADA_TRACKING="off")
    commit(root)
    succeeds(bench, "dvc", "exp", "run", "-q", "--temp", "-n", "brave", "-S", "lr=0.02", BANCADA_TRACKING="off")
    shown = succeeds(bench, *BANCADA, "track", "--all-exps")
    assert "moons/moons_adam (brave): new run" in shown
    assert "same bits: all" in succeeds(bench, *BANCADA, "verify")
    edit(bench / "params.yaml", "seed: 111", "seed: 112", 1)
    shown = succeeds(bench, sys.executable, "-m", "bancada", "verify", "--stages", "split@moons")
    assert "• params.yaml" in shown
    assert run(bench, *BANCADA, "check").returncode == 1


@pytest.mark.parametrize("told", ["true", "false"])
def test_dvc_locks_in_a_temporary_clone_as_the_workspace_is_told_at_any_level(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """Where a file system has no flock, the user is advised to set it, and cannot set it in a temporary clone."""
    (tmp_path / "config").write_text(f"[core]\n    hardlink_lock = {told}\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    with clone_of(project, commit_of(project), "test") as clone:
        assert succeeds(clone.root, "dvc", "config", "core.hardlink_lock").strip().lower() == told
