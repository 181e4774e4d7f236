"""A stage's results on their way to MLflow, through a process of its own: the stage does not wait for mlflow to load.

The stages import this module, so it stays small and knows nothing of mlflow. The process beside the stage (tracking.py)
imports mlflow while the stage works; told that the work ended well, it reads the files that the stage wrote.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

PATIENCE_S = 60.0  # how long a stage that ended well waits for its results to be recorded
LATER = "`bancada track` does it later"
GRACE_S = 10.0  # how long a recorder that is no longer wanted may take to leave
DONE = b"done\n"  # said on the recorder's standard input; an end of input without it means that the work failed


@contextmanager
def recorded(kind: Literal["train", "evaluate"], name: str) -> Iterator[None]:
    """Record in MLflow what the block leaves in the pipeline's files, if it ends well. `name`: the variant or study.

    Never a reason for the stage to fail: what is not recorded is told in one line on stderr. BANCADA_TRACKING=off
    switches it off.
    """
    if os.environ.get("BANCADA_TRACKING", "").lower() == "off":
        yield
        return
    recorder, reason = None, None
    try:
        # no pipe: nobody would read it while the stage works, and a full pipe would stop the recorder
        said = tempfile.TemporaryFile()  # noqa: SIM115
        recorder = start_process(said, kind, name)
    except OSError as error:
        reason = str(error)
    try:
        yield
        if recorder:
            reason = _finish(recorder, said)
    finally:
        if recorder:
            _dismiss(recorder)
            said.close()
    if reason:
        why = without_credentials(reason)[:300]
        print(f"bancada: {kind}@{name} is not recorded in MLflow: {why}; {LATER}", file=sys.stderr)


def start_process(said: IO[bytes], *asked: str) -> subprocess.Popen[bytes]:
    """A recorder, on this folder's code. In a session of its own, because Ctrl-C is for the stage to answer."""
    source = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return subprocess.Popen(
        [sys.executable, "-m", "bancada.tracking", *asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, inherited] if inherited else [source])},
        start_new_session=True,
    )


def _finish(recorder: subprocess.Popen[bytes], said: IO[bytes]) -> str | None:
    """Say that the work is done and wait for the recorder. The reason why nothing is recorded, or None."""
    assert recorder.stdin
    with suppress(BrokenPipeError):  # it gave up earlier: its status and last line tell why
        recorder.stdin.write(DONE)
        recorder.stdin.close()
    try:
        status = recorder.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"it took longer than {PATIENCE_S:g} s"
    if status == 0:
        return None
    if status == -signal.SIGALRM:
        return "the store did not answer in time"
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"the recorder ended with status {status}"


def _dismiss(recorder: subprocess.Popen[bytes]) -> None:
    """No recorder outlives its stage; one that has ended is only reaped."""
    assert recorder.stdin
    with suppress(BrokenPipeError):
        recorder.stdin.close()
    if recorder.poll() is not None:
        return
    recorder.terminate()
    try:
        recorder.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        recorder.kill()
        recorder.wait()


def without_credentials(text: str) -> str:
    """`text` with user and password taken out of every URI in it, also where the query holds them."""
    return re.sub(r"(?<=://)[^/\s'\"]*@|(?<=[?&])(user|password|sslpassword|token)=[^&\s'\"]*", "", text)
