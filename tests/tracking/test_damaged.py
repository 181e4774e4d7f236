"""Files that were cut, edited or lost are named and left out; all else is recorded, and no good copy is replaced."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import artifacts, commit, md5, rows, write_lock
from toy_models import scored, trained

from bancada.base import BadInput, files
from bancada.tracking import catch_up
from bancada.tracking.store import open_store

FOLDER = files.evaluation("toy")
CHAMPION = "select alias, version from registered_model_aliases"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace("toy_tanh", "toy_ranh"))


def lost(path: Path) -> None:
    path.unlink()


def plain(bench: Path) -> dict[str, bytes]:
    """Every artifact in the store, by run or model and name."""
    folder = bench / "mlartifacts"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damaged(capfd: pytest.CaptureFixture[str], *paths: Path) -> None:
    """`bancada track` ends with status 1 and names these and no others."""
    capfd.readouterr()
    assert catch_up.track(all_experiments=False) == 1
    err = capfd.readouterr().err
    named = [path for line in err.splitlines() for path in re.findall(r"data/[\w/.]+", line.partition(": it is ")[0])]
    assert sorted(named) == sorted(map(str, paths)), err
    assert "dvc.lock" in err or "missing" in err


@pytest.fixture
def evaluated(bench: Path) -> Path:
    trained("signs")
    trained("signs", "toy_adam", draw=50)
    scored({"toy_tanh": [1.0, 2.0, 3.0], "toy_adam": [4.0, 5.0, 6.0]})
    (FOLDER / "predictions.csv").write_text("variant,row\ntoy_tanh,1\n")
    commit()
    return bench


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("per_seed.csv", cut),
        ("plots/loss.png", lost),
        pytest.param("scores.csv", edited, marks=pytest.mark.long),
        pytest.param("leaderboard.csv", lost, marks=pytest.mark.long),
        pytest.param("predictions.csv", cut, marks=pytest.mark.long),
    ],
)
def test_a_damaged_file_of_an_evaluation_replaces_no_good_one(
    evaluated: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    assert catch_up.track(all_experiments=False) == 0
    before, metrics, champion = plain(evaluated), rows(evaluated, "select * from metrics"), rows(evaluated, CHAMPION)
    assert champion == [("champion", 1)]
    damage(FOLDER / name)
    damaged(capfd, FOLDER / name.partition("/")[0])
    assert plain(evaluated) == before
    assert (rows(evaluated, "select * from metrics"), rows(evaluated, CHAMPION)) == (metrics, champion)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("per_seed.csv", "leaderboard.csv", "predictions.csv")]


@pytest.mark.parametrize("name", ["scores.csv", "plots", *LONG])
def test_of_a_damaged_evaluation_the_rest_is_recorded_and_the_file_later(
    evaluated: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    path = FOLDER / (name if name != "plots" else "plots/loss.png")
    whole = path.read_bytes()
    cut(path)
    damaged(capfd, FOLDER / name)
    opened = open_store(evaluated)
    [(run_id,)] = rows(evaluated, "select run_uuid from runs where name = 'toy_tanh'")
    held, tables = artifacts(opened, run_id), {"scores.csv", "per_seed.csv", "leaderboard.csv", "predictions.csv"}
    assert {each.removeprefix("evaluation/") for each in held if each.startswith("evaluation/")} == tables - {name}
    assert ("plots/regions.png" in held) == (name != "plots")
    assert ("test_error_rate_percent" in opened.client.get_run(run_id).data.metrics) == (name != "scores.csv")
    damaged(capfd, FOLDER / name)
    path.write_bytes(whole)
    assert catch_up.track(all_experiments=False) == 0
    capfd.readouterr()
    run = opened.client.get_run(run_id)
    assert run.data.metrics["test_error_rate_percent"] == 2.5
    assert artifacts(opened, run_id) >= {"plots/regions.png", "plots/loss.png", *(f"evaluation/{t}" for t in tables)}
    assert rows(evaluated, CHAMPION) == [("champion", 1)]
    assert catch_up.track(all_experiments=False) == 0
    assert "0 runs new, 0 completed, 2 were complete" in capfd.readouterr().out


@pytest.mark.parametrize(("name", "damage"), [("history.parquet", cut), ("run.json", lost)])
def test_a_damaged_model_is_named_and_the_other_one_is_recorded(
    bench: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    write_lock()
    damage(files.model("toy", "toy_adam") / name)
    damaged(capfd, files.model("toy", "toy_adam"))
    assert rows(bench, "select name, status from runs") == [("toy_tanh", "FINISHED")]
    errors = "select value from latest_metrics where key = 'test_error_rate_percent'"
    assert rows(bench, errors) == [(2.5,)]


@pytest.mark.parametrize("content", ["", "variant,split,metric,mean\ntoy_tanh\n", "\0\udcff"])
@pytest.mark.parametrize("name", ["scores.csv", LONG[1]])
def test_a_table_that_cannot_be_read_is_named_where_dvc_lock_does_not_know_it(
    bench: Path, capfd: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    (FOLDER / name).write_bytes(content.encode(errors="surrogateescape"))
    status = catch_up.track(all_experiments=False)
    out, err = capfd.readouterr()
    assert "2 runs new, " in out
    assert status == 1
    assert err.startswith(f"not recorded: {FOLDER / name}: ")


def test_a_requirements_lock_that_was_edited_is_not_recorded_as_that_of_the_results(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("requirements.lock")
    entry = f"  code:\n    deps:\n    - path: {path}\n      md5: {md5(path.read_bytes())}\n"
    write_lock()
    with Path("dvc.lock").open("a") as file:
        file.write(entry)
    path.write_text("mlflow==9\n")
    assert catch_up.track(all_experiments=False) == 1
    assert capfd.readouterr().err == "not recorded: requirements.lock: it is not the one that dvc.lock names\n"
    assert not [name for name in plain(bench) if name.endswith("requirements.lock")]


def test_an_evaluation_that_dvc_lock_does_not_name_replaces_nothing(
    bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commit()
    assert catch_up.track(all_experiments=False) == 0
    before = plain(bench)
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.partition("  evaluate@toy:")[0])
    (FOLDER / "per_seed.csv").write_text("cut")
    capfd.readouterr()
    assert catch_up.track(all_experiments=False) == 1
    assert f"{FOLDER}: dvc.lock does not name it; `dvc repro evaluate@toy` brings it up" in capfd.readouterr().err
    assert plain(bench) == before
    Path("dvc.lock").unlink()
    with pytest.raises(BadInput, match=r"dvc\.lock: missing, and HEAD has it; `git checkout -- dvc\.lock`"):
        catch_up.track(all_experiments=False)


def test_a_copy_of_a_models_folder_is_named_and_is_no_result(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    commit()
    copy = Path("data/models/toy/a_copy")
    shutil.copytree("data/models/toy/toy_tanh", copy)
    (copy / "weights.safetensors").write_bytes(b"cut")
    assert catch_up.track(all_experiments=False) == 1
    out, err = capfd.readouterr()
    assert err == f"not recorded: {copy}: its run.json is of toy/toy_tanh; `bancada check --prune` removes it\n"
    assert "2 runs new" in out


def test_the_models_of_another_study_with_the_same_variants_do_not_become_the_champion(bench: Path) -> None:
    trained("signs")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    shutil.copytree("data/models/toy", "data/models/zoo")  # what is left of a study that was renamed
    for path in Path("data/models/zoo").glob("*/run.json"):
        path.write_text(path.read_text().replace('"study": "toy"', '"study": "zoo"'))
    commit()
    assert catch_up.track(all_experiments=False) == 0
    [(run_id,)] = rows(bench, "select run_id from model_versions where name = 'toy'")
    assert rows(bench, f"select value from tags where run_uuid = '{run_id}' and key = 'bancada.study'") == [("toy",)]
