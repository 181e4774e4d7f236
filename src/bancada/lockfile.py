"""What dvc.lock says of the pipeline's files: whether those that are here belong together."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bancada import files, mirror


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock by stage."""

    stages: dict[str, Any]

    def agrees(self, stage: str, *paths: Path) -> bool:
        """Whether these are the files that the stage last read or made, as far as dvc.lock knows: an evaluation, say,
        may be older than a model that it is found beside."""
        entry = self.stages.get(stage, {})
        known = {item["path"]: item.get("md5") for item in [*entry.get("deps", []), *entry.get("outs", [])]}
        return all(known.get(path.as_posix()) in (None, dvc_md5(path)) for path in paths)


def parse(text: str) -> Lock:
    read = YAML(typ="safe").load(text) if text else {}
    return Lock(read.get("stages") or {} if isinstance(read, dict) else {})


def dvc_md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: that of the list of its files with their hashes."""
    if not path.is_dir():
        return mirror.md5(path) if path.exists() else ""
    inside = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listed = [{"md5": mirror.md5(path / name), "relpath": name} for name in inside if not _ignored(Path(name))]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _ignored(path: Path) -> bool:
    """By .dvcignore."""
    return any(files.is_hidden(Path(part)) for part in path.parts)
