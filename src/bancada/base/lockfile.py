"""What dvc.lock says of the pipeline's files: whether those that are here belong together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bancada.base import files


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock by stage."""

    stages: dict[str, Any]

    def agrees(self, stage: str, *paths: Path) -> bool:
        """Whether these are the files that the stage last read or made, as far as dvc.lock knows: an evaluation, say,
        may be older than a model that it is found beside."""
        known = self.hashes(stage)
        return all(known.get(path.as_posix()) in (None, dvc_md5(path)) for path in paths)

    def hashes(self, stage: str) -> dict[str, str]:
        """Return the hashes of all that the stage last read or made, by path."""
        entry = self.stages.get(stage, {})
        return {item["path"]: item.get("md5", "") for item in [*entry.get("deps", []), *entry.get("outs", [])]}


def parse(text: str) -> Lock:
    read = YAML(typ="safe").load(text) if text else {}
    return Lock(read.get("stages") or {} if isinstance(read, dict) else {})


def dvc_md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: that of the list of its files with their hashes. Empty where nothing is."""
    if path.is_dir():
        return folder_md5(hashes_in(path))
    return md5(path) if path.exists() else ""


def folder_md5(hashes: Mapping[str, str]) -> str:
    """DVC's hash of a folder with these files, by their paths in it."""
    listed = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def hashes_in(folder: Path) -> dict[str, str]:
    """Of all files in a folder, by their paths in it."""
    inside = [path for path in folder.rglob("*") if path.is_file()]
    return {name.as_posix(): md5(folder / name) for path in inside if not _ignored(name := path.relative_to(folder))}


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _ignored(path: Path) -> bool:
    """By .dvcignore."""
    return any(files.is_hidden(Path(part)) for part in path.parts)
