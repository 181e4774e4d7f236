"""Folders that are made once for all workers of pytest-xdist, because each takes seconds; tests copy them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bancada.base.locks import locked


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return an empty folder that `make` has filled, in the worker that comes first."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "once" / name
    done = folder.with_name(f"{name}.done")
    with locked(folder.with_name(f"{name}.lock")):
        if not done.exists():
            folder.mkdir()  # a second try after a failure fails here, and says so
            make(folder)
            done.touch()
    return folder
