"""How far a run of the pipeline is, and about how long the rest takes: `12 of 43, about 2 minutes left`."""

import json
from collections.abc import Iterable
from contextlib import suppress
from statistics import mean

from bancada.base import files
from bancada.base.stage import FOLDER

SECONDS = FOLDER / "seconds.json"  # how long each stage took when it last ran


class Progress:
    """Counts the stages that may have to run, and estimates how long those that are left take."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.left = list(stages)
        self.count = len(self.left)
        self.took: dict[str, float] = {}
        self.before: dict[str, float] = {}
        with suppress(OSError, ValueError):  # no run before, or a file that is damaged: then nothing is known
            self.before = json.loads(SECONDS.read_text("utf-8"))

    def settle(self, stage: str, seconds: float | None = None) -> str:
        """Note that a stage is done or failed, and `seconds` if it ran. Return how far the run is, in words."""
        if stage not in self.left:  # such as `code`, which decides what else has to run
            return ""
        self.left.remove(stage)
        if seconds is not None:
            self.took[stage] = seconds
            with suppress(OSError), files.whole(SECONDS) as new:  # a full disk is for the stages to tell
                new.write_text(json.dumps(self.before | self.took), "utf-8")
        return f"; {self.count - len(self.left)} of {self.count}{self.rest()}"

    def rest(self) -> str:
        """Return how long the stages take that are left, in words; nothing where that is not known."""
        seconds = self._seconds_left()
        if not self.left or seconds is None:
            return ""
        about = f"{max(10, round(seconds, -1)):.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
        return f", about {about} left"

    def _seconds_left(self) -> float | None:
        """Return the time that the stages left took last, or else the mean of their kind in this run; None: unknown."""
        total = 0.0
        for stage in self.left:
            kind = stage.partition("@")[0]
            alike = [seconds for name, seconds in self.took.items() if name.partition("@")[0] == kind]
            if stage not in self.before and not alike:
                return None
            total += self.before[stage] if stage in self.before else mean(alike)
        return total
