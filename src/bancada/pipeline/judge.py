"""What a run in a clone made, compared with what the commit says: dvc.lock, and the files that git keeps."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bancada.base import BadInput, files, lockfile
from bancada.base.lockfile import LOCK_FILE
from bancada.pipeline.check import CODE_STAGE, Finding, changed
from bancada.pipeline.compare import SAME, Difference, Verdict, compare, different
from bancada.pipeline.dvc_internals import hash_here, opened, path_of, planned, runs

Fetch = Callable[[Path, Path, str], str]  # (path, where to, hash) -> why that is impossible, or nothing


@dataclass(frozen=True)
class Committed:
    """What the commit says of the stages that are to run, before they do."""

    upstream: Mapping[str, set[str]]  # of each stage, in the pipeline's order
    entries: dict[str, Any]  # of dvc.lock
    git: Mapping[str, str]  # path of an out that git keeps -> DVC's hash of git's file
    kept: Path  # a folder with those files


@dataclass(frozen=True)
class Out:
    """An out. `lock`, `git` and `made` are DVC's hashes: of dvc.lock, of git's file (if git keeps it), of this run."""

    path: str
    lock: str
    git: str
    made: str
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """How far what was made is from what is committed."""
        return self.difference.verdict

    @property
    def edited(self) -> bool:
        """Whether git and dvc.lock name different files."""
        return bool(self.git) and self.git != self.lock

    @property
    def changed(self) -> bool:
        """Whether the run made another file than the commit holds."""
        return self.made != (self.git or self.lock)


@dataclass
class Stage:
    """A stage that ran. `upstream`: the stages right before it. `findings`: where its entry in dvc.lock is wrong."""

    name: str
    upstream: set[str]
    outs: list[Out] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of its outs; `different` where dvc.lock is wrong."""
        return Verdict.DIFFERENT if self.findings else max((out.verdict for out in self.outs), default=Verdict.SAME)

    @property
    def edited(self) -> bool:
        """Whether something is wrong with it that no stage before it explains."""
        return bool(self.findings) or any(out.edited for out in self.outs)


def committed(root: Path, targets: Sequence[str], kept: Path) -> Committed:
    """Read the clone at `root`, where nothing has run yet. Raise BadInput for unknown or frozen stages."""
    with opened(root) as repo:
        stages, upstream = planned(repo, targets)
        stages = {name: stage for name, stage in stages.items() if runs(stage)}
        for name, stage in stages.items():
            if stage.frozen:
                raise BadInput(f"dvc.yaml: {name}: is frozen, so it would not run, and nothing could be said of it")
        if not stages:
            raise BadInput(f"--stages {', '.join(targets)}: no stage that runs")
        of_git = [out for stage in stages.values() for out in stage.outs if not out.use_cache and out.exists]
        hashes = {path_of(out, root): hash_here(out) for out in of_git}
    for path in hashes:
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        copy: Callable[..., Any] = shutil.copytree if (root / path).is_dir() else shutil.copy
        copy(root / path, kept / path)
    return Committed({name: upstream[name] for name in stages}, _entries(root), hashes, kept)


def _entries(root: Path) -> dict[str, Any]:
    return lockfile.parse((root / LOCK_FILE).read_text("utf-8")).stages


def clear(root: Path, expected: Committed) -> None:
    """Remove the committed results from the clone, so that none can be mistaken for one that the run made."""
    outs = [item["path"] for name in expected.upstream for item in expected.entries.get(name, {}).get("outs", ())]
    for path in [*outs, *expected.git, *map(str, files.MADE)]:
        files.remove(root / path)


def judge(expected: Committed, root: Path, fetch: Fetch) -> list[Stage]:
    """Compare every stage that ran in the clone at `root`."""
    stages, after, changed_outs = [], _entries(root), list[str]()
    for name, upstream in expected.upstream.items():  # in the pipeline's order
        before, now = expected.entries.get(name, {}), after.get(name, {})
        locked = {item["path"]: item.get("md5", "") for item in before.get("outs", ())}
        outs = []
        for item in now.get("outs", ()):
            path, made = item["path"], item.get("md5", "")
            hashes = (locked.get(path, ""), expected.git.get(path, ""), made)
            outs.append(Out(path, *hashes, _difference(path, *hashes, expected.kept, root, fetch)))
        changed_outs += [out.path for out in outs if out.verdict]
        findings = [Finding("stale", str(LOCK_FILE), "no entry of this stage")] if not before else []
        if before and name != CODE_STAGE:
            other = [key[1:] for key in changed("", _read(before), _read(now))]
            other = [key for key in other if not any(_overlap(key, out) for out in changed_outs)]
            findings += [Finding("lock", key, "is not what dvc.lock says that the stage was run with") for key in other]
        stages.append(Stage(name, set(upstream), outs, [replace(one, stages=(name,)) for one in findings]))
    return stages


def _read(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry of dvc.lock says that its stage was run with: command, parameters, and hashes of files."""
    params = {f"{file}: {key}": value for file, of in entry.get("params", {}).items() for key, value in of.items()}
    return {"cmd": entry.get("cmd"), **params, **{item["path"]: item.get("md5") for item in entry.get("deps", ())}}


def _difference(path: str, lock: str, git: str, made: str, kept: Path, root: Path, fetch: Fetch) -> Difference:
    if made == lock and made == (git or made):
        return SAME
    if git and git != lock:
        made_git = "that of git" if made == git else "another one than git has"
        return different(f"git and dvc.lock name different files; this run made {made_git}")
    if not lock:
        return different("dvc.lock does not name it")
    missing = "" if git else fetch(Path(path), kept / path, lock)
    problem = f"not compared number by number: the committed one is {missing}"
    return different(problem) if missing else compare(kept / path, root / path)


def _overlap(path: str, other: str) -> bool:
    """Return whether the two are the same path, or one is a folder around the other."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def starts(stages: Sequence[Stage]) -> list[str]:
    """Return the stages at which a difference begins: those after them may differ because of them alone."""
    touched: set[str] = set()
    first = []
    for stage in stages:  # in the pipeline's order
        after_another = bool(stage.upstream & touched)
        if stage.verdict and (stage.edited or not after_another):
            first.append(stage.name)
        if after_another or any(out.changed for out in stage.outs):
            touched.add(stage.name)
    return first
