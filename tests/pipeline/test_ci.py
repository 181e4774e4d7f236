"""The workflow for GitHub and .ci/run check the same, and what the workflow puts on a job's page is there."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import clones
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github/workflows/reproduce.yml").read_text()
JOBS: dict[str, Any] = YAML(typ="safe").load(WORKFLOW)["jobs"]
JOB = JOBS["reproduce"]
SCRIPTS = {step.get("name", step["run"]): step["run"] for step in JOB["steps"] if "run" in step}


def targets(scripts: str) -> set[str]:
    """What is made."""
    lines = re.findall(r"^(?:timeout \w+ )?make (.+)$", scripts, re.MULTILINE)
    return {word for line in lines for word in line.split() if "=" not in word}


def test_both_run_the_same_commands() -> None:
    of_the_workflow_alone = {"test-long", "repro", "report"}  # once a week, and for the page that it publishes
    assert targets("\n".join(SCRIPTS.values())) - of_the_workflow_alone == targets((ROOT / ".ci/run").read_text())
    assert targets((ROOT / ".ci/run").read_text()) == {"lint", "types", "test", "test-ray", "verify"}
    [step] = [step for step in JOB["steps"] if step.get("run") == "make test-long"]
    assert step["if"] == "github.event_name == 'schedule'"


def test_every_action_is_named_by_its_commit_and_no_index_is_an_extra_one() -> None:
    """A tag can be moved to other code; an extra index can offer a file in the place of PyPI's."""
    actions = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    assert "extra" not in (WORKFLOW + (ROOT / "Makefile").read_text()).lower().replace("--extra dev --extra server", "")


def test_the_workflow_checks_the_oldest_and_the_newest_python_and_make_takes_the_newest_first() -> None:
    asked = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    allowed = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in asked]
    tested = JOB["strategy"]["matrix"]["python"]
    assert (tested[0], tested[-1]) == (allowed[0], allowed[-1])
    [pythons] = re.findall(r"^PYTHONS := (.+)$", (ROOT / "environment.mk").read_text(), re.MULTILINE)
    assert pythons.split() == allowed[::-1]


def test_the_jobs_of_two_pythons_leave_two_verdicts() -> None:
    uploads = [step["with"] for step in JOB["steps"] if step.get("uses", "").startswith("actions/upload-artifact")]
    [upload] = [upload for upload in uploads if upload["path"] == "verdict.json"]
    assert "${{ matrix.python }}" in upload["name"]


def test_a_pull_requests_metrics_are_a_table_on_the_jobs_page(tmp_path: Path) -> None:
    """The workflow's own script, in a clone whose branch makes one error rate worse. Git alone has what it needs."""
    base, clone = tmp_path / "base", tmp_path / "clone"
    metrics = Path("data/evaluation/moons/metrics/moons_tanh.json")
    for name in (".dvc/config", "dvc.yaml"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, base / name)
    (base / "params.yaml").write_text(clones.PARAMS)
    (base / metrics).parent.mkdir(parents=True)
    (base / metrics).write_text('{"median": 2.5, "failed": 0}')
    for command in ("git init -q -b main", "git add -Af", "git commit -q -m base"):
        clones.succeeds(base, *command.split())
    clones.succeeds(tmp_path, "git", "clone", "-q", str(base), str(clone))
    (clone / metrics).write_text('{"median": 50.5, "failed": 0}')
    clones.succeeds(clone, "git", "commit", "-q", "-am", "worse")
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/dvc").symlink_to(shutil.which("dvc", path=f"{clones.BIN}") or "")
    page, script = tmp_path / "page.md", SCRIPTS["What a pull request does to the metrics, on the job's page"]
    variables = {**os.environ, "GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(page)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=clone, env=variables, check=True, timeout=60)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if "|" in line]
    assert rows[0][:2] == ["Path", "Metric"]
    [row] = [row for row in rows if row[0].endswith("moons_tanh.json") and row[1] == "median"]
    assert "50.5" in row
