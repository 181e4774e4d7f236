"""A replica is a pure function of recipe, rows and seed: that of a loop by hand, in any company and any process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import by_hand, imported
from examples import EXAMPLES, SEED, Bench, all_trained, data, data_of, differences, nobody, recipe, replica_of
from safetensors.numpy import load_file

from bancada.base import user_code
from bancada.networks.preparation import Preparation
from bancada.networks.saved import HISTORY_COLUMNS, Trained, save
from bancada.training import processes, replica, torch_engine
from bancada.training.replica import Data, Replica

SMALL: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "sgd": ([5, "tanh", 1], {"loss": "mse"}),
    "momentum, decay, a step by update": (
        [6, "relu", 5, "sigmoid", 1],
        {
            "loss": "half_mse",
            "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
            "schedule": {"name": "step", "step_size": 4, "gamma": 0.5, "every": "update"},
        },
    ),
    "inverse time, clipping": (
        [5, "tanh", 1],
        {"loss": "l1", "schedule": {"name": "inverse_time", "decay": 0.1}, "clip_norm": 0.2},
    ),
    "batch norm, full batches": (
        [{"linear": 5, "bias": False}, "batch_norm", "tanh", 1],
        {"loss": "mse", "batch_size": "full", "init": "xavier_normal"},
    ),
    "fixed order": ([5, "tanh", 1], {"loss": "mse", "batch_order": "fixed"}),
}
SMALL_CLASSES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "cross entropy, adam": ([8, "relu", 4], {"loss": "cross_entropy", "optimizer": "adam", "lr": 0.01}),
    "softmax": ([8, "tanh", 4, "softmax"], {"loss": "mse", "lr": 0.5}),
}


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    yield
    user_code.forget()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_replica_is_what_a_loop_by_hand_gives_byte_by_byte(name: str) -> None:
    rows, one = data_of(name), replica_of(name)
    trained = torch_engine.train(one, rows, nobody)
    weights, history = by_hand(one, rows)
    assert trained.weights.keys() == weights.keys()
    for key, value in weights.items():
        assert trained.weights[key].tobytes() == value.numpy().tobytes(), key
    for key, values in history.items():
        np.testing.assert_array_equal(trained.history[key], values, err_msg=key)
    assert trained.history["train_loss"][-1] < trained.history["train_loss"][0]
    assert trained.parameters == sum(value.numel() for key, value in weights.items() if key in parameters(one))


def parameters(one: Replica) -> set[str]:
    network = imported(one.recipe.module.file, one.recipe.module.name)(**one.recipe.module.args)
    return {key for key, _ in network.named_parameters()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_start_differs_from_seed_to_seed_and_is_the_same_for_the_same_seed(name: str) -> None:
    one, same, other = (
        torch_engine.train(replica_of(name, seed, epochs=1), data_of(name), nobody) for seed in (SEED, SEED, SEED + 1)
    )
    assert differences(one, same) == []
    assert differences(one, other)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name != "cnn")) for name in EXAMPLES])
def test_a_replica_has_the_same_bytes_alone_in_company_and_in_any_number_of_processes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, seeds = data_of(name), [SEED + i for i in range(3)]
    wanted = [torch_engine.train(replica_of(name, seed), rows, nobody) for seed in seeds]
    for cores in ("1", "2"):
        monkeypatch.setenv("BANCADA_CORES", cores)
        found = all_trained(processes, [replica_of(name, seed) for seed in seeds], rows)
        assert [differences(*pair) for pair in zip(found, wanted, strict=True)] == [[], [], []]
    alone = all_trained(processes, [replica_of(name, seeds[2])], rows)
    assert differences(alone[0], wanted[2]) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_replica_has_the_same_bytes_as_the_second_task_after_any_other(name: str) -> None:
    wanted = torch_engine.train(replica_of(name), data_of(name), nobody)
    for other in EXAMPLES:
        torch_engine.train(replica_of(other, SEED + 7, epochs=1), data_of(other), nobody)
        torch.set_num_threads(2)  # what a user's file may leave behind
        torch.rand(3), np.random.rand(3)
        assert differences(torch_engine.train(replica_of(name), data_of(name), nobody), wanted) == [], other


@pytest.mark.long
def test_the_number_of_threads_that_the_shell_asks_for_changes_nothing(own: Bench) -> None:
    """A sum over 70 inputs, of 500 units, is one that several threads would share."""
    own.write(["buffers"], num_seeds=1, epochs=2)
    edited = (own.root / "params.yaml").read_text().replace("features: 64", "features: 64, width: 500")
    (own.root / "params.yaml").write_text(edited)
    found = []
    for variables in ({}, {"OMP_NUM_THREADS": "6", "MKL_NUM_THREADS": "6"}):
        own.train("buffers", BANCADA_REPLICAS="off", **variables)
        found.append(own.model("buffers"))
    assert found[0] == found[1]


def small(stack: list[Any], train: dict[str, Any], engine: str) -> Replica:
    changed = {"lr": 0.1, "epochs": 4, "batch_size": 16} | train
    return Replica(recipe({"layers": stack}, changed, engine), SEED)


@pytest.mark.parametrize(("stack", "train"), [*SMALL.values(), *SMALL_CLASSES.values()], ids=[*SMALL, *SMALL_CLASSES])
def test_the_small_vocabulary_is_trained_by_both_engines_alike(stack: list[Any], train: dict[str, Any]) -> None:
    of_classes = (stack, train) in SMALL_CLASSES.values()
    shaped = data() if of_classes else data((8, 2), 0)
    flat = [
        replica.Rows(part.inputs.reshape(len(part), -1), part.targets) for part in (shaped.train, shaped.validation)
    ]
    rows = Data(*flat, shaped.classes)
    one = torch_engine.train(small(stack, train, "torch"), rows, nobody)
    [stacked] = all_trained(replica, [small(stack, train, "compiled")], rows)
    for key, value in stacked.weights.items():
        np.testing.assert_allclose(one.weights[key], value, rtol=1e-5, atol=1e-5, err_msg=key)
    for key, values in stacked.history.items():
        np.testing.assert_allclose(one.history[key], values, rtol=1e-5, atol=1e-6, err_msg=key)


def test_a_parameter_that_is_a_transposed_view_is_stored_as_it_is(tmp_path: Path) -> None:
    """safetensors writes the memory of an array, which of a transposed one has another order."""
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T  # [3, 2], in column-major order
    one = Trained({"w": value, "count": np.array(7)}, {name: np.zeros(1) for name in HISTORY_COLUMNS}, 6, 1)
    described = {"recipe": {"seeds": [1, 2]}}
    save(tmp_path / "model", described, [one, one], [Preparation()])
    stored = load_file(tmp_path / "model/weights.safetensors")
    assert stored["w"].tolist() == [[[0, 3], [1, 4], [2, 5]]] * 2
    assert stored["count"].tolist() == [7, 7]
