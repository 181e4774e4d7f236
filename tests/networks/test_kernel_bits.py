"""A training's bytes are those of its source: whoever runs it, beside whom, in how many steps, on how many threads."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import kernel_cases
import numpy as np
import psutil
import pytest
from kernel_cases import CASES, Case, leaves

from bancada.networks import kernel

SEED, EPOCHS = 7, 7  # 21 updates


@pytest.fixture(scope="module")
def alone() -> dict[str, bytes]:
    return {name: leaves(name, SEED, EPOCHS) for name in CASES}


def in_a_process(**surroundings: str) -> dict[str, str]:
    command = [sys.executable, kernel_cases.__file__, str(SEED), str(EPOCHS)]
    said = subprocess.run(command, env=os.environ | surroundings, capture_output=True, text=True, check=True)
    assert "Warning" not in said.stderr
    return dict(line.split("\t") for line in said.stdout.splitlines())


def hashes(left: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in left.items()}


def test_plain_python_that_runs_the_same_source_leaves_the_same_bytes(alone):
    assert in_a_process(NUMBA_DISABLE_JIT="1") == hashes(alone)


@pytest.mark.long
def test_another_process_with_warm_code_leaves_the_same_bytes(alone):
    assert in_a_process() == hashes(alone)


@pytest.mark.long
def test_code_compiled_anew_with_bounds_checks_leaves_the_same_bytes(alone, tmp_path):
    assert in_a_process(NUMBA_BOUNDSCHECK="1", XDG_CACHE_HOME=str(tmp_path)) == hashes(alone)


@pytest.mark.long
def test_code_for_the_plainest_cpu_leaves_the_same_bytes(alone, tmp_path):
    plain = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert in_a_process(**plain) == hashes(alone)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_training_leaves_the_same_bytes_among_others_in_any_order_on_any_number_of_threads(alone, threads):
    names = list(CASES) * 3
    order = np.random.default_rng(threads).permutation(len(names)).tolist()
    with ThreadPoolExecutor(threads) as pool:
        left = list(pool.map(lambda i: leaves(names[i], SEED + i % 3 // 2, EPOCHS), order))
    assert all(content == alone[names[i]] for i, content in zip(order, left, strict=True) if i % 3 < 2)
    assert all(content != alone[names[i]] for i, content in zip(order, left, strict=True) if i % 3 == 2)


@pytest.mark.parametrize("name", CASES)
def test_a_training_that_is_stopped_after_any_epoch_and_goes_on_from_a_copy_is_the_same(name):
    case = CASES[name]
    whole = case.train(case.start_at(SEED, EPOCHS), SEED, EPOCHS, EPOCHS)
    place = case.start_at(SEED, EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        place = kernel.Place(*(np.frombuffer(part.tobytes(), part.dtype).reshape(part.shape).copy() for part in place))
        case.train(place, SEED, EPOCHS, epoch)
    assert [part.tobytes() for part in place] == [part.tobytes() for part in whole]


def test_the_cases_end_as_their_names_say():
    ended = {name: case.train(case.start_at(SEED, EPOCHS), SEED, EPOCHS, EPOCHS) for name, case in CASES.items()}
    diverged = {
        name for name, place in ended.items() if np.isnan(kernel.named(CASES[name].network(), place)["0.weight"]).all()
    }
    assert diverged == {"diverges", "diverges where it is clipped"}
    assert kernel.note(CASES["diverges where it is clipped"].network(), ended["diverges where it is clipped"])
    assert np.isnan(ended["early stopping"].history[-1]).all()
    assert all(kernel.ended(CASES[name].settings(EPOCHS), place) for name, place in ended.items())


def test_nan_is_written_by_name_where_a_training_diverged():
    case = CASES["diverges"]
    place = case.train(case.start_at(SEED, EPOCHS), SEED, EPOCHS, EPOCHS)
    weights = np.concatenate([value.ravel() for value in kernel.named(case.network(), place).values()])
    history = place.history[np.isnan(place.history)]
    assert set(weights.view(np.uint32)) == {0x7FC00000}
    assert set(history.view(np.uint64)) == {0x7FF8000000000000}


@pytest.mark.parametrize("name", ["tanh", "softmax", "batch norm, last batch smaller", "wide, odd sizes"])
def test_the_outputs_for_a_row_do_not_depend_on_other_rows(name):
    case = CASES[name]
    weights = kernel.named(case.network(), case.train(case.start_at(SEED, 1), SEED, 1, 1))
    inputs = case.rows(700).inputs
    together = kernel.outputs(case.network(), weights, inputs)
    alone = [kernel.outputs(case.network(), weights, inputs[at : at + 1]) for at in range(0, 700, 7)]
    assert np.concatenate(alone).tobytes() == together[::7].tobytes()


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid", "softmax", "batch norm, last batch smaller"])
def test_outputs_are_nan_where_a_number_on_the_way_is_not_finite(name):
    network, weights = CASES[name].network(), kernel.named(CASES[name].network(), CASES[name].start_at(SEED, 1))
    large = weights | {"0.weight": weights["0.weight"] * 1000}
    inputs = np.array([[1, 2], [np.inf, 0], [np.nan, 1], [3e38, 3e38]], np.float32)
    assert np.isfinite(kernel.outputs(network, large, inputs)).all(1).tolist() == [True, False, False, False]
    diverged = {part: np.full_like(value, np.nan) for part, value in weights.items()}
    assert np.isnan(kernel.outputs(network, diverged, inputs)).all()


def test_memory_stays_flat_over_epochs():
    case = Case([3, "tanh", {"dropout": 0.1}, 1], "signs", batch=0, more={"patience": 100_000})
    process, epochs = psutil.Process(), 20_000
    place = case.start_at(SEED, epochs)
    case.train(place, SEED, epochs, 100)
    before = process.memory_info().rss
    case.train(place, SEED, epochs, epochs)
    assert place.progress[0] == epochs
    assert process.memory_info().rss - before < epochs * 50  # bytes; the smallest array that an epoch makes has 1024
