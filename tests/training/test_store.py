"""The store of replicas: what is taken from it, what never is, and how large it grows."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import EXAMPLES, SEED, Bench, Keeper, cut, data, data_of, differences, nobody, recipe_of, replica_of
from pydantic import BaseModel

from bancada.base import files, syntax, user_code
from bancada.networks.saved import Trained
from bancada.training import checkpoint, processes, store, torch_engine
from bancada.training.replica import Data, Outcomes, Replica, Report
from bancada.training.settings import Recipe

NAME = "residual"


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    own.write_code("x", "f0")
    yield
    user_code.forget()


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's answer: dvc.lock holds the stage as it is."""
    monkeypatch.setattr(store.Store, "_is_in_the_lock", lambda self: True)


def opened(seeds: int = 3, rows: Data | None = None, **train: Any) -> store.Store:
    asked = recipe_of(NAME, **train)
    return store.Store([Replica(asked, SEED + i) for i in range(seeds)], {0: rows or data()})


def trained_in(kept: store.Store, places: list[int]) -> list[Trained]:
    """Train them here, and put them into the store."""
    found = [torch_engine.train(kept.replicas[place], data(), nobody) for place in places]
    for place, one in zip(places, found, strict=True):
        kept.put(place, one)
    return found


def test_more_seeds_train_those_that_are_new_and_give_the_bytes_of_a_run_without_a_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store.Store, "_is_in_the_lock", lambda self: False)
    asked: list[int] = []
    whole = processes.train

    def spied(replicas: dict[int, Replica], rows: Data, report: Any) -> Outcomes:
        asked.append(len(replicas))
        return whole(replicas, rows, report)

    monkeypatch.setattr(processes, "train", spied)
    first = opened(3)
    store.train(first, {0: data()}, Report())
    first.end()
    found = store.train(opened(5), {0: data()}, Report())
    assert asked == [3, 2]
    assert capsys.readouterr().out == "x: 3 of 5 seeds from the store\n"
    monkeypatch.setenv("BANCADA_REPLICAS", "off")
    wanted = store.train(opened(5), {0: data()}, Report())
    assert asked == [3, 2, 5]
    assert [differences(*pair) for pair in zip(found, wanted, strict=True)] == [[]] * 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_comes_from_the_store_is_what_was_put_into_it(name: str) -> None:
    """Numbers without an axis included, such as a count of batches."""
    kept = [store.Store([replica_of(name)], {0: data_of(name)}) for _ in range(2)]
    one = torch_engine.train(replica_of(name), data_of(name), nobody)
    kept[0].put(0, one)
    assert differences(kept[1].take()[0], one) == []


OTHER: dict[str, Any] = {
    "lr": 0.051,
    "epochs": 4,
    "clip_norm": 0.0,
    "bits": "this_machine",
    "early_stopping": {"patience": 3},
    "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.06},
    "optimizer": {"name": "SGD", "momentum": 0.9},
}


@pytest.mark.parametrize("key", OTHER)
def test_nothing_is_taken_where_a_key_of_the_training_differs(key: str) -> None:
    trained_in(opened(), [0])
    assert opened(**{key: OTHER[key]}).take() == {}
    assert opened().take().keys() == {0}


def test_nothing_is_taken_where_the_code_a_package_or_the_rows_differ(
    own: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_in(opened(), [0])
    own.write_code("x", "f1")
    assert opened().take() == {}
    own.write_code("x", "f0")
    rows = data()
    rows.validation.inputs[3, 0, 0, 0] = np.nextafter(rows.validation.inputs[3, 0, 0, 0], np.float32(9))
    assert opened(rows=rows).take() == {}
    assert opened().take().keys() == {0}
    monkeypatch.setattr(store, "version", lambda package: "0.0.1")
    assert opened().take() == {}


def test_nothing_is_taken_where_the_code_is_not_known(own: Bench) -> None:
    trained_in(opened(), [0])
    (own.root / files.code("train", "x")).unlink()
    without = opened()
    assert (without.take(), without.missing(())[0].state) == ({}, None)


def test_the_same_code_data_and_settings_are_found_under_another_variants_name(own: Bench) -> None:
    trained_in(opened(), [0])
    own.write_code("y", "f0")
    asked: Recipe = recipe_of(NAME).model_copy(update={"variant": "y", "study": "t"})
    assert store.Store([Replica(asked, SEED)], {0: data()}).take().keys() == {0}


@pytest.mark.parametrize("said", ["off", "OFF"])
def test_switched_off_it_takes_and_keeps_nothing(said: str, own: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_in(opened(), [0])
    monkeypatch.setenv("BANCADA_REPLICAS", said)
    off = opened()
    assert (off.take(), off.missing(())[0].state) == ({}, None)
    trained_in(off, [1])
    monkeypatch.delenv("BANCADA_REPLICAS")
    assert opened().take().keys() == {0}


def test_where_the_lock_holds_the_stage_only_what_a_killed_one_left_is_taken(locked: None) -> None:
    """Forced, a finished stage is computed anew; seeds that a kill left finished or under way are not lost."""
    finished = opened(2)
    trained_in(finished, [0, 1])
    finished.end()
    killed = opened(4)
    trained_in(killed, [2])
    assert opened(4).take().keys() == {2}


def test_a_finished_stage_that_is_trained_anew_and_killed_leaves_its_finished_seeds(locked: None) -> None:
    first = opened(2)
    trained_in(first, [0, 1])
    first.end()
    forced = opened(2)
    assert forced.take() == {}
    trained_in(forced, [1])
    assert opened(2).take().keys() == {1}


@pytest.mark.parametrize("damage", ["half", "empty", "a byte"])
def test_an_entry_that_is_not_whole_is_trained_anew(damage: str, own: Bench) -> None:
    trained_in(opened(), [0, 1])
    path = opened()._paths(store.FINISHED)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "a byte": content}[damage])
    assert opened().take().keys() == {1}
    trained_in(opened(), [0])
    assert opened().take().keys() == {0, 1}


def test_a_replica_that_ends_leaves_no_state(own: Bench) -> None:
    kept = opened(1)
    path = kept.missing(())[0].state
    assert path
    cut(kept.replicas[0], data(), Keeper(path, 4))
    trained_in(kept, [0])
    assert own.entries() == {".trained"}


def test_two_processes_that_keep_the_same_replica_do_not_disturb_each_other(
    own: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two experiments of which neither changes the variant: one writes its state while the other renames its own."""
    path = own.root / "a.state"
    monkeypatch.setenv("BANCADA_CHECKPOINT_S", "0")
    keeper = checkpoint.Keeper(path)
    replace = Path.replace

    def other_first(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        checkpoint.write(path, {"at": {"epoch": 7}})  # takes the same temporary name, and is through with it
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", other_first)
    keeper.write(lambda: {"at": {"epoch": 6}})
    assert checkpoint.read(path) == {"at": {"epoch": 7}}


def test_it_is_bounded_and_the_oldest_entries_go_first(own: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own.root / "replicas"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.trained").write_bytes(bytes(100))
        os.utime(folder / f"{i}.trained", (1000 + (7 * i) % 10, 1000 + (7 * i) % 10))
    monkeypatch.setattr(store, "MOST_BYTES", 350)
    store.prune(folder)
    ages = {i: (7 * i) % 10 for i in range(10)}
    assert {int(path.stem) for path in folder.iterdir()} == {i for i, age in ages.items() if age >= 7}
    monkeypatch.setattr(store, "MOST_BYTES", 0)
    store.prune(folder, ["7"])
    assert [path.name for path in folder.iterdir()] == ["7.trained"]


def test_a_stage_prunes_the_store_and_spares_its_own_entries(own: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_in(opened(3, lr=0.01), [0, 1])
    trained_in(opened(2), [0])
    monkeypatch.setattr(store, "MOST_BYTES", 1)
    assert opened(2).take().keys() == {0}
    assert own.entries() == {".trained"} and len(list((own.root / ".dvc/tmp/bancada/replicas").iterdir())) == 1


@pytest.mark.parametrize("change", ["edited", "removed", "no Python", "none"])
def test_what_data_code_does_not_describe_is_neither_taken_nor_kept(
    change: str, own: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is edited after the stage `code`, where that is passed over."""
    users = {name: syntax.Folder(Path("src")).closure([name])[0] for name in ("models.residual",)}
    described = {"modules": users["models.residual"], "packages": {"torch": "2"}}
    (own.root / files.code("train", "x")).write_text(json.dumps(described))
    trained_in(opened(), [0])
    path = own.root / "src/models/blocks.py"
    text = path.read_text()
    path.write_text({"edited": f"{text}\nx = 1\n", "no Python": "("}.get(change, f"# a comment\n{text}"))
    if change == "removed":
        path.unlink()
    without = opened()
    if change == "none":
        assert without.take().keys() == {0}
        return
    assert (without.take(), without.missing(())[0].state) == ({}, None)
    trained_in(without, [1])
    path.write_text(text)
    assert opened().take().keys() == {0}
    assert capsys.readouterr().err == (
        "x: models.blocks is not as data/code/train/x.json says, so no seed is taken from the store or kept there; "
        "`dvc repro code` brings it up to date\n"
    )


def test_a_full_disk_does_not_cost_a_trained_replica_its_result(own: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, nest: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    kept = opened(1)
    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        trained_in(kept, [0])
    assert str(raised.value.filename).endswith(".trained")


def test_a_temporary_experiment_shares_the_store_of_the_main_repository(
    own: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_in(opened(), [0])
    temporary = Bench(tmp_path / "exp")
    temporary.write_code("x", "f0")
    monkeypatch.chdir(temporary.root)
    assert opened().take() == {}
    monkeypatch.setenv("DVC_ROOT", str(own.root))
    assert opened().take().keys() == {0}


def test_a_fingerprint_depends_on_no_order_of_a_set(own: Bench, tmp_path: Path) -> None:
    script = (
        "from bancada.training import store; from examples import *;"
        "print(store.Store([replica_of('residual')], {0: data()}).names)"
    )
    found = set()
    for number in range(3):
        env = own.environment(PYTHONHASHSEED=str(number))
        env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[1] / "helpers")
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1 and len(json.loads(found.pop().replace("'", '"'))[0]) == 40


def test_nothing_of_a_fingerprint_is_left_out() -> None:
    """A key that is added to a recipe later counts as well."""
    assert issubclass(Recipe, BaseModel)
    assert store.fingerprints([replica_of(NAME)], {0: data()}, {"packages": {}}) != store.fingerprints(
        [replica_of(NAME, standardize=True)], {0: data()}, {"packages": {}}
    )
