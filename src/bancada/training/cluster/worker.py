"""What runs on a node of the cluster: some replicas, with this machine's own engines, one thread each.

Only Python's own modules are imported at the top: a node is asked what it has before anything of it is used.
"""

import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import bancada

if TYPE_CHECKING:
    from bancada.networks.saved import History, Trained
    from bancada.training.replica import Data, Replica

SOON_S = 1.0  # after which a task says where it runs, though it has no more to say
GATHER_S = 2.0  # between two answers of a task
MOST_ROWS = 4  # draws of the data that a process keeps from one task to the next


@dataclass(frozen=True)
class Machine:
    """A node as a replica sees it. `node`: Ray's number for it; `name`: of the computer, which may hold several."""

    node: str
    name: str
    cpu: str  # the model
    gpu: str
    avx2: bool
    nice: int  # of its workers
    python: str
    packages: dict[str, str] = field(default_factory=dict)  # versions, without the build; empty where it is missing
    own_code: str = ""  # where bancada was imported from, if not from what the driver sent

    def __str__(self) -> str:
        return f"{self.name} (node {self.node[:6]})"


@dataclass(frozen=True)
class Epochs:
    """The next epochs of a replica, of which `first` is the first."""

    place: int
    first: int
    history: "History"


@dataclass(frozen=True)
class Ended:
    """The end of a replica: its result, or in one line its own fault, or what broke on this machine."""

    place: int
    trained: "Trained | None" = None
    fault: str = ""
    broken: str = ""
    seconds: float = 0.0  # of work since the task began or its last replica ended


Message = Machine | Epochs | Ended
Messages = SimpleQueue[list[Message] | BaseException | None]


def machine(packages: Sequence[str]) -> Machine:
    """Return what this node is and has."""
    import ray

    own = Path(bancada.__path__[0]).parent
    return Machine(
        node=ray.get_runtime_context().get_node_id(),
        name=f"{socket.gethostname()} at {ray.util.get_node_ip_address()}",
        gpu=_gpu(),
        nice=_nice(),
        python=platform.python_version(),
        packages={name: _version(name) for name in packages},
        own_code="" if own == Path.cwd() else str(own),
        **_cpu(Path("/proc/cpuinfo")),
    )


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):  # an empty version says that it is missing
        return version(package).partition("+")[0]
    return ""


def _nice() -> int:
    """Return how far the work gives way to other work. Ray's workers begin at 15; who may changes it."""
    with suppress(PermissionError):  # the driver tells the nice value that stays
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    return os.getpriority(os.PRIO_PROCESS, 0)


@cache
def _cpu(path: Path) -> dict[str, Any]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {"cpu": found.get("model name", platform.machine()), "avx2": "avx2" in found.get("flags", "").split()}


@cache
def _gpu() -> str:
    known = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for path in known for line in path.read_text("utf-8").splitlines()]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model")), "")


def work(
    replicas: Mapping[int, "Replica"], rows: Mapping[int, Any], packages: Sequence[str]
) -> Iterator[list[Message]]:
    """Train replicas of one engine. Yield what this machine is, their epochs as they grow, and the end of each.

    `rows`: a reference of Ray for each draw of the data. What breaks is raised; a fault of the user's is told.
    """
    vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's program, which each process of a replica would run
    yield from gathered(partial(_train, replicas, rows), packages)


def gathered(train: Callable[[Messages], None], packages: Sequence[str]) -> Iterator[list[Message]]:
    """Yield what this machine is and what `train` puts, all that came within some seconds at once.

    The driver pays for each list, however much it holds. Nothing waits once `train` has put None, or what is raised.
    """
    here: list[Message] = [machine(packages)]
    messages = Messages()
    Thread(target=train, args=(messages,), daemon=True).start()
    send_s = time.monotonic() + SOON_S
    while True:
        content: list[Message] | BaseException | None = []
        with suppress(Empty):  # it is time to send what is here
            content = messages.get(timeout=max(0.0, send_s - time.monotonic()) if here else None)
        if not isinstance(content, list):
            break
        here += content
        if here and time.monotonic() >= send_s:
            yield here
            here, send_s = [], time.monotonic() + GATHER_S
    if here:
        yield here
    if content:
        raise content


def _train(replicas: Mapping[int, "Replica"], rows: Mapping[int, Any], messages: Messages) -> None:
    """Put the messages of all replicas, and in the end None or what has broken."""
    try:
        from bancada.training import replica as seam
        from bancada.training.cluster.told import Told

        here = {place: replace(one, src=Path("src").absolute(), state=None) for place, one in replicas.items()}
        data, report, began = {draw: _rows(found) for draw, found in rows.items()}, Told(messages), time.monotonic()
        for place, outcome in seam.train_here(here, data, report):
            report.forget(place)
            messages.put([_ended(place, outcome, time.monotonic() - began)])
            began = time.monotonic()
        messages.put(None)
    except BaseException as error:  # raised again by the generator
        messages.put(error)


def _ended(place: int, outcome: "Trained | Exception", seconds: float) -> Ended:
    from bancada.base import BadInput

    if isinstance(outcome, BadInput):
        return Ended(place, fault=str(outcome))
    if isinstance(outcome, OSError):
        return Ended(place, broken=outcome.strerror or str(outcome))
    if isinstance(outcome, Exception):
        raise outcome
    return Ended(place, outcome, seconds=seconds)


def _rows(reference: Any) -> "Data":
    """Return a draw of the data, which Ray keeps once on each node; this process has a copy that can be written to."""
    import ray

    if reference not in _kept:
        while len(_kept) >= MOST_ROWS:
            _kept.pop(next(iter(_kept)))
        _kept[reference] = ray.get(reference).copied()
    return _kept[reference]


_kept: dict[Any, "Data"] = {}
