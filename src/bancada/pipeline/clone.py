"""A temporary clone of the repository, in which stages run for real: no cache, no store, nothing of the shell's."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dvc.config import Config

from bancada.base import BadInput, files, lockfile
from bancada.base.dvc_errors import NOWHERE
from bancada.base.git import asked, commit_of, fetch_missing, in_repository
from bancada.pipeline.check import SUBMODULE
from bancada.pipeline.dvc_internals import by_hardlink, opened, runs, why_missing

GRACE_S = 5.0  # how long after Ctrl-C it may take to end by itself
NOT_RUN = "could not be run"
OF_THE_SHELL = ("DVC_", "GIT_", "MLFLOW_", "BANCADA_", "PYTHON")


@dataclass(frozen=True)
class Clone:
    """`folder` holds everything that is removed at the end; `root`, inside it, is the folder of dvc.yaml."""

    source: Path
    commit: str
    folder: Path
    root: Path

    def repro(self, targets: Sequence[str]) -> None:
        """Run these stages and all that they depend on, whatever dvc.lock says. Raise BadInput where that fails."""
        command = [sys.executable, "-m", "bancada", "repro", "--force", *targets]
        with subprocess.Popen(command, cwd=self.root, env=self._environment()) as process:
            try:
                status = process.wait()
            except BaseException as signalled:  # whatever ends this process ends the run, and is raised again
                with suppress(subprocess.TimeoutExpired):  # Ctrl-C in a terminal has reached it, too
                    process.wait(GRACE_S if isinstance(signalled, KeyboardInterrupt) else 0)
                process.terminate()
                process.wait()  # until it has ended its stages
                raise
        if status:
            asked_for = " ".join(["bancada repro", *targets])
            raise BadInput(f"{NOT_RUN}: `{asked_for}` ended with status {status} in a clone of {self.commit[:10]}")

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OF_THE_SHELL)}
        nothing = str(self.folder / "nothing")
        return kept | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(self.root / "src"),
            "BANCADA_TRACKING": "off",
            "BANCADA_REPLICAS": "off",
            "BANCADA_QUIET": "1",  # no option, because the code of an old commit may not know it
            "DVC_GLOBAL_CONFIG_DIR": nothing,
            "DVC_SYSTEM_CONFIG_DIR": nothing,
        }


def head(root: Path, rev: str = "HEAD") -> str:
    """Return the full name of a commit. Raise BadInput where there is no git, no repository or no such commit."""
    if commit := commit_of(root, rev):
        return commit
    raise BadInput(f"{root}: no commit {rev}" if in_repository(root) else f"{root}: no git repository")


@contextmanager
def clone_of(source: Path, commit: str, purpose: str) -> Iterator[Clone]:
    """Clone the repository whose root is `source`, as it was at a commit; it is removed at the end.

    Raise BadInput where that is impossible.
    """
    prefix = asked(source, "rev-parse", "--show-prefix").rstrip("\n")
    top = Path(asked(source, "rev-parse", "--show-toplevel").rstrip("\n"))
    with tempfile.TemporaryDirectory(prefix=f"bancada-{purpose}-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        whole = folder / "clone"
        _check_out(top, commit, whole)
        clone = Clone(source, commit, folder, whole / prefix)
        if not (clone.root / ".dvc").is_dir() or not (clone.root / "dvc.yaml").is_file():
            raise BadInput(f"commit {commit[:10]}: holds no dvc.yaml, or no .dvc")
        (folder / "nothing").mkdir()
        hardlink_lock = str(by_hardlink(Config(str(source / ".dvc")))).lower()
        config = CONFIG.format(folder=folder, hardlink_lock=hardlink_lock)
        (clone.root / ".dvc" / "config.local").write_text(config)
        yield clone


# An empty cache of the clone's own, also where the user's configuration names one for all repositories. DVC locks as in
# the workspace, where a user sets hardlink_lock for a file system without locks.
CONFIG = """\
[core]
    analytics = false
    check_update = false
    autostage = false
    site_cache_dir = {folder}/site
    hardlink_lock = {hardlink_lock}
[cache]
    dir = {folder}/cache
    type = reflink,copy
"""


def _check_out(source: Path, commit: str, folder: Path) -> None:
    """Clone a repository with its submodules, as far as `source` has them, as they were at a commit."""
    fetch_missing(source, commit)
    # --shared: also a commit that no branch leads to. autocrlf: the files are those that were hashed, also of a commit
    # before .gitattributes.
    options = ("--quiet", "--shared", "--no-checkout", "--template=", "--config=core.autocrlf=false")
    asked(source, "clone", *options, "--config=core.hooksPath=/dev/null", "--", str(source), str(folder))
    asked(folder, "checkout", "--quiet", "--detach", commit)
    for line in asked(folder, "ls-tree", "-r", "-z", commit).split("\0"):
        entry, _, path = line.partition("\t")
        if entry.startswith(SUBMODULE) and (source / path / ".git").exists():
            _check_out(source / path, entry.split()[2], folder / path)


def fetch_inputs(clone: Clone) -> None:
    """Bring what `dvc add` keeps into the clone. Raise BadInput where neither the cache nor a remote has it."""
    with opened(clone.root) as repo:
        kept = [out for stage in repo.index.stages if not runs(stage) for out in stage.outs]
        wanted = {Path(out.fs_path).relative_to(clone.root): str(out.hash_info.value) for out in kept}
    for path, md5 in wanted.items():
        if problem := fetch(clone, path, clone.root / path, md5):
            advice = f": `dvc pull {path}` first, or `dvc push` where it is" if problem == NOWHERE else ""
            raise BadInput(f"{path}: kept by DVC, and {problem}{advice}")


def fetch(clone: Clone, path: Path, to: Path, md5: str) -> str:
    """Bring one of the commit's files from the source's cache or remote. Return why that is impossible, or nothing."""
    with chdir(clone.source), lockfile.files_at(clone.source, clone.commit) as system:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            system.get(path.as_posix(), str(to), recursive=system.isdir(path.as_posix()))
        except Exception as error:  # also of the library that reaches the remote
            files.remove(to)
            return why_missing(system.repo, error, md5)
    if lockfile.dvc_md5(to) == md5:
        return ""
    files.remove(to)
    return "damaged in DVC's cache"
