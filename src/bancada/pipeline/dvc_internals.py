"""DVC's repository, its stages and their files, and what a killed DVC leaves. requirements.lock pins DVC."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
from dvc.config import NoRemoteError
from dvc.dependency import ParamsDependency
from dvc.dvcfile import PROJECT_FILE
from dvc.ignore import DvcIgnoreFilter, DvcIgnorePatterns
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, modify_yaml

from bancada.base import BadInput, files, locks
from bancada.base.dvc_errors import NOWHERE, cause, described, shown, told
from bancada.base.git import refuse_broken

logging.getLogger("dvc").setLevel(logging.CRITICAL)  # errors are raised
POLL_S = 0.2
TITLE = re.compile(r"  [^?:#].*:$")  # the first line of a stage in dvc.lock


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """Open the repository at `root`, which is then the current folder, to look at it. DVC's errors become BadInput."""
    with chdir(root):
        try:
            with open_repo(root) as repo:
                yield repo
        except Exception as error:  # DVC's errors share no base class; any other is raised again
            if line := told(error):
                raise BadInput(line) from None
            raise


def open_repo(root: Path) -> Any:
    """Return DVC's repository at `root`, not yet locked. Raise BadInput where git cannot use the repository around."""
    refuse_broken(root)
    return _Repo(str(root))


def hide(repo: Any, paths: Iterable[str]) -> None:
    """Let DVC leave these paths, from the root, out of the folders that it hashes, and no longer those before."""
    repo.hidden = ["/" + re.sub(r"([\\*?\[\] ])", r"\\\1", path) for path in paths]
    repo.__dict__.pop("dvcignore", None)


class _Repo(Repo):  # type: ignore[misc]  # DVC has no types
    """DVC's repository, in which paths can be hidden."""

    hidden: Sequence[str] = ()

    @cached_property
    def dvcignore(self) -> DvcIgnoreFilter:
        found = DvcIgnoreFilter(self.fs, self.root_dir)
        own = found.ignores_trie_fs[()]
        found.ignores_trie_fs[()] = DvcIgnorePatterns([*own.pattern_list, *self.hidden], own.dirname, own.sep)
        return found


def planned(repo: Any, targets: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """Return the stages that `dvc repro TARGETS` would bring up, in its order, and the stages right before each.

    Raise DvcException where DVC cannot read its files or knows no such target.
    """
    graph = get_active_graph(repo.index.graph)
    stages = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE]))
    upstream = {stage.addressing: {dep.addressing for dep in graph.successors(stage)} for stage in stages}
    return {stage.addressing: stage for stage in stages}, upstream


def runs(stage: Any) -> bool:
    """Return whether it is a stage of a dvc.yaml, with a command; else it keeps files for `dvc add` or `dvc import`."""
    return isinstance(stage, PipelineStage) and bool(stage.cmd)


def entry(stage: Any) -> Any:
    """Return what dvc.lock says of a stage; None where it has no entry."""
    return (stage.dvcfile.lockfile_contents.get("stages") or {}).get(stage.name)


def path_of(item: Any, root: Path) -> str:
    """Return the path of a dependency or an out from the root; it is absolute where it lies elsewhere."""
    path = Path(item.fs_path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def state(item: Any) -> str:
    """Return `deleted`, `modified`, or `new` (dvc.lock does not know it); nothing where it is as dvc.lock says."""
    return next(iter(item.workspace_status().values()), "") if item.hash_info else "new"


def is_params(dep: Any) -> bool:
    """Return whether a dependency is keys of a parameter file, and no file as a whole."""
    return isinstance(dep, ParamsDependency)


def changed(repo: Any, targets: Sequence[str]) -> list[str]:
    """Return those of the stages for these targets whose files, parameters or commands are not as dvc.lock says."""
    with held(repo):
        repo._reset()
        return [name for name, stage in planned(repo, targets)[0].items() if stage.changed()]


def bring_up(stage: Any, stopped: Callable[[], bool] = lambda: False, **options: Any) -> bool:
    """Bring up a stage and its entry in dvc.lock, as `dvc repro` does, once no other DVC process works here.

    Return whether there was anything to do.
    """
    hold(stage.repo, stopped)
    if stopped() or not stage.reproduce(**options):
        return False
    if not runs(stage):
        stage.dump(update_pipeline=False)
        return True
    lock = Path(stage.dvcfile.path).with_suffix(".lock")
    entries = to_lockfile(stage)
    if text := with_entries(lock.read_text("utf-8") if lock.exists() else "", entries):
        with files.whole(lock) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    else:
        with rewritten(lock) as content:
            content.setdefault("schema", "2.0")
            content.setdefault("stages", {}).update(entries)
    stage.repo.scm_context.track_file(str(lock))
    return True


def with_entries(text: str, entries: Mapping[str, Any]) -> str:
    """Return the text of a dvc.lock with these entries of stages in place of theirs, or at the end, as DVC writes it.

    DVC parses and writes the whole file for each stage, which takes a second where there are some hundred results. An
    empty string for a text of another form than DVC's own, which is left to DVC.
    """
    start, *old = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)
    new = [dumps_yaml({"stages": {name: entry}}).partition("\n")[2] for name, entry in entries.items()]
    by_title = {block.partition("\n")[0]: block for block in (*old, *new)}
    fine = start == "schema: '2.0'\nstages:\n" and text.endswith("\n") and all(map(TITLE.match, by_title))
    return "".join([start, *by_title.values()]) if fine else ""


@contextmanager
def rewritten(lock: Path) -> Iterator[Any]:
    """Yield the content of a dvc.lock to be changed. DVC itself writes it in place: a kill would leave half a file."""
    with files.whole(lock) as unfinished:
        if lock.exists():
            unfinished.write_bytes(lock.read_bytes())
        with modify_yaml(str(unfinished)) as content:
            yield content


@contextmanager
def held(repo: Any) -> Iterator[None]:
    """Hold the repository's lock during the block, as `hold` does."""
    hold(repo)
    try:
        yield
    finally:
        repo.lock.unlock()


def hold(repo: Any, stopped: Callable[[], bool] = lambda: False) -> None:
    """Hold the repository's lock, once no other DVC process works here; say so once where that takes time.

    Raise BadInput where the lock cannot be had because of the file system. Without the lock, return where `stopped`.
    """
    refuse_without_locks(repo)
    waits = False
    while not (_alone(repo) or stopped()):
        if not waits:  # a lock by hard links stays when its process is killed
            hint = f"; if there is none, `rm {shown(repo.lock.lockfile)}`" if by_hardlink(repo.config) else ""
            print(f"waiting for another DVC process to end{hint}", file=sys.stderr)
        waits = True
        time.sleep(POLL_S)
    if waits:
        repo._reset()  # the other process may have written dvc.lock


def _alone(repo: Any) -> bool:
    """Hold the repository's lock, and return True, unless another process has it or uses files while it is unlocked."""
    try:
        repo.lock._wait = False  # it fails after three seconds; where DVC takes it again after a stage, never
        if not repo.lock.is_locked:
            repo.lock.lock()
    except LockError:
        return False
    finally:
        repo.lock._wait = True
    in_use = _mend(repo)
    users = [*in_use.get("write", {}).values(), *chain.from_iterable(in_use.get("read", {}).values())]
    if any(user["pid"] != os.getpid() and psutil.pid_exists(user["pid"]) for user in users):
        repo.lock.unlock()
        return False
    return True


def _mend(repo: Any) -> dict[str, Any]:
    """Put away what DVC cannot read because a process was killed while it wrote. Return DVC's list of files in use.

    It is half of that list, or folders of the run cache that hold no run yet.
    """
    for folder in Path(repo.stage_cache.cache_dir).glob("*/*"):
        with suppress(OSError):  # it holds a run
            folder.rmdir()
    path = Path(repo.tmp_dir, RWLOCK_FILE)
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except json.JSONDecodeError:
        path.unlink()
        return {}


def refuse_without_locks(repo: Any) -> None:
    """Raise BadInput where DVC's locks cannot be had because of the file system; name DVC's way out."""
    folder, hardlink = Path(repo.tmp_dir), by_hardlink(repo.config)
    # By flock, the file has the number of a process; by hard links, the path of a file.
    kept = [path for path in (folder / "lock", folder / RWLOCK_LOCK) if path.exists()]
    old = [shown(path) for path in kept if path.read_text().strip().isdigit()]
    if old if hardlink else not locks.exist(folder):
        todo = [*["`dvc config core.hardlink_lock true`"] * (not hardlink), *[f"`rm {' '.join(old)}`"] * bool(old)]
        raise BadInput(
            f"{shown(folder)}: there are no locks by flock; {' and '.join(todo)} lets DVC lock by hard links"
        )


def by_hardlink(config: Mapping[str, Any]) -> bool:
    """Return whether DVC is told to lock by hard links, for file systems without flock."""
    return bool(config["core"].get("hardlink_lock", False))


def why_missing(repo: Any, error: Exception, md5: str) -> str:
    """Return why DVC could not get a file with this hash.

    DVC asks a remote only whether it has the file, and takes every answer but yes, such as `403 Forbidden`, for a no.
    """
    found = cause(error)
    if isinstance(found, FileNotFoundError):
        try:
            kept = repo.cloud.get_remote_odb()
            kept.fs.fs.cat_file(kept.oid_to_path(md5), start=0, end=1)
        except NoRemoteError:
            return NOWHERE
        except Exception as answer:  # whatever the library that reaches the remote raises
            found = cause(answer)
    return NOWHERE if isinstance(found, FileNotFoundError) else f"not to be had: {described(found)}"
