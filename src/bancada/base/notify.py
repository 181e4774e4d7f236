"""Results on their way to MLflow, through a process of its own: no stage waits for mlflow to load.

The stages import this module, so it stays small and knows nothing of mlflow. The process (tracking/listener.py) shows
a training while it runs, and reads the files of a stage that has ended well.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SILENCE_S = 8.0  # so long whoever has nothing else to do waits for a recorder that shows no sign of life
PATIENCE_S = 60.0  # and so long for one that does, to a store that is slow
LATER = "`bancada track` does it later"
RECORDED = "recorded"  # a line on the recorder's standard output: recorded train@moons_tanh


def tracking() -> str:
    """`on`; `off`; or `shared`: the `bancada repro` that started this stage has a recorder for all of them."""
    return os.environ.get("BANCADA_TRACKING", "").lower() or "on"


@contextmanager
def recorded(stage: str, folder: Path) -> Iterator[None]:
    """Record in MLflow what the block leaves in `folder`, if it ends well. `stage`: train@VARIANT or evaluate@STUDY."""
    notifier = Notifier()
    if notifier.off or tracking() == "shared":
        yield
        return
    notifier.began(stage)
    try:
        yield
        notifier.ended(stage, folder)
    except Exception:  # whatever it is, it goes on to who called
        notifier.failed(stage)
        raise
    finally:
        notifier.close()


class Notifier:
    """The process beside a stage, or beside all of a `bancada repro`; it starts with the first stage.

    Never a reason for a stage to fail: what is not recorded is told in one line on stderr. BANCADA_TRACKING=off
    switches it off.
    """

    def __init__(self) -> None:
        self.off = tracking() == "off"
        self.process: subprocess.Popen[str] | None = None
        self.ended_well: list[str] = []
        self.reason = ""

    def began(self, stage: str) -> None:
        self._start_once()
        self._say("began", stage, str(time.time_ns() // 1_000_000))

    def found(self, stage: str, folder: Path) -> None:
        """The stage's files are there without its having run: from DVC's cache, or as they were before."""
        self._start_once()
        self.ended_well.append(stage)
        self._say("found", stage, str(folder))

    def ended(self, stage: str, folder: Path) -> None:
        """The stage has left its files, which are to be recorded."""
        self.ended_well.append(stage)
        self._say("ended", stage, str(folder))

    def failed(self, stage: str) -> None:
        self._say("failed", stage)

    def close(self) -> None:
        """Wait until everything is recorded; one line on stderr says what is not."""
        missed = [] if self.off else self.ended_well
        if self.process:
            with self.answers, self.errors:
                self._wait(self.process)
                self.answers.seek(0)
                answers = self.answers.read().splitlines()
                missed = [stage for stage in self.ended_well if f"{RECORDED} {stage}" not in answers]
                self.errors.seek(0)
                lines = [line for line in self.errors.read().splitlines() if line.strip()]
                ended = f"the recorder ended with status {self.process.returncode}"
                self.reason = self.reason or (lines[-1] if lines else ended)
        if missed:
            why = f"{', '.join(missed)}: {without_credentials(self.reason)[:300]}"
            print(f"bancada: not recorded in MLflow: {why}; {LATER}", file=sys.stderr)

    def _start_once(self) -> None:
        if not self.off and not self.process and not self.reason:
            try:
                self._start()
            except OSError as error:
                self.reason = str(error)

    def _start(self) -> None:
        """A recorder on this folder's code. In a session of its own, because Ctrl-C is for the stage to answer."""
        source = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        # No pipes: nobody would read them while stages work, and a full pipe would stop the recorder. SIM115: `close`
        # closes these.
        self.answers, self.errors = (tempfile.TemporaryFile("w+", errors="replace") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bancada.tracking.listener"],
            stdin=subprocess.PIPE,
            stdout=self.answers,
            stderr=self.errors,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            start_new_session=True,
        )

    def _say(self, *words: str) -> None:
        if self.process and self.process.stdin:
            with suppress(OSError):  # it has gone: its status and last line tell why
                print(*words, file=self.process.stdin, flush=True)

    def _wait(self, process: subprocess.Popen[str]) -> None:
        """Until it has ended, or shows no sign of life: every result, and each step to it, is a line of its answers."""
        assert process.stdin
        with suppress(OSError):
            process.stdin.close()
        if not self.ended_well:  # it leaves at once where it has not begun a run either
            process.terminate()
        seen, since, began = -1, 0.0, time.monotonic()
        while process.poll() is None:
            size, now = os.fstat(self.answers.fileno()).st_size, time.monotonic()
            if size > seen:
                seen, since = size, now
            if now - since > SILENCE_S or now - began > PATIENCE_S:
                process.kill()
                self.reason = "the store did not answer in time"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


def first_line(error: BaseException) -> str:
    return without_credentials(next(iter(str(error).splitlines()), ""))[:300]


def without_credentials(text: str) -> str:
    """`text` with user and password taken out of every URI in it, also where the query holds them, and without those
    that this environment names."""
    for name, value in os.environ.items():
        user = value.partition("://")[2].rpartition("@")[0]  # a password may hold a slash
        if user and name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"):
            text = text.replace(f"{user}@", "")
        if value and name.endswith(("_PASSWORD", "_TOKEN", "_SECRET_ACCESS_KEY")):
            text = text.replace(value, "***")
    return re.sub(r"(?<=://)[^/\s'\"]*@|(?<=[?&])(user|password|sslpassword|token)=[^&\s'\"]*", "", text)
