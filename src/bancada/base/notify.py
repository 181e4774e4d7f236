"""Tell the process that records results in MLflow which stage began, ended or failed, so that no stage loads mlflow.

The stages import this module, so it is small and does not import mlflow. The process (tracking/listener.py) shows a
training while it runs, and reads the files of a stage that has ended well.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

SILENCE_S = 8.0  # how long a stage that has ended waits for a process that makes no progress
WORK_S = 0.25  # of CPU time: progress, as on a busy machine, where mlflow alone may take longer than that to load
LATER = "`bancada track` does it later"
# The first words of lines that the process writes: `recorded train@moons_tanh`, `missed train@moons_tanh WHY`, and
# `note TEXT` for the user. Any line is progress.
RECORDED, MISSED, NOTE = "recorded", "missed", "note"


def tracking() -> str:
    """Return `on`, `off`, or `shared`: then the `bancada repro` that started this stage has one process for all."""
    from bancada.base.variables import variables  # it loads pydantic

    return variables().tracking


@contextmanager
def recorded(stage: str, folder: Path) -> Iterator[None]:
    """Record what the block leaves in `folder`, if it ends well. `stage`: train@VARIANT, evaluate@STUDY or report."""
    notifier = Notifier()
    if notifier.off or tracking() == "shared":
        yield
        return
    notifier.tell("began", stage)
    try:
        yield
        notifier.tell("ended", stage, folder)
    except Exception:  # whatever it is, it is raised again
        notifier.tell("failed", stage)
        raise
    finally:
        notifier.close()


class Notifier:
    """Starts the process with the first stage, and sends it a line for each event.

    It is never a reason for a stage to fail: one line on stderr says what is not recorded. BANCADA_TRACKING=off
    switches it off.
    """

    def __init__(self) -> None:
        self.off = tracking() == "off"
        self.process: subprocess.Popen[str] | None = None
        self.ended_well: list[str] = []
        self.reason = ""  # why something is not recorded

    def tell(self, event: Literal["began", "ended", "failed"], stage: str, folder: Path = Path()) -> None:
        """Send an event: the stage began, its files are in `folder`, or it left no result."""
        if self.off:
            return
        if event == "ended":
            self.ended_well.append(stage)
        if not (self.process or self.reason):
            try:
                self._start()
            except OSError as error:
                self.reason = str(error)
        if self.process and self.process.stdin:
            with suppress(OSError):  # the process has ended: `close` finds out why
                more = time.time_ns() // 1_000_000 if event == "began" else folder
                print(event, stage, more, file=self.process.stdin, flush=True)

    def close(self) -> None:
        """Wait until everything is recorded. Print a line on stderr for each reason why something is not."""
        missed = dict.fromkeys(self.ended_well, self.reason)
        if self.process:
            with self.output, self.errors:
                self._wait(self.process)
                for stream in (self.output, self.errors):
                    stream.seek(0)
                written = [line.partition(" ")[::2] for line in self.output.read().splitlines()]
                lines = [line for line in self.errors.read().splitlines() if line.strip()]
            lines = lines or [f"the process that records ended with status {self.process.returncode}"]
            missed = dict.fromkeys(self.ended_well, self.reason or lines[-1])
            missed |= dict(text.partition(" ")[::2] for word, text in written if word == MISSED)
            recorded = {text for word, text in written if word == RECORDED}
            missed = {stage: why for stage, why in missed.items() if stage not in recorded}
            for note in dict.fromkeys(text for word, text in written if word == NOTE):
                print(f"bancada: {note}", flush=True)
        for why, stages in grouped(missed).items():
            why = f"{', '.join(stages)}: {without_credentials(why)[:300]}"
            print(f"bancada: not recorded in MLflow: {why}; {LATER}", file=sys.stderr)

    def _start(self) -> None:
        """Start the process in a session of its own, because Ctrl-C is for the stage to answer."""
        # Files, because nobody would read from pipes while stages work, and a full pipe would stop the process. `close`
        # closes them.
        self.output, self.errors = (tempfile.TemporaryFile("w+", errors="replace") for _ in range(2))  # noqa: SIM115  (see above)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bancada.tracking.listener"],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[str]) -> None:
        """Wait until the process has ended, or stop it when it makes no progress: no line of output, and no work."""
        assert process.stdin
        with suppress(OSError):  # it has ended, and its status says why
            process.stdin.close()
        if not self.ended_well:
            process.terminate()  # it ignores that if it has to set the status of a run
        seen, since = (-1, -1), 0.0
        while process.poll() is None:
            progress = os.fstat(self.output.fileno()).st_size, int(_cpu_s(process.pid) / WORK_S)
            if progress != seen:
                seen, since = progress, time.monotonic()
            if time.monotonic() - since > SILENCE_S:
                process.kill()
                self.reason = "the store did not answer in time"
            with suppress(subprocess.TimeoutExpired):  # the loop looks at it again
                process.wait(0.1)


def _cpu_s(pid: int) -> float:
    """Return the CPU time that a child process, which may have ended, has used."""
    import psutil  # 15 ms, which only stages with tracking pay

    with suppress(psutil.Error):  # it has ended
        used = psutil.Process(pid).cpu_times()
        return float(used.user + used.system)
    return 0.0


def grouped(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what failed by the reason why."""
    reasons: dict[str, list[str]] = {}
    for what, why in failed.items():
        reasons.setdefault(why, []).append(what)
    return reasons


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without credentials."""
    return without_credentials(next(iter(str(error).splitlines()), ""))[:300]


SECRET = ("_PASSWORD", "_TOKEN", "_SECRET_ACCESS_KEY")  # the ends of names in the environment
STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI")
# In a URI, a password, or a token in place of a user's name; `git@example.org` is neither.
CREDENTIALS = re.compile(
    r"(?<=://)([^/\s:@'\"]*:[^/\s@'\"]+|[^/\s:@'\"]{20,})@|(?<=[?&])(password|sslpassword|token)=[^&\s'\"]+"
)


def without_credentials(text: str) -> str:
    """Return the text without the credentials in it: those of every URI, and those that the environment holds."""
    for name, value in os.environ.items():
        secret = value if name.endswith(SECRET) else ""
        if name in STORES:
            user = value.partition("://")[2].rpartition("@")[0]  # a password may hold a slash
            text, secret = text.replace(f"{user}@", "") if user else text, user.partition(":")[2]
        text = text.replace(secret, "***") if secret else text
    return CREDENTIALS.sub("", text)
