"""DVC's repository, its stages and their files, and what a killed DVC leaves. requirements.lock pins DVC."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.dependency import ParamsDependency
from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import RWLOCK_FILE
from dvc.scm import NoSCM
from dvc.stage import PipelineStage

from bancada.base import BadInput, files
from bancada.base.dvc_errors import NOWHERE, cause, described, line_of
from bancada.base.git import refuse_broken
from bancada.base.lockfile import LOCK_FILE

logging.getLogger("dvc").setLevel(logging.CRITICAL)  # errors are raised
BEFORE = Path(".dvc.lock.before.unfinished")  # what dvc.lock was, while DVC writes it
EMPTY = b"schema: '2.0'\n"  # a dvc.lock of no stages


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """Open the repository at `root`, which is then the current folder, to look at it. DVC's errors become BadInput."""
    with chdir(root):
        try:
            with open_repo(root) as repo:
                yield repo
        except Exception as error:  # DVC's errors share no base class; any other is raised again
            raise BadInput(line_of(error)) from None


def open_repo(root: Path, wait: bool = False) -> Any:
    """Return DVC's repository at `root`. With `wait`, its lock is waited for; else that fails after 3 s, as in DVC.

    Raise BadInput where git cannot use the repository around.
    """
    refuse_broken(root)
    return Repo(str(root), _wait_for_lock=wait)


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


def has_git(repo: Any) -> bool:
    """Return whether DVC found a git repository around its own."""
    return not isinstance(repo.scm, NoSCM)


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
    with lock_repo(repo):
        return [name for name, stage in planned(repo, targets)[0].items() if stage.changed()]


def bring_up(stage: Any, **options: Any) -> bool:
    """Bring up a stage and its entry in dvc.lock, as `dvc repro` does. Return whether there was anything to do.

    DVC writes dvc.lock in place. Where that fails, it is put back as it was.
    """
    if not stage.reproduce(**options):
        return False
    with files.whole(BEFORE) as unfinished:
        unfinished.write_bytes(LOCK_FILE.read_bytes() if LOCK_FILE.exists() else EMPTY)
    try:
        stage.dump(update_pipeline=False)
    except BaseException:
        BEFORE.replace(LOCK_FILE)
        raise
    BEFORE.unlink()
    return True


def mend(repo: Any) -> None:
    """Put away what a process left that was killed while DVC wrote, for DVC's commands would fail.

    It is half a dvc.lock, half a list of the files in use, and folders of the run cache that hold no run yet.
    """
    with repo.lock:
        if BEFORE.exists():
            BEFORE.replace(LOCK_FILE)
        in_use = Path(repo.tmp_dir, RWLOCK_FILE)
        try:
            json.loads(in_use.read_text()) if in_use.exists() else None
        except json.JSONDecodeError:
            in_use.unlink()
        for folder in Path(repo.stage_cache.cache_dir).glob("*/*"):
            with suppress(OSError):  # it holds a run
                folder.rmdir()


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
