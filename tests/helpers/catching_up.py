"""`bancada track` on a bench, and all that its store holds then. The tests of tracking share it."""

import sqlite3
from collections import OrderedDict
from contextlib import closing
from pathlib import Path

import pytest
from toy import artifacts, rows

from bancada.tracking import catch_up
from bancada.tracking.store import open_store

WHOLE = {"weights.safetensors", "history.parquet", "run.json", "requirements.lock"}
EVALUATED = {"plots/loss.png", "plots/regions.png", "evaluation/scores.csv", "evaluation/leaderboard.csv"} | {
    "evaluation/per_seed.csv"
}


def everything(root: Path) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """All that a store holds: the database's rows, and each artifact's inode and time."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        dump = list(database.iterdump())
    artifacts = [path for path in (root / "mlartifacts").rglob("*") if path.is_file()]
    return dump, {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in artifacts}


def artifacts_of_all(root: Path) -> list[set[str]]:
    opened = open_store(root)
    return [artifacts(opened, run_id) for (run_id,) in rows(root, "select run_uuid from runs order by name")]


def go_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process would be there: within one, mlflow remembers where a run's artifacts are."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())


def tracks(capfd: pytest.CaptureFixture[str], status: int = 0, all_experiments: bool = False) -> list[str]:
    """The lines on stdout of a `bancada track`, which ends with this status and says nothing else."""
    capfd.readouterr()
    assert catch_up.track(all_experiments) == status
    out, err = capfd.readouterr()
    assert err == ""
    return out.splitlines()


NOTHING_NEW = "0 runs new, 0 completed, 2 were complete"
