"""What is left over: entries of dvc.lock, and files among the results, that no stage of dvc.yaml makes any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bancada.base import files, lockfile
from bancada.base.lockfile import LOCK_FILE
from bancada.pipeline import dvc_internals as dvc


@dataclass(frozen=True)
class Leftovers:
    """What `bancada check` and `bancada verify` name, all paths from the root."""

    entries: list[str]  # of dvc.lock, for stages that dvc.yaml does not have
    results: list[str]  # what those stages made
    strays: list[str]  # other files that no stage makes


def find(repo: Any, root: Path) -> Leftovers:
    """Return what no stage makes or reads in DVC's repository at `root`, and let DVC not see it.

    Stages index and report depend on whole folders, because no list of studies or variants can stand in dvc.yaml. With
    what is left over, the hashes of these folders in dvc.lock would be those of no clone. What .dvcignore hides is no
    matter.
    """
    dvc.hide(repo, ())
    stages = list(repo.index.stages)
    entries = lockfile.here().stages
    left = [name for name in entries if name not in {stage.name for stage in stages if dvc.runs(stage)}]
    outs = [out["path"] for name in left for out in entries[name].get("outs", ())]
    made = {dvc.path_of(out, root) for stage in stages for out in stage.outs} | {stage.path_in_repo for stage in stages}
    folders = [folder for folder in files.MADE if folder.as_posix() not in made]
    made |= {dvc.path_of(dep, root) for stage in stages for dep in stage.deps} - _above(made)  # not the folders of outs
    around = _above(made)
    found = [name for folder in folders for name in _made_by_none(repo, root, folder, made, around)]
    dvc.hide(repo, found)
    results = [name for name in found if any(f"{out}/".startswith(f"{name}/") for out in outs)]
    return Leftovers(left, results, [name for name in found if name not in results])


def _above(paths: set[str]) -> set[str]:
    return {parent.as_posix() for path in paths for parent in Path(path).parents}


def _made_by_none(repo: Any, root: Path, folder: Path, made: set[str], around: set[str]) -> Iterator[str]:
    """Yield the files and folders in a folder that are no outs, lie in none and hold none."""
    for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
        inside = folder / path.name
        if inside.as_posix() in made or path.name.startswith(".git") or repo.dvcignore.is_ignored(repo.fs, str(path)):
            continue
        if inside.as_posix() in around:
            yield from _made_by_none(repo, root, inside, made, around)
        else:
            yield inside.as_posix()


def prune(root: Path) -> Iterator[str]:
    """Remove the entries that are left over and what their stages made, and yield what was done; strays stay."""
    with dvc.opened(root) as repo, repo.lock:
        left = find(repo, root)
        for name in left.results:
            files.remove(root / name)
            yield f"removed: {name}"
        if left.entries:
            with dvc.rewritten(root / LOCK_FILE) as content:
                for name in left.entries:
                    del content["stages"][name]
            yield f"taken out of {LOCK_FILE}: {', '.join(left.entries)}"
