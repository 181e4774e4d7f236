"""`bancada verify`: do the committed results reproduce from the committed code, parameters and data?

Every stage runs for real in a temporary clone of HEAD, without a cache, and each out is compared with what dvc.lock and
git say of it. tolerance.py has the tolerances, judge.py decides what differs, causes.py finds what can be proved of the
reason.

The verdict is about the commit. Of the workspace, what could be mistaken for the commit's results counts: a file that
is not the one that dvc.lock names, a model that no stage makes. Changes that are not committed are only named.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from bancada.base import BadInput
from bancada.base.git import asked, file_at
from bancada.pipeline import causes, check
from bancada.pipeline.clone import NOT_RUN, Clone, clone_of, fetch, fetch_inputs, head
from bancada.pipeline.judge import Stage, committed, judge
from bancada.pipeline.verdict import as_markdown, as_report

PLAIN_WIDTH = 160  # in a file or a CI job's log


def verify(targets: Sequence[str], json_file: Path | None, markdown_file: Path | None) -> int:
    """Verify the current folder, the repository's root, and print the verdict.

    The exit status is 0 for the same bits, 3 within tolerance, 1 different. Raise BadInput where it could not be run.
    """
    for path in (json_file, markdown_file):  # minutes of work would end in a verdict that nobody could read
        _write(path, "", "a")
    try:
        report = _verify(Path.cwd(), targets)
    except BadInput as error:
        _write(json_file, json.dumps({"verdict": NOT_RUN, "exit_status": 2, "reason": str(error)}, indent=1) + "\n")
        _write(markdown_file, f"### Reproduction: {NOT_RUN}\n\n{error}\n")
        raise
    text = as_markdown(report)
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(Markdown(text))
    _write(json_file, json.dumps(report, indent=1) + "\n")
    _write(markdown_file, text)
    return int(report["exit_status"])


def _write(path: Path | None, text: str, mode: str = "w") -> None:
    """Write to a file, a pipe or a device. Raise BadInput where that is impossible."""
    try:
        if path:
            with path.open(mode, encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def _verify(root: Path, targets: Sequence[str]) -> dict[str, Any]:
    began, commit = time.monotonic(), head(root)
    if not file_at(root, commit, "dvc.lock"):
        raise BadInput(f"dvc.lock: commit {commit[:10]} has none, so it says of no result what it should be")
    changed = asked(root, "diff", "--name-only", "--relative", "--no-renames", "-z", "HEAD", "--", ".")
    with clone_of(root, commit, "verify") as clone:
        fetch_inputs(clone)
        expected = committed(clone.root, targets, clone.folder / "committed")
        left = [] if targets else [finding for finding in expected.findings if finding.kind == "gone"]
        here = [finding for finding in _of_the_workspace(root) if finding not in left]
        count = len(expected.upstream)
        print(f"commit {commit[:10]} in a temporary clone: {count} stages", flush=True)
        clone.repro(targets)
        stages = judge(expected, clone.root, lambda path, to, md5: fetch(clone, path, to, md5))
        context = {
            "commit": commit,
            "asked_for": list(targets),
            "uncommitted": [name for name in changed.split("\0") if name],
            "machine": causes.machine(clone.root),
            "seconds": round(time.monotonic() - began, 1),
        }
        return as_report(stages, left, here, _causes(clone, stages), context)


def _of_the_workspace(root: Path) -> list[check.Finding]:
    try:
        return [finding for finding in check.audit(root) if finding.kind in ("file", "gone")]
    except BadInput as error:  # a dvc.yaml that is being edited, for example, does not concern the commit
        print(f"this workspace could not be looked at: {error}", file=sys.stderr)
        return []


def _causes(clone: Clone, stages: Sequence[Stage]) -> list[causes.Cause]:
    if not any(out.difference.verdict for stage in stages for out in stage.outs):
        return []  # the run made the committed files, so this machine is not the cause
    other = [stage.name.removeprefix("train@") for stage in stages if stage.verdict]
    found = causes.proved(clone.root, other)
    if not found and not any(stage.findings for stage in stages):
        text = (
            f"{causes.fine(clone.root)}, and dvc.lock is of the committed code and parameters. The committed files were"
            " made by code or data that was never committed, or with other packages or on another kind of CPU"
        )
        found = [causes.Cause(text, "`bancada verify` where they were made, or `bancada repro --force` and commit")]
    return found
