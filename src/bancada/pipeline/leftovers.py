"""What is left over: entries of dvc.lock, and files among the results, that no stage of dvc.yaml makes any more."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from bancada.base import BadInput, files, index
from bancada.base.lockfile import LOCK_FILE, folder_md5
from bancada.pipeline import dvc_internals as dvc

# The file by which one knows what a stage of a study or of a variant made, by its folder.
KNOWN_BY = {"split": "train.parquet", "models": files.RUN, "evaluation": "scores.csv"}
INDEX_STAGE = "index@"


@dataclass(frozen=True)
class Leftovers:
    """What `bancada check` and `bancada verify` name, all paths from the root."""

    entries: dict[str, list[str]]  # a dvc.lock -> its entries of stages that dvc.yaml does not have
    results: list[str]  # of studies and variants that are gone
    strays: list[str]  # files that no stage of bancada ever wrote


def find(repo: Any, root: Path) -> Leftovers:
    """Return what no stage makes in DVC's repository at `root`; what .dvcignore hides is no matter."""
    stages = list(repo.index.stages)
    dvcfiles = {stage.path_in_repo: stage.dvcfile for stage in stages if dvc.runs(stage)}
    entries = {}
    for path, dvcfile in dvcfiles.items():
        named = {stage.name for stage in stages if stage.path_in_repo == path}
        if left := [name for name in dvcfile.lockfile_contents.get("stages") or {} if name not in named]:
            entries[Path(path).with_suffix(LOCK_FILE.suffix).as_posix()] = left
    made = {dvc.path_of(out, root) for stage in stages for out in stage.outs} | {stage.path_in_repo for stage in stages}
    around = {parent.as_posix() for path in made for parent in Path(path).parents}
    folders = [folder for folder in files.MADE if folder.as_posix() not in made]
    found = [name for folder in folders for name in _made_by_none(repo, root, folder, made, around)]
    results = [name for name in found if _is_result(root / name, Path(name))]
    return Leftovers(entries, results, [name for name in found if name not in results])


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


def _is_result(path: Path, inside: Path) -> bool:
    if inside in (files.raw(path.stem), files.index(path.stem)):
        return True
    known_by = KNOWN_BY.get(inside.parts[1], "")
    return known_by != "" and path.is_dir() and (any(path.rglob(known_by)) or not any(path.iterdir()))


def prune(root: Path) -> Iterator[str]:
    """Remove the entries and the results that are left over, and yield what was done; strays stay.

    What the stage index read is then brought up to date in dvc.lock: the models that are left over were part of it.
    """
    with dvc.opened(root) as repo, ExitStack() as held:
        dvc.hold(repo)
        held.callback(repo.lock.unlock)
        left = find(repo, root)
        for lock, names in left.entries.items():
            _edit(root / lock, dict.fromkeys(names))
            yield f"taken out of {lock}: {', '.join(names)}"
        for name in left.results:
            files.remove(root / name)
            yield f"removed: {name}"
        if read := _read_too_much(repo, root):
            _edit(root / LOCK_FILE, read)
            yield f"brought up to date in {LOCK_FILE}: {', '.join(read)}"


def models_md5(hashes: index.Hashes) -> str:
    """Return DVC's hash of the folder of a study's models that holds these models and nothing else."""
    return folder_md5({f"{name}/{file}": md5 for name, of in hashes.items() for file, md5 in of.items()})


def _read_too_much(repo: Any, root: Path) -> dict[str, dict[str, Any]]:
    """Return what dvc.lock should say of the folder that a stage index read, where it says more and the index is right.

    Its content is then what the stage would write again, and what all clones have.
    """
    found = {}
    made = {Path(dvc.path_of(out, root)): out for out in repo.index.outs}
    for stage in filter(dvc.runs, repo.index.stages):
        for dep in stage.deps if stage.name.startswith(INDEX_STAGE) and dvc.entry(stage) else ():
            folder = Path(dvc.path_of(dep, root))
            models = {
                path.name: out for path, out in made.items() if path.parent == folder == files.models(folder.name)
            }
            md5 = _md5_of(folder.name, models)
            if md5 and dep.hash_info and dep.hash_info.value != md5:
                size, count = (
                    sum(getattr(out.meta, key) or 0 for out in models.values()) for key in ("size", "nfiles")
                )
                found[stage.name] = {"path": dep.def_path, "md5": md5, "size": size, "nfiles": count}
    return found


def _md5_of(study: str, models: Mapping[str, Any]) -> str:
    """Return DVC's hash of the folder of these models, if the study's index names them and no others; else nothing."""
    try:
        indexed = index.read(study) if models else {}
    except BadInput:  # its stage has to run, which `check` says
        return ""
    right = {name: out.hash_info.value for name, out in models.items() if out.hash_info}
    return models_md5(indexed) if indexed and right == {name: folder_md5(of) for name, of in indexed.items()} else ""


def _edit(lock: Path, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Take entries out of a dvc.lock (None), or replace what one says of a dependency; all else there stays."""
    content = parse_yaml_for_update(lock.read_text("utf-8"), str(lock))
    for name, change in changes.items():
        if change is None:
            del content["stages"][name]
        else:
            [dep] = [dep for dep in content["stages"][name]["deps"] if dep["path"] == change["path"]]
            dep.update(change)
    with files.whole(lock) as unfinished:
        unfinished.write_text(dumps_yaml(content), encoding="utf-8")
