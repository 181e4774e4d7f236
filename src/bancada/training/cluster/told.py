"""The epochs of a task's replicas, gathered for a second before they are sent."""

import time
from queue import SimpleQueue
from typing import Any

import numpy as np

from bancada.networks.saved import HISTORY_COLUMNS, History
from bancada.training.cluster.worker import Epochs
from bancada.training.replica import Report

SEND_S = 1.0  # between two messages of a task about epochs


class Told(Report):
    """Puts what it is told among the messages, once in a while."""

    def __init__(self, messages: SimpleQueue[Any]) -> None:
        self.messages, self.last_s = messages, time.monotonic()
        self.kept: dict[int, list[tuple[int, History]]] = {}  # by place: first epochs, and histories

    def epochs(self, place: int, first: int, history: History) -> None:
        """Take the next epochs of a replica."""
        self.kept.setdefault(place, []).append((first, history))
        if time.monotonic() - self.last_s > SEND_S:
            self.messages.put([Epochs(place, parts[0][0], _joined(parts)) for place, parts in self.kept.items()])
            self.kept, self.last_s = {}, time.monotonic()

    def forget(self, place: int) -> None:
        """Leave out the epochs of a replica that has ended: its result holds them all."""
        self.kept.pop(place, None)


def _joined(parts: list[tuple[int, History]]) -> History:
    return {name: np.concatenate([history[name] for _, history in parts]) for name in HISTORY_COLUMNS}
