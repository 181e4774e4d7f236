"""Why a result differs, as far as it can be proved; and what to do about it."""

import platform
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from bancada import pins
from bancada.base import lockfile
from bancada.base.git import git
from bancada.pipeline import requirements
from bancada.pipeline.check import several
from bancada.pipeline.clone import Clone
from bancada.pipeline.judge import EDITED, Stage
from bancada.pipeline.requirements import LOCK

UNKNOWN = "no cause found"


@dataclass(frozen=True)
class Cause:
    """A reason, and what to do about it."""

    text: str
    todo: str


def of_the_commit(clone: Clone, entries: dict[str, Any], stages: Sequence[Stage]) -> list[Cause]:
    """Return what the commit itself explains: something that changed without a rerun, or was edited."""
    causes = []
    for finding in dict.fromkeys(finding for stage in stages for finding in stage.findings):
        subject, names = finding.subject, several(finding.stages)
        locked = [lockfile.Lock(entries).hashes(name).get(subject) for name in finding.stages]
        with chdir(clone.source):
            mine = bool(locked[0]) and lockfile.dvc_md5(Path(subject)) == locked[0]
        if mine and git(clone.source, "status", "--porcelain", "--", subject).stdout:
            text = f"{names}: {subject}: dvc.lock was made with the one of this workspace, which is not committed"
            causes.append(Cause(text, f"`git add {subject}` and commit it"))
        else:
            text = f"{names}: {subject}: {finding.problem}"
            causes.append(Cause(text, f"{finding.advice}, and commit what that changes"))
    for stage in stages:
        edited = [out.path for out in stage.outs if out.difference.problem.startswith(EDITED)]
        if edited:
            text = f"{stage.name}: a result, or dvc.lock, was edited or committed alone: {several(edited)}"
            causes.append(Cause(text, f"`bancada repro --force {stage.name}`, and commit what that changes"))
    return causes


def of_the_environment(clone: Clone) -> tuple[list[Cause], str, dict[str, str | None]]:
    """Return what about this machine and its packages is not as the commit asks; where nothing is, a sentence that says
    so; and the versions that are here, Python's among them.
    """
    pinned = requirements.needed(clone.root / LOCK)
    found = clone.probe(list({**pinned, "numpy": "", "torch": ""}))
    if not found:
        return [Cause("torch or bancada cannot be imported in the clone", "`make repro` makes the environment")], "", {}
    causes = [*_packages(pinned, found), *_python(clone.root, found), *of_the_cpu(), *of_the_kernels(found)]
    fine = f"the packages are those of {LOCK}" if pinned else f"there is no {LOCK}"
    fine = f"{fine}, Python is {found['python']}, the CPU has AVX2, the pins hold"
    return causes, fine, {**found["packages"], "python": found["python"]}


def _packages(pinned: Mapping[str, str], found: Mapping[str, Any]) -> Iterator[Cause]:
    other = requirements.others(pinned, found["packages"])
    if other:
        text = f"packages are not those of {LOCK}: {several(other, requirements.MOST_NAMED)}"
        yield Cause(text, "`make verify`, which installs them first")


def _python(root: Path, found: Mapping[str, Any]) -> Iterator[Cause]:
    file = root / "pyproject.toml"
    project = tomllib.loads(file.read_text("utf-8")).get("project", {}) if file.exists() else {}
    asked = project.get("requires-python", "")
    if found["python"] not in SpecifierSet(asked):
        yield Cause(f"Python is {found['python']}, and pyproject.toml asks for {asked}", "use such a Python")


def of_the_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Cause]:
    """Yield what this CPU lacks for the same bits."""
    todo = "run it on an x86-64 CPU with AVX2: the bits hold for those"
    if platform.machine() not in ("x86_64", "AMD64"):
        yield Cause(f"the CPU is {platform.machine()}, and no x86-64", todo)
    elif cpuinfo.exists() and "avx2" not in cpuinfo.read_text().split():
        yield Cause("the CPU lacks AVX2", todo)


def of_the_kernels(found: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield the pins that do not hold in a stage."""
    todo = "something sets them after `import bancada`: sitecustomize, or a plugin of this environment"
    for name, value in found["pins"].items():
        yield Cause(f"{name} is {value} in a stage, and not {pins.PINS.get(name)}", todo)
    if found["threads"] != 1:
        yield Cause(f"torch computes on {found['threads']} threads in a stage, and not on 1", todo)
    if found["kernels"] != "AVX2":
        yield Cause(f"torch uses its kernels for {found['kernels']} in a stage, and not for AVX2", todo)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of this machine's CPU."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def machine(root: Path) -> dict[str, str]:
    """Return what the verdict was reached with; `packages` in words, against the requirements.lock in `root`."""
    other = requirements.others(requirements.needed(root / LOCK), requirements.installed())
    return {
        "packages": f"packages other than {LOCK}'s: {several(other)}" if other else f"the packages of {LOCK}",
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }
