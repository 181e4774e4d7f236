"""`bancada reproduce RUN_ID`: does an MLflow run's training reproduce, from its commit with its parameters?

What git did not hold when the run was made, such as the `-S lr=0.01` of a DVC experiment, is in the run's git.diff.
"""

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import typer

from bancada.base import BadInput, files, lockfile
from bancada.base.git import asked, commit_of
from bancada.base.refusals import PARAMS_FILE, several
from bancada.pipeline import causes, verdict
from bancada.pipeline.causes import Cause
from bancada.pipeline.check import CODE_FOLDER, SOURCES
from bancada.pipeline.clone import Clone, clone_of, fetch_inputs, head
from bancada.pipeline.tolerance import SAME, Difference, Verdict, compare, different
from bancada.tracking import mirror
from bancada.tracking.catch_up import NO_STORE, shown_store
from bancada.tracking.experiments import full_id
from bancada.tracking.models import WEIGHTS_MD5
from bancada.tracking.store import STORE_ERRORS, artifact_paths, cause, database_file, open_store
from bancada.tracking.surroundings import UNTRACKED, repository_root, store_uri

DIFF = "git.diff"
NAME = r"[A-Za-z0-9_-]+"
TAGS = {  # without these nothing can be reproduced; each with its form, for a store may hold anything
    "git.commit": "[0-9a-f]{40,64}",
    "bancada.study": NAME,
    "bancada.variant": NAME,
    "dvc.stage": f"train@{NAME}",
    WEIGHTS_MD5: "[0-9a-f]{32}",
}
NO_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of MLflow's errors


@dataclass(frozen=True)
class RecordedRun:
    """What a run says of its training. `folder` has those of its files that the store still holds."""

    run_id: str
    tags: Mapping[str, str]
    folder: Path


def reproduce(run_id: str, yes: bool = False) -> int:
    """Train again in a temporary clone, and print whether the weights are those of the run.

    Code that came from the store runs after the user agreed alone; `yes`: the user has.
    The exit status is 0 for the same weights, 3 within tolerance, 1 different. Raise BadInput where it cannot be tried.
    """
    began, root = time.monotonic(), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="bancada-run-") as name:
        run = _recorded(run_id, Path(name))
        commit = run.tags["git.commit"]
        if not commit_of(root, commit):
            missing = f"made at commit {commit[:10]}, which this repository does not have: `git fetch`"
            raise BadInput(f"{run_id}: {missing}")
        with clone_of(root, head(root, commit), "reproduce") as clone:
            target, with_diff = run.tags["dvc.stage"], _apply(run, clone, yes)
            fetch_inputs(clone)
            print(f"{target} at commit {commit[:10]}{with_diff}, in a temporary clone", flush=True)
            clone.repro([target])
            return _verdict(run, clone, time.monotonic() - began)


def _recorded(run_id: str, folder: Path) -> RecordedRun:
    root = repository_root(Path.cwd())
    shown, path = shown_store(root), database_file(store_uri(root))
    if path and not path.exists():
        raise BadInput(f"{path}: there is none, so no run {run_id}; MLFLOW_TRACKING_URI names another store")
    try:
        store = open_store(root)
        run_id = full_id(store, run_id)
        run = store.client.get_run(run_id)
        for name in artifact_paths(store, run) & {DIFF, files.WEIGHTS}:
            store.client.download_artifacts(run_id, name, str(folder))
    except (*NO_STORE, *STORE_ERRORS) as error:
        if getattr(error, "error_code", "") in NO_RUN:
            raise BadInput(f"{run_id}: there is no such run in {shown}") from None
        raise BadInput(f"{run_id}: it cannot be fetched from MLflow's store {shown}: {cause(error)}") from None
    tags = run.data.tags
    problem = f" ({tags['git.problem']})" if "git.problem" in tags else ""
    for tag, form in TAGS.items():
        if not re.fullmatch(form, tags.get(tag, "")):
            raise BadInput(f"{run_id}: its tag {tag} is {tags.get(tag)!r}, so there is nothing to reproduce{problem}")
    if tags.get("git.clean") != "true" and not (folder / DIFF).exists():
        what = f"its tag git.clean is {tags.get('git.clean')}, and its {DIFF} is not in the store"
        raise BadInput(f"{run_id}: {what}, so nobody knows what was not committed{problem}")
    return RecordedRun(run_id, tags, folder)


def _apply(run: RecordedRun, clone: Clone, yes: bool) -> str:
    """Bring the clone to the tree of the run. Return in words what that changed; raise BadInput if it is impossible."""
    diff = run.folder / DIFF
    lines = diff.read_bytes().splitlines() if diff.exists() else []
    untracked = [os.fsdecode(line).removeprefix(UNTRACKED) for line in lines if line.startswith(UNTRACKED.encode())]
    if missing := [name for name in untracked if name.startswith((f"{CODE_FOLDER}/", f"{SOURCES}/"))]:
        problem = "may have read files that git did not know, so they cannot be brought back"
        raise BadInput(f"{run.run_id}: {problem}: {', '.join(missing)}")
    if len(untracked) == len(lines):
        return ""
    top = Path(asked(clone.root, "rev-parse", "--show-toplevel").rstrip("\n"))
    try:  # beside each name stand the numbers of lines
        changed = asked(top, "apply", "--whitespace=nowarn", "--numstat", "-z", "--apply", str(diff))
    except BadInput as error:
        raise BadInput(f"{run.run_id}: its {DIFF} does not apply to commit {clone.commit[:10]}: {error}") from None
    names = [entry.split("\t")[2] for entry in changed.rstrip("\0").split("\0")]
    if [top / name for name in names] != [clone.root / PARAMS_FILE]:
        _agree(run, names, diff.read_text("utf-8", "replace"), yes)
    return f" with what was not committed of {several(names, 5)}"


def _agree(run: RecordedRun, names: Sequence[str], patch: str, yes: bool) -> None:
    """Show code that came from the store, and end the program unless the user agrees to run it."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in patch)
    print(f"{shown}\nThis {DIFF} of run {run.run_id} came from the store, and changes more than {PARAMS_FILE}:")
    print(several(names, 5), flush=True)
    if yes or (sys.stdin.isatty() and typer.confirm("Run it?")):
        return
    raise BadInput(f"{run.run_id}: not run. To run this code, type: bancada reproduce {run.run_id} --yes")


def _verdict(run: RecordedRun, clone: Clone, seconds: float) -> int:
    with chdir(clone.root):
        made = mirror.result(files.model(run.tags["bancada.study"], run.tags["bancada.variant"]))
    recorded = run.tags[WEIGHTS_MD5]
    difference = SAME if made.weights_md5 == recorded else _compared(run, clone.root / made.folder)
    why = _why(run, clone, made, difference)
    print(f"\nrecorded  {recorded}\nmade      {made.weights_md5}")
    if difference.verdict:
        print(f"{files.WEIGHTS}: {difference}")
    for one in why:
        print(f"why: {one.text}\n     {one.todo}" if one.todo else f"note: {one.text}")
    machine = causes.machine(clone.root)
    where = f"{machine['cpu']}, Python {machine['python']}, {seconds:.0f} s"
    print(f"\n{difference.verdict}: the weights of {run.tags['dvc.stage']} of run {run.run_id}, {where}")
    return verdict.STATUS[difference.verdict]


def _compared(run: RecordedRun, model: Path) -> Difference:
    old = run.folder / files.WEIGHTS
    if not old.exists() or lockfile.md5(old) != run.tags[WEIGHTS_MD5]:
        return different(f"not compared number by number: the store lacks those that the tag {WEIGHTS_MD5} names")
    return compare(old, model / files.WEIGHTS)


def _why(run: RecordedRun, clone: Clone, made: mirror.Result, difference: Difference) -> list[Cause]:
    """Return what the run was made from and this one was not; where the weights differ, what else can be proved."""
    found = list[Cause]()
    if made.fingerprint != run.tags.get("bancada.fingerprint"):
        what = "the recipe, the rows, the code, or the version of a package"
        found.append(Cause(f"its inputs are not those of the run, whose fingerprint is another: {what}", ""))
    if difference.verdict != Verdict.SAME:
        found += causes.proved(clone.root, [made.variant])
        python = run.tags.get("bancada.python")
        if python and python != platform.python_version():
            found.append(Cause(f"the run was made with Python {python}", "try it with that"))
        if not found:
            found = [
                Cause(f"{causes.fine(clone.root)}, and the inputs are the run's", "try it on the machine that made it")
            ]
    return found
