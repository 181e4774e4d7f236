"""Where the machine code of the compiled loops (networks/kernel) is kept, and how a machine gets it early."""

import os
import subprocess
import sys
from pathlib import Path


def root() -> Path:
    """Return the folder of the machine code of all versions, the user's own. Raise RuntimeError without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))  # its standard says to ignore a relative path
    return (given if given.is_absolute() else Path.home() / ".cache") / "bancada" / "kernel"


def begin() -> None:
    """On a machine that has never compiled the loops, begin to: in a process beside, while data are generated.

    The first training waits for it. Where it fails, that training compiles, and tells what is wrong.
    """
    try:
        if root().exists():
            return
    except (OSError, RuntimeError):  # no folder could be used: each training compiles for itself
        return
    command = [sys.executable, "-m", "bancada.networks.kernel"]
    nobody = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nobody, stdout=nobody, stderr=nobody, start_new_session=True)
