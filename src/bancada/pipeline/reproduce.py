"""`bancada reproduce RUN_ID`: does an MLflow run's training come out again, from its commit with its parameters?

What git did not hold when the run was made, such as the `-S lr=0.01` of a DVC experiment, is in the run's git.diff.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from bancada.base import files
from bancada.base.git import git
from bancada.base.lockfile import md5
from bancada.base.notify import first_line
from bancada.base.refusals import BadInput
from bancada.pipeline import causes
from bancada.pipeline.causes import REQUIREMENTS, Cause
from bancada.pipeline.check import changed
from bancada.pipeline.clone import Clone, clone_of, fetch_inputs, head
from bancada.pipeline.compare import SAME, Difference, Verdict, compare, different
from bancada.pipeline.locked import inside
from bancada.pipeline.plan import opened, planned
from bancada.pipeline.verdict import STATUS
from bancada.tracking import mirror
from bancada.tracking.catch_up import NO_STORE, shown_store
from bancada.tracking.models import WEIGHTS
from bancada.tracking.store import STORE_ERRORS, Store, artifact_paths, open_store
from bancada.tracking.surroundings import CUT, UNTRACKED, repository_root, store_uri

DIFF = "git.diff"
LIBRARIES = ("numpy", "torch", "python")  # whose versions are tags
TAGS = {"git.commit": "commit", "bancada.study": "study", "bancada.variant": "variant", WEIGHTS: "weights_md5"}


@dataclass(frozen=True)
class RecordedRun:
    """What the run says of its training. `folder` has its files, as far as the store still holds them."""

    run_id: str
    commit: str
    study: str
    variant: str
    weights_md5: str
    tags: Mapping[str, str]
    splits: Mapping[str, str]  # the hashes of its rows, by part
    folder: Path

    @property
    def target(self) -> str:
        return f"train@{self.variant}"


def reproduce(run_id: str, jobs: int) -> int:
    """Train again in a temporary clone. The exit status: 0 the same weights, 3 within tolerance, 1 different. BadInput
    where that could not be tried."""
    began, root = time.monotonic(), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="bancada-run-") as name:
        run = _recorded(run_id, Path(name))
        if git(root, "cat-file", "-e", f"{run.commit}^{{commit}}").returncode:
            raise BadInput(
                f"{run_id}: made at commit {run.commit[:10]}, which this repository does not have: `git fetch`"
            )
        with clone_of(root, head(root, run.commit), "reproduce") as clone:
            with_diff = _apply(run, clone)
            _refuse_untracked(run, clone)
            fetch_inputs(clone)
            print(f"{run.target} at commit {run.commit[:10]}{with_diff}, in a temporary clone", flush=True)
            status = clone.repro([run.target], jobs)
            if status:
                raise BadInput(f"{run_id}: could not be run: `bancada repro {run.target}` ended with status {status}")
            return _verdict(run, clone, time.monotonic() - began)


def _recorded(run_id: str, folder: Path) -> RecordedRun:
    root = repository_root(Path.cwd())
    uri, shown = store_uri(root), shown_store(root)
    path = Path(unquote(uri.removeprefix("sqlite:///")))
    if uri.startswith("sqlite:///") and not path.exists():
        raise BadInput(f"{path}: there is none, so no run {run_id}; MLFLOW_TRACKING_URI names another store")
    try:
        store = open_store(root)
        run = _run(store, run_id, shown)
        held = artifact_paths(store, run)
        for name in (DIFF, REQUIREMENTS, files.RUN, files.WEIGHTS):
            if name in held:
                store.client.download_artifacts(run_id, name, str(folder))
    except (*NO_STORE, *STORE_ERRORS) as error:
        raise BadInput(f"MLflow's store {shown}: {type(error).__name__}: {first_line(error)}") from None
    tags = run.data.tags
    for tag in TAGS:
        if not tags.get(tag):
            known = "it is not finished" if tag == WEIGHTS else "it is no training of bancada in a git repository"
            raise BadInput(f"{run_id}: has no tag {tag}: {known}, so there is nothing to reproduce")
    if tags.get("git.clean") != "true" and not (folder / DIFF).exists():
        raise BadInput(f"{run_id}: made with changes that were not committed, and its {DIFF} is not in the store")
    rows = run.inputs.dataset_inputs if run.inputs else []
    splits = {one.dataset.name.rpartition("/")[2]: one.dataset.digest for one in rows}
    return RecordedRun(run_id, **{key: tags[tag] for tag, key in TAGS.items()}, tags=tags, splits=splits, folder=folder)


def _run(store: Store, run_id: str, shown: str) -> Run:
    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise BadInput(f"{run_id}: there is no such run in {shown}") from None
        raise


def _apply(run: RecordedRun, clone: Clone) -> str:
    """Bring the clone to the tree of the run; in words, what was changed. BadInput where that cannot be."""
    diff = run.folder / DIFF
    text = diff.read_bytes() if diff.exists() else b""
    if CUT.encode() in text:
        raise BadInput(f"{run.run_id}: its {DIFF} was too long and is cut, so its code cannot be brought back")
    patch = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(UNTRACKED.encode()))
    if not patch.strip():
        return ""
    whole = run.folder / "patch"
    whole.write_bytes(patch)
    top = git(clone.root, "rev-parse", "--show-toplevel").stdout.strip()
    done = git(Path(top), "apply", "--whitespace=nowarn", str(whole))
    if done.returncode:
        why = next(iter(done.stderr.splitlines()), "git apply failed")
        raise BadInput(f"{run.run_id}: its {DIFF} does not apply to commit {run.commit[:10]}: {why}")
    names = git(Path(top), "diff", "--name-only").stdout.split()
    return f" with what was not committed of {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"


def _refuse_untracked(run: RecordedRun, clone: Clone) -> None:
    """BadInput where the run read files that git did not know."""
    diff = run.folder / DIFF
    lines = diff.read_text(errors="replace").splitlines() if diff.exists() else []
    names = [line.removeprefix(UNTRACKED) for line in lines if line.startswith(UNTRACKED)]
    with opened(clone.root) as repo:
        stages, _ = planned(repo, [run.target])
        read = [Path(dep.fs_path) for stage in stages.values() for dep in stage.deps]
    missing = [name for name in names if any(inside(str(clone.root / name), str(dep)) for dep in read)]
    if missing:
        raise BadInput(
            f"{run.run_id}: read files that git did not know, so they cannot be brought back: {', '.join(missing)}"
        )


def _verdict(run: RecordedRun, clone: Clone, seconds: float) -> int:
    model = clone.root / files.model(run.study, run.variant)
    made = md5(model / files.WEIGHTS)
    difference = SAME if made == run.weights_md5 else _compared(run, model)
    why = list(_why(run, clone, model, difference))
    print(f"\nrecorded  {run.weights_md5}\nmade      {made}")
    if difference.verdict:
        print(f"{files.WEIGHTS}: {difference}")
    for cause in why:
        print(f"why: {cause.text}\n     {cause.todo}" if cause.todo else f"note: {cause.text}")
    machine = causes.machine(clone.root)
    where = f"{run.target} of run {run.run_id}, {machine['cpu']}, Python {machine['python']}, {seconds:.0f} s"
    print(f"\n{difference.verdict}: the weights of {where}")
    return STATUS[difference.verdict]


def _compared(run: RecordedRun, model: Path) -> Difference:
    old = run.folder / files.WEIGHTS
    if not old.exists():
        return different("not compared number by number: the run's own is not in the store")
    if md5(old) != run.weights_md5:
        return different(f"not compared number by number: the run's own is not the one that its tag {WEIGHTS} names")
    return compare(old, model / files.WEIGHTS)


def _why(run: RecordedRun, clone: Clone, model: Path, difference: Difference) -> Iterator[Cause]:
    """What the run was made from and this one was not; and, where the weights differ, what else can be proved."""
    with chdir(clone.root):
        now = mirror.result(model)
    same_inputs = now.fingerprint == run.tags.get("bancada.fingerprint")
    if not same_inputs:
        yield from _other_inputs(run, clone, now.recipe)
    if difference.verdict == Verdict.SAME:
        return
    found, fine, here = causes.of_the_environment(clone)
    yield from found
    kept = run.folder / REQUIREMENTS
    made_with = causes.requirements(kept.read_text()) if kept.exists() else {}
    made_with |= {name: run.tags[f"bancada.{name}"] for name in LIBRARIES if f"bancada.{name}" in run.tags}
    other = causes.other_versions({name: version for name, version in made_with.items() if name in here}, here)
    if other:
        yield Cause(f"the run was made with other versions: here {other}", f"try it with the run's {REQUIREMENTS}")
    if not found and not other and same_inputs:
        yield Cause(
            f"no cause found: the inputs, code and versions have the run's fingerprint, {fine}",
            "try it on the machine that made it",
        )


def _other_inputs(run: RecordedRun, clone: Clone, recipe: Mapping[str, Any]) -> Iterator[Cause]:
    """Say why the fingerprint is another one: the recipe, the rows, or else the code and the versions of packages."""
    kept = run.folder / files.RUN
    said = list(changed("recipe", json.loads(kept.read_text())["recipe"], recipe)) if kept.exists() else []
    for part, digest in run.splits.items():
        path = files.split(run.study) / f"{part}.parquet"
        if (clone.root / path).exists() and md5(clone.root / path) != digest:
            said.append(str(path))
    what = ", ".join(said) or "the code, or the version of a package, for recipe and rows are the same"
    yield Cause(f"its inputs are not those of the run, whose fingerprint is another: {what}", "")
