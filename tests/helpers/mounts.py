"""Disks that are full or read-only: mounts that only some processes of a test see."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Mounted:
    """Mounts that only the processes started with `command` see. They end with the process that holds them."""

    holder: subprocess.Popen[str]

    @property
    def command(self) -> tuple[str, ...]:
        return ("nsenter", "--preserve-credentials", "-U", "-m", "--wd=.", "-t", str(self.holder.pid))

    def path(self, path: Path) -> Path:
        """Return the path at which this process sees the same file."""
        return Path(f"/proc/{self.holder.pid}/root{path}")


@pytest.fixture
def mounted() -> Iterator[Callable[..., Mounted]]:
    holders = []

    def mount(script: str, *arguments: object) -> Mounted:
        command = ["unshare", "-rm", "sh", "-c", f"set -e\n{script}\necho ready; read end", "sh", *map(str, arguments)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        return Mounted(holder)

    yield mount
    for holder in holders:
        holder.communicate()


# A full disk at "$1", with the files of "$2" and "$3" bytes left.
FILL = """\
mount -t tmpfs -o size=8m none "$1"; cp -a "$2/." "$1"
cat /dev/zero > "$1/filler" 2> /dev/null || truncate -s "-$3" "$1/filler"
"""
