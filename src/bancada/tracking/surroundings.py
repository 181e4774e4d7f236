"""Where a stage runs and who asked for it: the main repository, its MLflow store, the DVC experiment, git."""

import hashlib
import json
import os
import re
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bancada.base import files, locks
from bancada.base.git import git_answer
from bancada.base.notify import without_credentials

LOCK_PATIENCE_S = 40.0
MOST_DIFF = 1_000_000  # characters
UNTRACKED, CUT = "# untracked: ", "\n# cut: "  # lines of ours in a difference
# As `git apply` takes it, whatever the user's configuration says of how a difference is to look.
PATCH = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
# What the pipeline itself writes into git: changed while it runs, also in a clean tree.
PIPELINE_OWN = ("dvc.lock", str(files.DATA / "evaluation"))
# .dvc/config may hold a remote's keys, and no result follows from it.
OURS_EXCLUDED = (".", *(f":(exclude){path}" for path in (*PIPELINE_OWN, ".dvc/config")))


def repository_root(folder: Path) -> Path:
    """The main repository's root. DVC_ROOT is that also in the temporary folder of a DVC experiment."""
    if os.environ.get("DVC_ROOT"):
        return Path(os.environ["DVC_ROOT"]).resolve()
    folder = folder.resolve()
    return next((place for place in (folder, *folder.parents) if (place / ".dvc").is_dir()), folder)


def store_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else ROOT/mlflow.db. A relative SQLite path starts at the root, from whatever folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///")
    if path == uri or path == ":memory:" or path.startswith("/"):
        return uri
    return sqlite_uri(root / path)


def sqlite_uri(path: Path) -> str:
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def locked(root: Path) -> AbstractContextManager[IO[str]]:
    """Let one process at a time create the store, create a run or complete it. Raise TimeoutError after a while."""
    folder = root / ".dvc" / "tmp"
    if not folder.parent.is_dir():
        folder = Path(tempfile.gettempdir()) / f"bancada-{hashlib.md5(bytes(root), usedforsecurity=False).hexdigest()}"
    return locks.locked(folder / "bancada-tracking.lock", LOCK_PATIENCE_S)


@dataclass(frozen=True)
class Circumstances:
    """Where a result came from. None of it changes the result, and none of it is in the pipeline's files."""

    experiment: str | None = None  # the DVC experiment that asked
    baseline_rev: str | None = None
    commit: str | None = None
    diff: str = ""  # against that commit; empty where the tree is clean

    def tags(self) -> dict[str, str]:
        said = {
            "dvc.baseline_rev": self.baseline_rev,
            "git.commit": self.commit,
            "git.clean": json.dumps(not self.diff) if self.commit else None,
            "mlflow.source.git.commit": self.commit,
            "mlflow.source.git.dirty": json.dumps(bool(self.diff)) if self.commit else None,
        }
        return {key: value for key, value in said.items() if value}


def circumstances() -> Circumstances:
    """Of this process and its current folder."""
    commit = git_answer("rev-parse", "HEAD")
    name, baseline = os.environ.get("DVC_EXP_NAME"), os.environ.get("DVC_EXP_BASELINE_REV")
    return Circumstances(name or None, baseline or None, commit.strip() or None, _difference() if commit else "")


@dataclass(frozen=True)
class Experiment:
    """A finished DVC experiment: a commit of its own on top of its baseline."""

    name: str
    commit: str
    baseline: str

    def circumstances(self) -> Circumstances:
        """As they were when it ran: on its baseline, with the difference that it is."""
        diff = _cut(git_answer("diff", self.baseline, self.commit, *PATCH, "--", *OURS_EXCLUDED))
        return Circumstances(self.name, self.baseline, self.baseline, diff)


def experiments() -> list[Experiment]:
    """All DVC experiments of this repository, the newest first."""
    found = []
    listed = git_answer("for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps")
    for line in listed.splitlines():
        # refs/exps/ab/cdef.../NAME is an experiment on the baseline abcdef...; what else is there is DVC's own
        place = re.fullmatch(r"(\w+) refs/exps/([0-9a-f]{2})/([0-9a-f]{38,62})/(.+)", line)
        if place:
            found.append(Experiment(place[4], place[1], place[2] + place[3]))
    return found


def _difference() -> str:
    """`git diff HEAD` of this folder, below the names of the files that git does not know."""
    untracked = git_answer(
        "-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard", "--", *OURS_EXCLUDED
    )
    diff = git_answer("diff", "HEAD", *PATCH, "--", *OURS_EXCLUDED)
    return _cut("".join(f"{UNTRACKED}{name}\n" for name in untracked.splitlines()) + diff)


def _cut(said: str) -> str:
    cut = f"{CUT}{len(said) - MOST_DIFF} more characters\n" if len(said) > MOST_DIFF else ""
    return without_credentials(said[:MOST_DIFF]) + cut
