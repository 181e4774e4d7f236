"""Losses against torch.nn.functional and autograd."""

import pytest
import torch
from torch.nn import functional

from bancada.networks.losses import LOSSES

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
def test_a_loss_and_its_gradient_agree_with_torch_and_rows_that_fill_up_do_not_count(name: str, outputs: int) -> None:
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


def test_cross_entropy_and_its_gradient_agree_with_torch() -> None:
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
