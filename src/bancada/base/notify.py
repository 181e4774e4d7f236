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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

SILENCE_S = 8.0  # how long a stage that has ended waits for a process that shows no sign of life
PATIENCE_S = 60.0  # how long it waits for one that does, because its store is slow
LATER = "`bancada track` does it later"
NOTE = "note: "  # begins a line that the process writes for the user
RECORDED = "recorded"  # as in the line `recorded train@moons_tanh`, which the process writes


def tracking() -> str:
    """Return `on`, `off`, or `shared`: then the `bancada repro` that started this stage has one process for all."""
    return os.environ.get("BANCADA_TRACKING", "").lower() or "on"


@contextmanager
def recorded(stage: str, folder: Path) -> Iterator[None]:
    """Record what the block leaves in `folder`, if it ends well. `stage` is train@VARIANT or evaluate@STUDY."""
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

    def tell(self, event: Literal["began", "ended", "found", "failed"], stage: str, folder: Path = Path()) -> None:
        """Send an event: the stage began, left its files in `folder`, has them from before, or left no result."""
        if event in ("ended", "found"):
            self.ended_well.append(stage)
        self._send(event, stage, str(time.time_ns() // 1_000_000) if event == "began" else str(folder))

    def close(self) -> None:
        """Wait until everything is recorded. Print one line on stderr if something is not."""
        missed = [] if self.off else self.ended_well
        if self.process:
            with self.output, self.errors:
                self._wait(self.process)
                self.output.seek(0)
                recorded = self.output.read().splitlines()
                for line in recorded:
                    if line.startswith(NOTE):
                        print(f"bancada: {line.removeprefix(NOTE)}", file=sys.stderr)
                missed = [stage for stage in self.ended_well if f"{RECORDED} {stage}" not in recorded]
                self.errors.seek(0)
                lines = [line for line in self.errors.read().splitlines() if line.strip()]
                lines = lines or [f"the process that records ended with status {self.process.returncode}"]
                self.reason = self.reason or lines[-1]
        if missed:
            why = f"{', '.join(missed)}: {without_credentials(self.reason)[:300]}"
            print(f"bancada: not recorded in MLflow: {why}; {LATER}", file=sys.stderr)

    def _send(self, *words: str) -> None:
        if not (self.off or self.process or self.reason):
            try:
                self._start()
            except OSError as error:
                self.reason = str(error)
        if self.process and self.process.stdin:
            with suppress(OSError):  # the process has ended: `close` finds out why
                print(*words, file=self.process.stdin, flush=True)

    def _start(self) -> None:
        """Start the process in a session of its own, because Ctrl-C is for the stage to answer."""
        # Files, because nobody would read from pipes while stages work, and a full pipe would stop the process. `close`
        # closes them.
        self.output, self.errors = (tempfile.TemporaryFile("w+", errors="replace") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bancada.tracking.listener"],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[str]) -> None:
        """Wait until the process has ended, or stop it when it shows no sign of life, which is a line of output."""
        assert process.stdin
        with suppress(OSError):
            process.stdin.close()
        if not self.ended_well:
            process.terminate()  # it ignores that if it has to set the status of a run
        size, since, began = -1, 0.0, time.monotonic()
        while process.poll() is None:
            now = time.monotonic()
            if (new_size := os.fstat(self.output.fileno()).st_size) > size:
                size, since = new_size, now
            if now - since > SILENCE_S or now - began > PATIENCE_S:
                process.kill()
                self.reason = "the store did not answer in time"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without credentials."""
    return without_credentials(next(iter(str(error).splitlines()), ""))[:300]


SECRET = ("_PASSWORD", "_TOKEN", "_SECRET_ACCESS_KEY")  # the ends of names in the environment
STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI")
# A URI with a password, or with a token in place of a user's name; `git@example.org` is neither.
WITH_PASSWORD = re.compile(
    r"://[^/\s:@'\"]*:[^/\s@'\"]+@|://[^/\s:@'\"]{20,}@|[?&](password|sslpassword|token)=[^&\s'\"]"
)


def credential_in(text: str) -> str:
    """Return in words which credential stands in a text that is to be stored; nothing where none does."""
    for name, value in os.environ.items():
        secret = value.partition("://")[2].rpartition("@")[0].partition(":")[2] if name in STORES else value
        if secret and name.endswith((*SECRET, *STORES)) and secret in text:
            return f"the password in {name}" if name in STORES else f"the value of {name}"
    return "a URI with a password" if WITH_PASSWORD.search(text) else ""


def without_credentials(text: str) -> str:
    """Return the text without the credentials in it.

    They are the user and the password of every URI, also in its query, and those that the environment holds.
    """
    for name, value in os.environ.items():
        user = value.partition("://")[2].rpartition("@")[0]  # a password may hold a slash
        if user and name in STORES:
            text = text.replace(f"{user}@", "")
        if value and name.endswith(SECRET):
            text = text.replace(value, "***")
    return re.sub(r"(?<=://)[^/\s'\"]*@|(?<=[?&])(user|password|sslpassword|token)=[^&\s'\"]*", "", text)
