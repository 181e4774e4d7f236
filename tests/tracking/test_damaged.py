"""A model or an evaluation with files that were cut, edited or lost is named and left out; all else is recorded, and no
good copy is replaced."""

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


def fails(capfd: pytest.CaptureFixture[str]) -> str:
    """`bancada track` ends with status 1. Return what it says of that."""
    capfd.readouterr()
    assert catch_up.track(all_experiments=False) == 1
    return capfd.readouterr().err


def names(damaged: str) -> str:
    way_out = f"`git checkout -- {FOLDER}` brings back what that names"
    return f"not recorded: the evaluation of toy: {FOLDER}: not as in dvc.lock: {damaged}; {way_out}\n"


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
    assert fails(capfd) == names(name.partition("/")[0])
    assert plain(evaluated) == before
    assert (rows(evaluated, "select * from metrics"), rows(evaluated, CHAMPION)) == (metrics, champion)


def test_beside_a_damaged_evaluation_the_trainings_are_recorded_and_it_is_later(
    evaluated: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And all that is damaged is named at once."""
    paths = [FOLDER / name for name in ("plots/loss.png", "scores.csv")]
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        cut(path)
    assert fails(capfd) == names("plots, scores.csv")
    runs = "select name, status from runs order by name"
    assert rows(evaluated, runs) == [("toy_adam", "FINISHED"), ("toy_tanh", "FINISHED")]
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    assert catch_up.track(all_experiments=False) == 0
    [(run_id,)] = rows(evaluated, "select run_uuid from runs where name = 'toy_tanh'")
    opened, tables = open_store(evaluated), ("scores.csv", "per_seed.csv", "leaderboard.csv", "predictions.csv")
    assert opened.client.get_run(run_id).data.metrics["test_error_rate_percent"] == 2.5
    assert artifacts(opened, run_id) >= {"plots/regions.png", "plots/loss.png", *(f"evaluation/{t}" for t in tables)}
    assert rows(evaluated, CHAMPION) == [("champion", 1)]


@pytest.mark.parametrize(("name", "damage"), [("history.parquet", cut), ("run.json", lost)])
def test_a_damaged_model_is_named_and_the_other_one_is_recorded(
    bench: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    write_lock()
    damage(files.model("toy", "toy_adam") / name)
    way_out = f"`dvc checkout --force {files.model('toy', 'toy_adam')}` brings that one back"
    assert fails(capfd) == f"not recorded: data/models/toy/toy_adam: it is not the one that dvc.lock names; {way_out}\n"
    assert rows(bench, "select name, status from runs") == [("toy_tanh", "FINISHED")]
    errors = "select value from latest_metrics where key = 'test_error_rate_percent'"
    assert rows(bench, errors) == [(2.5,)]


@pytest.mark.parametrize("content", ["", "variant,split,metric,mean\ntoy_tanh\n", "\0\udcff"])
@pytest.mark.parametrize("name", ["scores.csv", pytest.param("per_seed.csv", marks=pytest.mark.long)])
def test_a_table_that_cannot_be_read_is_named_where_dvc_lock_does_not_know_it(
    bench: Path, capfd: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    (FOLDER / name).write_bytes(content.encode(errors="surrogateescape"))
    assert fails(capfd).startswith(f"not recorded: the evaluation of toy: {FOLDER}: it cannot be read: ")
    assert rows(bench, "select count(*) from runs where status = 'FINISHED'") == [(2,)]


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
