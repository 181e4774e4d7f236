"""A store that fails before a stage or while the stage is recorded. The stage succeeds, at most 10 s later, and one
line says what is not recorded. When the store works again, `bancada track` writes it: nothing is lost or doubled."""

import csv
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clones
import pytest
from mlflow.exceptions import MlflowException
from mounts import FILL, Mounted
from servers import PASSWORD, Fault, Proxy, mlflow_server
from toy import NOBODY, artifacts, evaluate, train_variant

from bancada.base import files, notify
from bancada.tracking import catch_up, evaluations
from bancada.tracking.experiments import experiment_id
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store

MORE_S = 10.0  # than with BANCADA_TRACKING=off
PYTHON = (sys.executable, "-m")
TRAIN, REPRO = (*PYTHON, "bancada.training.train", "moons_tanh"), (*PYTHON, "bancada", "repro", "train@moons_tanh")
# 3 epochs of two losses' means and deviations and of the rate; diverged seeds, parameters, the rate's logarithm
POINTS = 3 * 5 + 3
ARTIFACTS = {"history.parquet", "requirements.lock", "run.json", "weights.safetensors", "plots/leaderboard.png"}


@dataclass(frozen=True)
class Bench:
    """A small repository whose pipeline ran without tracking; how long a stage takes there so."""

    root: Path
    off_s: dict[tuple[str, ...], float] = field(default_factory=dict)

    def seconds(self, command: tuple[str, ...]) -> float:
        """Without tracking."""
        if command not in self.off_s:
            done, self.off_s[command] = self.run(command, BANCADA_TRACKING="off")
            assert (done.returncode, done.stderr) == (0, "")
        return self.off_s[command]

    def run(self, command: tuple[str, ...], **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """Run the stage as if its model were not there."""
        for folder in ("data/models/moons/moons_tanh", ".dvc/cache"):  # from the cache, DVC would restore the model
            shutil.rmtree(self.root / folder, ignore_errors=True)  # it may not be there
        began = time.monotonic()
        done = clones.run(self.root, *command, **environment)
        return done, time.monotonic() - began

    def fails_to_record(self, command: tuple[str, ...], *before: str, **environment: str) -> None:
        """The stage succeeds, in time, and says in one line what is not recorded and how it is done later."""
        off_s = self.seconds(command)
        done, took = self.run((*before, *command), **environment)
        print(f"{took - off_s:.1f} s more than without tracking; {done.stderr}")
        assert done.returncode == 0, done.stderr
        assert (self.root / "data/models/moons/moons_tanh/weights.safetensors").exists()
        assert done.stderr.count("\n") == 1, done.stderr
        assert "train@moons_tanh" in done.stderr
        assert "`bancada track`" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert took < off_s + MORE_S


@pytest.fixture(scope="module")
def repository(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shutil.copytree(made, tmp_path_factory.mktemp("outage") / "a copy", symlinks=True))


@dataclass(frozen=True)
class Held:
    """What a store holds of the study, counted in its SQLite file."""

    database: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as database:
            return database.execute(query).fetchall()

    def is_everything(self, root: Path) -> None:
        """Of both variants: each run, point and data set once, and all files."""
        runs = self.rows(f"select name, status from runs where {OF_THE_STUDY} order by name")
        assert runs == [("moons_adam", "FINISHED"), ("moons_tanh", "FINISHED")]
        points = self.rows(f"select key, step, run_uuid from metrics where run_uuid in ({RUNS})")
        assert len(points) == len(set(points)) == 2 * POINTS + count_scores(root) + count_seeds(root)
        inputs = self.rows(f"select source_id, destination_id from inputs where destination_id in ({RUNS})")
        assert len(inputs) == len(set(inputs)) == 2 * 3  # training, validation and test rows

    def dump(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as database:
            return list(database.iterdump())


OF_THE_STUDY = "experiment_id = (select experiment_id from experiments where name = 'moons')"
RUNS = f"select run_uuid from runs where {OF_THE_STUDY}"


def count_scores(root: Path) -> int:
    """The cells of the evaluation that have a value."""
    with (root / "data/evaluation/moons/scores.csv").open(newline="") as file:
        kept = [row[key] for row in csv.DictReader(file) for key in evaluations.STATISTICS]
    return len(list(filter(None, kept)))


def count_seeds(root: Path) -> int:
    """The scores of single seeds that have a value: each is a point whose step is the seed."""
    with (root / "data/evaluation/moons/per_seed.csv").open(newline="") as file:
        return sum(bool(row["value"]) for row in csv.DictReader(file) if row["metric"] == "error_rate_percent")


def catches_up(held: Held, root: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bancada track` writes what is missing; a second time it changes nothing."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("BANCADA_TRACKING", raising=False)
    assert catch_up.track(all_experiments=False) == 0
    held.is_everything(root)
    opened = open_store(root)
    for (run_id,) in held.rows(RUNS):
        assert artifacts(opened, run_id) >= ARTIFACTS
    before = held.dump()
    assert catch_up.track(all_experiments=False) == 0
    assert held.dump() == before


# --- a server -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    proxy: Proxy
    held: Held


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    database = folder / "mlflow.db"
    with mlflow_server(f"sqlite:///{database}", folder / "artifacts", folder / "log") as port:
        proxy = Proxy(port)
        yield Server(proxy, Held(database))
        proxy.stop()


@pytest.fixture
def server(started: Server) -> Server:
    """One that does not know the studies yet."""
    started.proxy.mend()
    with closing(sqlite3.connect(started.held.database, timeout=30)) as database:
        database.execute("update experiments set name = name || experiment_id where name in ('moons', 'toy')")
        for table in ("experiment_tags", "tags"):
            database.execute(f"delete from {table} where key = 'bancada.study'")
        database.commit()
    return started


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        pytest.param("refuses", "", marks=pytest.mark.long),
        pytest.param("hangs", "runs/log-batch", marks=pytest.mark.long),
        pytest.param("hangs", "", marks=pytest.mark.long),
        pytest.param("answers 500", "", marks=pytest.mark.long),
        pytest.param("dies", "runs/log-batch", marks=pytest.mark.long),
    ],
)
def test_a_server_that_fails_beside_a_training(
    repository: Bench, server: Server, monkeypatch: pytest.MonkeyPatch, fault: Fault, at: str
) -> None:
    server.proxy.breaks(fault, at)
    repository.fails_to_record(TRAIN, MLFLOW_TRACKING_URI=server.proxy.uri)
    assert server.held.rows(f"select count(*) from runs where status = 'FINISHED' and {OF_THE_STUDY}") == [(0,)]
    server.proxy.mend()
    catches_up(server.held, repository.root, server.proxy.uri, monkeypatch)


@pytest.mark.long
def test_a_server_that_hangs_beside_bancada_repro(
    repository: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.proxy.breaks("hangs")
    repository.fails_to_record(REPRO, MLFLOW_TRACKING_URI=server.proxy.uri)
    assert server.held.rows(f"select count(*) from runs where status = 'FINISHED' and {OF_THE_STUDY}") == [(0,)]
    server.proxy.mend()
    catches_up(server.held, repository.root, server.proxy.uri, monkeypatch)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.long)])
def test_whichever_request_a_server_fails_at_nothing_is_lost_and_nothing_written_twice(
    server: Server, bench: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Record trainings one after another, each interrupted at a later writing request than the one before.

    The server carries the request out, but its answer does not arrive.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.proxy.uri)
    evaluate(plots=("regions.png",))
    request, recorded, interrupted = 0, 0, True
    while interrupted:
        result = train_variant("toy_tanh", f"at {request}")
        server.proxy.breaks("loses the answer", at="^(POST|PUT|PATCH|DELETE) (?!.*search)", after=request)
        try:
            Recorder(open_store(bench), NOBODY).write(result, evaluations.read("toy"))
            interrupted = False
        except (MlflowException, OSError):
            request += step
        recorded += 1
        server.proxy.mend()
        opened = open_store(bench)
        run_id = Recorder(opened, NOBODY).write(result, evaluations.read("toy")).run_id
        runs = server.held.rows(f"select status, count(*) from runs where {OF_THE_TOY} group by status")
        assert runs == [("FINISHED", recorded)]
        points = server.held.rows(f"select key, step from metrics where run_uuid = '{run_id}'")
        assert len(points) == len(set(points)) == 5 * 5 + 2 + 8
        assert server.held.rows(f"select count(*) from inputs where destination_id = '{run_id}'") == [(2,)]
        names = {"run.json", "weights.safetensors", "plots/regions.png", "evaluation/scores.csv"}
        assert artifacts(opened, run_id) >= names
    assert request > 10


def test_a_file_that_a_server_refuses_is_named_and_all_else_is_recorded(
    server: Server, bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Beside the stage, by each `bancada track` after it, and until the server takes it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.proxy.uri)
    train_variant("toy_adam", "large", weights=b"w" * 50_000)
    monkeypatch.setattr(server.proxy, "most_bytes", 40_000)
    with notify.recorded("train@toy_adam", files.model("toy", "toy_adam")):
        pass
    refused = r"toy/toy_adam: weights\.safetensors: the store refuses it: HTTPError: 413 .+"
    assert re.fullmatch(rf"bancada: not recorded in MLflow: train@toy_adam: {refused}\n", capfd.readouterr().err)
    assert catch_up.track(all_experiments=False) == 1
    out, err = capfd.readouterr()
    assert re.fullmatch(rf"not recorded: {refused}\n", err)
    assert out.splitlines()[-1] == "1 runs new, 1 completed, 0 were complete"
    opened = open_store(bench)
    held = {
        run.data.tags["bancada.variant"]: artifacts(opened, run.info.run_id)
        for run in opened.client.search_runs([experiment_id(opened, "toy")], "attributes.status = 'FINISHED'")
    }
    assert held["toy_tanh"] - held["toy_adam"] == {"weights.safetensors"}
    assert "plots/regions.png" in held["toy_adam"]
    before = server.held.dump()
    assert catch_up.track(all_experiments=False) == 1
    assert server.held.dump() == before
    monkeypatch.setattr(server.proxy, "most_bytes", None)
    capfd.readouterr()
    assert catch_up.track(all_experiments=False) == 0
    assert "toy/toy_adam: 1 missing artifacts -> " in capfd.readouterr().out


OF_THE_TOY = OF_THE_STUDY.replace("moons", "toy")


# --- a SQLite file --------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with a store, for a fault of its own."""
    (tmp_path / "disk").mkdir()
    shutil.copy(empty_store, tmp_path / "disk/mlflow.db")
    return tmp_path / "disk"


def at(disk: Path) -> str:
    return f"sqlite:///{disk}/mlflow.db"


@pytest.mark.long
def test_a_database_that_another_program_has_locked(
    repository: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(disk / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        repository.fails_to_record(TRAIN, MLFLOW_TRACKING_URI=at(disk))
    held = Held(disk / "mlflow.db")
    assert held.rows("select count(*) from runs") == [(0,)]
    catches_up(held, repository.root, at(disk), monkeypatch)


def test_a_database_on_a_disk_that_is_read_only(
    repository: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch, mounted: Callable[..., Mounted]
) -> None:
    reading = mounted('mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"', disk)
    repository.fails_to_record(TRAIN, *reading.command, MLFLOW_TRACKING_URI=at(disk))
    held = Held(disk / "mlflow.db")
    assert held.rows("select count(*) from runs") == [(0,)]
    catches_up(held, repository.root, at(disk), monkeypatch)  # for us, it is not read-only


@pytest.mark.parametrize(
    ("full", "left"),
    [
        pytest.param("database", 0, marks=pytest.mark.long),
        pytest.param("database that is not made yet", 600_000, marks=pytest.mark.long),
        pytest.param("artifacts", 0, marks=pytest.mark.long),
    ],
)
def test_a_disk_that_is_full(
    repository: Bench, disk: Path, tmp_path: Path, mounted: Callable[..., Mounted], full: str, left: int
) -> None:
    kept, place = tmp_path / "kept", disk
    kept.mkdir()
    if full == "database":
        shutil.copy(disk / "mlflow.db", kept)
    elif full == "artifacts":
        place = repository.root / "mlartifacts"
        shutil.rmtree(place, ignore_errors=True)  # it may not be there
        place.mkdir()
    filled = mounted(FILL, place, kept, left)
    repository.fails_to_record(TRAIN, *filled.command, MLFLOW_TRACKING_URI=at(disk))
    filled.path(place / "filler").unlink()
    tracked = clones.run(repository.root, *filled.command, *PYTHON, "bancada", "track", MLFLOW_TRACKING_URI=at(disk))
    assert (tracked.returncode, tracked.stderr) == (0, "")
    # A copy, because SQLite would look for the file outside of the mount.
    Held(Path(shutil.copy(filled.path(disk / "mlflow.db"), tmp_path / "seen.db"))).is_everything(repository.root)
    files = {path.name for path in filled.path(repository.root / "mlartifacts").rglob("*") if path.is_file()}
    assert {Path(name).name for name in ARTIFACTS} <= files
