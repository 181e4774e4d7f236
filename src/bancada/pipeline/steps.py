"""DVC's pipeline, a stage at a time, so that several can run at once: repro.py decides which goes next.

What a stage is, whether it is stale, its environment, its run cache, how its outs are stored and how its entry in
dvc.lock reads: all that is DVC's own. This takes the place of `Stage.run` and `Stage.dump` alone.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dvc.dvcfile import PROJECT_FILE
from dvc.stage.cache import RunCacheNotFoundError

from bancada.base import files, locks, notify
from bancada.base.lockfile import LOCK_FILE
from bancada.pipeline import dvc_internals as dvc

LOCK_HEAD = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"^  (\S+):\n(?:    .*\n)+", re.MULTILINE)  # of a stage in dvc.lock


class Pipeline:
    """The stages that `dvc repro TARGETS` would bring up, in its order. The current folder is the repository's root.

    The repository's lock is held from the start on, except between `pause` and `resume`, as DVC does while a stage
    runs. Raise DvcException where DVC cannot read its files or knows no such target.
    """

    def __init__(self, targets: Sequence[str] = ()) -> None:
        self.repo: Any = dvc.open_repo(Path.cwd())
        self.folder = Path(self.repo.tmp_dir) / "bancada"
        self.held = ExitStack()
        self.alone = self.held.enter_context(locks.locked(self.folder / "lock", on_wait=_say_that_another_runs))
        dvc.remove_what_was_cut_off(self.repo)
        dvc.hold(self.repo)
        self.targets = targets
        self.load()
        self.busy: dict[str, ExitStack] = {}

    def load(self) -> None:
        """Read the stages and dvc.lock, for another DVC process may have changed them."""
        dvc.forget_workspace(self.repo)
        self.order = [*dvc.planned(self.repo)[0]]
        self.stages, self.upstream = dvc.planned(self.repo, self.targets)

    def close(self) -> None:
        """Release all locks."""
        for held in self.busy.values():
            held.close()
        if self.repo.lock.is_locked:
            self.repo.lock.unlock()
        self.repo.close()
        self.held.close()

    def pause(self) -> None:
        """Let other DVC commands look while stages run."""
        self.repo.lock.unlock()
        dvc.forget_workspace(self.repo)

    def resume(self) -> None:
        """Hold the repository's lock again."""
        dvc.hold(self.repo)

    def is_stale(self, name: str) -> bool:
        """Return whether DVC would run the stage. Raise LockError where another DVC process uses its files."""
        return bool(self.stages[name].changed())

    def log(self, name: str) -> Path:
        """Return the file with everything that the stage printed when it last ran here."""
        return self.folder / f"{name.replace('/', '_')}.log"

    def begin(self, name: str, force: bool, cores: int) -> subprocess.Popen[bytes] | None:
        """Start the stage's command, in a process group of its own. Return None where DVC needs to run nothing.

        The stage's old outs are then removed, as DVC does. Raise LockError where another DVC process uses its files.
        """
        self.log(name).unlink(missing_ok=True)
        stage = self.stages[name]
        if not dvc.runs(stage) or stage.frozen:  # `dvc add`, `dvc import`, frozen
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
        self.busy[name] = ExitStack()
        self.busy[name].enter_context(dvc.using(self.repo, stage))
        stage.save_deps()
        command, arguments = dvc.process_arguments(stage, _environment(cores))
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self.alone.fileno()],  # the lock stays until the last stage has ended, also after a kill
                **arguments,
            )

    def end(self, name: str) -> None:
        """Store what the stage made. Raise DvcException where an out is missing, OSError where it cannot be stored."""
        self.release(name)
        stage = self.stages[name]
        if not dvc.runs(stage) or stage.frozen:
            return
        kept = all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)
        try:
            stage.save(run_cache=kept)
            stage.commit()
        except OSError as error:  # the error of a full disk has no name
            if error.filename or not error.errno:
                raise
            raise OSError(error.errno, error.strerror, os.path.relpath(self.repo.cache.local.path)) from error
        stage.cmd_changed = False  # DVC sets it while it loads the stage

    def release(self, name: str) -> None:
        """Let other processes use the stage's files again."""
        if name in self.busy:
            self.busy.pop(name).close()

    def write_lock(self, name: str) -> None:
        """Write the stage's entry into dvc.lock, in the order of the pipeline, the file whole or not at all."""
        stage = self.stages[name]
        if not dvc.runs(stage):
            return
        text = LOCK_FILE.read_text("utf-8") if LOCK_FILE.exists() else LOCK_HEAD
        entries = {entry[1]: entry[0] for entry in ENTRY.finditer(text)}
        if text != LOCK_HEAD + "".join(entries.values()) or stage.path_in_repo != PROJECT_FILE:
            stage.dump(update_pipeline=False)  # more stands there (a comment, data sets), which only DVC can keep
            return
        entries[name] = dvc.lock_text(stage)
        places = {name: place for place, name in enumerate(self.order)}
        entries = dict(sorted(entries.items(), key=lambda entry: places.get(entry[0], len(places))))
        with files.whole(LOCK_FILE) as unfinished:
            unfinished.write_text(LOCK_HEAD + "".join(entries.values()), encoding="utf-8")
        self.repo.scm_context.track_file(str(LOCK_FILE))

    def still_stale(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that `dvc repro` would run again, because their files changed while they ran.

        A stage that DVC always runs is none of them.
        """
        always = [name for name in names if self.stages[name].always_changed or self.stages[name].is_callback]
        return [name for name in names if name not in always and self.is_stale(name)]


def _environment(cores: int) -> dict[str, str]:
    """Put this Python first on PATH, so that a stage's `python` is this one also where no environment is activated.

    The stages start no process that records results: there is one for all of them. A stage uses its part of the cores.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    tracking = "off" if notify.tracking() == "off" else "shared"
    return {"PATH": path, "BANCADA_TRACKING": tracking, "BANCADA_CORES": str(cores)}


def _say_that_another_runs() -> None:
    print("waiting for another bancada repro, or for the stages of one that was killed, to end", file=sys.stderr)
