"""DVC's pipeline, a stage at a time, so that several can be under way: what repro.py puts in order.

What a stage is, whether it is stale, its environment, its run cache, how its outs are stored and how its entry in
dvc.lock reads: all that is DVC's own. This takes the place of `Stage.run` and `Stage.dump` alone, of DVC as
requirements.lock pins it; tests/test_repro.py holds the dvc.lock against plain `dvc repro`'s, byte by byte.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml

from bancada.base.files import whole
from bancada.base.notify import tracking
from bancada.base.refusals import BadInput
from bancada.pipeline.in_use import forget_killed, using
from bancada.pipeline.plan import planned, quiet

LOCK_FILE = Path("dvc.lock")
LOCK_HEAD = "schema: '2.0'\nstages:\n"


class Pipeline:
    """The stages that `dvc repro TARGETS` would bring up, in its order. The current folder is the repository's root.

    The repository's lock is held from the start on, except between `pause` and `resume`, as DVC does while a stage
    runs. DvcException where DVC cannot read its files or knows no such target.
    """

    def __init__(self, targets: Sequence[str] = ()) -> None:
        quiet()
        self.repo: Any = Repo(_wait_for_lock=True)
        self.folder = Path(self.repo.tmp_dir) / "bancada"
        self.folder.mkdir(exist_ok=True)
        self.alone = _alone(self.folder / "lock")
        forget_killed(self.repo.tmp_dir)
        self.repo.lock.lock()
        self.stages, self.upstream = planned(self.repo, targets)
        self.busy: dict[str, ExitStack] = {}
        self.before = self._order_before()

    def close(self, complete: bool) -> None:
        """Give all locks back. `complete`: no stage failed and none was stopped."""
        self.resume()
        for held in self.busy.values():
            held.close()
        self.repo.lock.unlock()
        self.repo.close()
        if complete:
            self._journal.unlink(missing_ok=True)
        self.alone.close()

    def pause(self) -> None:
        """Let other DVC commands look while stages run."""
        self.repo.lock.unlock()
        self.repo._reset()

    def resume(self) -> None:
        if not self.repo.lock.is_locked:
            self.repo.lock.lock()

    def is_stale(self, name: str) -> bool:
        return bool(self.stages[name].changed())

    def log(self, name: str) -> Path:
        """Everything that the stage printed when it last ran here."""
        return self.folder / f"{name.replace('/', '_')}.log"

    def begin(self, name: str, force: bool) -> subprocess.Popen[bytes] | None:
        """The stage's command, started in a process group of its own; None where DVC needed to run nothing.

        The outs of before are gone then, as with DVC. LockError where another DVC process is using the same files.
        """
        self.log(name).unlink(missing_ok=True)
        stage = self.stages[name]
        if not isinstance(stage, PipelineStage) or not stage.cmd or stage.frozen:  # `dvc add`, `dvc import`, frozen
            if stage.reproduce(force=force):
                stage.dump(update_pipeline=False)
            return None
        stage.remove_outs(ignore_remove=False, force=False)
        if not force:
            try:
                self.repo.stage_cache.restore(stage)
                return None
            except RunCacheNotFoundError:
                pass
        read, write = ([item.fs_path for item in items] for items in (stage.deps, stage.outs))
        self.busy[name] = ExitStack()
        self.busy[name].enter_context(using(self.repo.tmp_dir, name, read, write))
        stage.save_deps()
        command = _make_cmd(get_executable(), " && ".join(_enforce_cmd_list(stage.cmd)))
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self.alone.fileno()],
                **prepare_kwargs(stage, run_env=_environment()),
            )

    def end(self, name: str) -> None:
        """Store what the stage made; DvcException where an out is missing, OSError where it cannot be stored."""
        self.release(name)
        stage = self.stages[name]
        if not isinstance(stage, PipelineStage) or stage.frozen:
            return
        kept = all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)
        try:
            stage.save(run_cache=kept)
            stage.commit()
            stage.cmd_changed = False  # DVC sets it as it loads the stage
        except OSError as error:  # that a disk is full is said without a name
            if error.filename or not error.errno:
                raise
            raise OSError(error.errno, error.strerror, os.path.relpath(self.repo.cache.local.path)) from error

    def release(self, name: str) -> None:
        """Let others use the stage's files again."""
        if name in self.busy:
            self.busy.pop(name).close()

    def write_lock(self, name: str) -> None:
        """The stage into dvc.lock, in the order in which plain `dvc repro` leaves them, and whole or not at all."""
        stage = self.stages[name]
        if not isinstance(stage, PipelineStage) or not stage.cmd:
            return
        entries = _lock_entries()
        left = [list(entries or ())]
        if entries is None or stage.path_in_repo != PROJECT_FILE:
            stage.dump(update_pipeline=False)
            return
        entries |= _as_text(to_lockfile(stage))
        order = {name: place for place, name in enumerate(dict.fromkeys([*self.before, *self.stages]))}
        entries = dict(sorted(entries.items(), key=lambda entry: order.get(entry[0], len(order))))
        left.append(list(entries))
        with whole(self._journal) as unfinished:  # first, so that it fits also where we are killed between the two
            unfinished.write_text(json.dumps({"before": self.before, "left": left}))
        with whole(LOCK_FILE) as unfinished:
            unfinished.write_text(LOCK_HEAD + "".join(entries.values()), encoding="utf-8")
        self.repo.scm_context.track_file(str(LOCK_FILE))

    @property
    def _journal(self) -> Path:
        return self.folder / "order.json"

    def _order_before(self) -> list[str]:
        """The order of the stages in dvc.lock before this run; or, where it goes on with one that was stopped, before
        that one: else the stages that happened to end first would stay first."""
        now = list(_lock_entries() or {})
        journal = json.loads(self._journal.read_text()) if self._journal.exists() else {}
        before: list[str] = journal["before"] if now in journal.get("left", ()) else now
        return before

    def still_stale(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that `dvc repro` would run again: their files were changed while they ran.

        Not those that it always runs.
        """
        always = [name for name in names if self.stages[name].always_changed or self.stages[name].is_callback]
        return [name for name in names if name not in always and self.is_stale(name)]


def _lock_entries() -> dict[str, str] | None:
    """Each stage's entry of dvc.lock as text: to read and write all of them anew takes DVC's YAML seconds.

    None where more stands in the file (a comment, data sets), which only DVC knows how to keep.
    """
    text = LOCK_FILE.read_text("utf-8") if LOCK_FILE.exists() else LOCK_HEAD
    entries = {match[2]: match[1] for match in re.finditer(r"^(  ([\w@.-]+):\n(?:    .*\n)+)", text, re.MULTILINE)}
    return entries if text == LOCK_HEAD + "".join(entries.values()) else None


def forget(stages: Sequence[str]) -> None:
    """Take the entries of these stages out of dvc.lock. BadInput where more stands in the file than DVC writes."""
    entries = _lock_entries()
    if entries is None:
        raise BadInput(f"{LOCK_FILE}: not as DVC writes it, so take {', '.join(stages)} out by hand")
    with whole(LOCK_FILE) as unfinished:
        kept = (entry for name, entry in entries.items() if name not in stages)
        unfinished.write_text(LOCK_HEAD + "".join(kept), encoding="utf-8")


def _as_text(entries: dict[str, Any]) -> dict[str, str]:
    """As they stand in dvc.lock."""
    return {name: dumps_yaml({"stages": {name: entry}}).partition("\n")[2] for name, entry in entries.items()}


def _environment() -> dict[str, str]:
    """This Python first on PATH: a stage's `python` is ours, also where no environment is activated. And no recorder of
    its own: there is one for all."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "BANCADA_TRACKING": "off" if tracking() == "off" else "shared"}


def _alone(path: Path) -> IO[str]:
    """A lock that the stages inherit: it stays until the last of them has ended, also where bancada was killed."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another bancada repro, or for the stages of one that was killed, to end", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file
