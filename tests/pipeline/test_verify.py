"""`bancada verify`: each way in which results may not be what the commit says, made by hand; it is found and named."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clones import run, succeeds
from committed import BANCADA, MODEL, commit, edit
from safetensors.numpy import load_file, save_file

from bancada.pipeline.check import audit

TRAIN = "train@moons_tanh"
BEFORE = dict.fromkeys(["code", "generate@moons", "split@moons"], "same bits")


def verify(root: Path, *options: str, status: int, **variables: str) -> tuple[dict[str, Any], str]:
    """The JSON, and what was shown."""
    done = run(root, *BANCADA, "verify", "--json", "verdict.json", "--markdown", "verdict.md", *options, **variables)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    said = json.loads((root / "verdict.json").read_text())
    assert said["exit_status"] == status
    assert said["sentence"] in (root / "verdict.md").read_text()
    return said, " ".join(done.stdout.split())


def verdicts(said: Mapping[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["verdict"] for stage in said["stages"]}


def not_same(said: Mapping[str, Any]) -> dict[str, str]:
    """The outs that are not the same bits, and what is said of them."""
    outs = [out for stage in said["stages"] for out in stage["outs"] if out["verdict"] != "same bits"]
    return {out["path"]: out["problem"] for out in outs}


def whys(said: Mapping[str, Any]) -> str:
    return "\n".join(cause["text"] for cause in said["causes"])


@pytest.mark.long
def test_committed_results_come_out_again_whatever_the_shell_and_the_user_have_set(
    repository: Path, tmp_path: Path
) -> None:
    """A cache for all repositories, a store that hangs, a temporary folder with a space. Nothing is left behind."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "config").write_text(f"[cache]\n    dir = {tmp_path / 'everybody'}\n")
    (tmp_path / "a temp").mkdir()
    before = succeeds(repository, "git", "status", "--porcelain", "--ignored")
    said, shown = verify(
        repository,
        status=0,
        DVC_GLOBAL_CONFIG_DIR=str(tmp_path / "user"),
        TMPDIR=str(tmp_path / "a temp"),
        DVC_ROOT="/nowhere",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        PYTHONPATH=str(tmp_path),
    )
    assert verdicts(said) == dict.fromkeys(
        [
            "code",
            "generate@moons",
            "split@moons",
            "train@moons_tanh",
            "train@moons_adam",
            "index@moons",
            "evaluate@moons",
            "report",
        ],
        "same bits",
    )
    assert (said["starts"], said["causes"], said["here"]) == ([], [], [])
    assert "same bits: all 16 outs of 8 stages; commit" in shown
    assert "train@moons_adam: finished in" in shown
    assert "| evaluate@moons | same bits | 9 same bits |" in (repository / "verdict.md").read_text()
    assert not (tmp_path / "everybody").exists()
    assert list((tmp_path / "a temp").iterdir()) == []
    after = succeeds(repository, "git", "status", "--porcelain", "--ignored").splitlines()
    assert set(after) - set(before.splitlines()) == {"!! verdict.json", "!! verdict.md"}


@pytest.mark.long
def test_what_is_wrong_in_the_workspace_alone_is_found(repository: Path) -> None:
    """A result changed by hand, and a model left over from a removed variant."""
    shutil.copytree(repository / MODEL, repository / "data/models/moons/moons_gone")
    with (repository / MODEL / "history.parquet").open("ab") as file:
        file.write(b" ")
    said, shown = verify(repository, "--stages", "generate@moons", status=1)
    assert verdicts(said) == {"code": "same bits", "generate@moons": "same bits"}
    assert [finding["subject"] for finding in said["here"]] == [
        str(MODEL),
        "data/models/moons/moons_gone",
    ]
    assert f"{TRAIN}: {MODEL}: is not the one that dvc.lock names" in shown
    assert "data/models/moons/moons_gone: no stage makes it; delete it, or make it an out in dvc.yaml" in shown


def change_weights(root: Path, factor: float) -> None:
    """In the workspace and in dvc.lock, as one would who wants to hide it, and commit."""
    path = root / MODEL / "weights.safetensors"
    weights = load_file(path)
    weights["0.bias"][1, 2] *= np.float32(factor)
    save_file(weights, path)
    succeeds(root, "dvc", "commit", "-q", "-f", TRAIN)
    commit(root)


@pytest.mark.long
def test_weights_a_rounding_apart_are_within_tolerance_with_the_number(repository: Path) -> None:
    change_weights(repository, 1 + 2**-20)
    said, shown = verify(repository, "--stages", TRAIN, status=3)
    assert verdicts(said) == {**BEFORE, TRAIN: "within tolerance"}
    [difference] = [out for stage in said["stages"] for out in stage["outs"] if out["verdict"] != "same bits"]
    assert difference["relative"] == pytest.approx(2**-20, rel=0.07)  # of the committed number, in 24 bits
    assert difference["at"] == "weights.safetensors: 0.bias[1, 2]"
    assert "within tolerance: 3 same bits, 1 within tolerance among 4 outs of 4 stages" in shown
    assert "no cause found: the packages are those of requirements.lock, and the CPU is of the kind" in whys(said)


@pytest.mark.long
def test_weights_changed_and_committed_are_different_and_so_are_the_packages(repository: Path) -> None:
    edit(repository / "requirements.lock", "numpy==", "numpy==0.")
    change_weights(repository, 1.5)
    said, _ = verify(repository, "--stages", TRAIN, status=1)
    assert verdicts(said) == {**BEFORE, "code": "different", TRAIN: "different"}
    assert said["starts"] == ["code"]
    assert ".json: packages.numpy: '0." in not_same(said)["data/code"]
    [difference] = said["stages"][-1]["outs"]
    assert difference["relative"] == pytest.approx(1 / 3, rel=1e-5)  # 1 instead of 1.5
    assert f"packages are not those of requirements.lock: numpy {np.__version__} instead of 0.{np.__version__}" in whys(
        said
    )


@pytest.mark.long
def test_what_changed_without_a_rerun_is_named_with_its_stages(repository: Path) -> None:
    edit(repository / "src/bancada/data/split.py", "import numpy as np", "import numpy as np, math")
    edit(repository / "params.yaml", "stratify: true, seed: 111", "stratify: true, seed: 112")
    commit(repository)
    said, shown = verify(repository, "--stages", "split@moons", status=1)
    assert said["starts"] == ["code", "split@moons"]
    assert {finding["subject"] for stage in said["stages"] for finding in stage["findings"]} == {
        "params.yaml: studies.moons.split.seed",
    }
    assert not_same(said).keys() == {"data/code", "data/split/moons"}
    assert "split/moons.json: modules.bancada.data.split" in not_same(said)["data/code"]
    stages = "split@moons, train@moons_tanh, train@moons_adam and 2 more"  # each reads the split's keys
    assert f"{stages}: params.yaml: studies.moons.split.seed: changed since dvc.lock was" in shown


@pytest.mark.long
def test_files_of_git_that_no_stage_makes_are_named_as_check_names_them(repository: Path) -> None:
    """An out taken out of dvc.yaml and edited, and a removed study's. DVC sees no hidden."""
    folder = Path("data/evaluation/moons")
    edit(repository / "dvc.yaml", "        - data/evaluation/${key}/predictions.csv: {cache: false}\n", "")
    succeeds(repository, *BANCADA, "repro", BANCADA_TRACKING="off")
    (repository / folder / "predictions.csv").write_text("0.42\n")
    (repository / "data/evaluation/old").mkdir()
    (repository / "data/evaluation/old/scores.csv").write_text("variant\n")
    (repository / folder / "plots/.x.tmp").write_text("")
    commit(repository)
    checked = run(repository, *BANCADA, "check")
    strays = (
        "data/evaluation/moons/predictions.csv, data/evaluation/old: no stage makes it; delete it, or make it an out"
    )
    assert checked.returncode == 1
    assert checked.stdout.splitlines()[-1].startswith(strays)
    said, shown = verify(repository, status=1)
    [found] = said["elsewhere"]
    assert found["line"].startswith(strays)
    assert said["here"] == []
    assert "different: 15 same bits among 15 outs" in shown


def test_a_stage_that_would_not_run_is_refused(repository: Path) -> None:
    head = "    foreach: ${studies}\n    do:\n"
    edit(repository / "dvc.yaml", head, f"{head}      frozen: true\n", 1)
    commit(repository)
    refused = run(repository, *BANCADA, "verify")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("dvc.yaml: generate@moons: is frozen")


def test_an_out_that_is_kept_and_not_made_is_not_taken_for_one_that_was(repository: Path) -> None:
    edit(repository / "dvc.yaml", "scores.csv: {cache: false}", "scores.csv: {cache: false, persist: true}", 1)
    edit(repository / "dvc.yaml", "python -m bancada.evaluation.evaluate ${key}", "true")
    commit(repository)
    assert run(repository, *BANCADA, "verify").returncode == 2


def test_a_verdict_that_could_not_be_written_is_refused_before_anything_runs(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kept.txt").write_text("precious")
    refused = run(repository, *BANCADA, "verify", "--json", str(tmp_path / "mine"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"{tmp_path / 'mine'}: Is a directory\n"
    assert (tmp_path / "mine/kept.txt").read_text() == "precious"


@pytest.mark.long
def test_results_of_code_that_was_not_committed_say_so(repository: Path) -> None:
    """A commit of it mends all."""
    edit(
        repository / "src/bancada/data/generate.py",
        "from bancada.data import sources",
        "from bancada.data import sources as s",
    )
    edit(repository / "src/bancada/data/generate.py", "sources.of_study", "s.of_study")
    succeeds(repository, *BANCADA, "repro", "-q", "generate@moons", BANCADA_TRACKING="off")
    commit(repository, "dvc.lock")
    said, shown = verify(repository, "--stages", "generate@moons", status=1)
    code = "data/code/generate/moons.json"
    assert "code: data/code: is not the one that dvc.lock names" in shown
    assert said["uncommitted"] == [code, "src/bancada/data/generate.py"]
    commit(repository, "src", "data/code")
    assert {finding.subject for finding in audit(repository) if "generate@moons" in finding.stages} == set()


@pytest.mark.long
def test_data_that_dvc_add_keeps_come_from_the_cache_and_where_they_are_nowhere_that_is_said(repository: Path) -> None:
    (repository / "data/sources/large.csv").write_text("x,y\n1,2\n")
    succeeds(repository, "dvc", "add", "-q", "data/sources/large.csv")
    succeeds(repository, *BANCADA, "repro", "-q", "generate@moons", BANCADA_TRACKING="off")
    commit(repository)
    verify(repository, "--stages", "generate@moons", status=0)
    shutil.rmtree(repository / ".dvc/cache")
    refused = run(repository, *BANCADA, "verify", "--stages", "generate@moons")
    assert refused.returncode == 2
    assert refused.stderr.startswith("data/sources/large.csv: kept by DVC, and in neither DVC's cache nor a remote")


@pytest.mark.long
def test_a_shallow_clone_as_ci_makes_it_is_verified(repository: Path, tmp_path: Path) -> None:
    succeeds(tmp_path, "git", "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
    verify(tmp_path / "shallow", "--stages", "generate@moons", status=0)


def test_what_cannot_be_verified_is_one_line_with_status_2(repository: Path, tmp_path: Path) -> None:
    def refusal(root: Path, *options: str) -> str:
        done = run(root, *BANCADA, "verify", *options)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stdout + done.stderr
        return done.stderr

    assert "train@moons_tan" in refusal(repository, "--stages", "train@moons_tan")
    assert "no/verdict.json: No such file or directory" in refusal(repository, "--json", "no/verdict.json")
    succeeds(repository, "git", "rm", "-q", "--cached", "dvc.lock")
    succeeds(repository, "git", "commit", "-q", "-m", "none")
    assert refusal(repository).startswith("dvc.lock: commit ")
    shutil.rmtree(repository / ".git")
    assert "no git repository" in refusal(repository)


@pytest.mark.long
def test_a_stage_that_fails_shows_what_it_said(repository: Path) -> None:
    with (repository / "src/bancada/data/generate.py").open("a") as file:
        file.write('\nraise SystemExit("the rows are out")\n')
    commit(repository)
    files = ("--markdown", "verdict.md", "--json", "verdict.json")
    done = run(repository, *BANCADA, "verify", "--stages", "generate@moons", *files)
    assert done.returncode == 2
    assert json.loads((repository / "verdict.json").read_text())["exit_status"] == 2
    assert "the rows are out" in done.stderr
    assert "could not be run" in done.stderr.splitlines()[-1]
    assert (repository / "verdict.md").read_text().startswith("### Reproduction: could not be run")


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_interrupted_it_leaves_nothing_behind(
    repository: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    (tmp_path / "temp").mkdir()
    variables = {**os.environ, "TMPDIR": str(tmp_path / "temp"), "PYTHONUNBUFFERED": "1"}
    command = [*BANCADA, "verify"]
    with subprocess.Popen(
        command, cwd=repository, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout
        while b": started" not in process.stdout.readline():
            assert process.poll() is None
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            process.send_signal(sent)
        process.stdout.read()
        assert process.wait(60) == status
    assert list((tmp_path / "temp").iterdir()) == []
