"""The verdict of `bancada verify`: a report, which is the JSON for programs, and the same as Markdown for people."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bancada.pipeline.causes import Cause
from bancada.pipeline.check import Finding
from bancada.pipeline.judge import Stage, starts
from bancada.pipeline.tolerance import ABSOLUTE, PIXELS, RELATIVE, Verdict

STATUS = {Verdict.SAME: 0, Verdict.WITHIN: 3, Verdict.DIFFERENT: 1}
MOST_SHOWN = 50  # differences; the JSON has them all


def as_report(
    stages: Sequence[Stage],
    elsewhere: Sequence[Finding],
    here: Sequence[Finding],
    causes: Sequence[Cause],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything that is known, in the types of JSON.

    `elsewhere`: files of git among the results that no stage makes. `here`: what is wrong in the workspace alone.
    `context`: commit, uncommitted, machine and seconds.
    """
    found = max((stage.verdict for stage in stages), default=Verdict.SAME)
    verdict = Verdict.DIFFERENT if elsewhere or here else found
    report = {
        "verdict": str(verdict),
        "exit_status": STATUS[verdict],
        "stages": [_stage(stage) for stage in stages],
        "starts": starts(stages),
        "elsewhere": [_finding(finding) for finding in elsewhere],
        "here": [_finding(finding) for finding in here],
        "causes": [vars(cause) for cause in causes],
        "tolerances": {"relative": RELATIVE, "absolute": ABSOLUTE, "pixels": PIXELS},
        **context,
    }
    return report | {"sentence": sentence(report)}


def _stage(stage: Stage) -> dict[str, Any]:
    outs = [vars(out) | vars(out.difference) | {"difference": str(out.difference)} for out in stage.outs]
    return {
        "name": stage.name,
        "verdict": str(stage.verdict),
        "findings": [_finding(finding) for finding in stage.findings],
        "outs": [out | {"verdict": str(out["verdict"])} for out in outs],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return vars(finding) | {"line": str(finding)}


def sentence(report: Mapping[str, Any]) -> str:
    """Return the verdict in one line."""
    stages, machine = report["stages"], report["machine"]
    count = sum(len(stage["outs"]) for stage in stages)
    counts = f"all {count}" if report["exit_status"] == 0 else f"{counted(stages)} among {count}"
    wrong = len({finding["line"] for stage in stages for finding in stage["findings"]}) + len(report["elsewhere"])
    parts = [
        f"{counts} outs of {len(stages)} stages",
        f"{wrong} wrong in dvc.lock or git" if wrong else "",
        f"{len(report['here'])} wrong in this workspace" if report["here"] else "",
        f"commit {report['commit'][:10]}",
        f"{machine['cpu']}, Python {machine['python']}",
        machine["packages"],
        f"{report['seconds']:.0f} s",
    ]
    return f"{report['verdict']}: {'; '.join(filter(None, parts))}"


def counted(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return how many outs of these stages have which verdict."""
    verdicts = Counter(out["verdict"] for stage in stages for out in stage["outs"])
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the verdict as Markdown: a table of the stages, then lists of what is wrong, why, and what to do."""
    stages, causes = report["stages"], report["causes"]
    wrong = list(dict.fromkeys(text for stage in stages for text in _wrong(stage)))
    lists = {
        "Not the same bits": wrong[:MOST_SHOWN],
        f"And {len(wrong) - MOST_SHOWN} more": ["`--json FILE` keeps them all"] if wrong[MOST_SHOWN:] else [],
        "Wrong, and of no stage that ran": [finding["line"] for finding in report["elsewhere"]],
        "Wrong in this workspace, whatever the commit says": [finding["line"] for finding in report["here"]],
        "It starts at, and what comes after may differ because of that": report["starts"],
        "Why": [cause["text"] for cause in causes],
        "What to do": dict.fromkeys(cause["todo"] for cause in causes),
        "Not committed, so not verified": report["uncommitted"][:MOST_SHOWN],
    }
    rows = [f"| {one['name']} | {one['verdict']} | {counted([one])} |" for one in stages]
    lines = [f"### Reproduction: {report['verdict']}", "", "| stage | verdict | outs |", "| --- | --- | --- |", *rows]
    for head, items in lists.items():
        lines += ["", f"**{head}**", "", *(f"- {_literal(item)}" for item in items)] if items else []
    return "\n".join([*lines, "", f"{_literal(report['sentence'])}."]) + "\n"


def _wrong(stage: Mapping[str, Any]) -> list[str]:
    """Return what of a stage is not the same bits: the place, and how it differs."""
    outs = [out for out in stage["outs"] if out["verdict"] != str(Verdict.SAME)]
    lines = [f"{stage['name']}: {out['path']} {out['verdict']}: {out['difference']}" for out in outs]
    return [*(finding["line"] for finding in stage["findings"]), *lines]


def _literal(text: str) -> str:
    """Return a text in which nothing is Markdown but `code`: __init__.py is no bold word."""
    parts = text.replace("<", "&lt;").split("`")
    parts[::2] = [re.sub(r"[_*]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)
