"""Where a process runs: the main repository, its MLflow store, the DVC experiment and the git commit."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dvc.repo import Repo

from bancada.base import BadInput, files, git, locks, notify

LOCK_PATIENCE_S = 40.0  # how long to wait for a process that holds the store's lock and makes no progress
FOLDER, PROGRESS = Path(".dvc/tmp"), "bancada-tracking.progress"
LOOK_S = 1.0  # how often to look whether it does
MOST_DIFF = 1_000_000  # bytes
UNTRACKED = "# untracked: "  # begins a line that we add to a diff
UNKNOWN = "unknown"  # what git could not say
# Options that give the form which `git apply` reads, whatever the user's configuration of `git diff` is.
PATCH = (
    *("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--unified=3"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=none"),
)
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
    return f"{sqlite_uri(root)}/{path}"


def sqlite_uri(path: Path) -> str:
    """Return SQLAlchemy's URI of a database file."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


@contextmanager
def store_lock(root: Path, on_progress: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let one process at a time create the store, create a run or complete a run.

    While others hold the lock and make progress, call `on_progress` and wait. Raise TimeoutError if they do not.
    """
    with ExitStack() as held:
        seen, since = _last_progress(root), time.monotonic()
        while True:
            try:
                held.enter_context(locks.locked(root / FOLDER / "bancada-tracking.lock", LOOK_S))
                break
            except TimeoutError:
                if (now := _last_progress(root)) != seen:
                    seen, since = now, time.monotonic()
                    on_progress()
                elif time.monotonic() - since > LOCK_PATIENCE_S:
                    raise
        yield


def note_progress(root: Path) -> None:
    """Let those who wait for the lock of the store see that its holder makes progress."""
    (root / FOLDER / PROGRESS).touch()


def _last_progress(root: Path) -> float:
    path = root / FOLDER / PROGRESS
    return path.stat().st_mtime if path.exists() else 0.0


@dataclass(frozen=True)
class Origin:
    """Where a result comes from. It does not change the result, and the pipeline's files do not hold it."""

    experiment: str | None = None  # name of the DVC experiment
    commit: str = ""  # empty where there is none, UNKNOWN where git could not say
    clean: bool | None = None  # whether the files are those of the commit; None: not known
    diff: bytes = b""  # against that commit: exact, or empty where it is not kept
    problem: str = ""  # what git could not say, or why the diff is not kept: a sentence

    def tags(self) -> dict[str, str]:
        """Return the tags of a run; without a commit there are none about git."""
        tags = {"git.problem": self.problem} if self.problem else {}
        if self.commit:
            tags |= {"git.commit": self.commit, "git.clean": UNKNOWN if self.clean is None else json.dumps(self.clean)}
        if self.commit not in ("", UNKNOWN):
            tags["mlflow.source.git.commit"] = self.commit
        if self.clean is not None:
            tags["mlflow.source.git.dirty"] = json.dumps(not self.clean)
        return tags


def origin() -> Origin:
    """Return the origin of what this process makes in the current folder."""
    known = Origin(os.environ.get("DVC_EXP_NAME") or None)
    try:
        commit = git.commit_of(Path())
    except BadInput as error:
        return replace(known, commit=UNKNOWN, problem=f"the commit is recorded as unknown: {error}")
    return _with_diff(replace(known, commit=commit), "HEAD") if commit else known


def _with_diff(known: Origin, *commits: str) -> Origin:
    """Return the origin with the difference of this folder, or of the second commit, from the first one."""
    try:
        diff = git.exact(Path(), "diff", *PATCH, *commits, "--", *PATHS)
        diff = diff if len(commits) > 1 else _untracked() + diff
    except BadInput as error:
        return replace(known, problem=f"git.clean is recorded as unknown: {error}")
    if why := _not_to_be_kept(diff):
        return replace(known, clean=False, problem=f"git.diff is left out, so the run cannot be reproduced: {why}")
    return replace(known, clean=not diff, diff=diff)


def _untracked() -> bytes:
    """Return a line for each file that git does not know."""
    options = ("ls-files", "--others", "--exclude-standard", "--", *PATHS)
    return b"".join(UNTRACKED.encode() + name + b"\n" for name in git.exact(Path(), *options).splitlines())


def _not_to_be_kept(diff: bytes) -> str:
    """Return why a diff would be no use, or do harm, in a store; a changed one would bring back other code."""
    if len(diff) > MOST_DIFF:
        return f"it has {len(diff):,} bytes, more than {MOST_DIFF:,}"
    if re.search(rb"^\+Subproject commit ", diff, re.MULTILINE):
        return "a submodule is not as it was committed"
    text = diff.decode(errors="surrogateescape")
    return "" if notify.without_credentials(text) == text else "it holds a password or a token"


@dataclass(frozen=True)
class Experiment:
    """A finished DVC experiment: a commit of its own on top of its baseline."""

    name: str
    commit: str
    baseline: str

    def origin(self) -> Origin:
        """Return the origin that its results had when it ran: its baseline, and its difference from that."""
        return _with_diff(Origin(self.name, self.baseline), self.baseline, self.commit)


def experiments() -> list[Experiment]:
    """Return all DVC experiments of this repository, the newest first."""
    if not git.in_repository(Path()):
        return []
    git.refuse_broken(Path())
    with Repo() as repo:
        listed = repo.experiments.ls(all_commits=True)
        found = [Experiment(name, commit, baseline) for baseline, of in listed.items() for name, commit in of]
        return sorted(found, key=lambda each: repo.scm.resolve_commit(each.commit).commit_time, reverse=True)
