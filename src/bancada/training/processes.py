"""The torch engine's replicas on all cores: each in a process of its own with one thread.

The processes are forked from a server that has loaded torch, so that one begins in milliseconds. What a replica gives
does not depend on the others: threads of one process would share torch's generator.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from bancada.base import BadInput, files, stage
from bancada.training import checkpoint, store
from bancada.training.replica import Data, Replica, Report, Rows, Silent, Trained

SEND_S = 0.2  # between two messages of a replica about its epochs
ANSWERS = ("trained", "tried", "refused", "broken")  # what a process sends at its end
PRELOADED = "bancada.training.preloaded"


class Lost(ChildProcessError):
    """Processes that ended without a result, such as one that was killed. `filename`: what the first one did."""


def train(replicas: Sequence[Replica], data: Data, report: Report) -> list[Trained]:
    """Train the replicas, as many at a time as there are cores for this stage. Return results in their order.

    All replicas run, also where one fails; then raise BadInput for what is wrong in the user's file or does not fit
    it, or Lost.
    """
    cores = 1 if replicas[0].recipe.device == "cuda" else stage.cores()
    return _run(replicas, data, report, cores)


def try_first_batch(replica: Replica, data: Data, where: Mapping[str, str]) -> None:
    """Raise BadInput for what does not fit. `where`: where the recipe's keys stand in params.yaml."""
    _run([replica], data, Silent(), 1, where)


def check_gpu() -> None:
    """Raise BadInput if torch cannot use a GPU."""
    import torch  # for seconds

    if not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: torch finds no GPU that it can use; cpu works everywhere")


def _run(
    replicas: Sequence[Replica], data: Data, report: Report, cores: int, where: Mapping[str, str] | None = None
) -> list[Trained]:
    name = "rows" if where is None else "first_batch"
    with stage.own_folder(f"{name}@{replicas[0].recipe.variant}") as folder:
        rows = folder / "rows.safetensors"
        with files.whole(rows) as unfinished:  # which names the file if the disk is full
            unfinished.write_bytes(packed(data))
        return Workers(replicas, rows, report, where).run(cores)


@dataclass
class Worker:
    """A process that trains one replica."""

    place: int
    process: ForkServerProcess
    messages: connection.Connection


class Workers:
    """The processes that run, and what they gave. With `where`, a first batch is tried instead of a training."""

    def __init__(
        self, replicas: Sequence[Replica], rows: Path, report: Report, where: Mapping[str, str] | None
    ) -> None:
        self.replicas, self.rows, self.report, self.where = replicas, rows, report, where
        self.keep_s = checkpoint.every_s()  # the server's environment may be older
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([PRELOADED])
        if replicas[0].recipe.device == "cuda":
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when torch loads: sums in a fixed order
        resource_tracker.ensure_running()  # which unblocks signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # else the server, which inherits that,
        forkserver.ensure_running()  # answers Ctrl-C while it starts with a traceback
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.running: list[Worker] = []
        self.done: set[int] = set()  # places of those that sent how they ended
        self.trained: dict[int, Trained] = {}
        self.refused: dict[int, str] = {}
        self.lost: dict[int, str] = {}
        self.broken: OSError | None = None

    def run(self, cores: int) -> list[Trained]:
        """Run all replicas. Raise BadInput or Lost, after the last one, where one has no result."""
        waiting = list(range(len(self.replicas)))
        try:
            while waiting or self.running:
                while waiting and len(self.running) < cores:
                    self._start(waiting.pop(0))
                ready = connection.wait([worker.messages for worker in self.running])
                for worker in [worker for worker in self.running if worker.messages in ready]:
                    self._receive(worker)
        finally:  # where Ctrl-C ended the loop: a replica has nothing to tidy up
            for worker in self.running:
                worker.process.kill()
                worker.process.join()
        if self.broken:
            raise self.broken
        if self.refused:
            others = f" ({len(self.refused)} of {len(self.replicas)} seeds failed)" if len(self.refused) > 1 else ""
            raise BadInput(self.refused[min(self.refused)] + others)
        if self.lost:
            seeds = [f"seed {self.replicas[place].seed}" for place in sorted(self.lost)]
            ended = [self.lost[place] for place in sorted(self.lost)]
            more = [f"{seed}: {how}" for seed, how in zip(seeds[1:], ended[1:], strict=True)]
            first = f"variants.{self.replicas[0].recipe.variant}: a first batch" if self.where else seeds[0]
            raise Lost(errno.ECHILD, "; ".join([ended[0], *more]), first)
        return [self.trained[place] for place in sorted(self.trained)]

    def _start(self, place: int) -> None:
        ours, theirs = self.context.Pipe(duplex=False)
        asked = (self.where, self.replicas[place], self.rows, self.keep_s, theirs)
        process = self.context.Process(target=work, args=asked, daemon=True)
        process.start()
        theirs.close()
        self.running.append(Worker(place, process, ours))

    def _receive(self, worker: Worker) -> None:
        place = worker.place
        try:
            kind, content = worker.messages.recv()
        except (EOFError, OSError):  # OSError: it was killed while it sent a message
            worker.process.join()
            self.running.remove(worker)
            if place not in self.done:
                status = worker.process.exitcode or 0
                ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
                self.lost[place] = f"its process ended with {ended}"
            return
        if kind in ANSWERS:
            self.done.add(place)
        if kind == "epochs" and content:
            (first, row), *_ = content
            self.report.epochs([place], first, {name: np.array([[of[name] for _, of in content]]) for name in row})
        elif kind == "trained":
            self.trained[place] = content
            self.report.ended(place, content)
        elif kind == "resumed":
            print(f"seed {self.replicas[place].seed} goes on after epoch {content}", flush=True)
        elif kind == "kept":
            store.prune(content, {one.state.stem for one in self.replicas if one.state})
        elif kind == "broken":
            self.broken = content
        elif kind == "refused":
            self.refused[place] = content


# --- in a process of its own -----------------------------------------------------------------------------------------


def work(
    where: Mapping[str, str] | None, replica: Replica, rows: Path, keep_s: float, messages: connection.Connection
) -> None:
    """Train one replica, or try its first batch, and send what it gives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the stage ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError):  # the stage has ended while this process began: nobody waits for an answer
        _answer(where, replica, rows, keep_s, messages)


def _answer(
    where: Mapping[str, str] | None, replica: Replica, rows: Path, keep_s: float, messages: connection.Connection
) -> None:
    from bancada.networks import torch_network
    from bancada.training import torch_engine

    torch_network.SRC = replica.src
    epochs, sent = list[tuple[int, dict[str, float]]](), time.monotonic()

    def report(epoch: int, row: dict[str, float]) -> None:
        nonlocal sent
        epochs.append((epoch, row))
        if time.monotonic() - sent > SEND_S:
            messages.send(("epochs", epochs))
            epochs.clear()
            sent = time.monotonic()

    try:
        data = unpacked(rows)
        if where is not None:
            torch_engine.probe(replica, data, where)
            messages.send(("tried", None))
            return
        keeper = Keeper(replica.state, keep_s, messages.send) if replica.state else None
        trained = torch_engine.train(replica, data, report, keeper)
    except BadInput as error:
        messages.send(("refused", str(error)))
        return
    except OSError as error:  # a full disk
        messages.send(("broken", error))
        return
    messages.send(("epochs", epochs))
    messages.send(("trained", trained))


class Keeper:
    """Keeps the state of a replica under way, in its file."""

    def __init__(self, path: Path, every_s: float, send: Callable[[Any], None]) -> None:
        self.path, self.every_s, self.send, self.last = path, every_s, send, time.monotonic()

    def read(self, as_tensor: Callable[[np.ndarray], Any]) -> dict[str, Any] | None:
        """Return the last state, if there is one."""
        state: dict[str, Any] | None = checkpoint.read(self.path, as_tensor)
        if state:
            self.send(("resumed", state["at"]["epoch"]))
        return state

    def write(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state, if the last one was kept long enough ago."""
        if time.monotonic() - self.last >= self.every_s:
            checkpoint.write(self.path, state())
            self.send(("kept", self.path.parent))
            self.last = time.monotonic()


def _end_with_parent() -> None:
    """End this process when the stage was killed, which then can end nobody."""
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)


def packed(data: Data) -> bytes:
    """Return the rows as one safetensors file."""
    arrays = {
        f"{part}.{kind}": np.ascontiguousarray(getattr(getattr(data, part), kind))
        for part in ("train", "validation")
        for kind in ("inputs", "targets")
    }
    stored: bytes = safetensors.save(arrays | {"classes": np.array(data.classes)})
    return stored


def unpacked(rows: Path) -> Data:
    """Return the rows of such a file."""
    stored = safetensors.load_file(rows)
    train, validation = (Rows(stored[f"{part}.inputs"], stored[f"{part}.targets"]) for part in ("train", "validation"))
    return Data(train, validation, int(stored["classes"]))
