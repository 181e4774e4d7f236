"""The verdict of `bancada verify`: a table on the terminal, JSON for machines, Markdown for the page of a CI job."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bancada.pipeline.causes import Cause
from bancada.pipeline.check import Finding, several
from bancada.pipeline.compare import ABSOLUTE, PIXELS, RELATIVE, Verdict
from bancada.pipeline.judge import Out, Stage

STATUS = {Verdict.SAME: 0, Verdict.WITHIN: 3, Verdict.DIFFERENT: 1}
STYLE = {Verdict.SAME: "green", Verdict.WITHIN: "yellow", Verdict.DIFFERENT: "red"}
MOST_SHOWN, MOST_ROWS = 30, 50  # differences on the terminal, in the Markdown
NO_CAUSE = "no cause found"


@dataclass(frozen=True)
class Report:
    """`elsewhere`: what dvc.lock or git has and no stage that ran. `here`: what is wrong in the workspace alone."""

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
        found = [stage.verdict for stage in self.stages]
        return max(found, default=Verdict.SAME) if not (self.elsewhere or self.here) else Verdict.DIFFERENT

    @property
    def outs(self) -> list[Out]:
        return [out for stage in self.stages for out in stage.outs]

    def sentence(self) -> str:
        lies = sum(len(stage.lies) for stage in self.stages) + len(self.elsewhere)
        told = [
            f"{spread(self.outs, self.verdict)} of {len(self.stages)} stages",
            f"dvc.lock or git is wrong in {lies} place{'s' * (lies > 1)}" if lies else "",
            f"{len(self.here)} wrong in this workspace" if self.here else "",
            f"commit {self.commit[:10]}",
            f"{self.machine['cpu']}, Python {self.machine['python']}",
            self.machine["packages"],
            f"{self.seconds:.0f} s at -j {self.jobs}",
        ]
        return f"{self.verdict}: {'; '.join(filter(None, told))}"


def spread(outs: Sequence[Out], verdict: Verdict) -> str:
    if verdict == Verdict.SAME:
        return f"all {len(outs)} outs"
    return f"{counted(out.verdict for out in outs)} among {len(outs)} outs"


def outs_of(stages: Sequence[Stage]) -> str:
    said = counted(out.verdict for stage in stages for out in stage.outs)
    return f"{said}, dvc.lock is wrong" if any(stage.lies for stage in stages) else said


def counted(verdicts: Iterable[Verdict]) -> str:
    count = Counter(verdicts)
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in sorted(count)) or "none"


# --- the terminal ---------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("stage", "verdict", "outs"):
        table.add_column(column, no_wrap=column != "outs")
    for stage in report.stages:
        same = stage.verdict == Verdict.SAME
        table.add_row(
            stage.name,
            Text(str(stage.verdict), STYLE[stage.verdict]),
            str(len(stage.outs)) if same else outs_of([stage]),
        )
    console.print()
    console.print(table)
    rows = [(stage.name, *wrong) for stage in report.stages for wrong in wrongs(stage)]
    for name, place, what in rows[:MOST_SHOWN]:
        _list(console, f"{name}  {place}", [what])
    _list(console, f"And {len(rows) - MOST_SHOWN} more", ["--json FILE keeps them all"] if rows[MOST_SHOWN:] else [])
    _list(console, "Wrong, and of no stage that ran:", map(str, report.elsewhere))
    _list(console, "Wrong in this workspace, whatever the commit says:", map(str, report.here))
    if report.starts:
        _list(console, "It starts at:", [several_of(report)])
    _list(console, "Why:", (cause.text for cause in report.causes))
    _list(console, "What to do:", dict.fromkeys(cause.todo for cause in report.causes if cause.todo))
    if report.uncommitted:
        _list(console, "Not committed, so not verified:", [listed(report.uncommitted)])
    console.print()
    console.print(Text(report.sentence(), STYLE[report.verdict]))


def wrongs(stage: Stage) -> list[tuple[str, str]]:
    """What is not the same bits: the place, and in words what is wrong there."""
    said = [(lie.subject, f"{Verdict.DIFFERENT}: {lie.problem}") for lie in stage.lies]
    return said + [(out.expected.path, f"{out.verdict}: {out.difference}") for out in stage.outs if out.verdict]


def several_of(report: Report) -> str:
    after = [stage.name for stage in report.stages if stage.verdict and stage.name not in report.starts]
    first = ", ".join(report.starts) if len(report.starts) <= 6 else several(report.starts)
    return first + (f"; {several(after)} may differ because of that" if after else "")


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _list(console: Console, head: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        console.print()
        console.print(Text(head, "bold"))
        for line in lines:
            told = fill(
                line,
                console.width,
                initial_indent="  ",
                subsequent_indent="  ",
                break_on_hyphens=False,
                break_long_words=False,
            )
            console.print(Text(told), soft_wrap=True)


# --- files ----------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    said = {
        "verdict": str(report.verdict),
        "exit_status": STATUS[report.verdict],
        "sentence": report.sentence(),
        "commit": report.commit,
        "asked_for": list(report.part),
        "stages": [_stage(stage, report) for stage in report.stages],
        "starts": list(report.starts),
        "causes": [asdict(cause) for cause in report.causes],
        "elsewhere": [_finding(finding) for finding in report.elsewhere],
        "workspace": [_finding(finding) for finding in report.here],
        "uncommitted": list(report.uncommitted),
        "tolerances": {"relative": RELATIVE, "absolute": ABSOLUTE, "pixels": PIXELS},
        "machine": report.machine,
        "jobs": report.jobs,
        "seconds": round(report.seconds, 1),
    }
    return json.dumps(said, indent=1) + "\n"


def _stage(stage: Stage, report: Report) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "verdict": str(stage.verdict),
        "starts_here": stage.name in report.starts,
        "findings": [_finding(lie) for lie in stage.lies],
        "outs": [
            {
                "path": out.expected.path,
                "verdict": str(out.verdict),
                "kept_by": "git" if out.expected.git else "dvc",
                "md5": {"dvc.lock": out.expected.lock, "git": out.expected.git or None, "made": out.made},
                "difference": asdict(out.difference) | {"verdict": str(out.verdict)} if out.verdict else None,
            }
            for out in stage.outs
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "remedy": finding.advice, "line": str(finding)}


def as_markdown(report: Report) -> str:
    lines = [f"### Reproduction: {report.verdict}", "", f"{_cell(report.sentence())}.", ""]
    studies = dict.fromkeys(stage.study for stage in report.stages)
    kinds = dict.fromkeys(stage.name.partition("@")[0] for stage in report.stages)
    lines += [f"| study | {' | '.join(kinds)} |", f"| --- |{' --- |' * len(kinds)}"]
    for study in studies:
        cells = [
            outs_of([one for one in report.stages if one.study == study and one.name.partition("@")[0] == kind])
            for kind in kinds
        ]
        lines.append(f"| {study} | {' | '.join(cells)} |")
    rows = [(stage.name, *wrong) for stage in report.stages for wrong in wrongs(stage)]
    if rows:
        lines += ["", "| stage | what | how |", "| --- | --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(place)} | {_cell(what)} |" for name, place, what in rows[:MOST_ROWS]]
        if len(rows) > MOST_ROWS:
            lines.append(f"| | | and {len(rows) - MOST_ROWS} more |")
    lines += _bullets("Wrong, and of no stage that ran", map(str, report.elsewhere))
    lines += _bullets("Wrong in the workspace, whatever the commit says", map(str, report.here))
    lines += _bullets("It starts at", [several_of(report)] if report.starts else [])
    lines += _bullets("Why", (cause.text for cause in report.causes))
    lines += _bullets("What to do", dict.fromkeys(cause.todo for cause in report.causes if cause.todo))
    lines += _bullets("Not committed, so not verified", [listed(report.uncommitted)] if report.uncommitted else [])
    return "\n".join(lines) + "\n"


def _bullets(head: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {_cell(line)}" for line in lines]
    return ["", f"**{head}**", "", *items] if items else []


def _cell(text: str) -> str:
    """Nothing in it is Markdown but `code`: __init__.py is no bold word."""
    parts = text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ").split("`")
    return "`".join(part.replace("_", "\\_") if i % 2 == 0 else part for i, part in enumerate(parts))
