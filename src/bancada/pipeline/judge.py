"""What came out of a run in a clone, held against what the commit says: dvc.lock, and the files that git keeps."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bancada.base import files
from bancada.base.git import git
from bancada.base.lockfile import dvc_md5
from bancada.base.refusals import BadInput
from bancada.pipeline.check import Finding, findings
from bancada.pipeline.clone import Clone
from bancada.pipeline.compare import SAME, Difference, Verdict, compare, different
from bancada.pipeline.locked import Locked, inside
from bancada.pipeline.plan import opened, planned, runs

LOCK_EDITED = "dvc.lock was edited: git's file is what came out, and not the one that dvc.lock names"
FILE_EDITED = "edited after the run: dvc.lock names the file that came out, and git keeps another"
BOTH_OTHER = "dvc.lock names one file, git keeps another, and a third came out"
EDITED = (LOCK_EDITED, FILE_EDITED, BOTH_OTHER)
NO_ENTRY = "dvc.lock does not name it"
MADE = tuple(str(files.DATA / made) for made in ("raw", "split", "models", "evaluation"))  # nothing but outs is there

Fetch = Callable[[Path, Path, str], str]  # a path, where to, its hash -> why that could not be, or nothing


@dataclass(frozen=True)
class Expected:
    """An out as the commit has it. Hashes are DVC's; `git` is empty for what DVC keeps."""

    stage: str
    path: str
    lock: str
    git: str


@dataclass(frozen=True)
class Out:
    """What became of it. `difference` is told in numbers where there was something to compare with."""

    expected: Expected
    made: str
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        return self.difference.verdict

    @property
    def came_out_other(self) -> bool:
        """Than the file that the commit holds."""
        return self.made != (self.expected.git or self.expected.lock)


@dataclass
class Stage:
    """`upstream`: the stages right before it. `lies`: what dvc.lock says of it and is not so."""

    name: str
    upstream: set[str]
    outs: list[Out] = field(default_factory=list)
    lies: list[Finding] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return max((out.verdict for out in self.outs), default=Verdict.SAME) if not self.lies else Verdict.DIFFERENT

    @property
    def edited(self) -> bool:
        """Something is wrong with it that no stage before it explains."""
        return bool(self.lies) or any(out.difference.problem.startswith(EDITED) for out in self.outs)

    @property
    def study(self) -> str:
        kind, _, name = self.name.partition("@")
        models = [
            Path(out.expected.path).parts for out in self.outs if inside(out.expected.path, f"{files.DATA}/models")
        ]
        return models[0][2] if models else name or kind


@dataclass(frozen=True)
class Committed:
    """What the commit says of the stages that are to run, before they do. `kept`: a folder with the files of git."""

    upstream: Mapping[str, set[str]]  # in the pipeline's order
    outs: Sequence[Expected]
    entries: Mapping[str, Any]  # of dvc.lock
    lies: Sequence[Finding]
    kept: Path


def committed(root: Path, targets: Sequence[str], kept: Path) -> Committed:
    """Of the clone at `root`, where nothing has run yet. BadInput for targets that are none."""
    with opened(root) as repo:
        stages, upstream = planned(repo, targets)
        for name, stage in stages.items():
            if runs(stage) and stage.frozen:
                raise BadInput(f"dvc.yaml: {name}: is frozen, so it would not run, and nothing could be said of it")
        if not any(map(runs, stages.values())):
            raise BadInput(f"--stages {', '.join(targets)}: no stage that runs")
        lock = Locked(root, repo)
        outs = []
        for name, stage in stages.items():
            for out in stage.outs if runs(stage) else ():
                path = lock.path(out)
                git = "" if out.use_cache else lock.here(path)
                outs.append(Expected(name, path, str(out.hash_info.value or ""), git))
                if git:
                    _copy(root / path, kept / path)
        entries = {name: entry for file in lock.entries.values() for name, entry in file.items()}
        return Committed({n: upstream[n] for n, s in stages.items() if runs(s)}, outs, entries, findings(lock), kept)


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copy(path, to)


def clear(root: Path, said: Committed, everything: bool) -> None:
    """Take the committed outs out of the clone, so that none that was not made can be mistaken for one that was."""
    paths = [root / expected.path for expected in said.outs]
    for path in [*paths, *((root / folder for folder in MADE) if everything else ())]:
        if path.exists():
            files.remove(path)


def made_by_none(clone: Clone, stages: Sequence[Stage]) -> list[Finding]:
    """What git has among the results, or got among them, and no out of any stage accounts for, after all have run."""
    other = [out.expected.path for stage in stages for out in stage.outs if out.verdict]
    found = []
    listed = git(clone.root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *MADE)
    for line in filter(None, listed.stdout.split("\0")):
        path = line[3:].removeprefix(git(clone.root, "rev-parse", "--show-prefix").stdout.strip())
        if not any(path == out or inside(path, out) for out in other):
            problem = "git has it, and no stage makes it" if "D" in line[:2] else "another one came out than git has"
            found.append(Finding("gone", path, problem, f"`git rm {path}`, or make it an out in dvc.yaml"))
    return found


def judge(said: Committed, root: Path, fetch: Fetch) -> list[Stage]:
    """Every stage that ran in the clone at `root`."""
    stages = {name: Stage(name, set(upstream)) for name, upstream in said.upstream.items()}
    for expected in said.outs:
        made = dvc_md5(root / expected.path)
        stages[expected.stage].outs.append(Out(expected, made, _judge(expected, made, said.kept, root, fetch)))
    for finding in said.lies:
        for name in finding.stages:
            if name in stages:
                stages[name].lies.append(finding)
    with opened(root) as repo:
        lock = Locked(root, repo)
        after = {name: entry for file in lock.entries.values() for name, entry in file.items()}
    changed = [out.expected.path for stage in stages.values() for out in stage.outs if out.verdict]
    for name, stage in stages.items():
        told = {finding.subject for finding in stage.lies}
        stage.lies += [
            Finding("lock", path, f"dvc.lock says {was}, but {now} came out", stages=(name,))
            for path, was, now in _other_entries(said.entries.get(name, {}), after.get(name, {}))
            if path not in told and not any(out == path or inside(out, path) or inside(path, out) for out in changed)
        ]
    if not any(stage.verdict for stage in stages.values()):
        for name, stage in stages.items():
            if said.entries.get(name) != after.get(name):
                problem = "its entry does not say what a run of the stage writes there"
                stage.lies.append(Finding("lock", "dvc.lock", problem, "`bancada repro --force{stages}`", (name,)))
    return list(stages.values())


def _judge(expected: Expected, made: str, kept: Path, root: Path, fetch: Fetch) -> Difference:
    old, now = kept / expected.path, root / expected.path
    if expected.git:
        if made == expected.git:
            return SAME if expected.lock in ("", made) else different(LOCK_EDITED)
        found = compare(old, now)
        if expected.lock == expected.git or not expected.lock:
            return found
        return different(f"{FILE_EDITED if made == expected.lock else BOTH_OTHER} ({found})")
    if made == expected.lock:
        return SAME
    if not expected.lock:
        return different(NO_ENTRY)
    missing = fetch(Path(expected.path), old, expected.lock)
    return different(f"not compared number by number: the committed one is {missing}") if missing else compare(old, now)


def _other_entries(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Files of which two entries of dvc.lock do not say the same: path, before, after."""
    said = []
    for kind in ("deps", "outs"):
        old, new = ({item["path"]: item for item in entry.get(kind, ())} for entry in (before, after))
        for path in old.keys() & new.keys():
            for key in ("md5", "size", "nfiles"):
                if old[path].get(key) != new[path].get(key):
                    said.append((path, f"{key} {old[path].get(key)}", str(new[path].get(key))))
                    break
    return sorted(said)


def starts(stages: Sequence[Stage]) -> list[str]:
    """The stages at which a difference begins: those after them may differ because of them alone."""
    touched: set[str] = set()
    first = []
    for stage in stages:  # in the pipeline's order
        after_another = bool(stage.upstream & touched)
        if stage.verdict and (stage.edited or not after_another):
            first.append(stage.name)
        if after_another or any(out.came_out_other for out in stage.outs):
            touched.add(stage.name)
    return first
