"""Install torch, and its CUDA packages where they are wanted, for the Python that runs this; the Makefile calls it.

    python install_torch.py INDEX [cpu | cuda]

On Linux, PyPI's build of torch needs CUDA packages. PyTorch's own index, INDEX, has a build for CPUs alone, a thirtieth
of their size: it is installed unless `cuda` is asked for or an NVIDIA GPU is at hand. Files whose hashes are not in
torch-cpu.lock or torch-pypi.lock, in the current folder, are refused. Nothing but Python's own modules is imported,
because nothing else is installed yet.
"""

import os
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from threading import Thread
from urllib.request import urlopen

PATIENCE_S = 5.0  # how long INDEX may take to answer
CPU, PYPI = "torch-cpu.lock", "torch-pypi.lock"
NOT_THERE = "No matching distribution found"  # pip's words


def main(index: str, asked: str = "") -> int:
    """Install the build that fits, and return the exit status."""
    if asked not in ("", "cpu", "cuda"):
        print(f"TORCH={asked}: must be cpu or cuda", file=sys.stderr)
        return 2
    if sys.platform != "linux":  # PyPI's builds for macOS and Windows need no CUDA packages
        return tell(pip(PYPI))
    if asked == "cuda" or (not asked and gpu()):
        print("torch: the build of PyPI with CUDA, about 6 GB installed; TORCH=cpu is one of 0.2 GB", flush=True)
        return tell(pip(PYPI))
    if answers(index):
        print(f"torch: the build for CPUs, 0.2 GB, from {index}", flush=True)
        done = pip(CPU, index)
    else:
        print(f"torch: {index} does not answer; looking for the build for CPUs where pip looks", flush=True)
        done = pip(CPU)
    if NOT_THERE in done.stderr:
        print("torch: none there; the build of PyPI with CUDA, about 6 GB installed", flush=True)
        done = pip(PYPI)
    return tell(done)


def gpu() -> bool:
    """Return whether an NVIDIA GPU is at hand."""
    with suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        return listed.stdout.startswith("GPU ")
    return False


def answers(index: str) -> bool:
    """Return whether the index answers in time, also where looking up its name takes longer than any time-out."""
    answered = []

    def ask() -> None:
        with suppress(OSError, HTTPException), urlopen(f"{index}/torch/", timeout=PATIENCE_S):
            answered.append(True)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return bool(answered)


def pip(lock: str, index: str = "") -> subprocess.CompletedProcess[str]:
    """Install what a lock file lists: from this index alone, or from where pip is set up to look."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "-r", lock]
    variables = dict(os.environ)
    if index:
        command += ["--index-url", index]
        variables["PIP_EXTRA_INDEX_URL"] = index  # instead of those that the user has set up
    with suppress(PackageNotFoundError):
        if lock == PYPI and version("torch").endswith("+cpu"):
            command += ["--force-reinstall"]  # the other build is of the same version, as pip sees it
    return subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True)


def tell(done: subprocess.CompletedProcess[str]) -> int:
    """Print what pip had to say, and return its exit status."""
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
