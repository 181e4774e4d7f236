"""`bancada report FILE`: a copy of data/report.html with the commit and the verdict of `bancada check` on top."""

from html import escape
from pathlib import Path

from bancada.base import BadInput, files, git
from bancada.evaluation.page import VERDICT
from bancada.pipeline.check import check

MOST_SHOWN = 10  # findings


def report(path: Path) -> str:
    """Write the copy, whole, and return its first lines as text. Raise BadInput where there is no page to copy."""
    if path == files.REPORT.absolute():
        raise BadInput(f"{files.REPORT}: is the out of the stage report; name another file for the copy")
    try:
        page = files.REPORT.read_text("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{files.REPORT}: missing; `bancada repro report` or `dvc checkout` brings it") from None
    before, begin, rest = page.partition(VERDICT[0])
    _, end, after = rest.partition(VERDICT[1])
    if not end:
        raise BadInput(f"{files.REPORT}: not a page of the stage report; `bancada repro -f report` makes it anew")
    lines = [_of_commit(), *_verdict()]
    shown = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
    with files.whole(path) as unfinished:
        unfinished.write_text(f"{before}{begin}\n{shown}{end}{after}", encoding="utf-8")
    return "\n".join(lines)


def _of_commit() -> str:
    commit = git.commit_of(Path())
    if not commit:
        return "Commit: none."
    changed = git.asked(Path(), "status", "--porcelain", "--untracked-files=no")
    return f"Commit {commit}{', and changes that are not committed' if changed else ''}."


def _verdict() -> list[str]:
    found = list(map(str, check(prune=False)))
    if not found:
        return ["bancada check: all that is here is as dvc.lock says."]
    more = len(found) - MOST_SHOWN
    return [f"bancada check: {len(found)} findings.", *found[:MOST_SHOWN], *[f"and {more} more"] * (more > 0)]
