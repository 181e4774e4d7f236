"""Experiments and registered models are known by a tag of ours, not by their names, which anybody may take or change;
and nobody but the clone with the newest committed results moves the alias `champion`."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from catching_up import NOTHING_NEW, go_to
from mlflow import MlflowClient
from toy import NOBODY, commit, count, git, rows, write_lock
from toy_models import scored, trained

from bancada.tracking import catch_up
from bancada.tracking.experiments import experiment_id
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store
from bancada.tracking.surroundings import Origin

EXPERIMENTS = "select name from experiments where name != 'Default' order by experiment_id"


@pytest.fixture
def client(bench: Path) -> MlflowClient:
    return open_store(bench).client


def tracked(capfd: pytest.CaptureFixture[str]) -> list[str]:
    capfd.readouterr()
    assert catch_up.track(all_experiments=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out.splitlines()


# --- experiments ----------------------------------------------------------------------------------------------------


def test_a_renamed_experiment_keeps_its_name_and_its_runs(
    bench: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked(capfd)
    found = client.get_experiment_by_name("toy").experiment_id
    client.rename_experiment(found, "half-moons of May")
    assert tracked(capfd) == [NOTHING_NEW]
    assert rows(bench, EXPERIMENTS) == [("half-moons of May",)]
    assert client.get_experiment(found).tags["bancada.study"] == "toy"
    moved = bench.rename(bench.with_name("moved"))
    os.chdir(moved)
    assert tracked(capfd) == [NOTHING_NEW]
    places = rows(moved, "select artifact_location from experiments where name != 'Default'")
    assert places == [((moved / "mlartifacts/toy").as_uri(),)]


@pytest.mark.parametrize("has_runs", [False, True])
def test_beside_somebody_elses_experiment_ours_has_another_name(
    bench: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str], has_runs: bool
) -> None:
    foreign = client.create_experiment("toy", "file:///nowhere")
    if has_runs:
        client.create_run(foreign, tags={"study": "toy"})
    lines = tracked(capfd)
    why = "because MLflow has another experiment of that name, maybe a deleted one"
    assert lines[0] == f"toy: its experiment in MLflow is called `toy (bancada)`, {why}"
    assert rows(bench, EXPERIMENTS) == [("toy",), ("toy (bancada)",)]
    assert dict(client.get_experiment(foreign).tags) == {}
    assert len(client.search_runs([foreign])) == has_runs
    assert tracked(capfd) == [NOTHING_NEW]


def test_a_study_named_default_is_not_put_into_mlflows_own_experiment(bench: Path) -> None:
    """Whose files would be in ./mlruns."""
    opened = open_store(bench)
    found = opened.client.get_experiment(experiment_id(opened, "Default"))
    assert found.name == "Default (bancada)"
    assert Path(unquote(urlsplit(found.artifact_location).path)) == bench / "mlartifacts/Default"
    assert experiment_id(opened, "Default") == found.experiment_id


def test_nothing_is_made_beside_the_store_and_an_old_mlruns_stops_nothing(
    champions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The folder's name has a space and an umlaut. MLflow's default store would be ./mlruns, where there is one."""
    Path("mlruns/0").mkdir(parents=True)
    Path("mlruns/0/meta.yaml").write_text("artifact_location: file:///x\nexperiment_id: '0'\nname: Default\n")
    before, beside = {path.name for path in champions.iterdir()}, {path.name for path in champions.parent.iterdir()}
    assert "toy: version 1, toy_tanh, is the champion now" in tracked(capfd)
    assert {path.name for path in champions.iterdir()} == before | {"mlartifacts"}
    assert {path.name for path in champions.parent.iterdir()} == beside
    assert [path.name for path in Path("mlruns").rglob("*")] == ["0", "meta.yaml"]


# --- registered models ----------------------------------------------------------------------------------------------


@pytest.fixture
def champions(bench: Path) -> Path:
    """A bench with two models, of which toy_tanh is the better one, and with committed results."""
    trained("signs")
    trained("signs", "toy_adam", draw=50)
    better("toy_tanh")
    commit()
    return bench


def better(variant: str) -> None:
    values = {"toy_tanh": [4.0, 5.0, 6.0], "toy_adam": [4.0, 5.0, 6.0]}
    scored(values | {variant: [1.0, 2.0, 3.0]})


def champion(root: Path, name: str = "toy") -> str | None:
    """The variant that has the alias."""
    query = "select value from registered_model_aliases a join model_version_tags t using (name, version)"
    found = rows(root, f"{query} where name = '{name}' and alias = 'champion' and key = 'bancada.variant'")
    return found[0][0] if found else None


def test_somebody_elses_registered_model_keeps_its_versions_and_its_champion(
    champions: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    client.create_registered_model("toy")
    client.create_model_version("toy", "file:///theirs")
    client.set_registered_model_alias("toy", "champion", "1")
    lines = tracked(capfd)
    assert any(line.startswith("toy: its registered model in MLflow is called `toy (bancada)`") for line in lines)
    assert [version.source for version in client.search_model_versions("name = 'toy'")] == ["file:///theirs"]
    assert client.get_registered_model("toy").aliases == {"champion": 1}
    assert champion(champions, "toy (bancada)") == "toy_tanh"
    assert tracked(capfd) == [NOTHING_NEW]


def test_a_renamed_registered_model_keeps_its_name_and_its_champion(
    champions: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked(capfd)
    client.rename_registered_model("toy", "moons")
    better("toy_adam")
    commit()
    assert "toy: version 2, toy_adam, is the champion now" in tracked(capfd)
    assert champion(champions, "moons") == "toy_adam"
    assert count(champions, "registered_models") == 1


def test_the_champion_follows_the_committed_results(champions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracked(capfd)
    better("toy_adam")
    write_lock()
    line = "toy: toy_adam is not the champion in MLflow yet; the alias is still on version 1: commit dvc.lock and data"
    assert f"{line}, then run `bancada track`" in tracked(capfd)
    assert (champion(champions), count(champions, "model_versions")) == ("toy_tanh", 1)
    commit()
    assert "toy: version 2, toy_adam, is the champion now" in tracked(capfd)
    assert champion(champions) == "toy_adam"
    assert tracked(capfd) == [NOTHING_NEW]


def test_a_commit_that_a_shallow_clone_lacks_is_named_with_the_way_to_get_it(
    champions: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked(capfd)
    client.set_registered_model_tag("toy", "bancada.commit", "1" * 40)
    better("toy_adam")
    commit()
    way_out = "HEAD does not follow commit 1111111111, of which the alias is; `git pull`, in a shallow clone with `--un"
    assert any(way_out in line for line in tracked(capfd))
    assert champion(champions) == "toy_tanh"


NO_CHAMPION = "no variant can be the champion, because none has a value on validation rows for every seed"
Values = list[float | None]
ONE_EACH: tuple[Values, Values] = ([1.0, None, 3.0], [None, 2.0, 3.0])


@pytest.mark.parametrize(
    ("tanh", "adam", "split"),
    [
        ([None, None, None], [None, None, None], "validation"),  # also R2 of one row, which is not defined
        (*ONE_EACH, "validation"),
    ],
)
def test_committed_results_without_a_champion_take_the_alias_off(
    champions: Path, capfd: pytest.CaptureFixture[str], tanh: Values, adam: Values, split: str
) -> None:
    tracked(capfd)
    scored({"toy_tanh": tanh, "toy_adam": adam}, split=split)
    write_lock()
    why = "the alias is still on version 1: commit dvc.lock and data, then run `bancada track`"
    assert f"toy: {NO_CHAMPION}; {why}" in tracked(capfd)
    assert champion(champions) == "toy_tanh"
    commit()
    assert f"toy: {NO_CHAMPION}; version 1, of older results, has lost the alias" in tracked(capfd)
    assert champion(champions) is None
    assert tracked(capfd) == [NOTHING_NEW]
    better("toy_tanh")
    commit()
    assert "toy: version 1, toy_tanh, is the champion now" in tracked(capfd)
    assert champion(champions) == "toy_tanh"


@pytest.mark.long
def test_an_older_clone_neither_takes_the_alias_off_nor_gives_it_back(
    champions: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = shutil.copy(champions / "mlflow.db", champions.with_name("shared.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    older = shutil.copytree(champions, champions.with_name("older"))
    tracked(capfd)
    go_to(older, monkeypatch)
    scored({"toy_tanh": ONE_EACH[0], "toy_adam": ONE_EACH[1]})
    commit("other results")
    go_to(champions, monkeypatch)
    git("commit", "-qm", "something", "--allow-empty")
    tracked(capfd)
    go_to(older, monkeypatch)
    [line] = [line for line in tracked(capfd) if "champion" in line]
    assert line.startswith(f"toy: {NO_CHAMPION}; the alias is still on version 1: HEAD does not follow commit ")
    go_to(champions, monkeypatch)
    scored({"toy_tanh": ONE_EACH[0], "toy_adam": ONE_EACH[1]})
    commit("no champion")
    assert any("has lost the alias" in line for line in tracked(capfd))
    go_to(older, monkeypatch)
    better("toy_tanh")
    commit("a champion")
    [line] = [line for line in tracked(capfd) if "champion" in line]
    assert line.startswith("toy: toy_tanh is not the champion in MLflow yet: HEAD does not follow commit ")
    assert "aliases={}" in str(open_store(older).client.get_registered_model("toy"))


def test_an_alias_of_an_older_champion_is_named_where_the_new_ones_run_was_deleted(
    champions: Path, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked(capfd)
    better("toy_adam")
    commit()
    [(run_id,)] = rows(champions, "select run_uuid from runs where name = 'toy_adam'")
    client.delete_run(run_id)
    still = "the alias is still on version 1"
    assert f"toy: toy_adam is not the champion in MLflow yet; {still}: its model is not in MLflow" in tracked(capfd)
    assert champion(champions) == "toy_tanh"


def test_a_damaged_table_takes_no_alias_off(champions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracked(capfd)
    (champions / "data/evaluation/toy/leaderboard.csv").write_text("variant,split\n")
    assert catch_up.track(all_experiments=False) == 1
    assert "champion" not in capfd.readouterr().out
    assert champion(champions) == "toy_tanh"


def test_an_experiment_never_moves_the_alias(champions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(open_store(champions), Origin("brave-cat"))
    recorder.write_study("toy")
    assert (recorder.failed, champion(champions)) == ({}, None)
    assert "champion" not in capfd.readouterr().out
    Recorder(open_store(champions), NOBODY).write_study("toy")
    assert champion(champions) == "toy_tanh"


def test_another_clone_moves_the_alias_only_forward_in_history(
    champions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two clones share a store and commit different results; then one of them follows the other."""
    shared = shutil.copy(champions / "mlflow.db", tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    other = shutil.copytree(champions, champions.with_name("other"))

    def holds() -> str | None:
        (tmp_path / "mlflow.db").unlink(missing_ok=True)
        (tmp_path / "mlflow.db").symlink_to(shared)
        return champion(tmp_path)

    git("commit", "-qm", "something", "--allow-empty")
    tracked(capfd)
    assert holds() == "toy_tanh"
    go_to(other, monkeypatch)
    better("toy_adam")
    commit("other results")
    lines = tracked(capfd)
    [line] = [line for line in lines if "champion" in line]
    assert "toy_adam is not the champion in MLflow yet; the alias is still on version 1: HEAD does not follow " in line
    assert holds() == "toy_tanh"
    git("pull", "-q", "--no-rebase", "--no-edit", str(champions))
    assert "toy: version 2, toy_adam, is the champion now" in tracked(capfd)
    go_to(champions, monkeypatch)
    assert any("toy_tanh is not the champion in MLflow yet" in line for line in tracked(capfd))
    assert holds() == "toy_adam"
