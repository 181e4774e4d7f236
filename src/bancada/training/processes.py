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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from bancada.base import BadInput, stage
from bancada.training import checkpoint
from bancada.training.replica import Data, Draws, Replica, Report, Trained

SEND_S = 0.2  # between two messages of a replica about its epochs
PRELOADED = "bancada.training.preloaded"
Where = Mapping[str, str] | None  # where the recipe's keys stand in params.yaml, if a first batch is only tried


class Lost(ChildProcessError):
    """Processes that ended without a result, such as one that was killed. `filename`: what the first one did."""


def train(replicas: Sequence[Replica], data: Draws, report: Report) -> list[Trained]:
    """Train the replicas, as many at a time as there are cores for this stage. Return results in their order.

    All replicas run, also where one fails; then raise BadInput for what is wrong in the user's file or does not fit
    it, or OSError; Lost is one.
    """
    return _run(replicas, data, report, None)


def try_first_batch(replica: Replica, data: Data, where: Mapping[str, str]) -> None:
    """Raise BadInput for what does not fit. `where`: where the recipe's keys stand in params.yaml."""
    _run([replica], {replica.draw: data}, Report(), where)


def check_gpu() -> None:
    """Raise BadInput if torch cannot use a GPU."""
    import torch  # for seconds

    if not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: torch finds no GPU that it can use; cpu works everywhere")


def _run(replicas: Sequence[Replica], data: Draws, report: Report, where: Where) -> list[Trained]:
    recipe = replicas[0].recipe
    if recipe.device == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when torch loads: sums in a fixed order
    cores = 1 if recipe.device == "cuda" else stage.cores()
    with stage.own_folder(f"{'rows' if where is None else 'first_batch'}@{recipe.variant}") as folder:
        for draw in {one.draw for one in replicas}:
            checkpoint.write(folder / str(draw), data[draw])
        ended = _ended(replicas, folder, report, where, cores)
    failed = [one for _, one in sorted(ended.items()) if isinstance(one, Exception)]
    if failed and isinstance(failed[0], BadInput) and len(failed) > 1:
        raise BadInput(f"{failed[0]} ({len(failed)} of {len(replicas)} seeds failed)")
    if failed:
        raise failed[0]
    return [one for _, one in sorted(ended.items()) if isinstance(one, Trained)]


def _ended(
    replicas: Sequence[Replica], folder: Path, report: Report, where: Where, cores: int
) -> dict[int, Trained | Exception | None]:
    """Run all replicas. Return what each ended with, by its position. `folder` has the rows of each draw."""
    context: Any = _context()
    waiting, running = list(range(len(replicas))), dict[connection.Connection, tuple[int, BaseProcess]]()
    ended = dict[int, Trained | Exception | None]()
    try:
        while waiting or running:
            while waiting and len(running) < cores:
                ours, theirs = context.Pipe(duplex=False)
                place = waiting.pop(0)
                asked = (replicas[place], folder / str(replicas[place].draw), where, theirs)
                process = context.Process(target=work, args=asked, daemon=True)
                process.start()
                theirs.close()
                running[ours] = place, process
            ready = connection.wait([*running])
            for messages in [one for one in running if one in ready]:
                place, process = running[messages]
                try:
                    kind, content = messages.recv()
                except (EOFError, OSError):  # OSError: it was killed while it sent a message
                    process.join()
                    del running[messages]
                    ended.setdefault(place, _lost(replicas[place], process, where))
                    continue
                if kind == "epochs":
                    (first, row), *_ = content
                    report.epochs([place], first, {name: np.array([[of[name] for _, of in content]]) for name in row})
                    continue
                ended[place] = content
                if isinstance(content, Trained):
                    report.ended(place, content)
    finally:  # where Ctrl-C ended the loop: a replica has nothing to tidy up
        for _, process in running.values():
            process.kill()
            process.join()
    return ended


def _context() -> BaseContext:
    """Return the way to start processes: from a server that has loaded torch, or, as on Windows, each anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # where there are any

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    resource_tracker.ensure_running()  # which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # else the server, which inherits that,
    forkserver.ensure_running()  # answers Ctrl-C while it starts with a traceback
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _lost(replica: Replica, process: BaseProcess, where: Where) -> Lost:
    status = process.exitcode or 0
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    who = f"variants.{replica.recipe.variant}: a first batch" if where is not None else f"seed {replica.seed}"
    return Lost(errno.ECHILD, f"its process ended with {how}", who)


# --- in a process of its own -----------------------------------------------------------------------------------------


def work(replica: Replica, rows: Path, where: Where, messages: connection.Connection) -> None:
    """Train one replica, or try its first batch, and send what it gives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the stage ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError):  # the stage has ended while this process began: nobody waits for an answer
        try:
            messages.send(("ended", _result(replica, rows, where, messages)))
        except (BadInput, OSError) as error:  # OSError: a full disk
            messages.send(("ended", error))


def _result(replica: Replica, rows: Path, where: Where, messages: connection.Connection) -> Trained | None:
    from bancada.networks import torch_network
    from bancada.training import probing, torch_engine

    torch_network.SRC = replica.src
    epochs, sent = list[tuple[int, dict[str, float]]](), time.monotonic()

    def report(epoch: int, row: dict[str, float]) -> None:
        nonlocal sent
        epochs.append((epoch, row))
        if time.monotonic() - sent > SEND_S:
            messages.send(("epochs", epochs))
            epochs.clear()
            sent = time.monotonic()

    if where is not None:
        probing.probe(replica, checkpoint.read(rows), where)
        return None
    trained = torch_engine.train(replica, checkpoint.read(rows), report)
    if epochs:
        messages.send(("epochs", epochs))
    return trained


def _end_with_parent() -> None:
    """End this process when the stage was killed, which then can end nobody."""
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
