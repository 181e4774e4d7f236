"""Trainings of the compiled kernel against plain PyTorch with the same start, batches and masks of dropout.

Rounding sets float32 apart from float64. So both are held against torch in float64: the kernel, and torch in float32.
"""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from kernel_by_torch import ByTorch, mean_loss
from kernel_cases import CASES, MORE, Case

from bancada.networks import kernel
from bancada.networks.settings import LayerSpec

DIVERGING = {name: case for name, case in CASES.items() if name.startswith("diverges")}
ALL = {name: case for name, case in (CASES | MORE).items() if name not in DIVERGING}
CHAOTIC = MORE["tanh, large rate"]  # it amplifies a rounding so much that torch in float32 is lost as well
NO_WEIGHTS = np.zeros(0, np.float32)


def test_every_part_of_the_vocabulary_is_among_the_cases() -> None:
    kinds = get_args(LayerSpec.model_fields["kind"].annotation)
    assert {layer.kind for case in ALL.values() for layer in case.specs} == set(kinds)
    for key, known in (("loss", kernel.LOSSES), ("optimizer", kernel.OPTIMIZERS), ("order", kernel.ORDERS)):
        assert {getattr(case, key) for case in ALL.values()} == set(known)
    every = {(case.schedule, case.more.get("every_update", False)) for case in ALL.values()}
    assert every == {("none", False), *((name, each) for name in set(kernel.SCHEDULES) - {"none"} for each in (0, 1))}
    assert {case.loss for case in ALL.values() if case.weighted} == set(kernel.LOSSES)
    assert {case.start.name for case in ALL.values()} == {"torch", "xavier_normal", "normal", "given"}
    changed = {field for case in ALL.values() for field in case.more} | {"loss", "optimizer", "rate", "batch"}
    assert changed | {"epochs", "order", "schedule"} == set(kernel.Settings._fields)


def by_kernel(case: Case, epochs: int, rows: kernel.Rows, validation: kernel.Rows) -> tuple[dict, np.ndarray, dict]:
    network, settings = case.network(), case.settings(epochs)
    place = kernel.start(network, case.start, case.seed, settings)
    begin = {name: value.copy() for name, value in kernel.named(network, place).items()}
    kernel.train(network, settings, case.seed, rows, validation, place, epochs)
    history = place.history[~np.isnan(place.history[:, 0])]
    return kernel.named(network, place), history, begin


def distance(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    """The relative difference of all parameters and running statistics."""
    assert list(found) == list(exact)
    a, b = (np.concatenate([value.ravel().astype(np.float64) for value in one.values()]) for one in (found, exact))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compared(case: Case, updates: int) -> tuple[list[float], list[np.ndarray]]:
    """Return how far the kernel and torch in float32 are from torch in float64, and the history of all three."""
    full = case.batch == 0
    batch = case.batch or 100
    count = batch if full or updates == 1 else 4 * batch + batch // 3  # five batches, the last one smaller
    epochs = updates if full or updates == 1 else updates // 5
    rows, validation = case.rows(count), case.rows(300, seed=1)._replace(weights=NO_WEIGHTS)
    own, history, begin = by_kernel(case, epochs, rows, validation)
    settings = case.settings(epochs)
    exact, exact_history = ByTorch(case, settings, begin, torch.float64).train(rows, validation)
    single, single_history = ByTorch(case, settings, begin, torch.float32).train(rows, validation)
    return [distance(own, exact), distance(single, exact)], [history, single_history, exact_history]


@pytest.mark.parametrize("updates", [1, 10, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
def test_the_kernel_is_as_near_to_float64_as_torch_in_float32(case: Case, updates: int) -> None:
    (own, single), (history, of_single, exact) = compared(case, updates)
    if case is CHAOTIC and updates == 200:
        assert single > 0.01
        return
    assert own < 3 * single + 1e-7
    assert history.shape == exact.shape
    off, single_off = (np.abs(losses[:, :3] / exact[:, :3] - 1).max() for losses in (history, of_single))
    assert off < 3 * single_off + max(5e-7, 1e-7 * updates)
    np.testing.assert_allclose(history[:, 3], exact[:, 3], rtol=1e-12, atol=1e-15)
    if case.more.get("patience") and updates == 200:
        assert len(history) < 40  # all 40 epochs without early stopping


def trained(name: str) -> tuple[Case, kernel.Network, dict[str, np.ndarray]]:
    """A case after ten updates."""
    case = ALL[name]
    rows = case.rows(430)
    return case, case.network(), by_kernel(case, 2, rows, rows)[0]


@pytest.mark.parametrize("name", [name for name in CASES if name in ALL])
def test_outputs_and_mean_losses_outside_training_are_torchs(name: str) -> None:
    case, network, weights = trained(name)
    rows = case.rows(1000, seed=2)._replace(weights=NO_WEIGHTS)
    outputs = kernel.outputs(network, weights, rows.inputs)
    exact = ByTorch(case, case.settings(1), weights, torch.float64).network.eval()
    with torch.no_grad():
        expected = exact(torch.from_numpy(rows.inputs).double())
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-5, atol=1e-6)
    loss = mean_loss(case, expected, torch.from_numpy(rows.targets).double(), torch.empty(0)).item()
    assert kernel.mean_loss(case.loss, outputs, rows.targets) == pytest.approx(loss, rel=3e-6)


@pytest.mark.parametrize("loss", kernel.LOSSES)
def test_losses_of_extreme_outputs_are_torchs(loss: str) -> None:
    """torch stops the logarithms of bce at -100, those of cross_entropy not."""
    case = dataclasses.replace(CASES["tanh"], loss=loss)
    y = np.float32([[0, 1], [1, 0]] if loss == "bce" else [[1000, -1000], [3e4, 1e-30], [5, 5]])
    for right in (0, 1):
        t = np.zeros_like(y)
        t[:, right] = 1
        expected = mean_loss(case, torch.from_numpy(y), torch.from_numpy(t), torch.empty(0)).item()
        assert kernel.mean_loss(loss, y, t) == pytest.approx(expected, rel=1e-6, abs=1e-30)
    y[0, 1] = np.nan
    assert np.isnan(kernel.mean_loss(loss, y, t))


def test_a_training_that_diverges_ends_in_torchs_epoch_and_keeps_no_numbers() -> None:
    case = Case([1], "numbers", rate=1000.0, batch=30)
    rows = case.rows(100)
    weights, history, begin = by_kernel(case, 60, rows, rows)
    with np.errstate(over="ignore"):  # it diverges
        _, by_torch = ByTorch(case, case.settings(60), begin, torch.float32).train(rows, rows)
    assert 1 < len(history) == np.isfinite(by_torch[:, [0, 2]]).all(1).argmin() + 1 < 60
    assert all(np.isnan(value).all() for value in weights.values())


def test_a_gradient_without_a_finite_norm_is_no_step() -> None:
    """torch.nn.utils.clip_grad_norm_ would make every parameter NaN."""
    case = Case(
        [1], "numbers", more={"clip_norm": 1.0}, init={"name": "given", "weights": [[[1e30, 0]]], "biases": [[0]]}
    )
    rows = case.rows(20)
    network, settings = case.network(), case.settings(3)
    place = kernel.start(network, case.start, 7, settings)
    kernel.train(network, settings, 7, rows, rows, place, 3)
    assert kernel.ended(settings, place)
    assert kernel.note(network, place).startswith("batch 1: ")
    assert all(np.isnan(value).all() for value in kernel.named(network, place).values())


def test_weights_of_rows_count_as_torchs_weights_of_classes() -> None:
    case = Case([4, "tanh", 2], "classes", "cross_entropy", batch=0, weighted=True)
    rows = case.rows(90)
    _, history, begin = by_kernel(case, 1, rows, rows)
    network = ByTorch(case, case.settings(1), begin, torch.float64).network
    of_class = torch.tensor([0.75, 1.5], dtype=torch.float64)
    y, t = network(torch.from_numpy(rows.inputs).double()), torch.from_numpy(rows.targets).argmax(1)
    assert history[0, 0] == pytest.approx(torch.nn.functional.cross_entropy(y, t, weight=of_class).item(), rel=1e-6)
