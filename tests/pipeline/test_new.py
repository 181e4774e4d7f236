"""`bancada new FOLDER` makes a project whole or not at all, and `--upgrade` keeps what the user has changed in it."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from zipfile import ZipFile

import pytest

from bancada.base import BadInput, syntax
from bancada.pipeline import code, new, requirements
from bancada.pipeline.params import load
from bancada.pipeline.wheel import packed

ROOT = Path(__file__).parents[2]
WHEEL = "bancada-0.1.0-py3-none-any.whl"


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a space in its path; git knows no user here, and ignores what it can."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "a home").mkdir()
    (tmp_path / "ignored").write_text("*.lock\nvendor/\n.*\n")
    (tmp_path / ".gitconfig").write_text(
        f"[user]\n useConfigOnly = true\n[core]\n excludesFile = {tmp_path}/ignored\n autocrlf = true\n"
        "[commit]\n gpgSign = true\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "a home")
    return tmp_path / "a home"


@pytest.mark.parametrize("name", ["meu projeto", "a-b", "ação", "1x", "class", "torch"])
def test_a_project_has_the_files_of_the_list_and_one_commit(home: Path, name: str) -> None:
    new.new(Path(name))
    project = home / name
    listed = {*new.OF_BANCADA, *new.OF_THE_USER, "requirements.lock", f"vendor/{WHEEL}"}
    made = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert {path for path in made if not path.startswith(".git/")} == listed
    assert listed >= {".dvcignore", ".gitattributes", ".gitignore", ".dvc/config", "data/sources/.gitkeep"}
    assert set(git(project, "ls-files", "-z").split("\0")) - {""} == listed
    assert git(project, "status", "--porcelain") == ""
    assert len(git(project, "log", "--format=%h").splitlines()) == 1
    assert not [path for path in listed if not path.endswith(".whl") and b"\r" in (project / path).read_bytes()]
    assert (project / "README.md").read_text().startswith(f"# {name}\n")
    assert [*home.iterdir()] == [project]
    assert load(project / "params.yaml").variants


def test_the_lock_has_the_hash_of_the_wheel_and_no_path(home: Path) -> None:
    new.new(Path("mine"))
    text = Path("mine/requirements.lock").read_text()
    digest = hashlib.sha256(Path("mine/vendor", WHEEL).read_bytes()).hexdigest()
    assert f"bancada==0.1.0 \\\n    --hash=sha256:{digest}\n" in text
    assert "/" not in re.sub("#.*", "", text)
    assert requirements.pinned(Path("mine/requirements.lock"))["bancada"] == "0.1.0"


def test_the_packages_of_a_project_are_those_of_our_own_lock() -> None:
    ours, theirs = (
        re.split(r"^(?=[a-z])", path.read_text(), flags=re.MULTILINE)
        for path in (ROOT / "requirements.lock", ROOT / "src" / new.TEMPLATE / "requirements.lock")
    )
    assert set(theirs) < set(ours)
    assert {"ruff", "mypy"}.isdisjoint(requirements.pinned(ROOT / "src" / new.TEMPLATE / "requirements.lock"))


def refused(folder: str, *words: str) -> None:
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(BadInput) as error:
        new.new(Path(folder))
    assert all(word in str(error.value) for word in words)
    assert sorted(Path.cwd().rglob("*")) == before


def test_what_is_there_is_not_touched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years")
    Path("file").write_text("a file")
    for name in ("full", "file", "."):
        refused(name, "is here already")
    monkeypatch.setenv("PATH", str(home))
    refused("other", "git")


def test_a_project_inside_another_repository_has_one_of_its_own(home: Path) -> None:
    git(home, "init", "-q")
    Path("empty").mkdir()
    new.new(Path("empty"))
    assert git(home / "empty", "rev-parse", "--show-toplevel").strip() == str(home / "empty")


def test_a_wheel_has_the_same_bytes_when_it_is_packed_from_what_was_installed_of_it(tmp_path: Path) -> None:
    """Else two computers would have two hashes of one bancada."""
    name, wheel = packed()
    assert packed() == (name, wheel)
    site = tmp_path / "site packages"
    ZipFile(io.BytesIO(wheel)).extractall(site)
    program = "import hashlib; from bancada.pipeline import wheel; print(hashlib.sha256(wheel.packed()[1]).hexdigest())"
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(wheel).hexdigest()
    assert {"bancada/py.typed", f"{new.TEMPLATE}/gitignore"} <= set(ZipFile(io.BytesIO(wheel)).namelist())


def test_data_code_names_the_modules_of_the_installed_bancada(home: Path) -> None:
    new.new(Path("mine"))
    with chdir("mine"):
        contents = {name: json.loads(text) for name, text in code.contents(load(), Path()).items()}
    assert contents.keys() == {
        f"{stage}/spirals{of}.json"
        for stage, of in [
            *((stage, "") for stage in code.STAGES if stage != "train"),
            ("train", "_mlp"),
            ("train", "_sine"),
        ]
    } | {"report.json"}
    ours = syntax.Folder(ROOT / "src", code.DECLARED, own=code.OWN).closure(["bancada.data.split"])[0]
    assert contents["split/spirals.json"]["modules"] == ours
    assert contents["train/spirals_sine.json"]["modules"].keys() >= {"models.sine", "bancada.training.torch_engine"}
    assert "bancada" not in contents["train/spirals_sine.json"]["packages"]


def another(version: str, **edited: tuple[str, str]) -> tuple[str, bytes]:
    """The wheel of another version, whose template's files have one line for another."""
    changed, wheel = io.BytesIO(), packed()[1]
    with ZipFile(io.BytesIO(wheel)) as old, ZipFile(changed, "w") as zipped:
        for name in old.namelist():
            before, after = edited.get(name.removeprefix(f"{new.TEMPLATE}/").partition(".")[0], ("", ""))
            zipped.writestr(name, old.read(name).decode().replace(before, after, 1))
    return f"bancada-{version}-py3-none-any.whl", changed.getvalue()


def upgraded(monkeypatch: pytest.MonkeyPatch, to: tuple[str, bytes]) -> int:
    monkeypatch.setattr(new, "packed", lambda: to)
    return new.upgrade(None)


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which git knows its user."""
    new.new(Path("mine"))
    monkeypatch.chdir(home / "mine")
    for key, value in {"user.name": "a user", "user.email": "a@b", "commit.gpgSign": "false"}.items():
        git(home / "mine", "config", key, value)
    return home / "mine"


def edit(texts: Mapping[str, tuple[str, str]]) -> None:
    for name, (old, now) in texts.items():
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, now, 1))
    git(Path.cwd(), "commit", "-qam", "mine")


def test_an_upgrade_replaces_the_wheel_and_merges_what_both_have_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"Makefile": ("pytest -q\n", "pytest -q --durations=3\n"), "params.yaml": ("seed: 111", "seed: 1")}
    lock = {"requirements.lock": ("zipp==", "zzz==1.0 \\\n    --hash=sha256:00\nzipp==")}
    edit(own | lock)
    newer = another("0.2.0", Makefile=("@bancada repro", "@bancada repro -q"), params=("epochs: 60", "epochs: 1"))
    assert upgraded(monkeypatch, newer) == 0
    assert "\t@bancada repro -q\n" in Path("Makefile").read_text()
    assert "\t@pytest -q --durations=3\n" in Path("Makefile").read_text()
    assert "seed: 1 " in Path("params.yaml").read_text()
    assert "epochs: 60" in Path("params.yaml").read_text()  # it is the user's
    assert [path.name for path in Path("vendor").iterdir()] == [newer[0]]
    pinned, digest = requirements.pinned(Path("requirements.lock")), hashlib.sha256(newer[1]).hexdigest()
    assert (pinned["bancada"], pinned["zzz"]) == ("0.2.0", "1.0")
    assert f"bancada==0.2.0 \\\n    --hash=sha256:{digest}\n" in Path("requirements.lock").read_text()
    assert git(project, "log", "--format=%s").splitlines()[0] == "mine"


def test_lines_that_both_have_changed_are_shown_as_git_shows_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit({"Makefile": ("## the tests", "## my tests")})
    assert upgraded(monkeypatch, another("0.2.0", Makefile=("## the tests", "## all tests"))) == 1
    assert all(part in Path("Makefile").read_text() for part in ("<<<<<<< ", "## my tests", "## all tests"))
    assert capsys.readouterr().err.startswith("Makefile: you and bancada have changed the same lines")


def test_an_upgrade_is_refused_where_git_could_not_bring_back_what_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new.upgrade(None) == 0
    assert "is the bancada that runs already" in capsys.readouterr().out
    Path("Makefile").write_text("my own\n")
    with pytest.raises(BadInput, match="Makefile: is not committed"):
        upgraded(monkeypatch, another("0.2.0"))
    assert git(project, "status", "--porcelain") == " M Makefile\n"
    monkeypatch.chdir(project.parent)
    with pytest.raises(BadInput, match="no project"):
        new.upgrade(None)


def test_a_bancada_of_other_files_than_the_wheel_is_named(project: Path) -> None:
    def other() -> list[str]:
        return [text for text in requirements.not_as_locked(project) if text.startswith("bancada")]

    assert other() == []
    lock = Path("requirements.lock").read_text()
    Path("requirements.lock").write_text(re.sub(r"(bancada==.+\n.+sha256:)\w+", r"\g<1>00", lock))
    assert other() == ["bancada with other files than the wheel in vendor"]
