"""What real SQLite stores hold after a recording: everything, once, and in the right place."""

import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import (
    EPOCHS,
    NOBODY,
    PACKAGES,
    PARAMS,
    SOURCE,
    artifacts,
    count,
    evaluate,
    fingerprint,
    go_to_temporary_experiment,
    rows,
    train_variant,
    write_code,
    write_pipeline_files,
)

from bancada.base import files, notify, tables
from bancada.base.lockfile import md5
from bancada.pipeline import code
from bancada.tracking import mirror, surroundings
from bancada.tracking.experiments import find_run
from bancada.tracking.record import Recorder
from bancada.tracking.store import database_file, open_store
from bancada.tracking.surroundings import Origin
from bancada.training.live import kept_epochs

# --- what a run is found by -----------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_run_json_the_split_and_the_code(bench: Path) -> None:
    assert train_variant("toy_tanh", lengths={111: 5, 112: 5, 113: 3}).fingerprint == fingerprint("toy_tanh")


@pytest.mark.parametrize("changed", ["the split", "the recipe", "a module", "a package's version"])
def test_the_fingerprint_changes_with_each_input(bench: Path, changed: str) -> None:
    before = train_variant("toy_tanh")
    if changed == "the split":
        shutil.copy(files.split("toy") / "train.parquet", files.split("toy") / "test.parquet")
        (files.split("toy") / "validation.parquet").unlink()
    elif changed == "the recipe":
        train_variant("toy_tanh", lr=0.25)
    elif changed == "a module":
        train_variant("toy_tanh", "f1")
    else:
        write_code("toy_tanh", packages=PACKAGES | {"torch": "2.14.0"})
    after = mirror.result(before.folder)
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint == fingerprint("toy_tanh")


def test_the_fingerprint_does_not_change_with_the_rate_that_was_overruled(bench: Path) -> None:
    before, path = fingerprint("toy_tanh"), files.model("toy", "toy_tanh") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"overruled": "lr = 0.5 replaces studies.toy.lr = 0.1"}))
    assert mirror.result(files.model("toy", "toy_tanh")).fingerprint == before


def test_the_fingerprint_does_not_change_with_the_seeds_that_diverged(bench: Path) -> None:
    one, other = (train_variant("toy_tanh", lengths={111: 5, 112: 5, 113: last}) for last in (5, 3))
    assert (one.diverged, other.diverged) == ({}, {"113": 2})
    assert one.fingerprint == other.fingerprint


def test_of_the_locked_versions_only_those_that_training_imports_change_the_fingerprint(bench: Path) -> None:
    """The stage `code` itself writes the file, from requirements.lock."""
    (bench / "src").symlink_to(SOURCE)
    lock = (SOURCE.parent / "requirements.lock").read_text()
    found = []
    for edit in ("", "matplotlib", "torch", "numba"):
        (bench / "requirements.lock").write_text(re.sub(rf"^{edit}==\S+", f"{edit}==0.0.1", lock, flags=re.MULTILINE))
        code.main()
        found.append(mirror.result(files.model("toy", "toy_tanh")).fingerprint)
    assert found[0] == found[1] == found[2] != found[3]
    assert json.loads(files.code("train", "toy_tanh").read_text())["packages"]["numba"] == "0.0.1"


# --- a training -----------------------------------------------------------------------------------------------------


def test_a_training_run_holds_its_params_curves_files_and_origin(bench: Path) -> None:
    result, store = train_variant("toy_tanh", lengths={111: 5, 112: 5, 113: 3}), open_store(bench)
    run_id = (
        Recorder(store, Origin("brave-cat", "def", clean=False, diff=b"- a\n+ b\n")).write(result, began_ms=1).run_id
    )
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "toy_tanh"
    assert store.client.get_experiment(run.info.experiment_id).name == "toy"
    assert run.data.params == {
        "study": "toy",
        "variant": "toy_tanh",
        "layers": "{linear: 3, bias: false}, batch_norm, tanh, {dropout: 0.1}, 1, tanh",
        "engine": "compiled",
        "bits": "portable",
        "seed": "111",
        "num_seeds": "3",
        "device": "cpu",
        "train_rows": "8",
        "loss": "mse",
        "lr": "0.5",
        "epochs": "5",
        "batch_size": "4",
        "batch_order": "shuffled",
        "optimizer.name": "sgd",
        "optimizer.momentum": "0.0",
        "optimizer.nesterov": "false",
        "optimizer.weight_decay": "0.0",
        "schedule.name": "none",
        "init.name": "torch",
        "clip_norm": "0.0",
        "standardize": "false",
    }
    losses = {m.step: m.value for m in store.client.get_metric_history(run_id, "train_loss")}
    assert losses == {0: 112.0, 1: 112.25, 2: 112.0, 3: 112.25, 4: 112.5}  # from epoch 2 on without seed 113
    spread = {m.step: m.value for m in store.client.get_metric_history(run_id, "validation_loss_std")}
    assert spread == pytest.approx({0: 2.0, 1: 2.0, 2: 2**0.5, 3: 2**0.5, 4: 2**0.5})
    assert run.data.metrics["lr"] == 0.5
    assert run.data.metrics["diverged_seeds"] == 1
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.run")}
    assert tags == {
        "bancada.fingerprint": fingerprint("toy_tanh"),
        "bancada.study": "toy",
        "bancada.variant": "toy_tanh",
        "bancada.weights_md5": "f1290186a5d0b1ceab27f4e77c0c5d68",  # md5sum of a w
        "bancada.diverged_seeds": '{"113": 2}',
        "bancada.python": platform.python_version(),
        "bancada.torch": "2.13.0",
        "bancada.numpy": "2.4.0",
        "dvc.stage": "train@toy_tanh",
        "dvc.experiments": '["brave-cat"]',
        "git.commit": "def",
        "git.clean": "false",
        "mlflow.source.git.commit": "def",
        "mlflow.source.git.dirty": "true",
        "mlflow.source.name": "bancada.training.train",
        "mlflow.source.type": "LOCAL",
    }
    inputs = {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs}
    folder = files.split("toy")
    assert inputs == {  # the empty part was not used
        "toy/train": (md5(folder / "train.parquet"), "train"),
        "toy/test": (md5(folder / "test.parquet"), "test"),
    }
    listed = {"weights.safetensors", "history.parquet", "run.json", "requirements.lock", "git.diff"}
    assert artifacts(store, run_id) == listed
    assert (bench / "mlartifacts" / "toy" / run_id / "artifacts" / "weights.safetensors").read_bytes() == b"w"
    fetched = store.client.download_artifacts(run_id, "git.diff", str(bench))
    assert Path(fetched).read_text() == "- a\n+ b\n"


def test_a_file_that_is_none_of_the_models_is_not_uploaded(bench: Path) -> None:
    result = train_variant("toy_tanh")
    (result.folder / "Thumbs.db").write_bytes(b"litter")
    opened = open_store(bench)
    for _ in range(2):
        run_id = Recorder(opened, NOBODY).write(result).run_id
        files_of_it = {"weights.safetensors", "history.parquet", "run.json", "requirements.lock"}
        assert artifacts(opened, run_id) == files_of_it


def test_the_same_training_confirms_its_run_and_adds_no_point(bench: Path) -> None:
    result, store = mirror.result(files.model("toy", "toy_tanh")), open_store(bench)
    first = Recorder(store, Origin("brave-cat")).write(result, began_ms=1).run_id
    points = count(bench, "metrics")
    second = Recorder(open_store(bench), Origin("calm-dog")).write(result, began_ms=1).run_id
    Recorder(store, Origin("brave-cat")).write(result, began_ms=1)
    assert first == second
    assert (count(bench, "runs"), count(bench, "metrics"), points) == (1, points, 5 * EPOCHS + 2)
    tags = store.client.get_run(first).data.tags
    assert json.loads(tags["dvc.experiments"]) == ["brave-cat", "calm-dog"]
    assert tags["bancada.reproduced"] == "2"
    assert "bancada.warning" not in tags


def test_other_weights_from_the_same_inputs_leave_a_warning(bench: Path) -> None:
    store = open_store(bench)
    run_id = Recorder(store, NOBODY).write(train_variant("toy_tanh"), began_ms=1).run_id
    Recorder(store, NOBODY).write(train_variant("toy_tanh", weights=b"v"), began_ms=1)
    assert "other weights" in store.client.get_run(run_id).data.tags["bancada.warning"]


def test_other_inputs_make_a_second_run(bench: Path) -> None:
    store = open_store(bench)
    Recorder(store, NOBODY).write(train_variant("toy_tanh"), began_ms=1)
    Recorder(store, NOBODY).write(train_variant("toy_tanh", "f1", lr=1e-05), began_ms=1)
    assert rows(bench, "select value from params where key = 'lr' order by value") == [("0.5",), ("1e-05",)]
    assert count(bench, "experiments") == 2  # with mlflow's own Default


def test_an_interrupted_recording_gets_only_what_it_lacks(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, store = train_variant("toy_tanh", epochs=1500), open_store(bench)
    log_batch = type(store.client).log_batch

    def dies_after_the_first_points(self: Any, *args: Any, **kwargs: Any) -> None:
        if count(bench, "metrics"):
            raise ConnectionError("gone")
        log_batch(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(type(store.client), "log_batch", dies_after_the_first_points)
        Recorder(store, NOBODY).write(result, began_ms=1)
    assert rows(bench, "select status from runs") == [("RUNNING",)]
    assert 0 < count(bench, "metrics") < 1602
    Recorder(store, NOBODY).write(result, began_ms=1)
    assert rows(bench, "select status from runs") == [("FINISHED",)]
    assert count(bench, "metrics") == 5 * 320 + 2


@pytest.mark.parametrize(
    ("planned", "last"), [(1, 0), (4, 3), (320, 319), (321, 320), (10000, 9999), (10000, 123), (10000, 0)]
)
def test_a_curve_has_at_most_320_points_with_the_first_and_the_last(planned: int, last: int) -> None:
    kept = kept_epochs(planned, last)
    assert len(kept) <= 320
    assert (kept[0], kept[-1]) == (0, last)
    assert len(set(kept)) == len(kept)
    assert len(kept) == min(planned, 320) or last < planned - 1


def test_a_loss_that_overflows_leaves_its_point_out_without_a_warning() -> None:
    losses = np.array([1.5e308, 1e308, np.inf, 3.0])
    columns = {"epoch": np.array([0, 0, 1, 2]), "train_loss": losses, "validation_loss": losses, "lr": np.full(4, 0.5)}
    assert [(point.name, point.epoch, point.value) for point in mirror.points(columns)] == [
        ("train_loss", 2, 3.0),
        ("validation_loss", 2, 3.0),
        ("lr", 0, 0.5),
        ("lr", 2, 0.5),
    ]


# --- an evaluation --------------------------------------------------------------------------------------------------


def test_an_evaluation_adds_its_scores_and_plots_to_the_runs_made_from_the_files(bench: Path) -> None:
    store = open_store(bench)
    trained = Recorder(store, NOBODY).write(mirror.result(files.model("toy", "toy_tanh")), began_ms=1).run_id
    ids = Recorder(store, NOBODY).write_study("toy")
    assert ids[0] == trained
    assert count(bench, "runs") == 2
    held, points = [store.client.get_run(run_id).data.metrics for run_id in ids], count(bench, "metrics")
    curves = {"train_loss", "train_loss_std", "validation_loss", "validation_loss_std", "lr", "log10_lr"}
    curves |= {"diverged_seeds"}
    assert {key: value for key, value in held[0].items() if key not in curves} == {
        "test_error_rate_percent": 2.5,
        "test_error_rate_percent_std": 0.5,
        "test_error_rate_percent_median": 2.25,
        "test_error_rate_percent_median_low": 1.5,
        "test_error_rate_percent_median_high": 3.5,
        "final_train_loss": 0.25,
        "final_train_loss_std": 0.0,
        "final_train_loss_median": 0.25,
    }
    assert {key for key in held[1] if key not in curves} == {"test_error_rate_percent_median"}
    added = {"plots/loss.png", "plots/regions.png", "evaluation/scores.csv", "evaluation/leaderboard.csv"}
    assert all(added <= artifacts(store, run_id) for run_id in ids)
    Recorder(store, NOBODY).write_study("toy")
    assert (count(bench, "runs"), count(bench, "metrics")) == (2, points)


def test_the_newest_evaluation_replaces_the_older_one_and_is_counted(bench: Path) -> None:
    store = open_store(bench)
    run_id = Recorder(store, NOBODY).write_study("toy")[0]
    points = count(bench, "metrics")
    evaluate(error="1.25", plots=("loss.png", "confusion.png"))
    Recorder(store, NOBODY).write_study("toy")
    run = store.client.get_run(run_id)
    assert run.data.metrics["test_error_rate_percent"] == 1.25
    assert run.data.tags["bancada.evaluations"] == "2"
    assert count(bench, "metrics") == points + 1  # the one score that changed
    assert {"plots/confusion.png", "plots/loss.png"} == {p for p in artifacts(store, run_id) if p.startswith("plots")}
    scores = store.client.download_artifacts(run_id, "evaluation/scores.csv", str(bench))
    assert "1.25" in Path(scores).read_text()
    evaluate(error="")  # a score that has gone
    Recorder(store, NOBODY).write_study("toy")
    assert np.isnan(store.client.get_run(run_id).data.metrics["test_error_rate_percent"])


# --- where, and from what code --------------------------------------------------------------------------------------


def test_the_store_is_at_the_main_repositorys_root(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = bench / "src" / "deep"
    deep.mkdir(parents=True)
    assert surroundings.repository_root(deep) == bench
    assert surroundings.store_uri(bench) == f"sqlite:///{bench}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert surroundings.repository_root(deep) == Path("/somewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert surroundings.store_uri(bench) == f"sqlite:///{bench}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    assert surroundings.store_uri(bench) == "https://me:secret@host"


def test_files_that_the_pipeline_writes_leave_the_tree_clean_and_other_changes_are_in_the_diff(
    bench: Path,
) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    Path(".gitignore").write_text("/data/models/\n/data/split/\n/mlflow.db\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    Path("dvc.lock").write_text("schema: '2.0'\n")
    write_code("toy_tanh", "f1")
    evaluate(error="1.25")
    clean = surroundings.origin()
    assert (clean.tags()["git.clean"], clean.diff) == ("true", b"")
    Path("params.yaml").write_text(PARAMS + "# https://me@host/x\n")
    Path("new.txt").touch()
    changed = surroundings.origin()
    assert changed.commit == clean.commit
    assert changed.tags()["git.clean"] == "false"
    assert b"# untracked: new.txt" in changed.diff
    assert b"+# https://me@host/x" in changed.diff


# --- beside a stage, in processes of their own ----------------------------------------------------------------------


def test_a_temporary_experiment_folder_records_into_the_main_repository(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temporary = go_to_temporary_experiment(bench, tmp_path, monkeypatch)
    with notify.recorded("train@toy_tanh", files.model("toy", "toy_tanh")):
        write_pipeline_files()
    assert list(temporary.glob("ml*")) == []
    known = fingerprint("toy_tanh")
    monkeypatch.chdir(bench)
    shutil.rmtree(temporary)
    store = open_store(bench)
    run = find_run(store, "toy", known)
    assert run is not None
    assert json.loads(run.data.tags["dvc.experiments"]) == ["brave-cat"]
    assert "weights.safetensors" in artifacts(store, run.info.run_id)
    assert capfd.readouterr() == ("", "")


def test_two_stages_that_begin_at_once_on_an_empty_store_make_one_experiment_and_one_run(bench: Path) -> None:
    (bench / "mlflow.db").unlink()

    def record_toy() -> None:
        Recorder(open_store(bench), NOBODY).write_study("toy")

    both = [multiprocessing.get_context("fork").Process(target=record_toy) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert rows(bench, "select name from experiments order by name") == [("Default",), ("toy",)]
    assert count(bench, "runs") == 2  # toy_tanh and toy_adam
    assert count(bench, "metrics") == 2 * (5 * EPOCHS + 2) + 8 + 1


# --- where the folder lies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["100% b", "a?b", "a#b", "a%20b"])
def test_nothing_is_made_beside_a_folder_whatever_its_name_is(bench: Path, empty_store: Path, name: str) -> None:
    """MLflow makes the folder of a SQLite file by its URI, in which `100%` is `100%25`."""
    root = bench.rename(bench.parent / name)
    os.chdir(root)
    before = sorted(root.parent.iterdir())
    Recorder(open_store(root), NOBODY).write_study("toy")
    assert sorted(root.parent.iterdir()) == before
    assert count(root, "runs") == 2


def test_the_uri_of_a_database_is_read_as_sqlalchemy_reads_it(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {"a%20b.db": "a b.db", "a b.db": "a b.db", "other.db?timeout=60": "other.db"}
    for written, name in read.items():
        for folder in ("", f"{bench}/"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}{written}")
            assert database_file(surroundings.store_uri(bench)) == bench / name
    assert database_file("sqlite:///:memory:") is None
    assert database_file("postgresql://here/a") is None


# --- searches -------------------------------------------------------------------------------------------------------


def test_the_trials_of_a_search_are_a_file_a_table_and_curves_of_the_variants_run(bench: Path) -> None:
    """Curves leave out a trial with a seed that diverged. A second recording adds nothing."""
    folder = files.model("toy", "toy_tanh")
    run = json.loads((folder / "run.json").read_text())
    run["search"] = {"seeds": 2, "metric": "error_rate_percent", "chosen": {"schedule.gamma": 0.5}, "edges": []}
    (folder / "run.json").write_text(json.dumps(run))
    trials: dict[str, Any] = {"trial": np.repeat([1, 2, 3], 2), "seed": np.tile([7, 8], 3)}
    trials |= {"schedule.gamma": np.repeat([0.1, 9.0, 0.5], 2), "score": np.array([4.0, 2.0, np.nan, 1.0, 1.0, 2.0])}
    trials["batch_size"] = [json.dumps(value) for value in (4, 4, "full", "full", 4, 4)]
    tables.write_columns(trials, folder / files.SEARCH)
    store = open_store(bench)
    run_id = Recorder(store, NOBODY).write(mirror.result(folder)).run_id
    for name, expected in {"search/score": [(1, 3.0), (3, 1.5)], "search/best": [(1, 3.0), (2, 3.0), (3, 1.5)]}.items():
        assert [(point.step, point.value) for point in store.client.get_metric_history(run_id, name)] == expected
    assert {files.SEARCH, "search.json"} <= artifacts(store, run_id)
    shown = store.client.load_table(store.client.get_run(run_id).info.experiment_id, "search.json", [run_id])
    assert shown["schedule/gamma"].tolist() == [0.1, 0.1, 9.0, 9.0, 0.5, 0.5]  # MLflow's page has no names with dots
    assert shown["batch_size"].tolist() == [4, 4, "full", "full", 4, 4]
    assert Recorder(store, NOBODY).write(mirror.result(folder)).written == []
