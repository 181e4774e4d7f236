"""Questions to git, without what the shell or a hook says of another repository."""

import os
import subprocess
from pathlib import Path

from bancada.base import BadInput

PATIENCE_S = 60.0


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, without git's optional locks. Raise BadInput where there is no git, or no answer in time."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, env=kept | {"GIT_OPTIONAL_LOCKS": "0"}, capture_output=True, timeout=PATIENCE_S)
    except FileNotFoundError:
        raise BadInput("git: there is none on PATH") from None
    except subprocess.TimeoutExpired:
        raise BadInput(f"git {arguments[0]}: no answer in {PATIENCE_S:g} s") from None
    out, error = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, out, error)


def git_answer(*arguments: str) -> str:
    """Return what git says in the current folder; nothing where there is no git, no repository or no commit."""
    try:
        done = git(Path(), *arguments)
    except BadInput:
        return ""
    return done.stdout if done.returncode == 0 else ""
