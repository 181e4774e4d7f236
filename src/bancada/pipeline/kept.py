"""Which files DVC hashes and git keeps: where the two differ, results cannot be of the commit that they are in.

What DVC leaves out (.dvcignore) it is asked, and git what it keeps (its index, .gitignore, its attributes).
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bancada.base import BadInput, files
from bancada.base.git import asked, in_repository
from bancada.pipeline import dvc_internals as dvc
from bancada.pipeline import requirements

CODE_FOLDER = "src"
SOURCES = files.DATA / "sources"
HASHED = (CODE_FOLDER, str(SOURCES), *map(str, files.OF_GIT))


def unknown_to_git(repo: Any, root: Path, elsewhere: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the files that DVC hashes and a commit would leave out: those that are new to git, those that it ignores.

    `elsewhere`: files and folders that are no matter. Code that git ignores counts where a module imports it, and then
    data/code has its hash.
    """
    if not dvc.has_git(repo):
        return [], []
    hashed = (Path(path).relative_to(root).as_posix() for folder in HASHED for path in dvc.seen(repo, root / folder))
    no_matter = [*elsewhere, *(dvc.path_of(out, root) for out in repo.index.outs if out.use_cache)]
    known = _listed(root, "--recurse-submodules")
    unknown = sorted(path for path in hashed if path not in known and not _below(path, no_matter))
    ignored = _listed(root, "--others", "--ignored", "--exclude-standard")
    new = [path for path in unknown if path not in ignored]
    return new, [path for path in unknown if path in ignored and not _below(path, [CODE_FOLDER])]


def submodules_around(root: Path, path: str) -> list[str]:
    """Return the git repositories inside the one at `root` that a file lies in, the innermost first."""
    folder = (root / path).parent
    if not in_repository(folder):  # it is reached through a symbolic link
        return []
    top = Path(asked(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    if top == root or not top.is_relative_to(root):
        return []
    inside = top.relative_to(root).as_posix()
    return [inside, *submodules_around(root, inside)]


def refuse_other_line_ends(repo: Any, root: Path) -> None:
    """Raise BadInput where git has other line ends in its files than lie here, and takes them for unchanged.

    It changes them by core.autocrlf or core.eol where .gitattributes allows it, and DVC hashes what lies here: dvc.lock
    would be right for nobody else. What .gitattributes itself fixes by `eol` is the same in every clone.
    """
    if not dvc.has_git(repo):
        return
    paths, found = (*HASHED, requirements.LOCK), []
    for line in asked(root, "ls-files", "-z", "--eol", "--", *paths).split("\0"):
        ends, _, path = line.partition("\t")
        index, here, *attributes = [*ends.split(), "", ""]
        in_clones = "crlf" if index == "i/lf" and "eol=crlf" in attributes else index[2:]
        if here[2:] in ("lf", "crlf", "mixed") and here[2:] != in_clones:
            found.append(path)
    if found:
        changed = asked(root, "diff", "-z", "--name-only", "--relative", "--", *found).split("\0")
        found = [path for path in found if path not in changed]
    if found:
        problem = f"git changed the line ends of this and of {len(found) - 1} more files"
        settings = "git config core.autocrlf false && git config core.eol lf"
        todo = f"`{settings} && git rm -rq --cached . && git reset -q --hard`"
        raise BadInput(f"{found[0]}: {problem}, so dvc.lock is wrong here; commit what you changed, then {todo}")


def refuse_hidden_sources(repo: Any, root: Path, paths: Sequence[str]) -> None:
    """Raise BadInput where .dvcignore hides a table that a study is made from: a change of it would rerun nothing."""
    for path in paths:
        if (root / path).exists() and repo.dvcignore.is_ignored(repo.fs, str(root / path)):
            raise BadInput(f"{path}: hidden from DVC by a line in .dvcignore, so a change of it would rerun nothing")


def _below(path: str, folders: Collection[str]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)


def _listed(root: Path, *options: str) -> set[str]:
    return set(asked(root, "ls-files", "-z", *options, "--", *HASHED).split("\0"))
