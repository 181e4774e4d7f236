"""Losses against torch.nn.functional and autograd; encodings and decisions against the tables in the docs."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional

from bancada.losses import LOSSES, encoding, out_of_reach
from bancada.schema import Layers

ROWS, PLACES = 13, 16


def half_mse(output: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    return ((output - observed) ** 2 / 2).mean()


REFERENCE = {
    "mse": functional.mse_loss,
    "half_mse": half_mse,
    "l1": functional.l1_loss,
    "bce": functional.binary_cross_entropy,
}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_loss_and_its_gradient_are_torch_s_and_filled_places_do_not_count(name: str, outputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    output = torch.rand(2, outputs, PLACES, generator=generator) if name == "bce" else torch.randn(2, outputs, PLACES)
    observed = torch.randint(0, 2, output.shape, generator=generator).float()
    weight = torch.zeros(PLACES)
    weight[:ROWS] = 1 / ROWS
    given = (output, observed, weight / outputs if name == "bce" else weight)
    share, gradient = LOSSES[name].share(*given), LOSSES[name].gradient(*given)
    for seed in range(2):
        free = output[seed, :, :ROWS].clone().requires_grad_()
        expected = REFERENCE[name](free, observed[seed, :, :ROWS])
        expected.backward()
        torch.testing.assert_close(share[seed].sum(), expected.detach())
        torch.testing.assert_close(gradient[seed, :, :ROWS], free.grad)
        assert not gradient[seed, :, ROWS:].any()


def test_cross_entropy_and_its_gradient_are_torch_s() -> None:
    output, classes = torch.randn(2, 4, PLACES), torch.randint(0, 4, (2, PLACES))
    observed = functional.one_hot(classes, 4).transpose(1, 2).float()
    given = (output, observed, torch.full((PLACES,), 1 / PLACES))
    share, gradient = LOSSES["cross_entropy"].share(*given), LOSSES["cross_entropy"].gradient(*given)
    for seed in range(2):
        free = output[seed].T.clone().requires_grad_()
        expected = functional.cross_entropy(free, classes[seed])
        expected.backward()
        torch.testing.assert_close(share[seed].sum(), expected.detach())
        torch.testing.assert_close(gradient[seed].T, free.grad)


def test_bce_of_a_certain_and_wrong_output_is_100_as_in_torch() -> None:
    wrong = (torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1))
    assert LOSSES["bce"].share(*wrong).item() == 100
    assert torch.isfinite(LOSSES["bce"].gradient(*wrong)).all()


@pytest.mark.parametrize(
    ("stack", "loss", "classes", "encoded", "outputs", "decided"),
    [
        # outputs of three rows -> the class decided for each; labels [0, 1, 1] encoded
        ([1, "tanh"], "mse", 2, [[-1, 1, 1]], [[-0.1], [0.1], [0.9]], [0, 1, 1]),
        ([1], "mse", 2, [[-1, 1, 1]], [[-3.0], [0.1], [2.0]], [0, 1, 1]),
        ([1, "sigmoid"], "mse", 2, [[0, 1, 1]], [[0.1], [0.49], [0.51]], [0, 0, 1]),
        ([1, "relu"], "l1", 2, [[0, 1, 1]], [[0.0], [0.4], [7.0]], [0, 0, 1]),
        ([1, "sigmoid", {"dropout": 0.1}], "bce", 2, [[0, 1, 1]], [[0.1], [0.6], [0.7]], [0, 1, 1]),
        ([2], "cross_entropy", 2, [[1, 0, 0], [0, 1, 1]], [[3, 1], [0, 1], [-2, -1]], [0, 1, 1]),
        ([2, "tanh"], "mse", 2, [[1, -1, -1], [-1, 1, 1]], [[0.9, 0.1], [0, 0.1], [0.3, 0.2]], [0, 1, 0]),
        ([2, "tanh"], "cross_entropy", 2, [[1, 0, 0], [0, 1, 1]], [[0.9, 0.1], [0, 0.1], [0.3, 0.2]], [0, 1, 0]),
    ],
)
def test_the_encoding_is_one_the_output_can_reach_and_the_decision_undoes_it(
    stack: list[object],
    loss: str,
    classes: int,
    encoded: list[list[float]],
    outputs: list[list[float]],
    decided: list[int],
) -> None:
    rule = encoding(TypeAdapter(Layers).validate_python(stack), loss, classes)
    labels = np.array([[0], [1], [1]])
    assert rule.encode(labels).tolist() == encoded
    assert rule.decide(np.array([outputs], dtype=np.float32))[0, :, 0].tolist() == decided
    assert rule.decide(rule.encode(labels).T[None].copy())[0, :, 0].tolist() == [0, 1, 1]
    assert out_of_reach(TypeAdapter(Layers).validate_python(stack), rule.encode(labels)) is None


def test_numbers_beyond_the_last_layer_are_named() -> None:
    specs = TypeAdapter(Layers).validate_python([1, "tanh"])
    assert out_of_reach(specs, np.array([[-1.0, 1.0]], dtype=np.float32)) is None
    assert (
        out_of_reach(specs, np.array([[2.0]], dtype=np.float32))
        == "ends in tanh, which cannot reach targets from 2 to 2"
    )
