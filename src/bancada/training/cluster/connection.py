"""This process and a Ray cluster: how they find each other, what is sent there, and what happens when it is gone."""

import _thread
import errno
import importlib.util
import os
import shutil
import socket
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import bancada
from bancada import pins
from bancada.base import BadInput, stage, user_code
from bancada.base.variables import variables

SILENT_S = 30.0  # Ray waits for minutes for a head that is gone
PATIENCE_S = 10.0  # for a first answer; for this process to end after its head has gone
TOKEN = "~/.ray/auth_token"  # where Ray looks for it


class Cluster:
    """A cluster that this process has joined."""

    def __init__(self, address: str) -> None:
        self.address, self.gone = address, False  # gone: the head no longer answers
        threading.Thread(target=self._watch, daemon=True).start()

    def lost(self) -> OSError:
        """Return the error of a head that is gone."""
        what = f"has not answered for {SILENT_S:.0f} s; what was finished is kept, and the next run goes on from there"
        return ConnectionError(errno.ECONNRESET, what, f"Ray's head at {self.address}")

    def _watch(self) -> None:
        """Interrupt this process when the head has been silent; end it where it hangs inside Ray."""
        seen = time.monotonic()
        while time.monotonic() - seen < SILENT_S:
            time.sleep(SILENT_S / 15)
            if _answers(self.address):
                seen = time.monotonic()
        self.gone = True
        _thread.interrupt_main()
        time.sleep(PATIENCE_S)
        error = self.lost()
        print(f"{error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(1)


@cache
def join(src: Path) -> Cluster:
    """Join the cluster that BANCADA_RAY names, and send it this folder's code and the user's files in `src`.

    Raise BadInput where Ray is missing or the address is wrong, OSError where no cluster answers.
    """
    address = variables().ray
    if importlib.util.find_spec("ray") is None:
        raise BadInput(f"BANCADA_RAY = {address}: Ray is not installed; type: make ray")
    if "://" in address:
        raise BadInput(f"BANCADA_RAY = {address}: must be auto or HOST:PORT; join a cluster with `ray start` first")
    if address != "auto" and not _answers(address):
        raise ConnectionError(errno.ECONNREFUSED, "no Ray cluster answers", address)
    os.environ |= {"RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN)
    if "RAY_AUTH_TOKEN" in os.environ or token.expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    with stage.own_folder(f"sent@{os.getpid()}") as folder:
        package(folder, src)
        try:
            ray.init(
                address,
                runtime_env={"working_dir": str(folder), "env_vars": variables_there()},
                log_to_driver=False,
                configure_logging=False,
            )
        except ConnectionError as error:
            raise ConnectionError(errno.ECONNREFUSED, f"no Ray cluster answers: {_line(error)}", address) from None
        except RuntimeError as error:  # such as another version of Ray or Python
            raise BadInput(f"BANCADA_RAY = {address}: {_line(error)}") from None
    return Cluster(ray.get_runtime_context().gcs_address)


def package(folder: Path, src: Path) -> None:
    """Copy there what nodes need of this folder: bancada itself, whatever they have installed, and the user's files."""
    shutil.copytree(bancada.__path__[0], folder / "bancada", ignore=shutil.ignore_patterns("__pycache__"))
    for name in user_code.FOLDERS:
        if (src / name).is_dir():
            shutil.copytree(src / name, folder / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src").mkdir(exist_ok=True)


def variables_there() -> dict[str, str]:
    """Return the environment variables of workers: Ray's own load numpy before any code of ours could set pins."""
    return pins.PINS | {"BANCADA_RAY": "", "BANCADA_CORES": "1", "BANCADA_REPLICAS": "off", pins.CONTRARY: ""}


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S / 2).close()
    except ValueError:
        raise BadInput(f"BANCADA_RAY = {address}: must be auto or HOST:PORT") from None
    except OSError:
        return False
    return True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def nodes(needs: str) -> list[dict[str, Any]]:
    """Return those of Ray's nodes that are alive and have a resource: CPU or GPU."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(needs, 0) >= 1]
