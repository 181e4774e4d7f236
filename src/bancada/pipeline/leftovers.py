"""What is left over: entries of dvc.lock, and files among the results, that no stage of dvc.yaml makes any more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from bancada.base import BadInput, files, index
from bancada.base.lockfile import LOCK_FILE, folder_md5
from bancada.pipeline import dvc_internals as dvc

# The file by which one knows what a stage of a study or of a variant made, by its folder.
KNOWN_BY = {"split": "train.parquet", "models": files.RUN, "evaluation": "scores.csv"}
INDEX_STAGE = "index@"
CHANGED = "changed since dvc.lock was made"


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
    with dvc.opened(root) as repo, repo.lock:
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


def wrong_in_index(
    stage: Any, root: Path, made: Mapping[str, Any]
) -> Iterator[tuple[Literal["stale", "lock"], str, str]]:
    """Compare the models that a study's index names with those that dvc.yaml has, and that dvc.lock says were made.

    Yield the kind, the subject and the problem of each finding. What the stage read may hold more, models that were
    left over: no clone has them, so there the stage would run.
    """
    study = stage.name.removeprefix(INDEX_STAGE)
    try:
        indexed = index.read(study)
    except BadInput:  # it is missing or damaged, which is said of it as an out
        return
    if indexed.keys() != _models(study, made).keys():
        yield "stale", files.index(study).as_posix(), "names other variants than params.yaml"
    for variant, out in _models(study, made).items():
        if variant in indexed and out.hash_info and out.hash_info.value != folder_md5(indexed[variant]):
            problem = f"{files.index(study)} names another one than {out.stage.addressing} made"
            yield "lock", out.def_path, problem
    for dep in stage.deps:
        path = dvc.path_of(dep, root)
        whole = dep.hash_info and dep.hash_info.value == _models_md5(indexed)
        if path == files.models(study).as_posix() and not whole and dvc.state(dep):
            yield "stale", path, CHANGED


def _models(study: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outs that are models of the study, by variant."""
    return {Path(path).name: out for path, out in made.items() if Path(path).parent == files.models(study)}


def _models_md5(hashes: index.Hashes) -> str:
    """Return DVC's hash of the folder of a study's models that holds these models and nothing else."""
    return folder_md5({f"{name}/{file}": md5 for name, of in hashes.items() for file, md5 in of.items()})


def _read_too_much(repo: Any, root: Path) -> dict[str, dict[str, Any]]:
    """Return what dvc.lock should say of the folder that a stage index read, where that alone is wrong.

    Its content is then what the stage would write again, and what all clones have.
    """
    found = {}
    made = {dvc.path_of(out, root): out for out in repo.index.outs}
    for stage in repo.index.stages:
        if dvc.runs(stage) and stage.name.startswith(INDEX_STAGE) and dvc.entry(stage):
            study = stage.name.removeprefix(INDEX_STAGE)
            path = files.models(study).as_posix()
            if [subject for _, subject, _ in wrong_in_index(stage, root, made)] == [path]:
                metas = [out.meta for out in _models(study, made).values()]
                size, count = (sum(getattr(meta, key) or 0 for meta in metas) for key in ("size", "nfiles"))
                found[stage.name] = {"path": path, "md5": _models_md5(index.read(study)), "size": size, "nfiles": count}
    return found


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
