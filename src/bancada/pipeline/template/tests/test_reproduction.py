"""The promise of this project: whoever runs it again gets the same bits."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANCADA = (sys.executable, "-m", "bancada")


def bancada(*arguments: str, folder: Path = ROOT, **variables: str) -> None:
    """Run bancada, which must succeed."""
    environment = os.environ | variables
    done = subprocess.run([*BANCADA, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_results_are_of_this_code_and_these_parameters() -> None:
    if not subprocess.run(["git", "ls-files", "dvc.lock"], cwd=ROOT, capture_output=True, check=True).stdout:
        pytest.skip("no results are committed yet: `make repro` makes them")
    bancada("check")


def test_a_training_that_runs_twice_gives_the_same_bits(tmp_path: Path) -> None:
    """The first variant of params.yaml, from two seeds, each time with all that it depends on, in a new folder."""
    first, second = trained(tmp_path / "first"), trained(tmp_path / "second")
    assert first == second
    assert "weights.safetensors" in {path.name for path in first}


def trained(folder: Path) -> dict[Path, bytes]:
    """Train in a copy of the project as it is now. Return the bytes of every file of the model, by its path."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    shutil.copytree(ROOT / "src", folder / "src", dirs_exist_ok=True)
    variant = shortened(folder / "params.yaml")
    bancada("repro", "--quiet", f"train@{variant}", folder=folder, BANCADA_TRACKING="off", BANCADA_REPLICAS="off")
    models = folder / "data" / "models"
    return {path.relative_to(models): path.read_bytes() for path in models.rglob("*") if path.is_file()}


def shortened(to: Path) -> str:
    """Write params.yaml there, with two seeds for every variant. Return the name of the first variant."""
    from ruamel.yaml import YAML

    params = YAML().load(ROOT / "params.yaml")
    params["num_seeds"] = 2
    YAML().dump(params, to)
    return str(next(iter(params["variants"])))
