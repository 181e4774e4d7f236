"""DVC's repository, its stages and their files. Functions that DVC keeps to itself (`_make_cmd`) are called here alone.

requirements.lock pins DVC, and the tests hold the dvc.lock of `bancada repro` against that of plain `dvc repro`.
"""

import errno
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.dependency import ParamsDependency, param
from dvc.dvcfile import PROJECT_FILE
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK
from dvc.scm import NoSCM
from dvc.stage import PipelineStage
from dvc.stage import run as stage_run
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml

from bancada.base import BadInput, files, interrupts, locks
from bancada.base.dvc_errors import NOWHERE, cause, described, line_of, shown, told
from bancada.base.git import refuse_broken
from bancada.base.lockfile import LOCK_FILE

logging.getLogger("dvc").setLevel(logging.CRITICAL)  # errors are raised
POLL_S = 0.2


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """Open the repository at `root`, which is then the current folder, to look at it. DVC's errors become BadInput."""
    with chdir(root):
        try:
            with open_repo(root) as repo:
                yield repo
        except Exception as error:  # DVC's errors share no base class; any other is raised again
            raise BadInput(line_of(error)) from None


def open_repo(root: Path) -> Any:
    """Return DVC's repository at `root`, not yet locked. Raise BadInput where git cannot use the repository around."""
    refuse_broken(root)
    return Repo(str(root))


def _read_once(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `load` so that it reads a file again only after a change: DVC reads params.yaml seven times for a stage."""
    known: dict[str, tuple[int, int, Any]] = {}

    def read(path: str, fs: Any = None, **options: Any) -> Any:
        now = Path(path).stat()
        if known.get(path, ())[:2] != (now.st_mtime_ns, now.st_size):
            known[path] = (now.st_mtime_ns, now.st_size, load(path, fs, **options))
        return deepcopy(known[path][2])  # shared objects would become aliases in dvc.lock

    return read


param.load_path = _read_once(param.load_path)


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


def reproduce(
    repo: Any,
    targets: Sequence[str],
    each: Callable[[Any, Callable[[bool], bool]], Any] = lambda stage, bring_up: bring_up(False),
    run: Callable[[Any], int] | None = None,
) -> None:
    """Bring up targets as `dvc repro --keep-going` does, with `each` around every stage and `run` for its command.

    `each` gets a stage, and a function that brings it up, by force or not, and returns whether there was anything to
    do. `run` returns the exit status of a stage's command. Raise ReproductionError where a stage failed.
    """
    order = [*planned(repo)[0]]

    def one(stage: Any, **options: Any) -> None:
        interrupts.end_if_any()
        each(stage, lambda force: _bring_up(stage, order, options | {"force": force}))

    def command(stage: Any, **_: Any) -> None:
        if status := run(stage) if run else 0:
            raise StageCmdFailedError(stage.cmd, status)

    wait_until_free(repo)
    own = stage_run.cmd_run  # waits for a command, and is deaf to Ctrl-C
    stage_run.cmd_run = command if run else own
    try:
        with interrupts.wait():
            repo.reproduce(targets or None, on_error="keep-going", repro_fn=one)
    finally:
        stage_run.cmd_run = own


def _bring_up(stage: Any, order: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Bring up a stage, and wait while another DVC process uses its files. Return whether there was anything to do."""
    repo, waits = stage.repo, False
    while True:
        try:
            if not (options["force"] or stage.changed()):
                return False  # DVC itself would want the outs of this stage for itself before it looks
            stage.reproduce(**options)
            _write_lock(stage, order)
            return True
        except LockError as error:
            if not waits:
                blocked = told(error).partition(" If there are no processes")[0].replace(f"{Path.cwd()}/", "")
                print(f"{stage.addressing}: waits for another DVC process: {blocked}", file=sys.stderr)
            waits = True
        except OSError as error:  # the error of a full disk has no name
            if error.filename or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(error.errno, error.strerror, os.path.relpath(repo.cache.local.path)) from error
        repo.lock.unlock()
        time.sleep(POLL_S)
        hold(repo)


def changed(repo: Any, targets: Sequence[str]) -> list[str]:
    """Return those of the stages for these targets whose files, parameters or commands are not as dvc.lock says."""
    hold(repo)
    try:
        return [name for name, stage in planned(repo, targets)[0].items() if _changed(stage)]
    finally:
        repo.lock.unlock()


def _changed(stage: Any) -> bool:
    try:
        return bool(stage.changed())
    except LockError:  # another DVC process uses its files, and may change them
        return True


def process_arguments(stage: Any, environment: dict[str, str]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments for subprocess.Popen with which DVC would run the stage's command."""
    command = _make_cmd(get_executable(), " && ".join(_enforce_cmd_list(stage.cmd)))
    return command, prepare_kwargs(stage, run_env=environment)


LOCK_HEAD = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"^  (\S+):\n(?:    .*\n)+", re.MULTILINE)  # of a stage in dvc.lock


def _write_lock(stage: Any, order: Sequence[str]) -> None:
    """Write the stage's entry into dvc.lock, in the order of the pipeline, the file whole or not at all.

    DVC itself reads and writes all of the file with its comments for that, which takes half a second, and a kill in it
    would leave half a file.
    """
    text = LOCK_FILE.read_text("utf-8") if LOCK_FILE.exists() else LOCK_HEAD
    entries = {entry[1]: entry[0] for entry in ENTRY.finditer(text)}
    if not runs(stage) or text != LOCK_HEAD + "".join(entries.values()) or stage.path_in_repo != PROJECT_FILE:
        stage.dump(update_pipeline=False)  # more stands there (a comment, data sets), which only DVC can keep
        return
    entries[stage.name] = str(dumps_yaml({"stages": to_lockfile(stage)}).partition("\n")[2])
    places = {name: place for place, name in enumerate(order)}
    entries = dict(sorted(entries.items(), key=lambda entry: places.get(entry[0], len(places))))
    with files.whole(LOCK_FILE) as unfinished:
        unfinished.write_text(LOCK_HEAD + "".join(entries.values()), encoding="utf-8")
    stage.repo.scm_context.track_file(str(LOCK_FILE))


def hold(repo: Any) -> None:
    """Hold the repository's lock; say so once where another DVC process holds it, and wait.

    What DVC cannot read because a process was killed while it wrote is then removed.
    Raise BadInput where the lock cannot be had because of the file system, and name DVC's way out.
    """
    waits = False
    while not repo.lock.is_locked:
        interrupts.end_if_any()
        try:
            repo.lock.lock()
        except LockError:
            refuse_without_locks(repo)
            if not waits:  # a lock by hard links stays when its process is killed
                hint = f"; if there is none, `rm {shown(repo.lock.lockfile)}`" if by_hardlink(repo.config) else ""
                print(f"waiting for another DVC process to end{hint}", file=sys.stderr)
            waits = True
    _remove_what_was_cut_off(repo)


def wait_until_free(repo: Any) -> None:
    """Wait until no other DVC process holds the repository's lock."""
    hold(repo)
    repo.lock.unlock()


def refuse_without_locks(repo: Any) -> None:
    """Raise BadInput where DVC's locks cannot be had because of the file system; name DVC's way out."""
    folder = Path(repo.tmp_dir)
    # By flock, the file has the number of a process; by hard links, the path of a file.
    kept = (folder / "lock", folder / RWLOCK_LOCK)
    old = [path for path in kept if path.exists() and path.read_text().strip().isdigit()]
    named = " ".join(map(shown, old))
    if by_hardlink(repo.config) and old:  # DVC took these for locks by flock
        raise BadInput(f"{named}: made before core.hardlink_lock was set, so DVC waits for ever: `rm {named}`")
    if not by_hardlink(repo.config) and not locks.exist(folder):
        way_out = "`dvc config core.hardlink_lock true`" + (f" and `rm {named}`" if old else "")
        raise BadInput(f"{shown(folder)}: its file system has no locks (flock); {way_out} lets DVC do without")


def by_hardlink(config: Mapping[str, Any]) -> bool:
    """Return whether DVC is told to lock by hard links, for file systems without flock."""
    return bool(config["core"].get("hardlink_lock", False))


def _remove_what_was_cut_off(repo: Any) -> None:
    """Remove what DVC cannot read because a process was killed while it wrote: DVC's commands would fail.

    It is the list of the files in use, and folders of the run cache that hold no run yet. To be called with the lock
    held.
    """
    path = Path(repo.tmp_dir, RWLOCK_FILE)
    try:
        json.loads(path.read_text()) if path.exists() else None
    except json.JSONDecodeError:
        path.unlink()
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
