"""requirements.lock has what every system needs, and `make` finds a Python for .venv."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
# What the Makefile calls beside Python; the tests' PATH has nothing else.
TOOLS = ("bash", "grep", "head", "make", "rm")


def test_the_lock_has_one_version_of_each_package_and_hashes_for_all_but_torch() -> None:
    pins = re.split(r"^(?=[a-zA-Z])", LOCK, flags=re.MULTILINE)[1:]
    names = [pin.split("==")[0] for pin in pins]
    assert names[0] == "torch"
    assert len(names) == len(set(names)) > 100
    assert [name for name, pin in zip(names, pins, strict=True) if "--hash=sha256:" not in pin] == ["torch"]
    assert not [name for name in names if re.match("triton|cuda|nvidia", name)]


def test_the_locks_of_torchs_builds_are_of_the_same_version_and_have_hashes() -> None:
    [version] = re.findall(r"^torch==(.+)$", LOCK, re.MULTILINE)
    for name, build in (("torch-cpu.lock", f"{version}+cpu"), ("torch-pypi.lock", version)):
        pins = re.split(r"^(?=[a-z])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
        assert [pin.split()[0] for pin in pins if pin.startswith("torch==")] == [f"torch=={build}"]
        assert all("--hash=sha256:" in pin for pin in pins)


def test_the_lock_says_nothing_of_the_folder_or_the_index_that_it_was_made_with() -> None:
    line = re.compile(r"#.*|[a-z0-9-]+==[\w.]+( ; [\w '<>=!().]+)?( \\)?|    --hash=sha256:\w{64}( \\)?")
    assert [text for text in LOCK.splitlines() if not line.fullmatch(text)] == []


def make(folder: Path, **scripts: str) -> subprocess.CompletedProcess[str]:
    """`make .venv/pyvenv.cfg` in the folder's `a clone`, with no Python on PATH but these scripts."""
    for tool in TOOLS:
        if not (folder / tool).exists():
            (folder / tool).symlink_to(shutil.which(tool) or "")
    for name, script in scripts.items():
        program(folder / name.replace("_", "."), script)
    (folder / "a clone").mkdir(exist_ok=True)
    for name in ("Makefile", "environment.mk"):
        shutil.copy(ROOT / name, folder / "a clone")
    return subprocess.run(
        ["make", ".venv/pyvenv.cfg"],
        cwd=folder / "a clone",
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# Stand-ins for Python: `-c` asks whether the version fits, `-m venv` makes .venv.
FITS = 'if [ "$1" = -m ]; then echo "$0 $*"; fi'
OTHER = "exit 1"


def test_make_takes_the_python3_of_path_where_it_fits(tmp_path: Path) -> None:
    done = make(tmp_path, python3=FITS, python3_14=FITS)
    assert done.stdout.split() == [f"{tmp_path}/python3", "-m", "venv", "--clear", ".venv"]


def test_make_takes_the_newest_python_that_runs_where_python3_does_not_fit(tmp_path: Path) -> None:
    done = make(tmp_path, python3=OTHER, python3_14=OTHER, python3_12=FITS, python3_11=FITS)
    assert done.stdout.split()[0] == f"{tmp_path}/python3.12"


def test_make_says_what_to_type_where_no_python_fits(tmp_path: Path) -> None:
    done = make(tmp_path, python3=OTHER, python3_13=OTHER)
    assert done.returncode == 2
    assert "PATH has none of Python 3.14 3.13 3.12 3.11" in done.stderr
    assert "sudo apt install python3 python3-venv" in done.stderr
    assert not (tmp_path / "a clone/.venv").exists()


def test_make_keeps_a_venv_made_in_its_folder_and_remakes_one_copied_from_another(tmp_path: Path) -> None:
    venv = tmp_path / "a clone/.venv"
    for name in ("python", "python3"):
        program(venv / "bin" / name, FITS)
    (venv / "pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv --clear {venv}\n")
    assert make(tmp_path, python3_12=FITS).stdout == "make: '.venv/pyvenv.cfg' is up to date.\n"
    (venv / "pyvenv.cfg").write_text("command = /usr/bin/python3 -m venv --clear /elsewhere/.venv\n")
    assert make(tmp_path, python3_12=FITS).stdout.split()[0] == f"{tmp_path}/python3.12"


def test_the_newest_change_is_of_the_version_that_is_installed() -> None:
    [newest, *_] = re.findall(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version("bancada")
