"""One recorder for a whole `bancada repro`: mlflow loads once, while stages work, and no stage waits for it.

Stages that plain `dvc repro` or an experiment runs have one each (recording.py).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bancada.recording import without_credentials

PATIENCE_S = 60.0  # how long a run that is over waits for its last results to be recorded


class Recorder:
    """Starts with the first stage; BANCADA_TRACKING=off switches it off. Never a reason for a run to fail."""

    def __init__(self) -> None:
        self.off = os.environ.get("BANCADA_TRACKING", "").lower() == "off"
        self.process: subprocess.Popen[str] | None = None
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (no pipe: nobody would read it meanwhile)

    def start(self) -> None:
        if self.off or self.process:
            return
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
        if self.process and self.process.stdin and self.process.poll() is None:
            print(stage, began_ms, file=self.process.stdin, flush=True)

    def close(self) -> None:
        """Wait until everything is recorded; one line on stderr says what is not."""
        if not self.process:
            return
        try:
            self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            print(f"bancada: not all is recorded in MLflow: it took longer than {PATIENCE_S:g} s", file=sys.stderr)
            return
        if self.process.returncode:
            print(f"bancada: not recorded in MLflow: {_last_line(self._lines())}", file=sys.stderr)

    def _lines(self) -> Sequence[str]:
        self.said.seek(0)
        return [line for line in self.said.read().splitlines() if line.strip()]


def _last_line(lines: Sequence[str]) -> str:
    return without_credentials(lines[-1] if lines else "the recorder ended without a word")[:500]
