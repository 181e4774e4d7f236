"""Questions to git: a git that fails says why, and nothing is read as an empty answer."""

import os
import stat
from pathlib import Path

import pytest
from clones import succeeds

from bancada.base import BadInput, git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project in the folder `bench` of a repository."""
    folder = tmp_path / "a repository/bench"
    folder.mkdir(parents=True)
    succeeds(folder.parent, "git", "init", "-q")
    (folder / "dvc.lock").write_text("of the project\n")
    (folder.parent / "dvc.lock").write_text("of another project\n")
    succeeds(folder.parent, "git", "add", "-A")
    succeeds(folder.parent, "git", "commit", "-qm", "start")
    return folder


def replace_git(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let this shell script be the only `git` that is found."""
    program = folder / "bin/git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.parametrize("content", [b"garbage", b"", b"DIRC\0\0\0\2\0\0\0\1"], ids=["garbage", "empty", "cut off"])
def test_a_broken_index_is_an_error_with_the_reason(repository: Path, content: bytes) -> None:
    (repository.parent / ".git/index").write_bytes(content)
    with pytest.raises(BadInput, match=r"^git ls-files: .*index") as raised:
        git.refuse_broken(repository)
    assert "\n" not in str(raised.value)


def test_a_repository_that_git_refuses_names_the_way_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is how git's own tests let it take the repository for that of another user."""
    replace_git(repository, monkeypatch, 'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec git "$@"')
    way_out = f"type: git config --global --add safe.directory '{repository.parent}'$"
    for ask in (git.in_repository, git.commit_of, git.refuse_broken):
        with pytest.raises(BadInput, match=way_out.replace("'", "'?")):
            ask(repository)


def test_a_git_that_does_not_answer_is_an_error(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "PATIENCE_S", 0.2)
    replace_git(repository, monkeypatch, "exec sleep 20")
    with pytest.raises(BadInput, match=r"^git rev-parse: no answer in 0\.2 s$"):
        git.commit_of(repository)


def test_no_git_is_an_error_where_there_is_a_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(BadInput, match=r"^git, which must be on PATH: "):
        git.commit_of(repository)
    assert git.commit_of(tmp_path) == ""


def test_no_repository_and_no_commit_are_answers(tmp_path: Path) -> None:
    assert (git.in_repository(tmp_path), git.commit_of(tmp_path)) == (False, "")
    succeeds(tmp_path, "git", "init", "-q")
    assert (git.in_repository(tmp_path), git.commit_of(tmp_path)) == (True, "")


def test_a_repository_without_its_head_is_no_folder_without_a_repository(repository: Path) -> None:
    (repository.parent / ".git/HEAD").write_text("")
    with pytest.raises(BadInput, match=r"^git rev-parse: "):
        git.commit_of(repository)


def test_a_file_at_a_commit_is_the_one_of_the_project(repository: Path) -> None:
    commit = git.commit_of(repository)
    assert len(commit) == 40
    assert git.file_at(repository, commit, "dvc.lock") == "of the project\n"
    assert git.file_at(repository, commit, "dvc.yaml") == ""
    with pytest.raises(BadInput, match=r"^git ls-tree: "):
        git.file_at(repository, "0" * 40, "dvc.lock")


@pytest.mark.parametrize("content", ["garbage\n", "", "0123456789" * 4 + "\n"])
def test_a_broken_branch_is_not_told_as_a_repository_without_a_commit(repository: Path, content: str) -> None:
    branch = succeeds(repository, "git", "symbolic-ref", "HEAD").strip()
    for broken in (branch, "HEAD"):
        (repository.parent / ".git" / broken).write_text(content)
        with pytest.raises(
            BadInput, match=r"^git(:| rev-parse:| status:) .*(HEAD|not a git repository|bad object)"
        ) as raised:
            git.commit_of(repository)
        assert "\n" not in str(raised.value)


def test_a_broken_commit_is_not_told_as_a_missing_one(repository: Path) -> None:
    head = git.commit_of(repository)
    stored = repository.parent / ".git/objects" / head[:2] / head[2:]
    stored.chmod(0o644)
    stored.write_bytes(b"")
    for rev in ("HEAD", head):
        with pytest.raises(BadInput, match=r"^git rev-parse: .*(empty|corrupt)"):
            git.commit_of(repository, rev)
    assert git.commit_of(repository, "0" * 40) == ""
