"""A store for a team: a real `mlflow server` over a real PostgreSQL, artifacts behind its proxy, and passwords."""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clones
import psycopg
import pytest
from servers import PASSWORD, Proxy, dump, mlflow_server, postgres
from toy import EPOCHS, NOBODY, SOURCE, costs_one_line, go_to_temporary_experiment, train_variant, write_pipeline_files

from bancada.base import files, notify
from bancada.tracking import catch_up, mirror
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store

CURVES = 5 * EPOCHS + 2  # three losses' means and spreads but for the rate's, the number of diverged seeds, log10_lr
TRAINED = 5 * 3 + 3  # the same of a real training of 3 epochs, whose parameters are counted
ARTIFACTS = {"history.parquet", "requirements.lock", "run.json", "weights.safetensors"}


@dataclass(frozen=True)
class Team:
    database: str
    artifacts: Path
    proxy: Proxy

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(query.encode()).fetchall()

    def runs(self, study: str) -> dict[str, list[str]]:
        """The runs' ids by variant."""
        found = self.rows(
            "select runs.name, run_uuid from runs join experiments using (experiment_id)"
            f" where experiments.name = '{study}' order by start_time"
        )
        return {name: [run_id for other, run_id in found if other == name] for name, _ in found}

    def tag(self, key: str) -> dict[str, str]:
        """By run."""
        return dict(self.rows(f"select run_uuid, value from tags where key = '{key}'"))

    def files(self, run_id: str) -> dict[str, Path]:
        [folder] = self.artifacts.glob(f"*/{run_id}/artifacts")
        return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    def everything(self) -> tuple[list[str], dict[str, tuple[int, int]]]:
        """All rows, and each artifact's inode and time."""
        held = [path for path in self.artifacts.rglob("*") if path.is_file()]
        return dump(self.database), {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in held}

    def keeps_no_password(self, *outputs: str) -> None:
        assert not [line for line in dump(self.database) if PASSWORD in line]
        held = [path for path in self.artifacts.rglob("*") if path.is_file()]
        assert not [path for path in held if PASSWORD.encode() in path.read_bytes()]
        assert not [text for text in outputs if PASSWORD in text]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    with postgres() as database, mlflow_server(database, folder / "artifacts", folder / "log") as port:
        proxy = Proxy(port)
        yield Team(database, folder / "artifacts", proxy)
        proxy.stop()


@pytest.fixture
def member(team: Team, bench: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the team: a repository's root with the pipeline's files, as current folder, and the team's store, which
    does not know the study yet."""
    (bench / "mlflow.db").unlink()
    team.rows("update experiments set name = name || experiment_id where name = 'toy' returning 1")
    for table in ("experiment_tags", "tags"):
        team.rows(f"delete from {table} where key = 'bancada.study' returning 1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.proxy.uri)
    return bench


@pytest.mark.long
def test_a_whole_pipeline_is_recorded_and_a_second_run_confirms_it(team: Team, tmp_path: Path) -> None:
    clone, uri = clones.clone_to(tmp_path / "a clone"), team.proxy.uri
    clones.succeeds(clone, "dvc", "repro", "-q", "split@moons")
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(SOURCE), "DVC_ROOT": str(clone)}
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "bancada.training.train", variant],
            cwd=clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for variant in ("moons_tanh", "moons_adam")
    ]
    outputs = [text for process in both for text in process.communicate(timeout=120)]
    assert [process.returncode for process in both] == [0, 0]
    assert (outputs[1], outputs[3]) == ("", "")
    runs = team.runs("moons")
    assert {name: len(ids) for name, ids in runs.items()} == {"moons_tanh": 1, "moons_adam": 1}
    ids = {name: run_id for name, [run_id] in runs.items()}
    of_ours = "where run_uuid in ('" + "', '".join(ids.values()) + "')"
    assert team.rows(f"select count(*) from metrics {of_ours}") == [(2 * TRAINED,)]

    again = clones.run(clone, sys.executable, "-m", "bancada", "repro", MLFLOW_TRACKING_URI=uri)
    assert (again.returncode, again.stderr) == (0, "")
    assert team.runs("moons") == runs
    assert team.rows(f"select status, count(*) from runs {of_ours} group by status") == [("FINISHED", 2)]
    reproduced = team.tag("bancada.reproduced")
    assert [reproduced[run_id] for run_id in ids.values()] == ["1", "1"]
    errors = team.rows(f"select value from latest_metrics {of_ours} and key = 'test_error_rate_percent_median'")
    shown = [clone / f"data/evaluation/moons/metrics/{variant}.json" for variant in ids]
    assert sorted(value for (value,) in errors) == sorted(json.loads(path.read_text())["median"] for path in shown)
    for variant, run_id in ids.items():
        held = team.files(run_id)
        assert held.keys() > ARTIFACTS | {"plots/leaderboard.png", "evaluation/scores.csv"}
        weights = clone / "data/models/moons" / variant / "weights.safetensors"
        assert held["weights.safetensors"].read_bytes() == weights.read_bytes()
    before = team.everything()
    tracked = clones.run(clone, sys.executable, "-m", "bancada", "track", MLFLOW_TRACKING_URI=uri)
    assert (tracked.returncode, tracked.stderr) == (0, "")
    not_committed, nothing_new = tracked.stdout.splitlines()
    assert re.fullmatch(r"moons: moons_\w+ is not the champion in MLflow yet: commit dvc\.lock .+", not_committed)
    assert nothing_new == "0 runs new, 0 completed, 2 were complete"
    assert team.everything() == before
    clones.succeeds(clone, "git", "add", "dvc.lock", "data")
    clones.succeeds(clone, "git", "commit", "-q", "-m", "results")
    committed = clones.succeeds(clone, sys.executable, "-m", "bancada", "track", MLFLOW_TRACKING_URI=uri)
    assert re.match(r"moons: version 1, moons_\w+, is the champion now\n0 runs new", committed)
    assert not [path for name in ("mlflow.db", "mlartifacts") for path in clone.rglob(name)]
    team.keeps_no_password(*outputs, again.stdout, again.stderr, tracked.stdout, tracked.stderr)


def test_track_writes_all_that_is_missing_and_a_second_time_nothing(
    team: Team, member: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = {train_variant(variant, "track").fingerprint for variant in ("toy_tanh", "toy_adam")}
    before = team.rows("select count(*) from metrics")[0][0]
    assert catch_up.track(all_experiments=False) == 0
    first = capfd.readouterr()
    assert first.out.splitlines()[-1].startswith("2 runs new, 0 completed, 0 were complete")
    assert team.rows("select count(*) from metrics") == [(before + 2 * CURVES + 8 + 1,)]  # 8 scores, and 1
    ids = [run_id for run_id, fingerprint in team.tag("bancada.fingerprint").items() if fingerprint in wanted]
    assert len(ids) == 2
    for run_id in ids:
        assert team.files(run_id).keys() >= ARTIFACTS | {"plots/loss.png", "evaluation/scores.csv"}
    held = team.everything()
    assert catch_up.track(all_experiments=False) == 0
    second = capfd.readouterr()
    assert second.out.startswith("0 runs new, 0 completed, 2 were complete")
    assert (first.err, second.err) == ("", "")
    assert team.everything() == held
    team.keeps_no_password(*first, *second)


def test_a_temporary_experiment_folder_records_its_files_and_its_name(
    team: Team, member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temporary = go_to_temporary_experiment(member, tmp_path, monkeypatch)
    with notify.recorded("train@toy_tanh", files.model("toy", "toy_tanh")):
        write_pipeline_files()
        result = train_variant("toy_tanh", "temporary", weights=b"of the experiment")
    assert capfd.readouterr() == ("", "")
    assert list(temporary.glob("ml*")) == []
    shutil.rmtree(temporary)
    [(run_id,)] = team.rows(f"select run_uuid from tags where value = '{result.fingerprint}'")
    assert json.loads(team.tag("dvc.experiments")[run_id]) == ["brave-cat"]
    assert team.files(run_id)["weights.safetensors"].read_bytes() == b"of the experiment"
    team.keeps_no_password()


def test_two_machines_that_record_the_same_at_the_same_moment_make_two_whole_runs_of_which_one_is_kept_up(
    team: Team, member: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The proxy holds each back until the other, too, is about to create the experiment, the run, its data sets."""
    train_variant("toy_tanh", "machines")
    other = shutil.copytree(member, member.with_name("other"))
    meeting, created = threading.Barrier(2, timeout=60), ["experiments/create", "runs/create", "runs/log-inputs"]
    arrived, counting = Counter[str](), threading.Lock()

    def meet(request: str) -> None:
        name = request.rpartition("mlflow/")[2]
        with counting:
            arrived[name] += 1
            first = arrived[name] <= 2
        if name in created and first:
            meeting.wait()

    team.proxy.before = meet
    try:
        both = [multiprocessing.get_context("fork").Process(target=record_at, args=(root,)) for root in (member, other)]
        for process in both:
            process.start()
        for process in both:
            process.join(90)
    finally:
        team.proxy.before = lambda request: None
    assert [process.exitcode for process in both] == [0, 0]
    assert all(arrived[name] >= 2 for name in created)
    assert team.rows("select count(*) from experiments where name = 'toy'") == [(1,)]
    ids = team.runs("toy")["toy_tanh"]
    assert len(ids) == 2
    assert catch_up.track(all_experiments=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "1 runs new, 1 completed, 0 were complete"
    of_both = f"where run_uuid in ('{ids[0]}', '{ids[1]}')"
    assert team.rows(f"select status, count(*) from runs {of_both} group by status") == [("FINISHED", 2)]
    held = team.everything()
    assert catch_up.track(all_experiments=False) == 0
    assert capfd.readouterr().out.startswith("0 runs new, 0 completed, 2 were complete")
    assert team.everything() == held


def record_at(root: Path) -> None:
    """In a process of its own."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "60"
    os.chdir(root)
    Recorder(open_store(root), NOBODY).write(mirror.result(files.model("toy", "toy_tanh")), began_ms=1)


BROKEN: dict[str, Callable[[str], str]] = {
    "password": lambda uri: uri.replace("bancada:", "bancada:not-the-"),
    "port": lambda uri: f"{uri}&port=9",
    "driver": lambda uri: uri.replace("postgresql://", "postgresql+nonsense://"),
    "password in the query": lambda uri: f"nonsense://host/postgres?user=bancada&password={PASSWORD}",
}


@pytest.mark.parametrize(
    "wrong", ["password", *(pytest.param(name, marks=pytest.mark.long) for name in BROKEN if name != "password")]
)
def test_a_database_that_cannot_be_used_costs_one_line_without_its_password(
    team: Team, member: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", BROKEN[wrong](team.database))
    with notify.recorded("train@toy_tanh", files.model("toy", "toy_tanh")):
        pass
    costs_one_line(capfd, "train@toy_tanh", PASSWORD)


def test_the_database_can_also_be_used_without_a_server(
    team: Team, member: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.database)
    shutil.rmtree(files.model("toy", "toy_adam"))
    shutil.rmtree(files.evaluation("toy"))
    train_variant("toy_tanh", "direct")
    assert catch_up.track(all_experiments=False) == 0
    first = capfd.readouterr()
    assert first.out.splitlines()[-1].startswith("1 runs new, ")
    held = team.everything()
    assert catch_up.track(all_experiments=False) == 0
    second = capfd.readouterr()
    assert second.out.startswith("0 runs new, 0 completed, 1 were complete")
    assert team.everything() == held
    team.keeps_no_password(*first, *second)
    kept = [path for path in (member / "mlartifacts").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == ARTIFACTS
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes()]
