"""One recorder for a whole `bancada repro`: mlflow loads once, while stages work, and no stage waits for it.

Stages that plain `dvc repro` or an experiment runs have one each (recording.py).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bancada.recording import LATER, without_credentials

PATIENCE_S = 60.0  # how long a run that is over waits for its last results to be recorded


class Recorder:
    """Starts with the first stage; BANCADA_TRACKING=off switches it off. Never a reason for a run to fail."""

    def __init__(self) -> None:
        self.off = os.environ.get("BANCADA_TRACKING", "").lower() == "off"
        self.process: subprocess.Popen[str] | None = None
        self.missed: list[str] = []

    def start(self) -> None:
        if self.off or self.process:
            return
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (no pipe: nobody would read it meanwhile)
        source = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bancada.tracking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            start_new_session=True,  # Ctrl-C is for the run to answer
        )

    def ended(self, stage: str, began_ms: int) -> None:
        """A stage has left its files, which are to be recorded."""
        if not self.process or not self.process.stdin:
            return
        try:
            print(stage, began_ms, file=self.process.stdin, flush=True)
        except OSError:  # it has gone; its status and last line tell why
            self.missed.append(stage)

    def close(self) -> None:
        """Wait until everything is recorded; one line on stderr says what is not."""
        if not self.process:
            return
        with self.said:
            reason = self._reason(self.process)
        if reason:
            reason = ": ".join([", ".join(self.missed), reason]) if self.missed else reason
            why = without_credentials(reason)[:500]
            print(f"bancada: not recorded in MLflow: {why}; {LATER}", file=sys.stderr)

    def _reason(self, process: subprocess.Popen[str]) -> str | None:
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"the last results, which took longer than {PATIENCE_S:g} s"
        self.said.seek(0)
        lines = [line for line in self.said.read().splitlines() if line.strip()]
        return (lines or [f"the recorder ended with status {process.returncode}"])[-1] if process.returncode else None
