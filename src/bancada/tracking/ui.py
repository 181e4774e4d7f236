"""`bancada ui`: MLflow's own server for the store that is here, and the addresses of its pages once it answers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from bancada.base import BadInput, signals
from bancada.base.notify import without_credentials
from bancada.tracking import views
from bancada.tracking.catch_up import track
from bancada.tracking.store import SERVED, STORE_ERRORS, database_file, open_store
from bancada.tracking.surroundings import repository_root, sqlite_uri, store_uri

POLL_S = 0.1
END_S = 5.0  # for the server to end when it is asked to
OWN = ("localhost", "127.0.0.1", "[::1]", socket.gethostname())  # names of this machine, for its own browser
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
    # MLflow compares the whole name, with its port: `team.example` alone would refuse http://team.example:5000.
    given = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    names = [name if ":" in name or "*" in name else f"{name}:{port}" for name in given]
    options = ["--host", host, "--port", str(port)]
    if names:  # they replace those that MLflow answers by itself
        options += ["--allowed-hosts", ",".join([*names, *(f"{name}:{port}" for name in (host, *OWN))])]
    here, prefix = LOCAL.get(host, host), os.environ.get("MLFLOW_STATIC_PREFIX", "").rstrip("/")
    own = f"[{here}]:{port}" if ":" in here else f"{here}:{port}"
    addresses = [f"http://{name}{prefix}" for name in (own, *names) if "*" not in name]
    with _server(uri, options) as server:
        try:
            while server.poll() is None:
                # Until it answers, it is starting.
                with suppress(OSError, HTTPException), closing(HTTPConnection(here, port, timeout=2)) as asked:
                    asked.request("GET", f"{prefix}/health")
                    asked.getresponse()
                    _print(pages, addresses)
                    break
                time.sleep(POLL_S)
            return server.wait()
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End MLflow's server, and what it has started."""
    below = list[psutil.Process]()
    with suppress(psutil.NoSuchProcess):  # it has ended by itself
        below = psutil.Process(server.pid).children(recursive=True)
    server.terminate()  # MLflow ends what it started
    with suppress(subprocess.TimeoutExpired):  # then it is killed
        server.wait(END_S)
    if hasattr(os, "killpg"):  # also what has lost its parent
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(server.pid, signals.KILL)
    for process in below:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            process.kill()


def _print(pages: dict[str, str], addresses: Sequence[str]) -> None:
    for study, page in pages.items():
        print(f"{study}: {addresses[0]}/{page}", flush=True)
    for address in addresses if not pages else addresses[1:]:
        print(f"MLflow: {address}/", flush=True)


def _refuse_taken(host: str, port: int) -> None:
    """Raise BadInput where the port is taken, or where this machine does not have the address."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind(address)
    except OSError as error:
        raise BadInput(f"--host {host} --port {port}: {error.strerror}; choose another one") from None


def _server(uri: str, options: list[str]) -> subprocess.Popen[bytes]:
    """Start `mlflow ui`, in a process group of its own."""
    if path := database_file(uri):  # from its folder, because MLflow would make one named as in the URI
        _, mark, query = uri.partition("?")
        uri = sqlite_uri(Path(path.name)) + mark + query
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for other uses of MLflow
        "MLFLOW_UVICORN_OPTS": "--log-level warning",  # a line for each request would follow the addresses
        "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",  # MLflow's own import; four times
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not on the command line, where everybody could read its password
        "MLFLOW_REGISTRY_STORE_URI": uri,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *options],
        env=environment,
        cwd=path.parent if path else None,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
