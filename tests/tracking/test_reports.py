"""The report in MLflow: each page once, in an experiment of its own, and what a person deleted stays deleted."""

from pathlib import Path

from toy import NOBODY, rows

from bancada.base import files
from bancada.tracking import reports
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store


def test_each_page_is_kept_once_in_a_run_of_the_experiment_bancada_report(bench: Path) -> None:
    opened, said = open_store(bench), list[str]()
    files.REPORT.write_text("<p>first</p>")
    for _ in range(2):
        reports.write(Recorder(opened, NOBODY, tell=said.append), files.REPORT)
    [(run_id, status)] = rows(bench, "select run_uuid, status from runs where name = 'report'")
    assert (status, said) == ("FINISHED", [f"bancada report: data/report.html -> {run_id}"])
    [kept] = (bench / "mlartifacts").rglob("report.html")
    assert kept.read_text() == "<p>first</p>"
    names = "select e.name from experiments e join runs using (experiment_id) where runs.name = 'report'"
    assert rows(bench, names) == [("bancada report",)]
    opened.client.delete_run(run_id)
    stages = "select lifecycle_stage from runs where name = 'report'"
    reports.write(Recorder(opened, NOBODY), files.REPORT)
    assert rows(bench, stages) == [("deleted",)]
    reports.write(Recorder(opened, NOBODY, restore=True), files.REPORT)
    assert rows(bench, stages) == [("active",)]
    files.REPORT.write_text("<p>second</p>")
    reports.write(Recorder(opened, NOBODY), files.REPORT)
    assert len(rows(bench, stages)) == 2
