"""data/index/STUDY.json: the names of a study's trained variants, and a hash of each of their files.

The stage index writes it, and evaluations read the models that it names: a model that is left over from a variant which
params.yaml no longer has is read by nobody.
"""

import hashlib
import json
from collections.abc import Collection
from functools import partial
from pathlib import Path

from bancada.base import BadInput, files

Hashes = dict[str, dict[str, str]]  # variant -> file -> MD5, as DVC has it

MD5 = partial(hashlib.md5, usedforsecurity=False)


def of_models(study: str, variants: Collection[str]) -> Hashes:
    """Return the hashes of these variants' files, in the order of the names. Raise BadInput where one is missing."""
    return {
        name: {file: _md5(folder / file, name) for file in files.of_model(folder)}
        for name, folder in ((name, files.model(study, name)) for name in sorted(variants))
    }


def _md5(path: Path, variant: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, MD5).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: missing; `dvc pull` fetches it, or `dvc repro train@{variant}` makes it") from None


def read(study: str) -> Hashes:
    """Return what the stage index wrote. Raise BadInput where it wrote nothing that can be read."""
    path = files.index(study)
    try:
        found: Hashes = json.loads(path.read_text("utf-8"))
        return {name: dict(hashes) for name, hashes in found.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        raise BadInput(f"{path}: missing, or not what the stage wrote; `dvc repro -f index@{study}` makes it") from None
