"""`bancada report FILE`: the page with the commit and the verdict of `bancada check` on top."""

from pathlib import Path

import pytest
from clones import succeeds

from bancada.base import BadInput, files
from bancada.evaluation.page import VERDICT
from bancada.pipeline import report
from bancada.pipeline.check import Finding
from bancada.pipeline.tolerance import Verdict, compare

PAGE = f"<h1>Report</h1>\n{VERDICT[0]}\nnothing\n{VERDICT[1]}\n<p>text</p>\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "check", lambda prune: [])
    files.DATA.mkdir()
    files.REPORT.write_text(PAGE)
    return tmp_path


def test_a_copy_names_the_commit_and_what_is_not_as_dvc_lock_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    succeeds(root, "git", "init", "-q")
    succeeds(root, "git", "add", "-A")
    succeeds(root, "git", "commit", "-qm", "a page")
    commit = succeeds(root, "git", "rev-parse", "HEAD").strip()
    report.report(root / "new" / "copy.html")
    fine = f"<p>Commit {commit}.</p>\n<p>bancada check: all that is here is as dvc.lock says.</p>\n"
    assert (root / "new/copy.html").read_text() == PAGE.replace("nothing\n", fine)
    monkeypatch.setattr(report, "check", lambda prune: [Finding("stale", "params.yaml: <lr>", "changed")] * 12)
    files.REPORT.write_text(f"{PAGE}edited")
    shown = report.report(root / "copy.html").splitlines()
    assert shown[0] == f"Commit {commit}, and changes that are not committed."
    assert (shown[1], len(shown), shown[-1]) == ("bancada check: 12 findings.", 13, "and 2 more")
    assert "<p>params.yaml: &lt;lr&gt;: changed; `bancada repro`</p>" in (root / "copy.html").read_text()
    assert files.REPORT.read_text() == f"{PAGE}edited"


def test_what_cannot_be_copied_is_refused_in_one_line_and_nothing_is_written(root: Path) -> None:
    with pytest.raises(BadInput, match="is the out of the stage report; name another file"):
        report.report(files.REPORT.absolute())
    files.REPORT.write_text("<p>by hand</p>")
    with pytest.raises(BadInput, match="not a page of the stage report"):
        report.report(root / "copy.html")
    files.REPORT.unlink()
    with pytest.raises(BadInput, match=r"data/report.html: missing; `bancada repro report` or `dvc checkout`"):
        report.report(root / "copy.html")
    assert not (root / "copy.html").exists()


def test_pages_and_drawings_are_compared_by_their_numbers_and_texts(tmp_path: Path) -> None:
    kept, made = tmp_path / "a.svg", tmp_path / "b.svg"
    kept.write_text('<path d="M1.5 2"/><image href="data:image/png;base64,AAAA"/>')
    made.write_text('<path d="M1.50001 2"/><image href="data:image/png;base64,BBBB"/>')
    assert compare(kept, made).verdict == Verdict.WITHIN
    made.write_text('<path d="M1.6 2"/><image href="data:image/png;base64,AAAA"/>')
    assert compare(kept, made).verdict == Verdict.DIFFERENT
    made.write_text('<path d="L1.5 2"/><image href="data:image/png;base64,AAAA"/>')
    assert compare(kept, made).verdict == Verdict.DIFFERENT
