"""bancada: reproducible PyTorch experiments over many seeds, a DVC pipeline with MLflow tracking."""

import gc
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


def _code_of_this_folder() -> Path | None:
    """Return `src/bancada` of the repository that the current folder belongs to; None where there is none.

    A stage runs in a clone, or in the temporary folder of a DVC experiment, with an environment in which another
    checkout is installed. It must run the code that stands beside its dvc.yaml. This file alone is always the installed
    one: nothing that a result depends on may stand here.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the folder was deleted
        return None
    root = next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), None)
    code = root / "src" / "bancada" if root else None
    return code if code and (code / "pins.py").exists() and not code.samefile(__path__[0]) else None


def __getattr__(name: str) -> Any:
    """Return `bancada.load`, which a notebook uses. An import would make it a part of every stage's code."""
    if name == "load":
        return resolve_name("bancada.pipeline.predict:load")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_code = _code_of_this_folder()
if _code:
    __path__[:] = [str(_code)]

from bancada import pins  # noqa: E402  (after the choice of its folder)

pins.apply()
gc.set_threshold(100_000)  # torch loads hundreds of thousands of objects that stay; searching them often is slow
