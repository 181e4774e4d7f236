"""Questions to git, without what the shell or a hook says of another repository.

A git that fails is an error with git's own reason: it is never read as an empty answer.
"""

import os
import re
import subprocess
from pathlib import Path

from bancada.base import BadInput

PATIENCE_S = 60.0
# In the message of a git that refuses a repository of another user.
WAY_OUT = re.compile(r"git config --global --add safe\.directory .+")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder, without git's optional locks. Raise BadInput where there is no git, or no answer in time."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(command, env=kept | {"GIT_OPTIONAL_LOCKS": "0"}, capture_output=True, timeout=PATIENCE_S)
    except OSError as error:
        raise BadInput(f"git, which must be on PATH: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise BadInput(f"git {arguments[0]}: no answer in {PATIENCE_S:g} s") from None


def exact(folder: Path, *arguments: str) -> bytes:
    """Return what git prints, byte by byte. Raise BadInput, with git's reason, where it fails."""
    done = run(folder, *arguments)
    if done.returncode:
        raise _failed(arguments[0], done)
    return done.stdout


def asked(folder: Path, *arguments: str) -> str:
    """Return what git prints as text. Raise BadInput, with git's reason, where it fails."""
    return exact(folder, *arguments).decode(errors="replace")


def _failed(command: str, done: subprocess.CompletedProcess[bytes]) -> BadInput:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line]
    # A warning, or an error that leads to another one, may come before what ended git.
    why = next((line for line in lines if line.startswith("fatal: ")), next(iter(lines), f"status {done.returncode}"))
    way_out = next(filter(None, map(WAY_OUT.search, lines)), None)
    return BadInput(f"git {command}: {why.removeprefix('fatal: ')}{f'; type: {way_out[0]}' if way_out else ''}")


def in_repository(folder: Path) -> bool:
    """Return whether the folder lies in a git repository. Raise BadInput where there is one that git cannot use."""
    here = folder.resolve()
    if not any((above / ".git").exists() for above in (here, *here.parents)):
        return False
    asked(folder, "rev-parse", "--git-dir")
    return True


def refuse_broken(folder: Path) -> None:
    """Raise BadInput where the folder lies in a git repository that git cannot use: DVC would end in a traceback."""
    if in_repository(folder):
        asked(folder, "ls-files", "--", ".dvc")  # git reads its index for that


def commit_of(folder: Path, rev: str = "HEAD") -> str:
    """Return the full name of a commit; nothing where the repository has no such commit, or there is none.

    Raise BadInput where git cannot say.
    """
    if not in_repository(folder):
        return ""
    done = run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if done.returncode == 1 and rev == "HEAD":  # there is no commit yet, or the branch is broken
        state = asked(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
        if "# branch.head (unknown)" in state:
            raise BadInput("git: HEAD leads to no commit, for its branch is broken; `git fsck` says more")
    if done.returncode > 1:
        raise _failed("rev-parse", done)
    return done.stdout.decode().strip()


def file_at(folder: Path, commit: str, name: str) -> str:
    """Return the text that a file of the folder has at a commit; nothing where the commit has no such file.

    Raise BadInput where git cannot say, for example because it has no such commit.
    """
    listed = asked(folder, "ls-tree", "--name-only", commit, "--", name)
    return asked(folder, "show", f"{commit}:./{name}") if listed else ""


def fetch_missing(folder: Path, commit: str) -> None:
    """Let git fetch what a partial clone lacks of a folder at a commit. Raise BadInput where that is impossible.

    DVC reads git's objects by another library, which waits for a missing one for ever.
    """
    if run(folder, "config", "--get-regexp", r"^remote\..*\.promisor$").returncode == 0:
        nothing = asked(folder, "hash-object", "-t", "tree", os.devnull).strip()
        exact(folder, "diff", "--numstat", "--no-ext-diff", nothing, commit, "--", ".")  # reads every file
