"""Why a difference is there, as far as it can be proved; and what to do about it."""

import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from bancada import pins
from bancada.audit import RERUN, Finding, several
from bancada.cloning import Clone, git
from bancada.judging import LOCK_EDITED, Stage
from bancada.lockfile import dvc_md5

REQUIREMENTS = "requirements.lock"
# Those that can change a result come first in a line that has no room for all.
COMPUTING = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "matplotlib", "pillow", "contourpy")
MOST = 8


@dataclass(frozen=True)
class Cause:
    text: str
    todo: str


def of_the_environment(clone: Clone) -> tuple[list[Cause], str, dict[str, str | None]]:
    """What about this machine and its packages is not as the commit asks; where nothing is, that in words; and the
    versions that are here, Python's among them."""
    pinned = requirements((clone.root / REQUIREMENTS).read_text()) if (clone.root / REQUIREMENTS).exists() else {}
    found = clone.probe(list({**pinned, "numpy": "", "torch": ""}))
    if not found:
        return [Cause("torch or bancada cannot be imported in the clone", "`make repro` makes the environment")], "", {}
    causes = [
        *_packages(pinned, found["packages"]),
        *_python(clone.root, found["python"]),
        *of_the_cpu(),
        *of_the_kernels(found),
    ]
    fine = f"the packages are those of {REQUIREMENTS}" if pinned else "no requirements.lock tells the packages"
    fine = f"{fine}, Python is {found['python']}, the CPU has AVX2, the pins hold"
    return causes, fine, {**found["packages"], "python": found["python"]}


def requirements(text: str) -> dict[str, str]:
    """The pinned versions, by normalized name, of the packages that are needed with this Python on this system."""
    pinned: dict[str, str] = {}
    for line in text.splitlines():
        pin, _, marker = re.split(r"#|\\|--hash", line)[0].partition(";")
        name, _, version = pin.partition("==")
        if version and (not marker.strip() or Marker(marker).evaluate()):
            pinned[canonicalize_name(name.strip())] = version.strip()
    return pinned


def other_versions(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> str:
    """In words, each package of another version; empty where all are right. The build (+cpu) is no part of it."""
    other = [
        (name, f"{name} {(found.get(name) or 'missing').split('+')[0]} instead of {version}")
        for name, version in wanted.items()
        if (found.get(name) or "").split("+")[0] != version.split("+")[0]
    ]
    said = [text for name, text in sorted(other, key=lambda item: item[0] not in COMPUTING)]
    return ", ".join(said[:MOST]) + (f" and {len(said) - MOST} more" if len(said) > MOST else "")


def _packages(pinned: Mapping[str, str], found: Mapping[str, str | None]) -> Iterator[Cause]:
    other = other_versions(pinned, found)
    if other:
        text = f"packages are not those of {REQUIREMENTS}: {other}"
        yield Cause(text, "`rm .venv/ready`, and `make verify` installs those")


def _python(root: Path, version: str) -> Iterator[Cause]:
    import tomllib

    file = root / "pyproject.toml"
    project = tomllib.loads(file.read_text("utf-8")).get("project", {}) if file.exists() else {}
    asked = project.get("requires-python", "")
    if asked and version not in SpecifierSet(asked):
        yield Cause(f"Python is {version}, and pyproject.toml asks for {asked}", "use such a Python")


def of_the_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Cause]:
    todo = "run it on an x86-64 CPU with AVX2: the bits hold for those"
    if platform.machine() not in ("x86_64", "AMD64"):
        yield Cause(f"the CPU is {platform.machine()}, and no x86-64", todo)
    elif cpuinfo.exists() and "avx2" not in cpuinfo.read_text().split():
        yield Cause("the CPU lacks AVX2", todo)


def of_the_kernels(found: Mapping[str, Any]) -> Iterator[Cause]:
    todo = "something sets them after `import bancada`: sitecustomize, or a plugin of this environment"
    for name, value in found["pins"].items():
        yield Cause(f"{name} is {value} in a stage, and not {pins.PINS.get(name)}", todo)
    if found["threads"] != 1:
        yield Cause(f"torch computes on {found['threads']} threads in a stage, and not on 1", todo)
    if found["kernels"] != "AVX2":
        yield Cause(f"torch uses its kernels for {found['kernels']} in a stage, and not for AVX2", todo)


def of_the_commit(clone: Clone, stages: Sequence[Stage], here: Sequence[Finding]) -> list[Cause]:
    """What the commit itself explains: something that changed without a rerun, or was edited.

    `here`: what is wrong in the workspace, where something may be right that was never committed.
    """
    lies = dict.fromkeys(lie for stage in stages for lie in stage.lies)
    causes = [_lie(clone, lie, here) for lie in lies]
    edited = [out.expected for stage in stages for out in stage.outs if out.difference.problem.startswith(LOCK_EDITED)]
    if edited:
        text = f"dvc.lock was edited where it speaks of {several([out.path for out in edited])}"
        causes.append(Cause(text, f"`bancada repro --force {' '.join(dict.fromkeys(out.stage for out in edited))}`"))
    return [*causes, *_same_here(clone, stages, here), *_newer_requirements(clone)]


def _lie(clone: Clone, lie: Finding, here: Sequence[Finding]) -> Cause:
    file = lie.subject.split(": ")[0]
    uncommitted = git(clone.source, "status", "--porcelain", "--", file).stdout.strip()
    if lie.kind == "stale" and uncommitted and lie.subject not in {finding.subject for finding in here}:
        text = f"{lie.subject}: dvc.lock was made with the one of this workspace, which is not committed"
        return Cause(f"{several(lie.stages)}: {text}", f"`git add {file}` and commit it")
    advice = replace(lie, remedy=RERUN).advice if lie.kind == "file" else lie.advice  # what git has is what is wrong
    return Cause(f"{several(lie.stages)}: {lie.subject}: {lie.problem}", f"{advice}, and commit what that changes")


def _same_here(clone: Clone, stages: Sequence[Stage], here: Sequence[Finding]) -> Iterator[Cause]:
    """The workspace holds what came out, and its dvc.lock names another file: not this machine made the difference."""
    contradicted = {finding.subject for finding in here if finding.kind == "file"}
    for stage in stages:
        for path, made in ((out.expected.path, out.made) for out in stage.outs if out.verdict):
            if path in contradicted and dvc_md5(clone.source / path) == made:
                text = f"dvc.lock was edited, or not committed with its results: the {path} of this workspace came out"
                yield Cause(text, f"`bancada repro --force {stage.name}`, and commit dvc.lock")


def _newer_requirements(clone: Clone) -> Iterator[Cause]:
    """The environment changed after the results were committed."""
    last = git(clone.source, "log", "-1", "--format=%H", clone.commit, "--", "dvc.lock").stdout.strip()
    before = git(clone.source, "show", f"{last}:./{REQUIREMENTS}")
    now = git(clone.source, "show", f"{clone.commit}:./{REQUIREMENTS}")
    if last and not before.returncode and not now.returncode and before.stdout != now.stdout:
        other = other_versions(requirements(before.stdout), requirements(now.stdout))
        if other:
            text = f"{REQUIREMENTS} changed since dvc.lock was committed in {last[:10]}: {other}"
            yield Cause(text, "`bancada repro --force` with these packages, and commit what that changes")


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def machine(root: Path) -> dict[str, str]:
    """What the verdict was come to with; `packages` in words, against the requirements.lock in the root."""
    file = root / REQUIREMENTS
    pinned = requirements(file.read_text()) if file.exists() else {}
    found: dict[str, str | None] = {canonicalize_name(one.name): one.version for one in distributions()}
    other = other_versions(pinned, found)
    return {
        "packages": f"packages other than {REQUIREMENTS}'s: {other}" if other else f"the packages of {REQUIREMENTS}",
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }
