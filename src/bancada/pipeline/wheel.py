"""The wheel of the bancada that runs, packed from its files as they are here: of a checkout, or of an installed one.

Its bytes depend on those files alone, not on the day or the machine: nothing is compressed, since libraries do so
differently. What is installed from it packs the same again.
"""

import base64
import hashlib
import io
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import bancada

LITTER = (".", "__pycache__")
DESCRIBED = ("METADATA", "entry_points.txt", "licenses/LICENSE")  # by what installed it
WHEEL = "Wheel-Version: 1.0\nGenerator: bancada\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
OLDEST = (1980, 1, 1, 0, 0, 0)  # the date of every file in it: zip knows none before
UNIX = 3  # where it was made, as zip says it
READABLE = 0o100644 << 16  # a file that all may read, as zip keeps it


def packed() -> tuple[str, bytes]:
    """Return the name of the wheel, and its content."""
    of, package = distribution("bancada"), Path(bancada.__path__[0])
    information = f"bancada-{of.version}.dist-info"
    inside = [path.relative_to(package) for path in sorted(package.rglob("*")) if path.is_file()]
    inside = [path for path in inside if not any(part.startswith(LITTER) for part in path.parts)]
    content = {f"bancada/{path.as_posix()}": (package / path).read_bytes() for path in inside}
    for name in DESCRIBED:
        content[f"{information}/{name}"] = (of.read_text(name) or "").encode()
    content[f"{information}/WHEEL"] = WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in content.items())
    content[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    return f"bancada-{of.version}-py3-none-any.whl", _zipped(content)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _zipped(content: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with ZipFile(written, "w") as wheel:
        for name, data in content.items():
            entry = ZipInfo(name, OLDEST)
            entry.create_system, entry.external_attr = UNIX, READABLE
            wheel.writestr(entry, data)
    return written.getvalue()
