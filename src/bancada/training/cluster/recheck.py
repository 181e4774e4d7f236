"""Trust, checked: some replicas are trained a second time on another machine, and their bytes compared."""

import errno
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bancada.base.variables import variables
from bancada.networks.saved import Trained
from bancada.training.cluster.machines import alike
from bancada.training.cluster.worker import Ended, Machine
from bancada.training.replica import Disagreement
from bancada.training.settings import Recipe

ONE_IN = 20  # with two nodes or more
TRIES = 3  # of a second training whose machine breaks


class Rechecks:
    """The replicas that are trained twice. `waiting`: those that have ended once, with their bytes and machine."""

    def __init__(self, places: Sequence[int], recipe: Recipe, machines: int) -> None:
        asked = variables().recheck
        one_in = asked if asked is not None else ONE_IN if machines > 1 else 0
        self.chosen = {*places[::one_in]} if one_in else set()
        self.recipe, self.waiting, self.under_way = recipe, dict[int, tuple[str, Machine]](), set[int]()
        self.tries, self.of_machine, self.left_out = Counter[int](), Counter[str](), 0

    def add(self, place: int, trained: Trained, machine: Machine) -> None:
        """Take a replica that has ended."""
        if place in self.chosen:
            self.waiting[place] = digest(trained), machine

    def ready(self, alive: Callable[[], Sequence[Machine]]) -> Iterator[tuple[int, Machine]]:
        """Yield what is to be trained a second time now, and where: on the other machine that was asked least."""
        for place in [place for place in self.waiting if place not in self.under_way]:
            _, first = self.waiting[place]
            others = [one for one in alive() if one.node != first.node and alike(one, first, self.recipe)]
            if not others or self.tries[place] >= TRIES:
                del self.waiting[place]
                self.left_out += 1
                continue
            machine = min(others, key=lambda one: (self.of_machine[one.node], one.node))
            self.of_machine[machine.node] += 1
            self.under_way.add(place)
            yield place, machine

    def again(self, place: int) -> None:
        """Let a second training be done elsewhere, because its machine broke."""
        self.tries[place] += 1
        self.under_way.discard(place)

    def compare(self, place: int, seed: int, end: Ended, machine: Machine) -> None:
        """Raise Disagreement where a second training gave other bytes than the first."""
        before, first = self.waiting.pop(place)
        self.under_way.discard(place)
        if end.trained is None or digest(end.trained) != before:
            both = " and ".join(f"{one} ({one.cpu}, {_versions(one)})" for one in (first, machine))
            what = f"{both} gave different bytes; nothing is written, and what both trained has left the store"
            who = f"{self.recipe.variant}: seed {seed}"
            error = Disagreement(errno.EIO, what, who)
            error.machines = (first.name, machine.name)
            raise error

    def told(self) -> Iterator[str]:
        """Yield a line where some were not trained a second time."""
        if self.left_out:
            yield f"{self.left_out} of {len(self.chosen)} replicas were not rechecked: there was no other node for them"


def digest(trained: Trained) -> str:
    """Return a hash of all that a replica gave."""
    found = hashlib.sha256()
    for name, array in sorted([*trained.weights.items(), *trained.history.items()]):
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    others: list[Any] = [trained.parameters, trained.outputs, trained.diverged, trained.kept, trained.note]
    return hashlib.sha256(found.digest() + repr(others).encode()).hexdigest()


def _versions(machine: Machine) -> str:
    return ", ".join([f"Python {machine.python}", *(f"{name} {one}" for name, one in sorted(machine.packages.items()))])
