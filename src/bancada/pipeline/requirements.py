"""requirements.lock: the exact version of each package, and which of them the environment does not have."""

import re
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

LOCK = "requirements.lock"


def pinned(path: Path) -> dict[str, str]:
    """Return the versions in the file, by the normalised name of the package; none where there is no file."""
    return parse(path.read_text("utf-8")) if path.exists() else {}


def parse(text: str) -> dict[str, str]:
    """Return the versions of `NAME==VERSION` at the starts of lines, by the normalised name of the package."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version.split("+")[0] for name, version in lines}


def installed() -> dict[str, str]:
    """Return the version of each installed package, by its normalised name, without the build (+cpu)."""
    return {canonicalize_name(one.name): one.version.split("+")[0] for one in distributions()}


def others(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> dict[str, str]:
    """Return, by package, how the versions `found` differ from those `wanted`, in words."""
    return {
        name: f"{name} {found.get(name) or 'missing'} instead of {version}"
        for name, version in wanted.items()
        if (found.get(name) or "").split("+")[0] != version
    }
