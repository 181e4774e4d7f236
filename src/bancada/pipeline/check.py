"""`bancada check`: is dvc.lock of this dvc.yaml, these parameters, this code and the results that are here?

Nothing runs, so this takes about two seconds. Whether the results reproduce, verify.py alone can say.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dvc.scm import NoSCM

from bancada.base import BadInput, files, git, lockfile
from bancada.base.refusals import MOST_NAMED, several
from bancada.pipeline import code, leftovers, params, requirements
from bancada.pipeline import dvc_internals as dvc

# stale: a rerun was forgotten. lock: dvc.lock contradicts itself. file: a result that is here is not the one that
# dvc.lock names. gone: a file or an entry is left over from what dvc.yaml no longer has.
Kind = Literal["stale", "lock", "file", "gone"]
CODE_STAGE = "code"
PRUNE, RERUN = "`bancada check --prune`", "`bancada repro`"
CHANGED = "changed since dvc.lock was made"
PROBLEMS = {"modified": CHANGED, "new": "dvc.yaml names it, dvc.lock does not", "deleted": "is missing"}
MISSING = object()
CODE_FOLDER, SOURCES = "src", files.DATA / "sources"
OTHERS = (str(SOURCES), *map(str, files.OF_GIT))
SUBMODULE = "160000"  # the mode of a file that stands for one


@dataclass(frozen=True)
class Finding:
    """Something that is not as dvc.lock says, and the stages that it concerns."""

    kind: Kind
    subject: str  # a file, a module, a package, or a key of params.yaml
    problem: str
    remedy: str = RERUN
    stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        concerned = f"{several(self.stages)}: " if self.stages else ""
        return f"{concerned}{self.subject}: {self.problem}; {self.remedy}"


def check(prune: bool) -> list[Finding]:
    """Return everything that is wrong in the current folder, the repository's root.

    With `prune`, first remove what is left over of studies and variants that are gone. Raise BadInput where
    params.yaml, a module, or a file of DVC cannot be read.
    """
    root, known = Path.cwd(), params.load()
    warn_of_other_packages()
    for removed in leftovers.prune(root) if prune else ():
        print(removed)
    with dvc.opened(root) as repo:
        refuse_sources(repo, root, known)
        tell_missing_sources(repo, root)
        return [*changed_code(known), *_audit(repo, root), *unknown_to_git(repo, root)]


def add_code() -> list[Finding]:
    """Run the stage code and add its result to git, so that a commit which changes a comment holds all that follows.

    In a commit's hook, the files are those of the commit, and git's variables name its index. Return what has to be
    added by hand: git takes no other files into a commit of named files. Raise BadInput where the stage cannot run.
    """
    with dvc.opened(Path.cwd()) as repo:
        with dvc.held(repo):
            pass  # from now on, nothing is locked by another process
        repo.reproduce([CODE_STAGE], repro_fn=dvc.bring_up)
    made = [str(lockfile.LOCK_FILE), str(files.CODE)]
    named_files = Path(os.environ.get("GIT_INDEX_FILE", "")).name.startswith("next-index")
    if named_files and subprocess.run(["git", "diff", "--quiet", "--", *made]).returncode:
        todo = f"`git add {' '.join(made)}`, and commit without naming files"
        return [Finding("file", made[0], "follows from this commit and is not in it", todo)]
    added = subprocess.run(["git", "add", "--", *made], capture_output=True, text=True)
    if added.returncode:
        raise BadInput(f"git add: {' '.join(added.stderr.split()) or 'failed'}")
    return []


def warn_of_other_packages() -> None:
    """Say in one line which installed packages are not those of requirements.lock."""
    if other := requirements.not_as_locked(Path()):
        named = several(other, requirements.MOST_NAMED)
        print(f"packages other than {requirements.LOCK}'s: {named}; `make repro` installs them", file=sys.stderr)


def tell_missing_sources(repo: Any, root: Path) -> None:
    """Say in one line which files of `dvc add` are not here: a clone is fine without them, until it is to run."""
    outs = [out for stage in repo.index.stages if not dvc.runs(stage) for out in stage.outs]
    if missing := [dvc.path_of(out, root) for out in outs if not out.exists]:
        todo = f"before a run, `dvc pull {' '.join(missing[:MOST_NAMED])}` fetches it"
        print(f"{several(missing)}: kept by DVC, and missing here; {todo}", file=sys.stderr)


def refuse_sources(repo: Any, root: Path, known: params.Params) -> None:
    """Raise BadInput where the folder of tables is gone, which the stages name, or where .dvcignore hides a table."""
    if not (root / SOURCES).exists() and any(dvc.path_of(one, root) == SOURCES.as_posix() for one in repo.index.deps):
        todo = f"`mkdir {SOURCES}` makes it, and an empty file .gitkeep in it lets git keep it"
        raise BadInput(f"{SOURCES}: missing, and stages depend on it; {todo}")
    for path in filter(None, (getattr(known.source(study), "path", None) for study in known.studies)):
        if (root / path).exists() and repo.dvcignore.is_ignored(repo.fs, str(root / path)):
            raise BadInput(f"{path}: hidden from DVC by a line in .dvcignore, so a change of it would rerun nothing")


def changed_code(known: params.Params) -> list[Finding]:
    """Return the modules and packages that are not as data/code says, each with the stages that depend on it."""
    found = list[tuple[str, Finding]]()
    for name, text in code.contents(known, Path()).items():
        path, stage = files.CODE / name, name.removesuffix(".json").replace("/", "@")
        try:
            before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        except ValueError:
            raise BadInput(f"{path}: no JSON, so no stage wrote it; `bancada repro code` writes it anew") from None
        subjects = [key[1:].replace("s.", " ", 1) for key in changed("", before, json.loads(text))]
        found += [(stage, Finding("stale", subject, CHANGED)) for subject in subjects]
    return _by_finding(found)


def _by_finding(found: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Return each finding once, with all stages that it was found at."""
    stages: dict[Finding, list[str]] = defaultdict(list)
    for stage, finding in found:
        stages[finding].append(stage)
    return [replace(finding, stages=tuple(names)) for finding, names in stages.items()]


def changed(key: str, before: Any, now: Any) -> Iterator[str]:
    """Yield the innermost keys below `key` whose values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for inner in {**before, **now}:
            yield from changed(f"{key}.{inner}", before.get(inner, MISSING), now.get(inner, MISSING))
    elif before != now:
        yield key


def unknown_to_git(repo: Any, root: Path) -> Iterator[Finding]:
    """Yield the files that DVC hashes and a commit would leave out, as they are new to git or ignored by it.

    With them, results cannot be of the commit that they are in. Code that git ignores counts where a module imports it,
    and then data/code has its hash.
    """
    if isinstance(repo.scm, NoSCM):
        return
    left = leftovers.find(repo, root)
    no_matter = [*left.results, *left.strays, *(dvc.path_of(out, root) for out in repo.index.outs if out.use_cache)]
    new = git.asked(root, "ls-files", "-z", "--others", "--exclude-standard", "--", CODE_FOLDER)
    new += git.asked(root, "ls-files", "-z", "--others", "--", *OTHERS)
    hashed = [path for path in new.split("\0") if path and not repo.dvcignore.is_ignored(repo.fs, str(root / path))]
    if found := [path for path in hashed if not any(f"{path}/".startswith(f"{one}/") for one in no_matter)]:
        those = found[:MOST_NAMED]
        force = [] if git.run(root, "check-ignore", "--", *those).returncode else ["-f"]  # 0: git ignores one of them
        add = f"`git add {' '.join([*force, *those])}`"
        todo = f"{add}, or a line in .dvcignore and .gitignore if it is of no use"
        yield Finding("file", several(found), "git does not know it, and a clone would not have it", todo)
    options = ("--raw", "-z", "--relative", "--ignore-submodules=none")
    changes = git.asked(root, "diff", *options, "--", CODE_FOLDER, *OTHERS).split("\0")
    pairs = zip(changes[::2], changes[1::2], strict=False)
    if found := [path for change, path in pairs if change[1:].startswith(SUBMODULE)]:
        todo = f"commit there, then `git add {' '.join(found[:MOST_NAMED])}`"
        yield Finding("file", several(found), "a submodule with what is not committed, so a clone lacks it", todo)


def named(left: leftovers.Leftovers) -> Iterator[Finding]:
    """Yield a line for each kind of what is left over."""
    if left.entries:
        problem = "an entry of a stage that dvc.yaml does not have"
        yield Finding("gone", str(lockfile.LOCK_FILE), problem, f"{PRUNE} takes it out", tuple(left.entries))
    if left.results:
        problem = "left over, for dvc.yaml has no stage that makes it"
        yield Finding("gone", several(left.results), problem, f"{PRUNE} removes it")
    if left.strays:
        yield Finding("gone", several(left.strays), "no stage makes it", "delete it, or make it an out in dvc.yaml")


def audit(root: Path) -> list[Finding]:
    """Return everything that is not as dvc.lock says in the repository at `root`, in the pipeline's order.

    What concerns several stages is returned once. Raise BadInput where DVC cannot read its files.
    """
    with dvc.opened(root) as repo:
        return _audit(repo, root)


def _audit(repo: Any, root: Path) -> list[Finding]:
    left = leftovers.find(repo, root)
    stages = dvc.planned(repo)[0] | {stage.addressing: stage for stage in repo.index.stages}
    made = {dvc.path_of(out, root): out for stage in stages.values() for out in stage.outs}
    found = ((name, finding) for name, stage in stages.items() for finding in _of_stage(stage, root, made))
    return [*_by_finding(found), *named(left)]


def _of_stage(stage: Any, root: Path, made: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare a stage with its entry. `made`: the outs of all stages, by path.

    Of what the stage code read, a comment is a change, too: `changed_code` compares what follows from it.
    """
    if dvc.runs(stage) and not dvc.entry(stage):
        yield Finding("stale", str(lockfile.LOCK_FILE), "no entry of this stage")
        return
    if dvc.runs(stage) and not stage.frozen:
        if stage.cmd_changed:
            yield Finding("stale", "dvc.yaml", f"its cmd {CHANGED}")
        for dep in stage.deps if stage.addressing != CODE_STAGE else ():
            yield from _parameters(dep) if dvc.is_params(dep) else _dependency(dep, root, made)
    for out in stage.outs:
        yield from _out(out, dvc.path_of(out, root))


def _parameters(dep: Any) -> Iterator[Finding]:
    before, now = dep.hash_info.value or {}, dep.read_params()
    for key in dep.params or now:
        for leaf in changed(key, before.get(key, MISSING), now.get(key, MISSING)):
            yield Finding("stale", f"{dep.def_path}: {leaf}", CHANGED)


def _dependency(dep: Any, root: Path, made: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what the stage read with what is here, or, for another stage's out, with what that stage made."""
    path, state = dvc.path_of(dep, root), dvc.state(dep)
    inside = [out for name, out in made.items() if name.startswith(f"{path}/")]
    if path in made and dep.hash_info:
        if made[path].hash_info != dep.hash_info:
            maker = made[path].stage.addressing
            yield Finding("lock", path, f"dvc.lock says that another one was read than {maker} made")
    elif state and not (state == "deleted" and inside) and not any(map(dvc.state, inside)):
        yield Finding("stale", path, PROBLEMS[state])


def _out(out: Any, path: str) -> Iterator[Finding]:
    """Compare an out that is here with dvc.lock; one that git keeps must be here."""
    state = dvc.state(out)
    if state == "new":
        yield Finding("stale", path, PROBLEMS[state])
    elif state and not (state == "deleted" and out.use_cache):
        back = f"`dvc checkout {path}`" if out.use_cache else f"`git checkout -- {path}`"
        again = f"{RERUN} makes it again" if dvc.runs(out.stage) else f"`dvc add {path}` keeps the new one"
        problem = PROBLEMS[state] if state == "deleted" else "is not the one that dvc.lock names"
        yield Finding("file", path, problem, f"{back} restores that one, {again}")
