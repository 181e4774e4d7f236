"""`bancada ui`: MLflow's own server for the store that is here, and the addresses of its pages once it answers."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bancada.base import BadInput
from bancada.base.notify import without_credentials
from bancada.tracking import views
from bancada.tracking.catch_up import track
from bancada.tracking.store import SERVED, STORE_ERRORS, database_file, open_store
from bancada.tracking.surroundings import repository_root, sqlite_uri, store_uri

POLL_S = 0.1
PATIENCE_S = 120.0  # for the server to answer, on a machine that is busy
END_S = 5.0  # for the server to end when it is asked to
OWN = ("localhost", "127.0.0.1", "[::1]")  # names of this machine, for its own browser
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # all interfaces -> this machine's own address


def show(host: str, port: int, allowed_hosts: str | None) -> int:
    """Record what MLflow lacks, then show MLflow's pages until Ctrl-C. Return the exit status.

    A store that is a server has its own pages. Raise BadInput where no server can listen at the address.
    """
    root = repository_root(Path.cwd())
    uri = store_uri(root)
    served = uri.startswith(SERVED)
    if not served:
        _refuse_taken(host, port)
    status = track(all_experiments=False)
    try:
        pages = views.pages(open_store(root))
    except STORE_ERRORS:  # `track` has said why
        return status
    if served:
        _print(pages, [without_credentials(uri).rstrip("/")])
        return 0
    names = _names(host, port, allowed_hosts)
    options = ["--host", host, "--port", str(port)]
    if allowed_hosts:  # they replace those that MLflow answers by itself
        own = [f"{name}:{port}" for name in (*OWN, socket.gethostname())]
        options += ["--allowed-hosts", ",".join(dict.fromkeys([*names, *own]))]
    with _server(uri, options) as server:
        prefix = os.environ.get("MLFLOW_STATIC_PREFIX", "").rstrip("/")
        addresses = [f"http://{name}{prefix}" for name in names if "*" not in name]
        _wait_for(server, f"{addresses[0]}/health")
        _print(pages, addresses)
        return server.wait()


def _print(pages: dict[str, str], addresses: Sequence[str]) -> None:
    for study, page in pages.items():
        print(f"{study}: {addresses[0]}/{page}", flush=True)
    for address in addresses if not pages else addresses[1:]:
        print(f"MLflow: {address}/", flush=True)


def _names(host: str, port: int, allowed_hosts: str | None) -> list[str]:
    """Return HOST:PORT of all names by which the server is asked; the first one works on this machine.

    MLflow compares the whole name, with its port: `team.example` alone would refuse http://team.example:5000.
    """
    here = LOCAL.get(host, host)
    given = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    wanted = [f"[{here}]:{port}" if ":" in here else f"{here}:{port}"]
    wanted += [name if ":" in name or "*" in name else f"{name}:{port}" for name in given]
    return list(dict.fromkeys(wanted))


def _refuse_taken(host: str, port: int) -> None:
    """Raise BadInput where the port is taken, or where this machine does not have the address."""
    problem = _cannot_listen(host, port)
    if problem is None:
        return
    if problem.errno == errno.EADDRINUSE:
        free = next((near for near in range(port + 1, 65536) if _cannot_listen(host, near) is None), 0)
        way_out = f"; `bancada ui --port {free}` takes another one" if free else ""
        raise BadInput(f"--port {port}: another program has it{way_out}")
    raise BadInput(f"--host {host} --port {port}: {problem.strerror}")


def _cannot_listen(host: str, port: int) -> OSError | None:
    """Return why no server can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind(address)
    except OSError as error:
        return error
    return None


@contextmanager
def _server(uri: str, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start `mlflow ui`, and end it and all that it started after the block."""
    if path := database_file(uri):  # from its folder, because MLflow would make one named as in the URI
        _, mark, query = uri.partition("?")
        uri = sqlite_uri(Path(path.name)) + mark + query
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for other uses of MLflow
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not on the command line, where everybody could read its password
        "MLFLOW_REGISTRY_STORE_URI": uri,
    }
    signal.signal(signal.SIGHUP, lambda signum, frame: sys.exit(128 + signum))  # a terminal that is closed
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *options],
        env=environment,
        cwd=path.parent if path else None,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):  # then it is killed
            server.wait(END_S)
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the server answers. Raise BadInput where it does not."""
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine needs no proxy
    while True:
        with suppress(OSError), opener.open(address, timeout=POLL_S * 20):  # it does not answer yet
            return
        if server.poll() is not None:
            raise BadInput(f"`mlflow ui` has ended with status {server.returncode}; its messages are above")
        if time.monotonic() - began > PATIENCE_S:
            raise BadInput(f"`mlflow ui` does not answer at {address} in {PATIENCE_S:g} s")
        time.sleep(POLL_S)
