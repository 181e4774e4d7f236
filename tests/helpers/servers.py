"""Servers for the tests of tracking: a real PostgreSQL, a real `mlflow server`, and a proxy that fails on request."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

START_S = 90.0  # how long a server may take until it answers, on a machine that is busy
PASSWORD = "s3cret-of-postgres"
UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root

# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def postgres_program(name: str) -> str | None:
    """Return its path: Debian has a folder for each version, and none of them is on PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(installed[-1]) if installed else shutil.which(name)


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the URI, with its password, of an empty database in a cluster of its own, behind a Unix socket."""
    initdb, server, ready = (postgres_program(name) for name in ("initdb", "postgres", "pg_isready"))
    assert initdb and server and ready
    # Not in pytest's folder: the user who runs the server may not read that.
    with tempfile.TemporaryDirectory(prefix="bancada-pg-") as name:
        user = next((user for user in UNPRIVILEGED if _exists(user)), "nobody") if os.geteuid() == 0 else None
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        log = folder / "log"
        options = ["-D", name + "/data", "-U", "bancada", "-A", "scram-sha-256", "--pwfile", name + "/password"]
        with log.open("wb") as output:
            subprocess.run([initdb, *options, "-E", "UTF8", "--locale=C", "-N"], check=True, stdout=output, **identity)
            # No TCP port, which another process may take; no fsync, because the data need not outlive the test.
            command = [server, "-D", f"{name}/data", "-k", name, "-c", "listen_addresses=", "-c", "fsync=off"]
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, cwd=name, **identity
            )
        try:
            _until(lambda: _succeeds([ready, "-q", "-h", name]), process, log)
            yield f"postgresql://bancada:{PASSWORD}@/postgres?host={name}"
        finally:
            end(process, signal.SIGINT)  # a fast shutdown


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def dump(database: str) -> list[str]:
    """Return every row of every table as pg_dump writes them, without its random keys."""
    program = postgres_program("pg_dump")
    assert program
    done = subprocess.run([program, "--data-only", "--inserts", database], check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


# --- mlflow server --------------------------------------------------------------------------------------------------


@contextmanager
def mlflow_server(database: str, artifacts: Path, log: Path) -> Iterator[int]:
    """Start a real server that serves the artifacts, too. Yield its port on 127.0.0.1."""
    artifacts.mkdir(exist_ok=True)
    port = free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *address, "--artifacts-destination", artifacts.as_uri()],
            stdout=output,
            stderr=output,
            cwd=artifacts,
            # Not on the command line, which everybody can read; and without mlflow's eight processes for jobs.
            env=clean_environment()
            | {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}/health"), process, log)
        yield port
    finally:
        end(process, signal.SIGTERM)


def clean_environment() -> dict[str, str]:
    """Return this environment without the variables of mlflow, DVC and bancada."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "BANCADA_"))}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


# --- faults ---------------------------------------------------------------------------------------------------------

Fault = Literal["refuses", "hangs", "answers 500", "dies", "loses the answer"]


class Proxy:
    """A proxy of an mlflow server. It forwards every request, until a request meets the fault that it is given.

    `refuses`: it does not listen. `hangs`: it takes the request and never answers. `dies`: it closes the connection and
    stops listening. `loses the answer`: the server carries the request out, then the proxy dies.
    """

    def __init__(self, server: int) -> None:
        self.server, self.port = server, free_port()
        self.fault: Fault | None = None
        self.most_bytes: int | None = None  # larger requests are answered with 413, as nginx does
        self.before: Callable[[str], None] = lambda request: None  # called before a request is forwarded
        self.listening: _Listening | None = None
        self.counting, self.mended = threading.Lock(), threading.Event()
        self.mend()

    @property
    def uri(self) -> str:
        return f"http://me:{PASSWORD}@127.0.0.1:{self.port}"

    def breaks(self, fault: Fault, at: str = "", after: int = 0) -> None:
        """Fail at the first request whose method and path match the pattern `at`, after `after` such requests."""
        self.mend()
        self.fault, self.at, self.left = fault, at, after
        self.mended.clear()
        if fault == "refuses":
            self.stop()

    def mend(self) -> None:
        self.fault, self.showed = None, False
        self.mended.set()
        if not self.listening:
            handler = type("Handler", (_Handler,), {"proxy": self})
            self.listening = _Listening(("127.0.0.1", self.port), handler)
            threading.Thread(target=self.listening.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        listening, self.listening = self.listening, None
        if listening:
            listening.shutdown()
            listening.server_close()
        self.mended.set()

    def shows(self, request: str) -> Fault | None:
        """Return the fault if this request meets it."""
        with self.counting:
            if self.fault and not self.showed and re.search(self.at, request):
                self.showed, self.left = self.left == 0, self.left - 1
            return self.fault if self.showed else None


class _Listening(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that left before they had an answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would delay each answer by 40 ms
    proxy: Proxy

    def forward(self) -> None:
        request, proxy = f"{self.command} {self.path}", self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.shows(request)
        self.close_connection = fault is not None or not proxy.listening
        if fault == "hangs":
            proxy.mended.wait()
        elif fault == "answers 500":
            self.answer(500, {"Content-Type": "text/plain"}, b"it is broken\nand says so at length")
        elif proxy.listening and fault:
            if fault == "loses the answer":
                self.ask(body)
            proxy.stop()
        elif proxy.listening and proxy.most_bytes is not None and len(body) > proxy.most_bytes:
            self.answer(413, {"Content-Type": "text/html"}, b"<html>413 Request Entity Too Large</html>")
        elif proxy.listening:
            proxy.before(request)
            self.answer(*self.ask(body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.proxy.server, timeout=60)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, {"Content-Type": answer.getheader("Content-Type", "")}, answer.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing on the test's stderr."""


# --- processes ------------------------------------------------------------------------------------------------------


def end(process: subprocess.Popen[bytes], request: signal.Signals) -> None:
    """Ask the process to end, then kill the rest of its group, because workers may have stayed."""
    if process.poll() is None:
        process.send_signal(request)
    with suppress(subprocess.TimeoutExpired):  # then it is killed
        process.wait(10)
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, f"no answer in {START_S:g} s: {log.read_text()[-4000:]}"
        time.sleep(0.05)


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


# --- a model over HTTP ----------------------------------------------------------------------------------------------


@contextmanager
def served_model(uri: str, log: Path, **environment: str) -> Iterator[Callable[[Any], Any]]:
    """Yield a function that sends JSON to `mlflow models serve` and returns its answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def post(sent: Any) -> Any:
        headers, deadline = {"Content-Type": "application/json"}, time.monotonic() + START_S
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", json.dumps(sent).encode(), headers)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                raise
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, log.read_text()

    try:
        yield post
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
