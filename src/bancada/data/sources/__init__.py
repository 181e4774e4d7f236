"""The kinds of sources. Each kind is a module in this folder, named like the kind; its SOURCE is a Source."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bancada.base.params_file import ParamsFile
from bancada.base.refusals import bad, did_you_mean
from bancada.base.settings import checked
from bancada.data.settings import Source


def kinds() -> list[str]:
    """Return the names of all kinds, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def module_of(kind: str) -> str:
    """Return the name of the module that makes this kind of source."""
    return f"{__name__}.{kind}"


def of_study(params: ParamsFile, study: str) -> Source:
    """Return the study's source. Raise BadInput if its keys are wrong."""
    key = f"studies.{study}.source"
    return load(params.value(key), key)


def load(raw: Any, key: str) -> Source:
    """Return the source that `raw`, the value of `key` in params.yaml, describes. Raise BadInput if it is wrong.

    Only the module of its kind is imported.
    """
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind not in kinds():
        raise bad(f"{key}.kind", kind, f"must be one of {', '.join(kinds())}{did_you_mean(kind, kinds())}")
    model: type[Source] = import_module(module_of(kind)).SOURCE
    return checked(model, raw, key)
