"""Why a result differs, as far as it can be proved; and what to do about it."""

import json
import platform
import sys
import tomllib
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from bancada.base import files, lockfile
from bancada.base.git import asked
from bancada.pipeline import requirements
from bancada.pipeline.check import several
from bancada.pipeline.clone import Clone
from bancada.pipeline.judge import EDITED, Stage
from bancada.pipeline.requirements import LOCK

CPUINFO = Path("/proc/cpuinfo")
# Where no cause is found, this is what is known.
FINE = f"no cause found: packages, Python and CPU are as {LOCK} and pyproject.toml ask"


@dataclass(frozen=True)
class Cause:
    """A reason, and what to do about it."""

    text: str
    todo: str


def of_the_commit(clone: Clone, entries: dict[str, Any], stages: Sequence[Stage]) -> list[Cause]:
    """Return what the commit itself explains: something that changed without a rerun, or was edited."""
    found = []  # a path or a key, the hash that dvc.lock gives it, and the cause where that is not in the workspace
    for finding in dict.fromkeys(finding for stage in stages for finding in stage.findings):
        text = f"{several(finding.stages)}: {finding.subject}: {finding.problem}"
        locked = lockfile.Lock(entries).hashes(finding.stages[0]).get(finding.subject)
        found.append((finding.subject, locked, Cause(text, f"{finding.advice}, and commit what that changes")))
    for stage in stages:
        for out in stage.outs:
            if out.difference.problem.startswith(EDITED):
                text = f"{stage.name}: {out.path}, or its hash in dvc.lock, was edited or committed alone"
                todo = f"`bancada repro --force {stage.name}`, and commit what that changes"
                found.append((out.path, out.lock, Cause(text, todo)))
    return [_not_committed(clone, path, md5) or cause for path, md5, cause in found]


def _not_committed(clone: Clone, path: str, md5: str | None) -> Cause | None:
    """Return the cause if the workspace holds the file that dvc.lock names, and that is not committed."""
    with chdir(clone.source):
        changed = bool(asked(clone.source, "status", "--porcelain", "--ignored", "--", path))
        if not (changed and md5 and lockfile.dvc_md5(Path(path)) == md5):
            return None
    text = f"{path}: dvc.lock was made with the one of this workspace, which is not committed"
    return Cause(text, f"`git add {path}` and commit it; `bancada check` names files that git ignores")


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
    causes, python, project = [], platform.python_version(), root / "pyproject.toml"
    if other := requirements.not_as_locked(root):
        text = f"packages are not those of {LOCK}: {several(other, requirements.MOST_NAMED)}"
        causes.append(Cause(text, "`make verify`, which installs them first"))
    asked = tomllib.loads(project.read_text("utf-8")).get("project", {}) if project.exists() else {}
    if python not in SpecifierSet(asked.get("requires-python", "")):
        text = f"Python is {python}, and pyproject.toml asks for {asked['requires-python']}"
        causes.append(Cause(text, "use such a Python"))
    x86 = platform.machine() in ("x86_64", "AMD64")
    if not x86 or (cpuinfo.exists() and "avx2" not in cpuinfo.read_text().split()):
        lacks = "lacks AVX2" if x86 else f"is {platform.machine()}, and no x86-64"
        causes.append(Cause(f"the CPU {lacks}", "run it on an x86-64 CPU with AVX2: the bits hold for those"))
    return causes


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
    return {
        "packages": f"packages other than {LOCK}'s: {several(other)}" if other else f"the packages of {LOCK}",
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }
