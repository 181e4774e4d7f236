"""The verdict of `bancada verify`: Markdown, for the terminal and the page of a CI job, and JSON for programs."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bancada.pipeline.causes import Cause
from bancada.pipeline.check import Finding, several
from bancada.pipeline.compare import ABSOLUTE, PIXELS, RELATIVE, Verdict
from bancada.pipeline.judge import Out, Stage

STATUS = {Verdict.SAME: 0, Verdict.WITHIN: 3, Verdict.DIFFERENT: 1}
MOST_SHOWN = 50  # differences; the JSON has them all


@dataclass(frozen=True)
class Report:
    """`elsewhere`: files of git among the results that no stage makes. `here`: what is wrong in the workspace alone."""

    commit: str
    part: Sequence[str]  # the stages that were asked for; none: all
    stages: Sequence[Stage]
    starts: Sequence[str]
    elsewhere: Sequence[Finding]
    here: Sequence[Finding]
    causes: Sequence[Cause]
    uncommitted: Sequence[str]
    machine: dict[str, str]
    jobs: int
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The worst of all stages; `different` where git or the workspace holds what no stage made."""
        found = [stage.verdict for stage in self.stages]
        return Verdict.DIFFERENT if self.elsewhere or self.here else max(found, default=Verdict.SAME)

    def sentence(self) -> str:
        """Return the verdict in one line."""
        outs = [out for stage in self.stages for out in stage.outs]
        wrong = sum(len(stage.findings) for stage in self.stages) + len(self.elsewhere)
        same = self.verdict == Verdict.SAME
        parts = [
            f"{f'all {len(outs)}' if same else f'{counted(outs)} among {len(outs)}'} outs of {len(self.stages)} stages",
            f"dvc.lock or git is wrong in {wrong} place{'s' * (wrong > 1)}" if wrong else "",
            f"{len(self.here)} wrong in this workspace" if self.here else "",
            f"commit {self.commit[:10]}",
            f"{self.machine['cpu']}, Python {self.machine['python']}",
            self.machine["packages"],
            f"{self.seconds:.0f} s at -j {self.jobs}",
        ]
        return f"{self.verdict}: {'; '.join(filter(None, parts))}"


def counted(outs: Iterable[Out]) -> str:
    """Return how many outs have which verdict."""
    count = Counter(out.verdict for out in outs)
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in sorted(count))


def as_markdown(report: Report) -> str:
    """Return the verdict as Markdown: a table of the stages, then lists of what is wrong, why, and what to do."""
    rows = [f"| {stage.name} | {stage.verdict} | {counted(stage.outs)} |" for stage in report.stages]
    wrong = [f"{stage.name}: {text}" for stage in report.stages for text in _wrong(stage)]
    more = [f"and {len(wrong) - MOST_SHOWN} more; `--json FILE` keeps them all"] if wrong[MOST_SHOWN:] else []
    after = [stage.name for stage in report.stages if stage.verdict and stage.name not in report.starts]
    follow = f"; {several(after)} may differ because of that" if after else ""
    lists = {
        "Not the same bits": [*wrong[:MOST_SHOWN], *more],
        "Wrong, and of no stage that ran": map(str, report.elsewhere),
        "Wrong in this workspace, whatever the commit says": map(str, report.here),
        "It starts at": [several(report.starts, 6) + follow] if report.starts else [],
        "Why": (cause.text for cause in report.causes),
        "What to do": dict.fromkeys(cause.todo for cause in report.causes if cause.todo),
        "Not committed, so not verified": [several(report.uncommitted, 8)] if report.uncommitted else [],
    }
    lines = [f"### Reproduction: {report.verdict}", "", "| stage | verdict | outs |", "| --- | --- | --- |", *rows]
    for head, items in lists.items():
        texts = [f"- {_literal(item)}" for item in items]
        lines += ["", f"**{head}**", "", *texts] if texts else []
    return "\n".join([*lines, "", f"{_literal(report.sentence())}."]) + "\n"


def _wrong(stage: Stage) -> list[str]:
    """Return what of a stage is not the same bits: the place, and how it differs."""
    lines = [f"{finding.subject} {Verdict.DIFFERENT}: {finding.problem}" for finding in stage.findings]
    return lines + [f"{out.path} {out.verdict}: {out.difference}" for out in stage.outs if out.verdict]


def _literal(text: str) -> str:
    """Return a text in which nothing is Markdown but `code`: __init__.py is no bold word."""
    parts = text.replace("<", "&lt;").replace("\n", " ").split("`")
    return "`".join(
        part.replace("_", "\\_").replace("*", "\\*") if i % 2 == 0 else part for i, part in enumerate(parts)
    )


def as_json(report: Report) -> str:
    """Return everything that is known, for programs; a verdict is given in words."""
    known = asdict(report) | {
        "verdict": report.verdict,
        "exit_status": STATUS[report.verdict],
        "sentence": report.sentence(),
        "tolerances": {"relative": RELATIVE, "absolute": ABSOLUTE, "pixels": PIXELS},
    }
    for stage, entry in zip(report.stages, known["stages"], strict=True):
        entry |= {"verdict": stage.verdict, "starts_here": stage.name in report.starts}
    return json.dumps(_in_words(known), indent=1) + "\n"


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_words(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_in_words(one) for one in value]
    return str(value) if isinstance(value, Verdict) else value
