"""Why a result differs, as far as it can be proved; and what to do about it."""

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bancada.base import files
from bancada.base.refusals import several
from bancada.pipeline import requirements
from bancada.pipeline.requirements import LOCK

CPUINFO = Path("/proc/cpuinfo")
NO_LOCK = f"no {LOCK} says which packages"


@dataclass(frozen=True)
class Cause:
    """A reason, and what to do about it."""

    text: str
    todo: str


def proved(root: Path, names: Sequence[str]) -> list[Cause]:
    """Return why results of these variants may differ from those of the commit in `root`."""
    return [*of_the_environment(root), *of_the_bits(root, names)]


def of_the_bits(root: Path, names: Sequence[str]) -> list[Cause]:
    """Return that trainings among these variants ask for the bits of one machine alone: then CPUs may differ."""
    runs = [
        json.loads(path.read_text()) for name in names for path in root.glob(f"{files.DATA}/models/*/{name}/run.json")
    ]
    ours = [run["variant"] for run in runs if run["recipe"]["train"].get("bits") == "this_machine"]
    text = f"{several(ours)}: bits: this_machine promises the same bits on the machine that made them alone"
    return [Cause(text, "hold it to the tolerance; `bits: portable` gives the same bits everywhere")] if ours else []


def of_the_environment(root: Path, cpuinfo: Path = CPUINFO) -> list[Cause]:
    """Return what about this machine and its packages is not as the commit in `root` asks."""
    causes = []
    if other := requirements.not_as_locked(root):
        text = f"packages are not those of {LOCK}: {several(other, requirements.MOST_NAMED)}"
        causes.append(Cause(text, "`make verify`, which installs them first"))
    x86 = platform.machine() in ("x86_64", "AMD64")
    if not x86 or (cpuinfo.exists() and "avx2" not in cpuinfo.read_text().split()):
        text = f"the CPU is no x86-64 with AVX2: {cpu_model(cpuinfo)}"
        text += "; the torch engine may round differently on it, the compiled engine does not"
        todo = "hold variants of the torch engine to the tolerance, or run it on an x86-64 CPU with AVX2"
        causes.append(Cause(text, todo))
    return causes


def fine(root: Path) -> str:
    """Return what is known where no cause is found."""
    packages = f"the packages are those of {LOCK}" if (root / LOCK).exists() else NO_LOCK
    return f"no cause found: {packages}, and the CPU is of the kind for which the bits hold"


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """Return the name of this machine's CPU."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def machine(root: Path) -> dict[str, str]:
    """Return what the verdict was reached with; `packages` in words, against the requirements.lock in `root`."""
    other = requirements.not_as_locked(root)
    packages = f"packages other than {LOCK}'s: {several(other)}" if other else f"the packages of {LOCK}"
    return {
        "packages": packages if (root / LOCK).exists() else NO_LOCK,
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }
