"""What a run says of git: the commit, whether anything was not committed, and the exact difference, or why not."""

from pathlib import Path

import pytest
from clones import run, succeeds

from bancada.base import git
from bancada.tracking import surroundings

LATIN = "# Größe\nn = 1\n".encode("latin-1")
SETTINGS = ("diff.context=0", "diff.relative=true", "diff.noprefix=true", "diff.submodule=log", "color.diff=always")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project in a subfolder of a repository, all committed."""
    folder = tmp_path / "a repository/bench"
    folder.mkdir(parents=True)
    succeeds(folder.parent, "git", "init", "-q")
    (folder / "params.yaml").write_text("lr: null # see git+ssh://git@example.org/x\nseed: 1\n")
    (folder / "latin.py").write_bytes(LATIN)
    (folder.parent / "elsewhere.txt").write_text("of no concern\n")
    commit(folder.parent)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return folder


def commit(root: Path) -> None:
    succeeds(root, "git", "add", "-A")
    succeeds(root, "git", "commit", "-qm", "all")


def test_files_as_committed_are_clean_whatever_lies_elsewhere_in_the_repository(bench: Path) -> None:
    (bench.parent / "elsewhere.txt").write_text("changed\n")
    found = surroundings.origin()
    assert (found.clean, found.diff, found.problem) == (True, b"", "")
    assert found.tags()["git.clean"] == "true"
    assert found.tags()["git.commit"] == succeeds(bench, "git", "rev-parse", "HEAD").strip()


def test_a_diff_brings_back_every_byte_whatever_the_user_has_set(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's name in a URI is no credential, and a value of the environment that does not occur is no matter."""
    monkeypatch.setenv("HF_TOKEN", "not in it")
    for setting in SETTINGS:
        succeeds(bench, "git", "config", *setting.split("=", 1))
    changed = {"params.yaml": b"lr: 0.1 # see git+ssh://git@example.org/x\r\nseed: 1\n", "latin.py": LATIN + b"\xe4\n"}
    for name, content in changed.items():
        (bench / name).write_bytes(content)
    (bench / "unknown ü.py").write_text("new\n")
    found = surroundings.origin()
    first, patch = found.diff.split(b"\n", 1)
    assert first.decode() == "# untracked: unknown ü.py"
    assert (found.clean, found.problem) == (False, "")
    succeeds(bench, "git", "checkout", "-q", ".")
    (bench.parent / "patch").write_bytes(patch)
    succeeds(bench.parent, "git", "apply", "patch")
    assert {name: (bench / name).read_bytes() for name in changed} == changed


@pytest.mark.parametrize(
    "added",
    [
        "key: hunter22",
        "uri: postgresql://me:secret@db.example.org/x",
        "uri: https://db.example.org/x?user=me&password=s",
        "uri: https://ghp_0123456789abcdefghijABCDEFGHIJ@example.org/x",
        "note: s/cret is it",
    ],
)
def test_a_diff_with_a_credential_is_not_kept_and_the_run_says_so(
    bench: Path, monkeypatch: pytest.MonkeyPatch, added: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter22")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s/cret@db.example.org/x")
    (bench / "params.yaml").write_text(f"lr: null\n{added}\n")
    found = surroundings.origin()
    assert (found.clean, found.diff) == (False, b"")
    why = "it holds a password or a token"
    assert found.problem == f"git.diff is left out, so the run cannot be reproduced: {why}"
    assert found.tags()["git.problem"] == found.problem
    assert found.tags()["git.clean"] == "false"


def test_a_diff_that_is_too_long_is_not_cut(bench: Path) -> None:
    (bench / "params.yaml").write_text("x\n" * surroundings.MOST_DIFF)
    found = surroundings.origin()
    assert (found.clean, found.diff) == (False, b"")
    assert "bytes, more than 1,000,000" in found.problem


def test_a_submodule_with_changes_is_not_told_as_clean(bench: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    succeeds(tables, "git", "init", "-q")
    (tables / "t.csv").write_text("a,b\n1,2\n")
    commit(tables)
    allowed = ("git", "-c", "protocol.file.allow=always")
    succeeds(bench, *allowed, "submodule", "add", "-q", str(tables), "sources")
    commit(bench.parent)
    assert surroundings.origin().clean is True
    (bench / "sources/t.csv").write_text("a,b\n1,3\n")
    found = surroundings.origin()
    assert (found.clean, found.diff) == (False, b"")
    assert found.problem.endswith("a submodule is not as it was committed")


def test_what_git_cannot_say_is_unknown_and_never_clean(bench: Path) -> None:
    head = git.commit_of(bench)
    (bench.parent / ".git/index").write_bytes(b"garbage")
    found = surroundings.origin()
    assert found.tags()["git.commit"] == head
    assert found.tags()["git.clean"] == "unknown"
    assert found.tags()["git.problem"].startswith("git.clean is recorded as unknown: git diff: ")
    assert "mlflow.source.git.dirty" not in found.tags()
    (bench.parent / ".git/HEAD").write_text("")
    tags = surroundings.origin().tags()
    assert (tags["git.commit"], tags["git.clean"]) == ("unknown", "unknown")
    assert tags["git.problem"].startswith("the commit is recorded as unknown: git rev-parse: ")


def test_a_folder_without_a_repository_says_nothing_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, "git", "status").returncode == 128
    assert surroundings.origin().tags() == {}
    assert surroundings.experiments() == []
