"""A disk that is full: one line names the file and the cause, the last good state stays, the next run with room ends as
if nothing had happened."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import clones
import pytest
from line import EVALUATION, MODEL, PYTHON, REPRO, Bench, digest
from mounts import FILL, Mounted

from bancada.pipeline.code import STAGES

FULL = "No space left on device"
Mount = Callable[..., Mounted]


def run(bench: Bench, mounted: Mounted, *command: str) -> subprocess.CompletedProcess[str]:
    """In the repository as it is seen there, also where the mount lies above it."""
    there = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(bench.root))
    return clones.run(bench.root, *mounted.command, *there, *command, BANCADA_TRACKING="off")


@pytest.mark.parametrize(
    ("stage", "name", "disk", "out"),
    [
        ("generate", "line", "data/raw", "data/raw/line.parquet"),
        ("split", "line", "data/split", "data/split/line"),
        ("train", "line_adam", "data/models/line", MODEL),
        pytest.param("evaluate", "line", EVALUATION, f"{EVALUATION}/scores.csv", marks=pytest.mark.long),
    ],
)
def test_a_stage_names_the_file_and_leaves_the_older_one(
    complete: Bench, tmp_path: Path, mounted: Mount, stage: str, name: str, disk: str, out: str
) -> None:
    bench = complete.copy(tmp_path / "a clone")
    filled = mounted(FILL, bench.root / disk, shutil.copytree(bench.root / disk, tmp_path / "kept"), 0)
    seen = filled.path(bench.root / disk)
    command = (*PYTHON, STAGES[stage], name)
    failed = run(bench, filled, *command)
    assert (failed.returncode, failed.stderr) == (1, f"{out}: {FULL}\n")
    known = {path: content for path, content in bench.known.items() if path.startswith(f"{disk}/")}
    assert files_below(seen, disk) == known
    (seen / "filler").unlink()
    again = run(bench, filled, *command)
    assert (again.returncode, again.stderr) == (0, "")
    assert files_below(seen, disk) == known


def files_below(folder: Path, name: str) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "filler"]
    return {f"{name}/{path.relative_to(folder)}": digest(path) for path in found}


@pytest.mark.long
@pytest.mark.parametrize("full", ["cache", "dvc.lock", "all"])
def test_bancada_repro_says_what_is_full_and_goes_on_when_there_is_room(
    complete: Bench, tmp_path: Path, mounted: Mount, full: str
) -> None:
    """The whole pipeline is to be run anew, and stored, and written into dvc.lock."""
    bench = complete.copy(tmp_path / "disk/a clone")
    for folder in ("data/models", ".dvc/cache"):
        shutil.rmtree(bench.root / folder)
    (bench.root / ".dvc/cache").mkdir()
    (tmp_path / "none").mkdir()
    if full == "cache":
        place = bench.root / ".dvc/cache"
        filled = mounted(FILL, place, tmp_path / "none", 0)
    else:
        place = tmp_path / "disk"
        kept = shutil.copytree(place, tmp_path / "kept", symlinks=True)
        beside = [f'mount --bind "$2/a clone/{name}" "$1/a clone/{name}"' for name in (".dvc", "data", ".git")]
        filled = mounted("\n".join([FILL, *(beside if full == "dvc.lock" else [])]), place, kept, 0)
    before = digest(bench.root / "dvc.lock")
    failed = run(bench, filled, *REPRO)
    print(failed.stdout, failed.stderr)
    assert failed.returncode == 1
    [said] = [said for said in failed.stderr.splitlines() if FULL in said]
    assert said.endswith(FULL)
    assert "Traceback" not in failed.stdout + failed.stderr
    seen = Bench(filled.path(bench.root), bench.known)
    assert digest(seen.root / "dvc.lock") == before
    (filled.path(place) / "filler").unlink()
    again = run(bench, filled, *REPRO)
    assert again.returncode == 0, again.stderr
    assert seen.holds() == seen.known
