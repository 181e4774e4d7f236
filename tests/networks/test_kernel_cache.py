"""Compiled code is never stale, is made once, is the user's own, and is not needed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bancada
from bancada.networks.kernel import compiled

SHUFFLE = """
from bancada.networks.kernel import compiled, draws
import numpy as np
order = np.zeros(5, np.int64)
with compiled.one_at_a_time():
    draws.shuffle(1, 2, order, np.zeros(8, np.uint32))
print(*order, "hit" if draws.shuffle.stats.cache_hits else "miss")
"""
READY = """
from bancada.networks.kernel import ready, training
ready()
print("hit" if training.run.stats.cache_hits else "miss")
"""
DAY = 24 * 3600


def started(program: str, cache: Path, source: Path) -> subprocess.Popen[str]:
    surroundings = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(source)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, cwd=source, env=surroundings, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return out.strip()


def clone(to: Path) -> Path:
    shutil.copytree(Path(bancada.__file__).parent, to / "bancada", ignore=shutil.ignore_patterns("__pycache__"))
    return to


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bancada" / "kernel"


def test_code_is_found_by_another_clone_but_not_where_a_function_that_it_calls_has_changed(tmp_path):
    cache, source = tmp_path / "cache", clone(tmp_path / "one")
    order, first = said(started(SHUFFLE, cache, source)).rsplit(" ", 1)
    other = clone(tmp_path / "other")
    (other / "bancada" / "networks" / "kernel" / "draws.py").touch()
    assert (first, said(started(SHUFFLE, cache, other))) == ("miss", f"{order} hit")
    changed = other / "bancada" / "networks" / "kernel" / "records.py"
    assert "NONE, EACH = np.int64(0)" in changed.read_text()
    changed.write_text(changed.read_text().replace("NONE, EACH = np.int64(0)", "NONE, EACH = np.int64(3)"))
    new_order, new = said(started(SHUFFLE, cache, other)).rsplit(" ", 1)
    assert new == "miss"
    assert new_order != order


@pytest.mark.long
def test_of_many_processes_that_start_at_once_one_compiles(tmp_path):
    source = Path(bancada.__file__).parent.parent
    processes = [started(READY, tmp_path, source) for _ in range(22)]
    assert sorted(said(process) for process in processes) == ["hit"] * 21 + ["miss"]


@pytest.mark.long
def test_without_a_folder_to_write_in_it_works(tmp_path):
    in_the_way = tmp_path / "cache"
    in_the_way.touch()
    assert said(started(SHUFFLE, in_the_way, Path(bancada.__file__).parent.parent)).endswith(" miss")


def test_a_new_folder_is_the_users_alone(root):
    path = compiled.folder()
    assert path is not None
    assert path.parent == root
    assert path.stat().st_mode & 0o777 == root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("whose", ["all versions", "this version"])
def test_a_folder_that_others_can_write_to_is_not_used(root, whose):
    path = compiled.folder()
    assert path is not None
    (root if whose == "all versions" else path).chmod(0o770)
    assert compiled.folder() is None


def test_a_folder_of_another_user_is_not_used(root, monkeypatch):
    assert compiled.folder() is not None
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert compiled.folder() is None


def test_a_link_in_the_place_of_a_folder_is_not_followed(root, tmp_path):
    path = compiled.folder()
    assert path is not None
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert compiled.folder() is None


def test_without_a_home_there_is_no_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")  # what Path.home() raises

    monkeypatch.setattr(Path, "home", no_home)
    assert compiled.folder() is None


def test_the_code_of_versions_that_were_not_used_for_30_days_goes_when_a_new_one_comes(root):
    for name, days in (("old", 31), ("recent", 29)):
        (root / name).mkdir(parents=True)
        (root / name / "lock").touch()
        os.utime(root / name / "lock", (time.time() - days * DAY,) * 2)
    root.chmod(0o700)
    path = compiled.folder()
    assert {found.name for found in root.iterdir()} == {"recent", path.name if path else ""}
