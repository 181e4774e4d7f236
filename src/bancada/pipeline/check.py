"""Does dvc.lock tell the truth? It is held against dvc.yaml, params.yaml, the source files and the results here.

Nothing runs, so this takes about two seconds. That the results come out again, verify.py alone can say.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dvc.dependency import ParamsDependency

from bancada.base import files
from bancada.base.git import git_answer
from bancada.pipeline import params
from bancada.pipeline.locked import Locked
from bancada.pipeline.plan import opened, runs
from bancada.pipeline.steps import forget

# stale: a rerun was forgotten. lock: dvc.lock contradicts itself. file: a result that is here is not the one that
# dvc.lock names. gone: left over from what dvc.yaml no longer has.
Kind = Literal["stale", "lock", "file", "gone"]
OF_GIT = ("src/bancada", str(files.DATA / "sources"), str(files.DATA / "evaluation"))
MOST_NAMED = 3  # stages in one line
RERUN = "`bancada repro{stages}`"
CHANGED = "changed since dvc.lock was made"
UNKNOWN = "dvc.yaml names it, dvc.lock does not"
MISSING = object()


@dataclass(frozen=True)
class Finding:
    """One thing that is not as dvc.lock says, and the stages that it concerns."""

    kind: Kind
    subject: str  # a file, or a key of params.yaml
    problem: str
    remedy: str = RERUN
    stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        concerned = f"{several(self.stages)}: " if self.stages else ""
        return f"{concerned}{self.subject}: {self.problem}; {self.advice}"

    @property
    def advice(self) -> str:
        few = self.stages if len(self.stages) <= MOST_NAMED else ()
        return self.remedy.replace("{stages}", "".join(f" {name}" for name in few))


def several(stages: Iterable[str]) -> str:
    names = list(stages)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


GONE_ENTRY = Finding("gone", "dvc.lock", "an entry of a stage that dvc.yaml does not have", "`bancada check --prune`")


def check(prune: bool) -> list[Finding]:
    """All that is wrong in the current folder, the repository's root. BadInput where params.yaml is.

    `prune`: first take the entries of stages that are gone out of dvc.lock.
    """
    params.load()
    found = [*audit(Path.cwd()), *_unknown_to_git(Path.cwd())]
    gone = [name for finding in found if replace(finding, stages=()) == GONE_ENTRY for name in finding.stages]
    if not (prune and gone):
        return found
    forget(gone)
    print(f"taken out of dvc.lock: {', '.join(gone)}")
    return audit(Path.cwd())


def _unknown_to_git(root: Path) -> Iterator[Finding]:
    """Sources and evaluations that a commit would leave out, though dvc.lock was made with them."""
    for path in git_answer("-C", str(root), "ls-files", "-z", "--others", "--exclude-standard", "--", *OF_GIT).split(
        "\0"
    ):
        if path:
            yield Finding("file", path, "git does not know it, and a clone would not have it", f"`git add {path}`")


def audit(root: Path) -> list[Finding]:
    """All that is wrong in the repository at `root`, in the pipeline's order; what concerns several stages, once.

    BadInput where DVC cannot read its files.
    """
    with opened(root) as repo:
        return findings(Locked(root, repo))


def findings(lock: Locked) -> list[Finding]:
    stages: dict[Finding, list[str]] = defaultdict(list)
    for name, stage in lock.stages.items():
        for finding in _of_stage(lock, stage):
            stages[finding].append(name)
    for name in _gone_entries(lock):
        stages[GONE_ENTRY].append(name)
    return [replace(finding, stages=tuple(names)) for finding, names in stages.items()] + list(_left_models(lock))


def _of_stage(lock: Locked, stage: Any) -> Iterator[Finding]:
    if runs(stage):
        entry = lock.entries[stage.path_in_repo].get(stage.name)
        if not entry:
            yield Finding("stale", "dvc.lock", "no entry of this stage")
            return
        if not stage.frozen:
            yield from _asked(lock, stage, entry)
            yield from _read(lock, stage)
    yield from _made(lock, stage)


def _asked(lock: Locked, stage: Any, entry: Mapping[str, Any]) -> Iterator[Finding]:
    """Its command, its parameters, and whether dvc.yaml and dvc.lock name the same files."""
    if stage.cmd_changed:
        yield Finding("stale", "dvc.yaml", "its cmd changed since dvc.lock was made")
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            before, now = dep.hash_info.value or {}, dep.read_params()
            for key in dep.params or {**before, **now}:
                for leaf in changed(key, before.get(key, MISSING), now.get(key, MISSING)):
                    yield Finding("stale", f"{lock.path(dep)}: {leaf}", CHANGED)
    for kind, items in (("deps", stage.deps), ("outs", stage.outs)):
        known = {item.def_path for item in items}
        for path in (item["path"] for item in entry.get(kind, ()) if item["path"] not in known):
            yield Finding("stale", path, f"dvc.lock names it as one of its {kind}, dvc.yaml does not")


def changed(key: str, before: Any, now: Any) -> Iterator[str]:
    """The innermost keys below `key` whose values are not the same."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for inner in {**before, **now}:
            yield from changed(f"{key}.{inner}", before.get(inner, MISSING), now.get(inner, MISSING))
    elif before != now:
        yield key


def _read(lock: Locked, stage: Any) -> Iterator[Finding]:
    """What it depends on: other stages' outs, as dvc.lock says that they were made, and files that no stage makes."""
    for dep in stage.deps:
        path, said, outs = lock.path(dep), dep.hash_info.value, lock.outs_at(lock.path(dep))
        if isinstance(dep, ParamsDependency):
            continue
        if said is None:
            yield Finding("stale", path, UNKNOWN)
        elif dep.hash_info.name != "md5":
            continue  # of a DVC before 3, or of another machine's files
        elif outs and all(runs(lock.outs[out].stage) for out in outs):
            made = lock.hash_of(path, outs)
            if made not in (None, said) or (made is None and not lock.adds_up(dep, outs)):
                makers = several(sorted({lock.outs[out].stage.addressing for out in outs}))
                yield Finding("lock", path, f"dvc.lock says that another one was read than {makers} made")
        elif not outs and not lock.here(path):
            yield Finding("stale", path, "is missing", f"`git checkout -- {path}`, or {RERUN} without it")
        elif all(map(lock.here, outs)) and lock.here(path) != said:  # what `dvc add` keeps may be left in the remote
            yield Finding("stale", path, CHANGED)


def _made(lock: Locked, stage: Any) -> Iterator[Finding]:
    """Its outs, as far as they are here: those that git keeps must be."""
    for out in stage.outs:
        path, said, here = lock.path(out), out.hash_info.value, lock.here(lock.path(out))
        back = f"`git checkout -- {path}`" if not out.use_cache else f"`dvc checkout {path}`"
        brings = f"{back} brings the committed one back" if not out.use_cache else f"{back} brings that back"
        if said is None:
            if runs(stage):
                yield Finding("stale", path, UNKNOWN)
        elif not here:
            if not out.use_cache:
                yield Finding("file", path, "is missing", f"{back} or {RERUN}")
        elif here != said and out.hash_info.name == "md5":
            keeper = "dvc.lock" if runs(stage) else stage.path_in_repo
            keep = f"{RERUN} makes it anew" if runs(stage) else f"`dvc add {path}` keeps the new one"
            yield Finding("file", path, f"is not the one that {keeper} names", f"{brings}, {keep}")


def _gone_entries(lock: Locked) -> Iterator[str]:
    """Stages that stand in dvc.lock alone."""
    for dvcfile, entries in lock.entries.items():
        yield from sorted(
            entries.keys()
            - {stage.name for stage in lock.stages.values() if runs(stage) and stage.path_in_repo == dvcfile}
        )


def _left_models(lock: Locked) -> Iterator[Finding]:
    """Model folders that no stage makes: a study's evaluation would read them."""
    for path in sorted((lock.root / files.DATA / "models").glob("*/*")):
        name = path.relative_to(lock.root).as_posix()
        if not files.is_hidden(path) and not files.is_hidden(path.parent) and not lock.outs_at(name):
            yield Finding("gone", name, "left over, for dvc.yaml has no stage that makes it", "delete it")
