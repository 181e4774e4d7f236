"""Loaded before any test: the pins come first, then shapes and types in signatures are checked while tests run."""

import os
import signal
from collections.abc import Iterator

import bancada  # noqa: F401  (its pins must be set before jaxtyping loads numpy)

# isort: split
import pytest
from jaxtyping import install_import_hook

WITH_ARRAYS = (
    "base.tables",
    "data.columns",
    "data.sources",
    "data.split",
    "data.texts",
    "evaluation.candidates",
    "evaluation.drawn_rows",
    "evaluation.of_classes",
    "evaluation.plots",
    "evaluation.sheets",
    "evaluation.statistics",
    "networks.compiled_network",
    "networks.encoding",
    "networks.kernel.replica",
    "networks.metrics",
    "networks.saved",
    "networks.start",
    "training.fit",
    "training.live",
    "training.scratch",
    "training.train",
)

# A shell lets what it starts with `&` ignore Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest-xdist tells its workers of a terminal that is 80 letters wide; there is none.
os.environ.pop("COLUMNS", None)

install_import_hook([f"bancada.{module}" for module in WITH_ARRAYS], "beartype.beartype")

from committed import made, repository  # noqa: E402, F401  (fixtures, after the hook)
from examples import own  # noqa: E402, F401  (fixtures, after the hook)
from idle import fresh, plain_lock, project  # noqa: E402, F401  (fixtures, after the hook)
from line import complete, untouched  # noqa: E402, F401  (fixtures, after the hook)
from mounts import mounted  # noqa: E402, F401  (fixtures, after the hook)
from toy import bench, empty_store  # noqa: E402, F401  (fixtures, after the hook)

from bancada.base import user_code  # noqa: E402  (after the hook)


@pytest.fixture(autouse=True)
def no_users_code_stays() -> Iterator[None]:
    """Forget what a test has imported from src, which a stage keeps to its end."""
    yield
    user_code.forget()
