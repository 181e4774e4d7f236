"""How far a run is, and about how long the rest takes: from the runs before, and nothing where nothing is known."""

import pytest

from bancada.pipeline.progress import SECONDS, Progress


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_seconds_of_earlier_runs_say_how_long_the_rest_takes():
    first = Progress(["train@a", "train@b", "evaluate@s"])
    assert first.rest() == ""
    assert first.settle("train@a", 60.0) == "; 1 of 3"  # no evaluation has run
    assert first.settle("train@b", 120.0) == "; 2 of 3"
    assert first.settle("evaluate@s", 6.0) == "; 3 of 3"

    second = Progress(["train@a", "train@b", "evaluate@s"])
    assert second.rest() == ", about 3 minutes left"  # 186 s
    assert second.settle("train@b", 110.0) == "; 1 of 3, about 70 seconds left"  # 66 s
    assert second.settle("train@a") == "; 2 of 3, about 10 seconds left"  # nothing to do
    assert second.settle("code", 1.0) == ""

    assert Progress(["train@b"]).rest() == ", about 2 minutes left"  # 110 s
    assert Progress(["train@a"]).rest() == ", about 60 seconds left"


def test_a_new_stage_takes_as_long_as_others_of_its_kind_did_in_this_run():
    run = Progress(["train@a", "train@b", "train@c", "train@d"])
    run.settle("train@a", 3600.0)
    assert run.settle("train@b", 7200.0) == "; 2 of 4, about 180 minutes left"


def test_a_damaged_file_is_as_none():
    SECONDS.parent.mkdir(parents=True)
    SECONDS.write_text('{"train@a": 6')
    assert Progress(["train@a"]).rest() == ""
