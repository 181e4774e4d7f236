"""requirements.lock: the exact version of each package, and which of them the environment does not have."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from bancada.pipeline.wheel import packed

LOCK = "requirements.lock"
# Those that can change a result come first in a line that has no room for all.
COMPUTING = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "matplotlib", "pillow", "contourpy")
MOST_NAMED = 8
WHEEL = re.compile(r"^bancada==(?P<version>\S+)\s+\\\s+--hash=sha256:(?P<hash>\w+)", re.MULTILINE)  # of a project


def pinned(path: Path) -> dict[str, str]:
    """Return the versions in the file, by the normalised name of the package; none where there is no file."""
    return {name: version for name, version, _ in _lines(path)}


def needed(path: Path) -> dict[str, str]:
    """Return those of `pinned` that this system and this Python need."""
    return {name: version for name, version, marker in _lines(path) if not marker or Marker(marker).evaluate()}


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and marker of each line `NAME==VERSION ; MARKER`; hashes follow on lines of their own."""
    text = path.read_text("utf-8") if path.exists() else ""
    for name, version, marker in re.findall(r"^([\w.-]+)==([^\s;#\\]+)(?:[ \t]*;([^\n\\#]+))?", text, re.MULTILINE):
        yield canonicalize_name(name), version.split("+")[0], marker.strip()


def not_as_locked(root: Path) -> list[str]:
    """Return in words which installed packages are not those that the requirements.lock in `root` asks for."""
    here: dict[str, str | None] = {canonicalize_name(one.name): one.version for one in distributions()}
    wheel = WHEEL.search((root / LOCK).read_text("utf-8")) if (root / LOCK).exists() else None
    found = others(needed(root / LOCK), here)
    if wheel and wheel["version"] == here["bancada"] and wheel["hash"] != hashlib.sha256(packed()[1]).hexdigest():
        found.insert(0, "bancada with other files than the wheel in vendor")
    return found


def others(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> list[str]:
    """Return in words how the version of each package differs from the one wanted, the build (+cpu) apart."""
    here = {name: (found.get(name) or "missing").split("+")[0] for name in wanted}
    names = sorted((name for name in wanted if here[name] != wanted[name]), key=lambda name: name not in COMPUTING)
    return [f"{name} {here[name]} instead of {wanted[name]}" for name in names]
