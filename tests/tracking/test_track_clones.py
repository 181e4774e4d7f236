"""`bancada track` in fresh clones, and for DVC experiments: from git and DVC alone."""

import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import clones
import pytest
from catching_up import NOTHING_NEW, everything, tracks
from toy import count, rows, write_pipeline_files

from bancada.base import files

# Real git, real DVC, and stages that make what ours make in no time: a rate of its own makes another result.
STAGES = """\
stages:
  split:
    foreach: {toy: {}}
    do: {cmd: mkdir -p data/split && cp -r made/split data/split/toy, deps: [made/split], outs: ["data/split/${key}"]}
  train:
    foreach: {toy_tanh: {}, toy_adam: {}}
    do:
      cmd: python make.py ${key}
      deps: [data/split/toy, "data/code/train/${key}.json"]
      params: ["rates.${key}"]
      outs: ["data/models/toy/${key}"]
  evaluate:
    foreach: {toy: {}}
    do:
      cmd:
        - mkdir -p data/evaluation/toy
        - cp -r made/evaluation/. data/evaluation/toy
        - cp params.yaml data/evaluation/toy/predictions.csv
      deps: ["data/models/${key}", "data/split/${key}"]
      outs:
        - data/evaluation/${key}/scores.csv: {cache: false}
        - data/evaluation/${key}/leaderboard.csv: {cache: false}
        - data/evaluation/${key}/predictions.csv: {cache: false}
        - data/evaluation/${key}/plots: {cache: false}
"""
MAKE = """\
import json, re, shutil, sys
from pathlib import Path
name = sys.argv[1]
rate = re.search(name + ": ([0-9.]+)", Path("params.yaml").read_text())[1]
folder = Path(shutil.copytree(f"made/models/{name}", f"data/models/toy/{name}"))
run = json.loads((folder / "run.json").read_text())
run["recipe"]["train"]["lr"] = float(rate)
(folder / "run.json").write_text(json.dumps(run))
"""


@pytest.fixture(scope="module")
def toy_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline that ran without tracking, and whose results are committed."""
    root = tmp_path_factory.mktemp("toy") / "first"
    (root / "made").mkdir(parents=True)
    with chdir(root):
        write_pipeline_files()
        move_to_made()
    for line in ("git init -q", "dvc init -q", "dvc repro -q", "git add -A", "git commit -q -m results"):
        clones.succeeds(root, *line.split())
    return root


@pytest.fixture
def toy_repository(toy_pipeline: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(toy_pipeline, tmp_path / "first", symlinks=True)


def move_to_made() -> None:
    """Move the results to where the stages copy them from, and write the pipeline's own files."""
    for made, path in {"split": files.split("toy"), "models": files.models("toy")}.items():
        shutil.move(path, Path("made") / made)
    shutil.move(files.evaluation("toy"), "made/evaluation")
    Path("made/evaluation/loss.csv").unlink()
    Path("dvc.yaml").write_text(STAGES)
    Path("make.py").write_text(MAKE)
    Path("params.yaml").write_text("rates: {toy_tanh: 0.5, toy_adam: 0.25}\n")
    Path(".gitignore").write_text("/data/split/\n/data/models/\n/mlflow.db\n/mlartifacts/\n")


def command(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return clones.run(folder, sys.executable, "-m", "bancada", "track", *options, **environment)


@pytest.mark.long
def test_a_fresh_clone_after_dvc_pull_has_every_result(toy_repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "a fresh clone"
    clones.succeeds(tmp_path, "git", "clone", "-q", str(toy_repository), str(clone))
    clones.succeeds(clone, "dvc", "remote", "add", "--local", "-d", "up", str(toy_repository / ".dvc/cache"))
    clones.succeeds(clone, "dvc", "pull", "-q")
    done = command(clone / "made")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2 runs new, 0 completed, 0 were complete"
    # The evaluation is there too: dvc.lock's hash of the models is the one that was computed here.
    assert rows(clone, "select value from latest_metrics where key = 'test_error_rate_percent'") == [(2.5,)]
    assert count(clone, "inputs") == 2 * 2  # the validation part has no rows
    assert clones.succeeds(clone, "git", "status", "--porcelain") == ""


@pytest.mark.long
def test_a_clone_without_the_split_files_finds_the_same_runs_again(
    toy_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(toy_repository)
    assert tracks(capfd)[-1] == "2 runs new, 0 completed, 0 were complete"
    clone = tmp_path / "a fresh clone"
    clones.succeeds(tmp_path, "git", "clone", "-q", str(toy_repository), str(clone))
    clones.succeeds(clone, "dvc", "remote", "add", "--local", "-d", "up", str(toy_repository / ".dvc/cache"))
    clones.succeeds(clone, "dvc", "pull", "-q", "data/models/toy/toy_tanh", "data/models/toy/toy_adam")
    assert not (clone / files.split("toy")).exists()
    before = everything(toy_repository)
    again = command(clone, MLFLOW_TRACKING_URI=f"sqlite:///{toy_repository}/mlflow.db")
    assert (again.stdout, again.stderr) == (NOTHING_NEW + "\n", "")
    assert everything(toy_repository) == before


@pytest.mark.long
def test_experiments_get_runs_with_their_names_from_git_and_dvc_alone(
    toy_repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, run = toy_repository, ("dvc", "exp", "run", "--temp", "-q")
    clones.succeeds(root, *run, "-n", "warm-cat", "-S", "rates.toy_tanh=0.125")
    clones.succeeds(root, *run, "-n", "cool-dog", "-S", "rates.toy_tanh=0.125", "-S", "rates.toy_adam=0.75")
    done = command(root, "--all-exps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "4 runs new, 0 completed, 0 were complete"
    named = rows(
        root,
        "select runs.name, lr.value, tags.value from runs"
        " join params lr on lr.run_uuid = runs.run_uuid and lr.key = 'lr'"
        " join tags on tags.run_uuid = runs.run_uuid and tags.key = 'dvc.experiments'",
    )
    assert sorted((name, lr, sorted(json.loads(names))) for name, lr, names in named) == [
        ("toy_adam", "0.25", ["warm-cat"]),  # warm-cat evaluated it anew, beside its own toy_tanh
        ("toy_adam", "0.75", ["cool-dog"]),
        ("toy_tanh", "0.125", ["cool-dog", "warm-cat"]),
        ("toy_tanh", "0.5", []),
    ]
    assert len(rows(root, "select * from latest_metrics where key = 'test_error_rate_percent'")) == 2  # of toy_tanh
    commit = clones.succeeds(root, "git", "rev-parse", "HEAD").strip()
    assert set(rows(root, "select value from tags where key = 'git.commit'")) == {(commit,)}
    diffs = [path.read_text() for path in (root / "mlartifacts").rglob("git.diff")]
    assert sorted("+rates" in diff and "toy_adam: 0.75" in diff for diff in diffs) == [True, True]
    assert clones.succeeds(root, "git", "status", "--porcelain") == ""
    before = everything(root)
    monkeypatch.chdir(root)
    assert tracks(capfd, all_experiments=True) == ["0 runs new, 0 completed, 4 were complete"]
    assert everything(root) == before
