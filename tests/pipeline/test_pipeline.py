"""The real pipeline, small, with plain DVC commands, in a clone whose path has a space; and MLflow's records of it."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from clones import PARAMS, executed, run, succeeds
from committed import BANCADA, edit


@pytest.mark.long
def test_a_fresh_clone_records_also_what_did_not_have_to_run(repository: Path, tmp_path: Path) -> None:
    """Its models are missing, but their evaluation, of which git has all but its pictures, is not made again."""
    fresh = tmp_path / "a fresh clone"
    succeeds(tmp_path, "git", "clone", "-q", str(repository), str(fresh))
    succeeds(fresh, "dvc", "remote", "add", "-q", "--local", "first", str(repository / ".dvc/cache"))
    succeeds(fresh, "dvc", "pull", "-q", "-r", "first", "data/evaluation/moons/svg")
    ran = succeeds(fresh, *BANCADA, "repro")
    assert "train@moons_tanh: finished" in ran
    assert "evaluate@moons" not in ran
    with closing(sqlite3.connect(fresh / "mlflow.db")) as database:
        count = "select count(*) from latest_metrics where key = 'test_error_rate_percent'"
        assert database.execute(count).fetchall() == [(2,)]


def test_a_second_repro_runs_nothing_and_git_sees_no_change(repository: Path) -> None:
    assert executed(succeeds(repository, "dvc", "repro")) == []
    shown = succeeds(repository / "src", *BANCADA, "repro")
    assert "nothing to do" in shown
    assert "\nmoons: moons_adam is undecided" in shown  # a sentence, and no board of what did not run
    assert "moons_tanh" not in shown
    assert " moons_tanh " in succeeds(repository, *BANCADA, "repro", "evaluate@moons")  # but of what was asked for
    assert "mlflow ui" in shown
    assert succeeds(repository, "git", "status", "--porcelain") == ""
    assert "moons_tanh" not in succeeds(repository, *BANCADA, "repro", "split@moons")  # its scores may be of before


def test_dvc_shows_one_row_of_metrics_for_each_variant(repository: Path) -> None:
    table = succeeds(repository, "dvc", "metrics", "show", "--md")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:] if line] == [
        "data/evaluation/moons/metrics/moons_adam.json",
        "data/evaluation/moons/metrics/moons_tanh.json",
    ]


@pytest.mark.long
def test_variants_in_another_order_change_no_byte(repository: Path) -> None:
    head, variants = PARAMS.split("variants:\n")
    other = head + "variants:\n" + "".join(reversed(variants.splitlines(keepends=True)))
    assert other != PARAMS
    (repository / "params.yaml").write_text(other)
    assert set(executed(succeeds(repository, "dvc", "repro", BANCADA_TRACKING="off"))) <= {"code", "index@moons"}
    succeeds(repository, "dvc", "repro", "-f", "-s", "evaluate@moons", BANCADA_TRACKING="off")
    assert succeeds(repository, "git", "status", "--porcelain").split() == ["M", "params.yaml"]


@pytest.mark.long
def test_a_variant_taken_out_leaves_the_leaderboard_whatever_command_runs_and_its_model_stays(repository: Path) -> None:
    """In an experiment in a folder of its own, in one here, and after an edit."""
    board, model = Path("data/evaluation/moons/leaderboard.csv"), repository / "data/models/moons/moons_adam"
    out, off = ("dvc", "exp", "run", "-n", "fewer", "-S", "~variants.moons_adam"), {"BANCADA_TRACKING": "off"}
    ran = succeeds(repository, *out, "--temp", **off)
    again = ["code", "index@moons", "evaluate@moons"]
    assert executed(ran) == [*again, "report"]
    commit = succeeds(repository, "git", "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/fewer").strip()
    assert variants_of(succeeds(repository, "git", "show", f"{commit}:{board}")) == ["moons_tanh"]
    succeeds(repository, "dvc", "exp", "run", *out[5:], **off)
    assert variants_of((repository / board).read_text()) == ["moons_tanh"]
    succeeds(repository, "git", "checkout", "-q", "--", ".")
    assert variants_of((repository / board).read_text()) == ["moons_adam", "moons_tanh"]
    edit(repository / "params.yaml", PARAMS[PARAMS.index("  moons_adam") :], "")
    assert executed(succeeds(repository, "dvc", "repro", **off)) == again  # DVC has kept the experiment's report
    assert variants_of((repository / board).read_text()) == ["moons_tanh"]
    assert model.is_dir()


def variants_of(board: str) -> list[str]:
    return sorted(line.split(",")[1] for line in board.splitlines()[1:])


def test_wrong_parameters_are_refused_before_anything_changes(repository: Path) -> None:
    """Under plain `dvc repro`, too: the stage code checks all of params.yaml first, and its outs stay."""
    edit(
        repository / "params.yaml",
        "moons_tanh: {study: moons, layers: [3, tanh",
        "moons_tanh: {study: moons, layers: [3, tahn",
    )
    refused = run(repository, *BANCADA, "repro")
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert "variants.moons_tanh.layers" in refused.stderr
    plain = run(repository, "dvc", "repro")
    assert (plain.returncode, executed(plain.stdout)) == (255, ["code"])
    assert refused.stderr in plain.stderr
    assert succeeds(repository, "git", "status", "--porcelain").split() == ["M", "params.yaml"]
    assert len(list((repository / "data/models/moons").iterdir())) == 2


@pytest.mark.long
def test_experiments_run_what_they_change_and_mlflow_keeps_what_they_made(repository: Path) -> None:
    here = executed(succeeds(repository, "dvc", "exp", "run", "-S", "lr=0.01"))
    assert sorted(here) == ["code", "evaluate@moons", "index@moons", "report", "train@moons_adam", "train@moons_tanh"]
    fewer = "+variants.moons_tanh.train.epochs=2"
    temporary = run(repository, "dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", fewer)
    assert executed(temporary.stdout) == ["code", "train@moons_tanh", "index@moons", "evaluate@moons", "report"]
    assert "not recorded" not in temporary.stderr
    assert "elsewhere" in succeeds(repository, "dvc", "exp", "show", "--md")
    tracked = succeeds(repository, *BANCADA, "track", "--all-exps").splitlines()
    assert tracked[-1].startswith("0 runs new, ")  # what was recorded beside the stages is all that the files hold

    files = succeeds(repository, "python", "-c", FIND, f"sqlite:///{repository / 'mlflow.db'}", "elsewhere").split()
    assert "weights.safetensors" in {Path(name).name for name in files}
    assert any(name.endswith(".png") for name in files)


@pytest.mark.long
def test_a_sweep_with_two_workers_is_read_by_its_rates(repository: Path) -> None:
    """Both workers begin at once, on a store that does not exist yet."""
    for name, rate in {"low": 0.002, "high": 0.2}.items():
        succeeds(repository, "dvc", "exp", "run", "--queue", "-n", name, "-S", f"lr={rate}")
    try:
        succeeds(repository, "dvc", "queue", "start", "-j", "2")
        deadline = time.monotonic() + 180
        while (status := succeeds(repository, "dvc", "queue", "status")).count("Success") < 2:
            assert "Failed" not in status and time.monotonic() < deadline, status
    finally:
        succeeds(repository, "dvc", "queue", "stop", "--kill")
    with closing(sqlite3.connect(repository / "mlflow.db")) as database:
        value = "(select value from {} where run_uuid = runs.run_uuid and key = '{}')"
        columns = [value.format("params", "lr"), value.format("tags", "dvc.experiments")]
        query = f"select name, status, {', '.join(columns)}, artifact_uri from runs where name != 'report'"
        runs = database.execute(query).fetchall()
    assert sorted(run[:4] for run in runs) == [
        ("moons_adam lr=0.002", "FINISHED", "0.002", '["low"]'),
        ("moons_adam lr=0.2", "FINISHED", "0.2", '["high"]'),
        ("moons_tanh lr=0.002", "FINISHED", "0.002", '["low"]'),
        ("moons_tanh lr=0.2", "FINISHED", "0.2", '["high"]'),
    ]
    for *_, location in runs:
        folder = Path(unquote(urlsplit(location).path))
        assert folder.is_relative_to(repository / "mlartifacts")
        assert {"weights.safetensors", "plots"} <= {path.name for path in folder.iterdir()}
    tracked = succeeds(repository, *BANCADA, "track", "--all-exps").splitlines()[-1]
    assert tracked == "2 runs new, 0 completed, 4 were complete"


# In a process of its own, because mlflow warns of things that are errors in tests. Downloads all artifacts of the run
# of moons_tanh that the experiment made, and prints their names.
FIND = """\
import sys
from pathlib import Path
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
assert [run.info.status for run in runs] == ["FINISHED"] * 5, runs  # two are of reports
[made] = [
    run
    for run in runs
    if run.data.tags.get("bancada.variant") == "moons_tanh" and sys.argv[2] in run.data.tags["dvc.experiments"]
]
folder = Path(client.download_artifacts(made.info.run_id, ""))
print(*[path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and " " not in path.name], sep="\\n")
"""


def test_a_clone_runs_its_own_code_and_not_the_installed_one(repository: Path) -> None:
    """Also one that differs from the installed code in what the package does while it is imported."""
    with (repository / "src/bancada/data/generate.py").open("a") as module:
        module.write('\nprint("generated by edited code")\n')
    assert "generated by edited code" in succeeds(repository, "dvc", "repro", "generate@moons")
