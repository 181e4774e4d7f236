"""Small clones of this repository, and commands that run in them as a user would type them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PARAMS = """\
seed: 111
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  moons:
    source: {kind: half_moons, rows: 120, radius: 10, distance: -4, width: 6, seed: 111}
    split: {train: 60, validation: 20, test: 40, stratify: true, seed: 111}
    metric: error_rate_percent
    baseline: moons_tanh
    train: {loss: mse, optimizer: {name: sgd}, lr: 0.5, batch_size: 20, epochs: 3}
variants:
  moons_tanh: {study: moons, layers: [3, tanh, 1, tanh]}
  moons_adam: {study: moons, layers: [3, tanh, 1, tanh], train: {optimizer: {name: adam}}}
"""


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """As in an activated environment, where another checkout's code is installed: the folder's own must run."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "BANCADA_"))}
    variables |= more | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [more.get("PYTHONPATH"), str(ROOT / "src")]))
    for role in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@example.org"}
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, errors="replace", timeout=240
    )


def succeeds(folder: Path, *command: str, **variables: str) -> str:
    done = run(folder, *command, **variables)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def executed(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def clone_to(folder: Path) -> Path:
    """What a commit would hold, with the small params.yaml and without the results of the large one."""
    listed = succeeds(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if name != "dvc.lock" and not name.startswith(("data/evaluation/", "data/index/")) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(PARAMS)
    for command in ("git init -q", "git add -A", "git commit -q -m start"):
        succeeds(folder, *command.split())
    return folder
