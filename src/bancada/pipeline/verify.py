"""`bancada verify`: do the committed results still come out of the committed code, parameters and data?

Every stage runs for real in a temporary clone of HEAD, without a cache, and each out is held against what dvc.lock and
git say of it. What the verdict means: comparing.py has the tolerances, judging.py who is right, causes.py what can be
proved of the reason.

The verdict is about the commit. Of the workspace it takes in what would be mistaken for the commit's results: a file
that is not the one that dvc.lock names, a model that no stage makes. Changes that are not committed are named only.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bancada.base.files import whole
from bancada.base.git import git
from bancada.base.refusals import BadInput
from bancada.pipeline import causes
from bancada.pipeline.check import Finding, audit
from bancada.pipeline.clone import Clone, clone_of, fetch, fetch_inputs, head
from bancada.pipeline.compare import Verdict
from bancada.pipeline.judge import Committed, Stage, clear, committed, judge, made_by_none, starts
from bancada.pipeline.verdict import NO_CAUSE, STATUS, Report, as_json, as_markdown, show

NOT_RUN = "could not be run"
PLAIN_WIDTH = 160  # in a file or a CI job's log
LEFT = (
    "left: the committed files were made by code or data that was never committed, or with other packages or on "
    "another kind of CPU than these"
)


def verify(targets: Sequence[str], jobs: int, json_file: Path | None, markdown_file: Path | None) -> int:
    """In the current folder, the repository's root. The exit status: 0 all same bits, 3 within tolerance, 1 different.
    BadInput where it could not be run."""
    for path in filter(None, (json_file, markdown_file)):
        _refuse_unwritable(path)
    try:
        report = _verify(Path.cwd(), targets, jobs)
    except BadInput as error:
        _write(json_file, json.dumps({"verdict": NOT_RUN, "exit_status": 2, "reason": str(error)}, indent=1) + "\n")
        _write(markdown_file, f"### Reproduction: {NOT_RUN}\n\n{error}\n")
        raise
    show(report, Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    _write(json_file, as_json(report))
    _write(markdown_file, as_markdown(report))
    return STATUS[report.verdict]


def _refuse_unwritable(path: Path) -> None:
    """Before minutes of work, at the end of which nobody could read the verdict."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise BadInput(f"{path}: cannot be written to")


def _write(path: Path | None, text: str) -> None:
    """A pipe or another thing that is no file is written to, a link is followed, a file is made whole or not at all."""
    if not path:
        return
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        with whole(path.resolve()) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def _verify(root: Path, targets: Sequence[str], jobs: int) -> Report:
    began = time.monotonic()
    commit = head(root)
    if git(root, "cat-file", "-e", f"{commit}:./dvc.lock").returncode:
        raise BadInput(f"dvc.lock: commit {commit[:10]} has none, so it says of no result what it should be")
    uncommitted = git(root, "status", "--porcelain", "--untracked-files=no").stdout.splitlines()
    with clone_of(root, commit, "verify") as clone:
        fetch_inputs(clone)
        said = committed(clone.root, targets, clone.folder / "committed")
        clear(clone.root, said, everything=not targets)
        here = _of_the_workspace(root)
        print(f"commit {commit[:10]} in a temporary clone: {len(said.upstream)} stages, {jobs} at a time", flush=True)
        status = clone.repro(targets, jobs)
        if status:
            raise BadInput(f"{NOT_RUN}: `bancada repro` ended with status {status} in a clone of {commit[:10]}")
        stages = judge(said, clone.root, lambda path, to, md5: fetch(clone, path, to, md5))
        elsewhere = [lie for lie in said.lies if lie.kind == "gone"]
        if not targets:
            elsewhere += made_by_none(clone, stages)
        return Report(
            commit=commit,
            part=targets,
            stages=stages,
            starts=starts(stages),
            elsewhere=elsewhere,
            here=[finding for finding in here if finding.kind in ("file", "gone") and finding not in said.lies],
            causes=_causes(clone, said, stages, here),
            uncommitted=[line[3:] for line in uncommitted],
            machine=causes.machine(clone.root),
            jobs=jobs,
            seconds=time.monotonic() - began,
        )


def _of_the_workspace(root: Path) -> list[Finding]:
    try:
        return audit(root)
    except BadInput as error:  # a dvc.yaml that is being edited, say, is no matter of the commit
        print(f"this workspace could not be looked at: {error}", file=sys.stderr)
        return []


def _causes(clone: Clone, said: Committed, stages: Sequence[Stage], here: Sequence[Finding]) -> list[causes.Cause]:
    if all(stage.verdict == Verdict.SAME for stage in stages):
        return []
    found = causes.of_the_commit(clone, stages, here)
    if not any(out.came_out_other for stage in stages for out in stage.outs):
        return found  # whatever this machine is, it is not the cause
    by_machine, fine, _ = causes.of_the_environment(clone)
    found += by_machine
    if not found:
        text = f"{NO_CAUSE}: {fine}, and dvc.lock is of the committed code and parameters; {LEFT}"
        found = [
            causes.Cause(text, "`bancada verify` where they were made, or `bancada repro --force` and commit anew")
        ]
    return found
