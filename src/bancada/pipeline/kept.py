"""Which files DVC hashes and git does not keep: with them, results cannot be of the commit that they are in."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from bancada.base import files
from bancada.base.git import asked
from bancada.pipeline import dvc_internals as dvc

CODE_FOLDER = "src"
SOURCES = files.DATA / "sources"
OTHERS = (str(SOURCES), *map(str, files.OF_GIT))


def unknown_to_git(repo: Any, root: Path, elsewhere: Collection[str]) -> list[str]:
    """Return the files that DVC hashes and a commit would leave out, as they are new to git or ignored by it.

    `elsewhere`: files and folders that are no matter. Code that git ignores counts where a module imports it, and then
    data/code has its hash.
    """
    if not dvc.has_git(repo):
        return []
    new = asked(root, "ls-files", "-z", "--others", "--exclude-standard", "--", CODE_FOLDER)
    new += asked(root, "ls-files", "-z", "--others", "--", *OTHERS)
    no_matter = [*elsewhere, *(dvc.path_of(out, root) for out in repo.index.outs if out.use_cache)]
    return [
        path
        for path in new.split("\0")
        if path and not repo.dvcignore.is_ignored(repo.fs, str(root / path)) and not _below(path, no_matter)
    ]


def open_submodules(repo: Any, root: Path) -> list[str]:
    """Return the submodules among what DVC hashes that hold what is not committed, or another commit than git has."""
    if not dvc.has_git(repo):
        return []
    options = ("--raw", "-z", "--relative", "--ignore-submodules=none")
    changes = asked(root, "diff", *options, "--", CODE_FOLDER, *OTHERS).split("\0")
    return [path for change, path in zip(changes[::2], changes[1::2], strict=False) if change[1:7] == SUBMODULE]


SUBMODULE = "160000"  # the mode of a file that stands for one


def _below(path: str, folders: Collection[str]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)
