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
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from bancada.base import BadInput, stage
from bancada.networks.saved import Trained
from bancada.training import checkpoint
from bancada.training.replica import Data, Draws, Lost, Outcomes, Replica, Report, history_of

SEND_S = 0.2  # between two messages of a replica about its epochs
PRELOADED = "bancada.training.preloaded"
Where = Mapping[str, str] | None  # where the recipe's keys stand in params.yaml, if a first batch is only tried
Epoch = tuple[int, dict[str, float]]  # with its losses
Message = list[Epoch] | Trained | Exception | None  # of a process: its next epochs, or its end


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Outcomes:
    """Train the replicas, as many at a time as there are cores for this stage. Yield each result with its place.

    Of one that fails, that is BadInput for what is wrong in the user's file or does not fit it, or OSError, as Lost is.
    """
    return _run(replicas, data, report, None)


def try_first_batch(replica: Replica, data: Data, where: Mapping[str, str]) -> None:
    """Raise BadInput for what does not fit. `where`: where the recipe's keys stand in params.yaml."""
    for _, problem in _run({0: replica}, {replica.draw: data}, Report(), where):
        assert isinstance(problem, Exception)  # a first batch gives no result
        raise problem


def check_gpu() -> None:
    """Raise BadInput if torch cannot use a GPU."""
    import torch  # for seconds

    if not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: torch finds no GPU that it can use; cpu works everywhere")


def _run(replicas: Mapping[int, Replica], data: Draws, report: Report, where: Where) -> Outcomes:
    recipe = next(iter(replicas.values())).recipe
    if recipe.device == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when torch loads: sums in a fixed order
    cores = 1 if recipe.device == "cuda" else stage.cores()
    waiting, running = list(replicas), dict[connection.Connection, tuple[int, BaseProcess]]()
    context = _server()
    with stage.own_folder(f"{'rows' if where is None else 'first_batch'}@{recipe.variant}") as folder:
        for draw in {one.draw for one in replicas.values()}:
            checkpoint.write(folder / str(draw), data[draw])
        try:
            while waiting or running:
                while waiting and len(running) < cores:
                    messages, process = _started(context, replicas[waiting[0]], folder, where)
                    running[messages] = waiting.pop(0), process
                for messages in cast(list[connection.Connection], connection.wait([*running])):
                    place, process = running[messages]
                    content = _received(messages, replicas[place], process, where)
                    if isinstance(content, list):
                        report.epochs(place, content[0][0], history_of([row for _, row in content]))
                        continue
                    del running[messages]
                    _end(process)
                    if content:
                        yield place, content
        finally:  # where Ctrl-C ended the loop
            for _, process in running.values():
                _end(process)


def _started(context: Any, replica: Replica, folder: Path, where: Where) -> tuple[connection.Connection, BaseProcess]:
    """Start a replica, whose rows are in the folder. Return its messages, and its process."""
    messages, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(replica, folder / str(replica.draw), where, theirs), daemon=True)
    process.start()
    theirs.close()
    return messages, process


def _server() -> Any:
    """Return what starts processes: a server that has loaded torch forks them, or, as on Windows, each is new."""
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


def _received(messages: connection.Connection, replica: Replica, process: BaseProcess, where: Where) -> Message:
    """Return the next message of a process, or that it was lost."""
    try:
        message: Message = messages.recv()
    except (EOFError, OSError):  # OSError: it was killed while it sent a message
        process.join()
        status = process.exitcode or 0
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        who = f"seed {replica.seed}" if where is None else f"variants.{replica.recipe.variant}: a first batch"
        return Lost(errno.ECHILD, f"its process ended with {how}", who)
    return message


def _end(process: BaseProcess) -> None:
    process.kill()  # it has nothing to tidy up
    process.join()


# --- in a process of its own -----------------------------------------------------------------------------------------


def work(replica: Replica, rows: Path, where: Where, messages: connection.Connection) -> None:
    """Train one replica, or try its first batch, and send what it gives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the stage ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from bancada.networks import torch_network
    from bancada.training import probing, torch_engine

    torch_network.SRC = replica.src
    epochs, sent, ended = list[Epoch](), time.monotonic(), cast(Message, None)

    def report(epoch: int, row: dict[str, float]) -> None:
        nonlocal sent
        epochs.append((epoch, row))
        if time.monotonic() - sent > SEND_S:
            messages.send(epochs)
            epochs.clear()
            sent = time.monotonic()

    with suppress(BrokenPipeError):  # the stage has ended meanwhile: nobody waits for an answer
        try:
            if where is None:
                ended = torch_engine.train(replica, checkpoint.read(rows), report)
            else:
                probing.probe(replica, checkpoint.read(rows), where)
            if epochs:
                messages.send(epochs)
        except (BadInput, OSError) as error:  # OSError: a full disk
            ended = error
        messages.send(ended)


def _end_with_parent() -> None:
    """End this process when the stage was killed, which then can end nobody."""
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
