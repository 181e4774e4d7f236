"""What `bancada repro` shows: a line for each running stage on a terminal, plain lines elsewhere."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

TAIL_BYTES = 4096


class Board:
    """Print what happens; on a terminal, the running stages stand below with what each printed last."""

    def __init__(self) -> None:
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", style="dim", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.since: dict[str, float] = {}

    def __enter__(self) -> "Board":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(text))

    def started(self, name: str) -> None:
        """Show that a stage runs."""
        self.since[name] = time.monotonic()
        self.tasks[name] = self.progress.add_task(name, total=None, said="")
        if not self.console.is_terminal:
            self.say(f"{name}: started")

    def seen(self, name: str, log: Path) -> None:
        """Show what a stage that runs printed last."""
        if self.console.is_terminal:
            self.progress.update(self.tasks[name], said=(tail(log, 1) or [""])[0][:100])

    def ended(self, name: str, how: str) -> None:
        """Print how a stage ended, and how long it took."""
        if name in self.tasks:
            self.progress.remove_task(self.tasks.pop(name))
        self.say(f"{name}: {how} {time.monotonic() - self.since.pop(name):.1f} s")


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a stage's output; of a progress bar, what it showed last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]
