"""What is decided about the machines of a cluster, without one: who is refused, and who trains a second time."""

import importlib.util
import platform
import socket
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from examples import recipe

from bancada.base import BadInput
from bancada.networks.saved import HISTORY_COLUMNS, Trained
from bancada.training import store
from bancada.training.cluster import connection, machines, worker
from bancada.training.cluster.recheck import Rechecks, digest
from bancada.training.cluster.worker import Ended, Machine
from bancada.training.replica import Disagreement
from bancada.training.settings import Recipe

WANTED = {"numpy": version("numpy")}
A = Machine("a" * 8, "one at 10.0.0.1", "Xeon", "", True, 0, platform.python_version(), WANTED)
B = replace(A, node="b" * 8, name="two at 10.0.0.2")


def trained(weight: float = 1.0, loss: float = 2.0) -> Trained:
    return Trained({"w": np.full(3, weight)}, {name: np.full(2, loss) for name in HISTORY_COLUMNS}, 3, 1)


def small(**train: object) -> Recipe:
    return recipe({"layers": [3, "tanh", 1]}, {"loss": "mse", "lr": 0.1, "epochs": 2, "batch_size": 4} | train)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (A, []),
        (replace(A, python="3.9.1"), [f"Python 3.9.1 instead of {platform.python_version()}"]),
        (replace(A, packages={"numpy": "1.0"}), [f"numpy 1.0 instead of {WANTED['numpy']}"]),
        (replace(A, packages={"numpy": ""}), [f"numpy missing instead of {WANTED['numpy']}"]),
        (replace(A, avx2=False, cpu="Nehalem"), ["a CPU without AVX2 (Nehalem)"]),
        (replace(A, own_code="/opt"), ["it imports bancada from /opt, not from what this run sent"]),
    ],
)
def test_a_machine_that_cannot_give_the_same_bytes_is_told_with_its_difference(other: Machine, told: list[str]) -> None:
    assert [*machines.differences(other, WANTED)] == told


def test_all_machines_that_differ_are_named_with_the_way_out() -> None:
    other = [replace(A, python="3.9.1"), replace(B, avx2=False)]
    with pytest.raises(BadInput, match=r"(?s)one at 10.0.0.1 \(node aaaaaa\): Python.*\n.*two at.*AVX2.*\ninstall"):
        machines.refuse_others(other, WANTED)


@pytest.mark.parametrize(("flags", "has"), [("fpu sse4_2 avx avx2 fma", True), ("fpu sse4_2 avx", False)])
def test_the_model_of_a_cpu_and_whether_it_has_avx2_come_from_what_linux_tells(
    tmp_path: Path, flags: str, has: bool
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: {flags}\n")
    assert worker._cpu(told) == {"cpu": "AMD EPYC 9R14", "avx2": has}


def test_one_replica_in_twenty_is_trained_twice_and_one_of_each_stage_at_least() -> None:
    assert Rechecks(range(10), small(), 2).chosen == {0}
    assert Rechecks(range(60), small(), 2).chosen == {0, 20, 40}
    assert Rechecks(range(60), small(), 1).chosen == set()  # there is no other node


def test_a_second_training_goes_to_another_node_and_equal_bytes_are_silent() -> None:
    checks = Rechecks([7], small(), 2)
    checks.add(7, trained(), A)
    assert [*checks.ready(lambda: [A, B])] == [(7, B)]
    assert [*checks.ready(lambda: [A, B])] == []  # it is under way
    checks.compare(7, 111, Ended(7, trained()), B)
    assert not checks.waiting
    assert [*checks.told()] == []


@pytest.mark.parametrize("other", [trained(weight=np.nextafter(1.0, 2)), trained(loss=3.0), None])
def test_other_bytes_name_both_machines(other: Trained | None) -> None:
    checks = Rechecks([7], small(), 2)
    checks.add(7, trained(), A)
    list(checks.ready(lambda: [A, B]))
    with pytest.raises(Disagreement) as raised:
        checks.compare(7, 111, Ended(7, other, fault="" if other else "it raised"), B)
    assert raised.value.machines == ("one at 10.0.0.1", "two at 10.0.0.2")
    assert raised.value.filename == "x: seed 111"
    assert "one at 10.0.0.1 (node aaaaaa)" in raised.value.strerror
    assert "two at 10.0.0.2 (node bbbbbb)" in raised.value.strerror


def test_what_depends_on_the_model_of_the_cpu_is_trained_twice_on_the_same_model_alone() -> None:
    checks = Rechecks([0], small(bits="this_machine"), 2)
    checks.add(0, trained(), A)
    assert [*checks.ready(lambda: [A, replace(B, cpu="EPYC")])] == []
    assert [*checks.told()] == ["1 of 1 replicas were not rechecked: there was no other node for them"]
    assert machines.alike(A, B, small(bits="this_machine"))
    assert not machines.alike(A, replace(B, gpu="H200"), small().model_copy(update={"device": "cuda"}))


def test_a_second_training_whose_node_dies_is_tried_elsewhere_and_then_counted() -> None:
    checks = Rechecks([0], small(), 3)
    checks.add(0, trained(), A)
    for _ in range(3):
        assert len([*checks.ready(lambda: [A, B])]) == 1
        checks.again(0)
    assert [*checks.ready(lambda: [A, B])] == []
    assert [*checks.told()] == ["1 of 1 replicas were not rechecked: there was no other node for them"]


def test_a_hash_sees_every_part_of_a_result() -> None:
    same = [digest(trained()), digest(replace(trained(), machine="elsewhere"))]
    others = [
        replace(trained(), weights={"v": np.full(3, 1.0)}),
        replace(trained(), weights={"w": np.full((3, 1), 1.0)}),
        replace(trained(), weights={"w": np.full(3, 1.0, np.float32)}),
        replace(trained(), diverged=1),
        replace(trained(), kept=0),
        replace(trained(), note="n"),
    ]
    assert len({*same}) == 1
    assert len({*same, *map(digest, others)}) == 1 + len(others)


def test_what_two_machines_trained_leaves_the_store_and_all_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    for name, machine in {"a.trained": A.name, "b.done": B.name, "c.done": "three", "d.trained": ""}.items():
        store.checkpoint.write(tmp_path / name, replace(trained(), machine=machine))
    store.checkpoint.write(tmp_path / "e.state", {"epoch": 3})
    store.forget((A.name, B.name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.done", "d.trained", "e.state"]


def test_without_ray_one_line_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANCADA_RAY", "auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"^BANCADA_RAY = auto: Ray is not installed; type: make ray$"):
        connection.join(Path("src"))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port"])
def test_an_address_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("BANCADA_RAY", address)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(BadInput, match="must be auto or HOST:PORT"):
        connection.join(Path("src"))


def test_where_nobody_answers_the_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("BANCADA_RAY", address)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ConnectionError) as raised:
        connection.join(Path("src"))
    assert (raised.value.filename, raised.value.strerror) == (address, "no Ray cluster answers")
