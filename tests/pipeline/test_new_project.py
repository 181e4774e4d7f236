"""A user's way with the package: from its wheel in an empty environment to results that are verified."""

import shutil
import site
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from clones import ROOT, run, succeeds
from committed import commit

STUDY = """\
  iris:
    source: {kind: sklearn, name: iris}
    split: {train: 0.6, validation: 0.2, test: 0.2, stratify: true, seed: 1}
    metric: error_rate_percent
    train: {loss: cross_entropy, optimizer: {name: adam}, lr: 0.01, batch_size: 20, epochs: 10, standardize: true}

variants:
  iris_linear: {study: iris, layers: [3]}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as for an index, from what a commit would hold."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    build = ("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", "built", ".")
    succeeds(folder, sys.executable, "-m", *build)
    [built] = (folder / "built").iterdir()
    return built


@pytest.mark.long
def test_from_the_wheel_in_an_empty_environment_to_verified_results_of_a_first_study(
    wheel: Path, tmp_path: Path
) -> None:
    environment, project = tmp_path / "environment", tmp_path / "a folder" / "mine"
    succeeds(tmp_path, sys.executable, "-m", "venv", str(environment))
    python, bancada = (str(environment / "bin" / name) for name in ("python", "bancada"))
    [packages] = site.getsitepackages()  # those that bancada needs, without the bancada that is installed beside them
    [own] = environment.glob("lib/*/site-packages")
    (own / "needed.pth").write_text(f"{packages}\n")
    succeeds(tmp_path, python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel))

    project.parent.mkdir()
    outside = {"PYTHONPATH": "", "PATH": f"{environment}/bin:/usr/bin:/bin"}
    ran(project.parent, bancada, "new", "mine", **outside)
    with ZipFile(project / "vendor" / wheel.name) as vendored, ZipFile(wheel) as built:
        files = [name for name in built.namelist() if name.startswith("bancada/")]
        assert {name: built.read(name) for name in files} == {
            name: vendored.read(name) for name in vendored.namelist() if name.startswith("bancada/")
        }
    assert "1 passed, 1 skipped" in ran(project, python, "-m", "pytest", "-q", **outside)
    for study in ("spirals", "iris"):
        if study == "iris":
            params = project / "params.yaml"
            params.write_text(params.read_text().replace("variants:\n", STUDY))
        assert f"{study}: error_rate_percent" in ran(project, bancada, "repro", **outside)
        commit(project)
        assert "same bits: all" in ran(project, bancada, "verify", **outside)
    assert "2 passed" in ran(project, python, "-m", "pytest", "-q", **outside)
    assert run(project, "git", "status", "--porcelain").stdout == ""


def ran(folder: Path, *command: str, **variables: str) -> str:
    """What a command prints, in a shell that knows nothing of this repository."""
    done = subprocess.run(
        command, cwd=folder, env={"HOME": str(folder), **variables}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
