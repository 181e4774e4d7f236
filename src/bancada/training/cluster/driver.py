"""Replicas as tasks of a Ray cluster. This process hands them out, takes what comes back and mends what breaks.

A task is a function call of Ray: one replica, or several small ones. It answers little by little, with epochs and with
the end of each replica. Ray's own retries are off, because nobody is told of them.
"""

import errno
import math
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from bancada.training.cluster import machines, worker
from bancada.training.cluster.connection import join, nodes
from bancada.training.cluster.recheck import Rechecks
from bancada.training.cluster.worker import Ended, Epochs, Machine
from bancada.training.replica import Draws, Lost, Outcomes, Replica, Report

POLL_S = 0.2  # in which answers gather: Ray looks at every task each time
TASK_S = 10.0  # of work in a task of small replicas, of which some milliseconds are Ray's share
TRIES = 5  # of a replica whose machine breaks
TINY_S = 1e-4
AHEAD = 2  # tasks for each slot of the cluster, so that none waits for this process


@dataclass
class Task:
    """A call of Ray: the places of its replicas that have not ended, and where it runs, once that is known."""

    left: set[int]
    again: bool = False  # a replica that has ended elsewhere is trained a second time
    machine: Machine | None = None


def train(replicas: Mapping[int, Replica], data: Draws, report: Report, work: Any = worker.work) -> Outcomes:
    """Train the replicas on the cluster's nodes. Yield each outcome with its place.

    Raise BadInput for a machine that cannot give this one's bytes, Disagreement where two machines gave different
    ones, ConnectionError where the cluster's head is gone. `work`: what nodes call.
    """
    first = next(iter(replicas.values()))
    cluster = join(first.src)
    try:
        job = Job(replicas, data, report, work)
        try:
            yield from job.outcomes()
        finally:
            if not cluster.gone:
                job.cancel()
    except KeyboardInterrupt:
        if cluster.gone:
            raise cluster.lost() from None
        raise


class Job:
    """All tasks of one call of `train`."""

    def __init__(self, replicas: Mapping[int, Replica], data: Draws, report: Report, work: Any) -> None:
        import ray

        self.replicas, self.data, self.report = replicas, data, report
        self.recipe = next(iter(replicas.values())).recipe
        self.needs = "CPU" if self.recipe.device == "cpu" else "GPU"
        self.packages = machines.packages_of(self.recipe)
        self.machines = machines.look(self.packages, self.needs)
        self.slots = sum(int(node["Resources"][self.needs]) for node in nodes(self.needs))
        self.call = ray.remote(work)
        self.rows = dict[int, Any]()  # by draw: Ray's reference
        self.todo, self.alone = deque(replicas), deque[int]()  # alone: those whose machine has broken
        self.tries, self.last = Counter[int](), dict[int, Machine]()  # by place
        self.running = dict[Any, Task]()
        self.pace_s = math.inf  # of a replica
        self.rechecks = Rechecks([*replicas], self.recipe, len(self.machines))
        count = f"{len(self.machines)} node{'s' * (len(self.machines) > 1)}, {self.slots} slot{'s' * (self.slots > 1)}"
        told = count + "".join(sorted(self._slow()))
        print(f"{self.recipe.variant}: trained on the Ray cluster: {told}", flush=True)

    def _slow(self) -> Iterator[str]:
        for one in self.machines.values():
            if one.nice > 0:
                yield f"; {one} works at nice {one.nice}: start it with RAY_worker_niceness=0"

    def outcomes(self) -> Outcomes:
        """Hand out all replicas, and yield the outcome of each."""
        import ray

        while self.todo or self.alone or self.running or self.rechecks.waiting:
            self._start()
            if not self.running:  # what is to be rechecked has no other machine
                break
            ready, _ = ray.wait([*self.running], num_returns=len(self.running), timeout=POLL_S, fetch_local=False)
            for call in ready:
                yield from self._take(call)
        for line in self.rechecks.told():
            print(f"{self.recipe.variant}: {line}", file=sys.stderr)

    def cancel(self) -> None:
        """End what runs on the nodes."""
        import ray

        for call in self.running:
            with suppress(ray.exceptions.RayError, ValueError):  # it has ended
                ray.cancel(call, force=True)

    def _start(self) -> None:
        """Hand out as much as keeps the cluster busy: rechecks and what has broken first."""
        for place, machine in self.rechecks.ready(self._alive):
            self._send([place], machine.node, strict=True, again=True)
        while self.alone:
            place = self.alone.popleft()
            others = [one for one in self._alive() if one.node != self.last[place].node] if place in self.last else []
            self._send([place], others[0].node if others else "")
        while self.todo and len(self.running) < AHEAD * self.slots:
            share = math.ceil(len(self.todo) / (AHEAD * self.slots))
            count = max(1, min(share, int(TASK_S / max(self.pace_s, TINY_S))))
            self._send([self.todo.popleft() for _ in range(count)])

    def _alive(self) -> list[Machine]:
        return [self.machines[node["NodeID"]] for node in nodes(self.needs) if node["NodeID"] in self.machines]

    def _send(self, places: list[int], node: str = "", strict: bool = False, again: bool = False) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        draws = {self.replicas[place].draw for place in places}
        for draw in draws - self.rows.keys():
            self.rows[draw] = ray.put(self.data[draw])
        asked = {place: replace(self.replicas[place], state=None) for place in places}
        call = self.call.options(
            num_cpus=1,
            num_gpus=int(self.needs == "GPU"),
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy=On(node, soft=not strict) if node else "SPREAD",
        ).remote(asked, {draw: self.rows[draw] for draw in draws}, [*self.packages])
        self.running[call] = Task({*places}, again)

    def _take(self, call: Any) -> Outcomes:
        """Take the next messages of a task."""
        import ray

        task = self.running[call]
        try:
            messages = ray.get(next(call))
        except StopIteration:
            yield from self._broken(call, "ended without a result")
            return
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise OSError(errno.EIO, _line(error), "Ray could not set up a node") from None
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, OSError | MemoryError):
                raise
            yield from self._broken(call, _line(error.cause))
            return
        except ray.exceptions.RayError as error:  # its worker or its node has died
            yield from self._broken(call, _line(error))
            return
        for message in messages:
            if isinstance(message, Machine):
                machines.refuse_others([message], self.packages)  # it may have joined later
                self.machines[message.node] = task.machine = message
            elif isinstance(message, Epochs):
                if not task.again:
                    self.report.epochs(message.place, message.first, message.history)
            else:
                yield from self._ended(call, message)
        if not task.left:
            self.running.pop(call, None)

    def _ended(self, call: Any, end: Ended) -> Outcomes:
        """Take the end of a replica."""
        from bancada.base import BadInput

        task, place = self.running[call], end.place
        machine = task.machine
        assert machine  # the first message of a task says where it runs
        if end.broken:
            yield from self._broken(call, end.broken, [place])
            return
        task.left.discard(place)
        if task.again:
            self.rechecks.compare(place, self.replicas[place].seed, end, machine)
        elif end.trained:
            self.pace_s = end.seconds if math.isinf(self.pace_s) else (self.pace_s + end.seconds) / 2
            self.rechecks.add(place, end.trained, machine)
            yield place, replace(end.trained, machine=machine.name)
        else:
            yield place, BadInput(f"{end.fault} (on {machine})")

    def _broken(self, call: Any, why: str, places: list[int] | None = None) -> Outcomes:
        """Let replicas whose machine broke be trained elsewhere, all of the task if none are named."""
        task = self.running[call]
        where = f" on {task.machine}" if task.machine else ""
        for place in sorted(places or task.left):
            task.left.discard(place)
            if task.again:
                self.rechecks.again(place)
                continue
            self.tries[place] += 1
            who = f"seed {self.replicas[place].seed}"
            if self.tries[place] >= TRIES:
                yield place, Lost(errno.ECHILD, f"{why}; that was try {TRIES}{where}", f"{self.recipe.variant}: {who}")
                continue
            if task.machine:
                self.last[place] = task.machine
            print(f"{self.recipe.variant}: {who} broke off{where}: {why}; it begins again", file=sys.stderr)
            self.alone.append(place)
        if not task.left:
            self.running.pop(call)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
