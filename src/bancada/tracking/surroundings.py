"""Where a process runs: the main repository, its MLflow store, the DVC experiment and the git commit."""

import hashlib
import json
import os
import re
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bancada.base import files, locks, notify
from bancada.base.git import git_answer

LOCK_PATIENCE_S = 40.0
MOST_DIFF = 1_000_000  # characters
UNTRACKED, CUT = "# untracked: ", "\n# cut: "  # lines that we add to a diff
# Options that give the form which `git apply` reads, whatever the user's configuration of `git diff` is.
PATCH = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
# What the pipeline itself writes into git while it runs, and DVC's configuration, which may hold a remote's keys.
EXCLUDED = ("dvc.lock", *map(str, files.OF_GIT), ".dvc/config")
PATHS = (".", *(f":(exclude){path}" for path in EXCLUDED))


def repository_root(folder: Path) -> Path:
    """Return the main repository's root, also from the temporary folder of a DVC experiment, by DVC_ROOT."""
    if os.environ.get("DVC_ROOT"):
        return Path(os.environ["DVC_ROOT"]).resolve()
    folder = folder.resolve()
    return next((path for path in (folder, *folder.parents) if (path / ".dvc").is_dir()), folder)


def store_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or ROOT/mlflow.db. A relative SQLite path is relative to the root."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///")
    if path == uri or path == ":memory:" or path.startswith("/"):
        return uri
    return sqlite_uri(root / path)


def sqlite_uri(path: Path) -> str:
    """Return SQLAlchemy's URI of a database file."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def store_lock(root: Path) -> AbstractContextManager[IO[str]]:
    """Let one process at a time create the store, create a run or complete a run.

    Raise TimeoutError if another process holds the lock for too long.
    """
    folder = root / ".dvc" / "tmp"
    if not folder.parent.is_dir():
        folder = Path(tempfile.gettempdir()) / f"bancada-{hashlib.md5(bytes(root), usedforsecurity=False).hexdigest()}"
    return locks.locked(folder / "bancada-tracking.lock", LOCK_PATIENCE_S)


@dataclass(frozen=True)
class Origin:
    """Where a result comes from. It does not change the result, and the pipeline's files do not hold it."""

    experiment: str | None = None  # name of the DVC experiment
    baseline_rev: str | None = None
    commit: str | None = None
    diff: str = ""  # against that commit; empty where the working tree is clean

    def tags(self) -> dict[str, str]:
        """Return the tags of a run, without those that are not known."""
        tags = {
            "dvc.baseline_rev": self.baseline_rev,
            "git.commit": self.commit,
            "git.clean": json.dumps(not self.diff) if self.commit else None,
            "mlflow.source.git.commit": self.commit,
            "mlflow.source.git.dirty": json.dumps(bool(self.diff)) if self.commit else None,
        }
        return {key: value for key, value in tags.items() if value}


def origin() -> Origin:
    """Return the origin of what this process makes in the current folder."""
    commit = git_answer("rev-parse", "HEAD").strip()
    name, baseline = os.environ.get("DVC_EXP_NAME"), os.environ.get("DVC_EXP_BASELINE_REV")
    return Origin(name or None, baseline or None, commit or None, _diff() if commit else "")


@dataclass(frozen=True)
class Experiment:
    """A finished DVC experiment: a commit of its own on top of its baseline."""

    name: str
    commit: str
    baseline: str

    def origin(self) -> Origin:
        """Return the origin that its results had when it ran: its baseline, and its difference from that."""
        diff = _cut(git_answer("diff", self.baseline, self.commit, *PATCH, "--", *PATHS))
        return Origin(self.name, self.baseline, self.baseline, diff)


def experiments() -> list[Experiment]:
    """Return all DVC experiments of this repository, the newest first."""
    listed = git_answer("for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps")
    # refs/exps/ab/cdef.../NAME is an experiment on the baseline abcdef...; other refs there are DVC's own.
    matches = re.findall(r"^(\w+) refs/exps/([0-9a-f]{2})/([0-9a-f]{38,62})/(.+)$", listed, re.MULTILINE)
    return [Experiment(name, commit, start + rest) for commit, start, rest, name in matches]


def _diff() -> str:
    """Return `git diff HEAD` of this folder, below the names of its untracked files."""
    untracked = git_answer("-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard", "--", *PATHS)
    names = "".join(f"{UNTRACKED}{name}\n" for name in untracked.splitlines())
    return _cut(names + git_answer("diff", "HEAD", *PATCH, "--", *PATHS))


def _cut(diff: str) -> str:
    cut = f"{CUT}{len(diff) - MOST_DIFF} more characters\n" if len(diff) > MOST_DIFF else ""
    return notify.without_credentials(diff[:MOST_DIFF]) + cut
