"""The kinds of sources. A kind is a module here, of that name, with a subclass of Source as its SOURCE."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bancada.base.refusals import bad, did_you_mean
from bancada.base.settings import checked
from bancada.data.settings import Source


def kinds() -> list[str]:
    """Return the names of all kinds, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def module_of(kind: str) -> str:
    """Return the name of the module that makes this kind of source."""
    return f"{__name__}.{kind}"


def load(raw: Any, key: str) -> Source:
    """Return the source that `key` of params.yaml describes; only the module of its kind is imported.

    Raise BadInput where the description cannot be used.
    """
    if not isinstance(raw, dict):
        raise bad(key, raw, "must be a mapping")
    kind = raw.get("kind")
    if kind is None:
        raise bad(f"{key}.kind", None, "missing")
    if kind not in kinds():
        raise bad(f"{key}.kind", kind, f"must be one of {', '.join(kinds())}{did_you_mean(kind, kinds())}")
    model: type[Source] = import_module(module_of(kind)).SOURCE
    return checked(model, raw, key)
