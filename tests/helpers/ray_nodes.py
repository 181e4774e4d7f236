"""A cluster of Ray on this machine, of processes as `ray start` makes them: a head, which trains nothing, and nodes."""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
QUIET = {"RAY_DISABLE_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


class Nodes:
    """Starts nodes, and kills them."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.mark, self.variables = folder, uuid.uuid4().hex, variables
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._start("head", "--head", f"--port={self.address.partition(':')[2]}", "--num-cpus=0",
                    "--include-dashboard=false", f"--temp-dir={folder}")  # fmt: skip

    def add(self, name: str, cpus: int = 1, **variables: str) -> None:
        """Start a node whose workers inherit these environment variables."""
        self._start(name, f"--address={self.address}", f"--num-cpus={cpus}", **variables)

    def _start(self, name: str, *options: str, **variables: str) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "BANCADA_"))}
        own |= QUIET | self.variables | variables | {"BANCADA_TEST_NODE": f"{self.mark} {name}"}
        command = [str(RAY), "start", *options, "--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=120, start_new_session=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Those of a node, or of all, which have its mark in their environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended meanwhile
                mark = process.environ().get("BANCADA_TEST_NODE", "")
                if mark.startswith(f"{self.mark} {name}") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self, name: str = "") -> list[psutil.Process]:
        """The processes of the nodes that run a task: Ray writes its name into their command line."""
        return [one for one in self.processes(name) if "".join(one.cmdline()).startswith("ray::work")]

    def kill(self, name: str = "") -> None:
        """Kill all processes of a node, or of all nodes, as a power cut does."""
        while left := self.processes(name):
            for process in left:
                with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    process.kill()
            time.sleep(0.1)
        if not name:
            shutil.rmtree(self.folder, ignore_errors=True)  # Ray's logs and sockets


def wait_for(there: Callable[[], object], within_s: float = 60) -> None:
    """Wait until something is there."""
    until = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)
