"""The real pipeline, small, from end to end: a clone whose path has a space, plain DVC commands, MLflow's records."""

import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clones import PARAMS, clone_to, executed, run, succeeds


def test_the_pipeline_from_end_to_end(tmp_path: Path) -> None:
    """One test, because all that it shows is shown on one clone, whose results are committed."""
    clone = clone_to(tmp_path / "a clone")
    reproduce_and_commit(clone)
    a_fresh_clone_records_also_what_did_not_have_to_run(clone, tmp_path / "a fresh clone")
    a_second_repro_runs_nothing_and_git_sees_no_change(clone)
    bancada_finds_nothing_to_do_and_shows_the_leaderboard(clone)
    metrics_have_one_row_per_variant(clone)
    variants_in_another_order_change_no_byte(clone)
    a_variant_that_is_removed_is_named_until_its_model_is_deleted(shutil.copytree(clone, tmp_path / "fewer"))
    wrong_parameters_are_refused_before_anything_changes(clone)
    experiments_run_what_they_change_and_mlflow_keeps_what_they_made(clone)
    a_sweep_with_two_workers_is_read_by_its_rates(clone)


def reproduce_and_commit(folder: Path) -> None:
    ran = executed(succeeds(folder, "dvc", "repro", BANCADA_TRACKING="off"))  # saves seconds; experiments are recorded
    assert sorted(ran) == ["evaluate@moons", "generate@moons", "split@moons", "train@moons_adam", "train@moons_tanh"]
    succeeds(folder, "git", "add", "-A")
    succeeds(folder, "git", "commit", "-q", "-m", "results")


def a_fresh_clone_records_also_what_did_not_have_to_run(clone: Path, fresh: Path) -> None:
    """Its models are not there, but git has their evaluation, which is not made again."""
    succeeds(clone, "git", "clone", "-q", ".", str(fresh))
    ran = succeeds(fresh, sys.executable, "-m", "bancada", "repro")
    assert "train@moons_tanh: finished" in ran
    assert "evaluate@moons" not in ran
    with closing(sqlite3.connect(fresh / "mlflow.db")) as database:
        count = "select count(*) from latest_metrics where key = 'test_error_rate_percent'"
        assert database.execute(count).fetchall() == [(2,)]


def a_second_repro_runs_nothing_and_git_sees_no_change(clone: Path) -> None:
    assert executed(succeeds(clone, "dvc", "repro")) == []
    assert succeeds(clone, "git", "status", "--porcelain") == ""


def bancada_finds_nothing_to_do_and_shows_the_leaderboard(clone: Path) -> None:
    shown = succeeds(clone / "src", sys.executable, "-m", "bancada", "repro")
    assert "nothing to do" in shown
    assert "moons_tanh" in shown
    assert "mlflow ui" in shown


def metrics_have_one_row_per_variant(clone: Path) -> None:
    table = succeeds(clone, "dvc", "metrics", "show", "--md")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:] if line] == [
        "data/evaluation/moons/metrics/moons_adam.json",
        "data/evaluation/moons/metrics/moons_tanh.json",
    ]


def variants_in_another_order_change_no_byte(clone: Path) -> None:
    head, variants = PARAMS.split("variants:\n")
    other = head + "variants:\n" + "".join(reversed(variants.splitlines(keepends=True)))
    assert other != PARAMS
    (clone / "params.yaml").write_text(other)
    assert set(executed(succeeds(clone, "dvc", "repro", BANCADA_TRACKING="off"))) <= {"evaluate@moons"}
    succeeds(clone, "dvc", "repro", "-f", "-s", "evaluate@moons", BANCADA_TRACKING="off")
    assert succeeds(clone, "git", "status", "--porcelain").split() == ["M", "params.yaml"]
    (clone / "params.yaml").write_text(PARAMS)


def a_variant_that_is_removed_is_named_until_its_model_is_deleted(copy: Path) -> None:
    (copy / "params.yaml").write_text(PARAMS[: PARAMS.index("  moons_adam")])
    command = (sys.executable, "-m", "bancada", "repro")
    refused = run(copy, *command)
    left = "data/models/moons/moons_adam"
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"{left}: left over, for params.yaml has no variant moons_adam in moons")
    shutil.rmtree(copy / left)
    succeeds(copy, *command, BANCADA_TRACKING="off")
    board = (copy / "data/evaluation/moons/leaderboard.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in board] == ["variant", "moons_tanh"]


def wrong_parameters_are_refused_before_anything_changes(clone: Path) -> None:
    wrong = PARAMS.replace("tanh, 1, tanh]}", "tahn, 1, tanh]}", 1)
    (clone / "params.yaml").write_text(wrong)
    try:
        refused = run(clone, sys.executable, "-m", "bancada", "repro")
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert len(refused.stderr.splitlines()) == 1
        assert "variants.moons_tanh.layers" in refused.stderr
        assert succeeds(clone, "git", "status", "--porcelain").split() == ["M", "params.yaml"]
    finally:
        (clone / "params.yaml").write_text(PARAMS)


def experiments_run_what_they_change_and_mlflow_keeps_what_they_made(clone: Path) -> None:
    here = executed(succeeds(clone, "dvc", "exp", "run", "-S", "lr=0.01"))
    assert sorted(here) == ["evaluate@moons", "train@moons_adam", "train@moons_tanh"]
    fewer = "+variants.moons_tanh.train.epochs=2"
    temporary = run(clone, "dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", fewer)
    assert executed(temporary.stdout) == ["train@moons_tanh", "evaluate@moons"]
    assert "not recorded" not in temporary.stderr
    assert "elsewhere" in succeeds(clone, "dvc", "exp", "show", "--md")
    tracked = succeeds(clone, sys.executable, "-m", "bancada", "track", "--all-exps").splitlines()
    assert tracked[-1].startswith("0 runs new, ")  # what was recorded beside the stages is all that the files hold

    files = succeeds(clone, sys.executable, "-c", FIND, f"sqlite:///{clone / 'mlflow.db'}", "elsewhere").split()
    assert "weights.safetensors" in {Path(name).name for name in files}
    assert any(name.endswith(".png") for name in files)


def a_sweep_with_two_workers_is_read_by_its_rates(clone: Path) -> None:
    """Both workers begin at once, on a store that is not there yet."""
    (clone / "mlflow.db").unlink()
    shutil.rmtree(clone / "mlartifacts")
    for name, rate in {"low": 0.002, "high": 0.2}.items():
        succeeds(clone, "dvc", "exp", "run", "--queue", "-n", name, "-S", f"lr={rate}")
    try:
        succeeds(clone, "dvc", "queue", "start", "-j", "2")
        deadline = time.monotonic() + 180
        while (status := succeeds(clone, "dvc", "queue", "status")).count("Success") < 2:
            assert "Failed" not in status and time.monotonic() < deadline, status
    finally:
        succeeds(clone, "dvc", "queue", "stop", "--kill")
    with closing(sqlite3.connect(clone / "mlflow.db")) as database:
        value = "(select value from {} where run_uuid = runs.run_uuid and key = '{}')"
        columns = [value.format("params", "lr"), value.format("tags", "dvc.experiments")]
        found = database.execute(f"select name, status, {', '.join(columns)}, artifact_uri from runs").fetchall()
    assert sorted(run[:4] for run in found) == [
        ("moons_adam", "FINISHED", "0.002", '["low"]'),
        ("moons_adam", "FINISHED", "0.2", '["high"]'),
        ("moons_tanh", "FINISHED", "0.002", '["low"]'),
        ("moons_tanh", "FINISHED", "0.2", '["high"]'),
    ]
    for *_, location in found:
        folder = Path(unquote(urlsplit(location).path))
        assert folder.is_relative_to(clone / "mlartifacts")
        assert {"weights.safetensors", "plots"} <= {path.name for path in folder.iterdir()}
    tracked = succeeds(clone, sys.executable, "-m", "bancada", "track", "--all-exps").splitlines()[-1]
    assert tracked.endswith(", 0 marked as duplicates")


# In a process of its own, because mlflow warns of things that are errors in tests. Downloads all artifacts of the run
# of moons_tanh that the experiment made, and prints their names.
FIND = """\
import sys
from pathlib import Path
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
assert [run.info.status for run in runs] == ["FINISHED"] * 3, runs
[made] = [
    run
    for run in runs
    if run.data.tags["bancada.variant"] == "moons_tanh" and sys.argv[2] in run.data.tags["dvc.experiments"]
]
folder = Path(client.download_artifacts(made.info.run_id, ""))
print(*[path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and " " not in path.name], sep="\\n")
"""


def test_a_clone_runs_its_own_code_and_not_the_installed_one(tmp_path: Path) -> None:
    folder = clone_to(tmp_path / "second clone")
    with (folder / "src/bancada/generate.py").open("a") as module:
        module.write('\nprint("generated by edited code")\n')
    assert "generated by edited code" in succeeds(folder, "dvc", "repro", "generate@moons")
