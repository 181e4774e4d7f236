"""What a person deleted in MLflow stays deleted, until `bancada track --restore` or a new training."""

import shutil
from pathlib import Path

import pytest
from catching_up import NOTHING_NEW
from toy import NOBODY, commit, count, rows, train_variant
from toy import evaluate as evaluate_toy
from toy_models import scored, trained

from bancada.base import files, notify
from bancada.tracking import catch_up, mirror
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store

BOTH = "select name, lifecycle_stage from runs order by name, lifecycle_stage"
LEFT = "left out, because deleted in MLflow: {}; `bancada track --restore` brings them back"
WHY = "because MLflow has another experiment of that name, maybe a deleted one"


@pytest.fixture
def recorded(bench: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    assert catch_up.track(all_experiments=False) == 0
    capfd.readouterr()
    return bench


def delete_run(bench: Path, variant: str) -> str:
    [(run_id,)] = rows(bench, f"select run_uuid from runs where name = '{variant}'")
    open_store(bench).client.delete_run(run_id)
    return str(run_id)


def delete_experiment(bench: Path) -> None:
    client = open_store(bench).client
    client.delete_experiment(client.get_experiment_by_name("toy").experiment_id)


def test_a_deleted_run_stays_deleted_until_it_is_asked_for(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_id = delete_run(recorded, "toy_tanh")
    assert catch_up.track(all_experiments=False) == 0
    assert capfd.readouterr() == (
        LEFT.format("toy/toy_tanh") + "\n0 runs new, 0 completed, 1 were complete\n",
        "",
    )
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "deleted")]
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert f"toy/toy_tanh: restored -> {run_id}\n" in capfd.readouterr().out
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "active")]


def test_a_deleted_experiment_stays_deleted_until_it_is_asked_for(
    recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    delete_experiment(recorded)
    assert catch_up.track(all_experiments=False) == 0
    assert capfd.readouterr().out.startswith(LEFT.format("toy/toy_adam, toy/toy_tanh") + "\n0 runs new, ")
    stages = "select lifecycle_stage from experiments where name = 'toy'"
    assert (rows(recorded, stages), count(recorded, "runs")) == ([("deleted",)], 2)
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert (rows(recorded, stages), count(recorded, "runs")) == ([("active",)], 2)
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "active")]


def test_an_evaluation_brings_no_deleted_run_back_and_a_training_makes_a_new_one(
    recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    delete_run(recorded, "toy_tanh")
    evaluate_toy(error="1.25")
    with notify.recorded("evaluate@toy", files.evaluation("toy")):
        pass
    assert capfd.readouterr() == (f"bancada: {LEFT.format('toy/toy_tanh')}\n", "")
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "deleted")]
    with notify.recorded("train@toy_tanh", files.model("toy", "toy_tanh")):
        pass
    assert capfd.readouterr() == ("", "")
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "active"), ("toy_tanh", "deleted")]
    assert catch_up.track(all_experiments=False) == 0
    assert "0 runs new, 1 completed, 1 were complete" in capfd.readouterr().out


def test_a_training_after_its_experiment_was_deleted_begins_another_one(
    recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    delete_experiment(recorded)
    result = mirror.result(files.model("toy", "toy_tanh"))
    Recorder(open_store(recorded), NOBODY).write(result, began_ms=1)
    experiments = "select name, lifecycle_stage from experiments where name != 'Default' order by experiment_id"
    assert rows(recorded, experiments) == [("toy", "deleted"), ("toy (bancada)", "active")]
    assert f"toy: its experiment in MLflow is called `toy (bancada)`, {WHY}\n" in capfd.readouterr().out
    assert catch_up.track(all_experiments=False) == 0
    assert capfd.readouterr().out.startswith("toy/toy_tanh: evaluation, description -> ")  # toy_adam stays deleted
    assert count(recorded, "runs") == 3


def test_no_experiment_is_made_where_no_run_is_written(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where an evaluation ends, or where `bancada track` finds a training of other inputs."""
    delete_experiment(recorded)
    recorder = Recorder(open_store(recorded), NOBODY)
    assert recorder.write_study("toy") == []
    assert recorder.failed == {}
    train_variant("toy_tanh", "other code")
    assert catch_up.track(all_experiments=False) == 0
    assert LEFT.format("toy/toy_adam, toy/toy_tanh") in capfd.readouterr().out
    experiments = "select name, lifecycle_stage from experiments where name != 'Default'"
    assert rows(recorded, experiments) == [("toy", "deleted")]
    assert count(recorded, "registered_models") == 0
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert rows(recorded, experiments) == [("toy", "active")]
    assert rows(recorded, BOTH) == [("toy_adam", "active"), ("toy_tanh", "active"), ("toy_tanh", "active")]


def test_an_experiment_beside_somebody_elses_deleted_one_says_so(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = open_store(bench).client
    client.delete_experiment(client.create_experiment("toy"))
    assert catch_up.track(all_experiments=False) == 0
    assert f"toy: its experiment in MLflow is called `toy (bancada)`, {WHY}\n" in capfd.readouterr().out


def test_a_deleted_model_is_named_whether_it_is_the_champions_or_not(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained("signs")
    trained("signs", "toy_adam", draw=50)
    scored({"toy_tanh": [1.0, 2.0, 3.0], "toy_adam": [4.0, 5.0, 6.0]})
    commit()
    assert catch_up.track(all_experiments=False) == 0
    client = open_store(bench).client
    for (model,) in rows(bench, "select value from tags where key = 'bancada.model'"):
        client.delete_logged_model(model)
    capfd.readouterr()
    for _ in range(2):
        assert catch_up.track(all_experiments=False) == 0
        left_out = "the model of toy/{} was deleted in MLflow and is left out; `bancada track --restore` brings it back"
        expected = {left_out.format("toy_adam"), left_out.format("toy_tanh"), NOTHING_NEW}
        assert set(capfd.readouterr().out.splitlines()) == expected
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert capfd.readouterr().out.count(": model, description of the model -> ") == 2
    assert catch_up.track(all_experiments=False) == 0
    assert capfd.readouterr().out.splitlines() == [NOTHING_NEW]


def test_an_experiment_can_be_deleted_again_and_again(recorded: Path) -> None:
    result = mirror.result(files.model("toy", "toy_tanh"))
    for name in ("toy", "toy (bancada)", "toy (bancada 2)"):
        opened = open_store(recorded)
        Recorder(opened, NOBODY).write(result, began_ms=1)
        opened.client.delete_experiment(opened.client.get_experiment_by_name(name).experiment_id)
    assert count(recorded, "runs") == 2 + 2


def test_a_model_that_was_deleted_is_left_out_and_stops_nothing(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(files.model("toy", "toy_adam"))
    scores = (files.evaluation("toy") / "scores.csv").read_text().splitlines()
    (files.evaluation("toy") / "scores.csv").write_text("\n".join(scores[:3]) + "\n")
    trained("signs")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    assert catch_up.track(all_experiments=False) == 0
    assert "toy_tanh is not the champion in MLflow yet: commit dvc.lock" in capfd.readouterr().out
    [(model,)] = rows(bench, "select value from tags where key = 'bancada.model'")
    open_store(bench).client.delete_logged_model(model)
    commit()
    train_variant("toy_zwei")  # recorded after it
    assert catch_up.track(all_experiments=False) == 0
    out, err = capfd.readouterr()
    assert (out.count("was deleted in MLflow and is left out; `bancada track --restore` brings it back"), err) == (
        1,
        "",
    )
    assert "1 runs new, " in out
    assert count(bench, "model_versions") == 0
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert "toy: version 1, toy_tanh, is the champion now" in capfd.readouterr().out
    open_store(bench).client.delete_registered_model("toy")
    assert catch_up.track(all_experiments=False) == 0
    assert "its version was deleted in MLflow; `bancada track --restore` brings it back" in capfd.readouterr().out
    assert count(bench, "registered_models") == 0
    assert catch_up.track(all_experiments=False, restore=True) == 0
    assert "toy: version 1, toy_tanh, is the champion now" in capfd.readouterr().out
