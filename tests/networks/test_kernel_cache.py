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
with compiled.one_at_a_time("shuffle"):
    draws.shuffle(1, 2, order, np.zeros(8, np.uint32))
print(*order, "hit" if draws.shuffle.stats.cache_hits else "miss")
"""
READY = """
from bancada.networks.kernel import ready, training
ready()
print("hit" if training.run.stats.cache_hits else "miss")
"""
HERE = Path(bancada.__file__).parent.parent


def started(program: str, cache: Path, source: Path, **switches: str) -> subprocess.Popen[str]:
    surroundings = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(source)} | switches
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
    source = HERE
    processes = [started(READY, tmp_path, source) for _ in range(22)]
    assert sorted(said(process) for process in processes) == ["hit"] * 21 + ["miss"]


@pytest.mark.long
def test_without_a_folder_to_write_in_it_works(tmp_path):
    in_the_way = tmp_path / "cache"
    in_the_way.touch()
    assert said(started(SHUFFLE, in_the_way, HERE)).endswith(" miss")


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


def test_a_relative_folder_for_caches_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")  # as https://specifications.freedesktop.org/basedir-spec has it
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(compiled.folder()).startswith(f"{tmp_path}/.cache/bancada/kernel/")


def empty(folder: Path) -> None:
    (one,) = folder.glob("*.code")
    one.write_bytes(b"")


def cut(folder: Path) -> None:
    (one,) = folder.glob("*.code")
    one.write_bytes(one.read_bytes()[:-1000])


def change_the_middle(folder: Path) -> None:
    (one,) = folder.glob("*.code")
    code = one.read_bytes()
    middle = len(code) // 2
    one.write_bytes(code[:middle] + bytes(64) + code[middle + 64 :])


def remove_code(folder: Path) -> None:
    (one,) = folder.glob("*.code")
    one.unlink()


def remove_lock(folder: Path) -> None:
    (one,) = folder.glob("*.lock")
    one.unlink()


@pytest.mark.long
@pytest.mark.parametrize("damage", [empty, cut, change_the_middle, remove_code, remove_lock])
def test_what_is_damaged_is_compiled_again_once(tmp_path, damage):
    order, _ = said(started(SHUFFLE, tmp_path, HERE)).rsplit(" ", 1)
    (path,) = tmp_path.glob("bancada/kernel/*")
    damage(path)
    again = "hit" if damage is remove_lock else "miss"
    assert [said(started(SHUFFLE, tmp_path, HERE)) for _ in range(2)] == [f"{order} {again}", f"{order} hit"]


@pytest.mark.long
def test_a_disk_that_fills_while_code_is_written_stops_nothing(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"  # the code is larger
    order, kept = said(started(f"{limit}\n{SHUFFLE}", tmp_path, HERE)).rsplit(" ", 1)
    assert kept == "miss"
    assert not [*tmp_path.glob("bancada/kernel/*/*.code")]
    assert [said(started(SHUFFLE, tmp_path, HERE)) for _ in range(2)] == [f"{order} miss", f"{order} hit"]


@pytest.mark.long
def test_code_that_numba_cannot_keep_is_compiled_each_time(tmp_path):
    strict = f"import warnings; warnings.simplefilter('error')\n{SHUFFLE}"
    assert said(started(strict, tmp_path, HERE, NUMBA_OPT="0")).endswith(" miss")


@pytest.mark.parametrize("switch", ["OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT", "CPU_NAME"])
def test_a_switch_that_changes_machine_code_has_its_own(monkeypatch, switch):
    before = compiled.fingerprint()
    monkeypatch.setattr(compiled.config, switch, 7)
    assert compiled.fingerprint() != before


@pytest.mark.parametrize("switch", ["NUMBA_NUM_THREADS", "CACHE_DIR", "COLOR_SCHEME"])
def test_a_switch_that_does_not_shares_it(monkeypatch, switch):
    before = compiled.fingerprint()
    monkeypatch.setattr(compiled.config, switch, 7)
    assert compiled.fingerprint() == before


@pytest.mark.long
def test_who_only_draws_compiles_nothing_else(tmp_path):
    program = "from bancada.networks import kernel; kernel.order_of_rows(1, 2, 5)"
    assert said(started(program, tmp_path, HERE)) == ""
    kept = {path.name.split("-")[0] for path in tmp_path.glob("bancada/kernel/*/*.code")}
    assert kept == {"draw", "shuffle"}


def test_plain_python_says_once_that_it_is_slow_and_leaves_nothing(tmp_path):
    program = "from bancada.networks import kernel; kernel.ready(); kernel.ready()"
    process = started(program, tmp_path, HERE, NUMBA_DISABLE_JIT="1")
    assert process.communicate()[1].splitlines() == [
        "NUMBA_DISABLE_JIT is set: trainings run as plain Python, some 2,000 times slower"
    ]
    assert process.returncode == 0
    assert [*tmp_path.iterdir()] == []


@pytest.mark.long
def test_the_first_stage_on_a_machine_compiles_beside_itself_and_no_later_one_does(tmp_path):
    program = "from bancada.base import compiled_code; compiled_code.begin()"
    assert said(started(program, tmp_path, HERE)) == ""
    deadline = time.monotonic() + 120
    while not [*tmp_path.glob("bancada/kernel/*/run-*.code")]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert said(started(READY, tmp_path, HERE)) == "hit"
