"""Outputs and losses against torch.nn's own modules; evaluating never loads torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from bancada.networks import inference
from bancada.networks.settings import LOSSES, Layers, LayerSpec, Loss
from bancada.networks.start import sequential

SOURCE = Path(__file__).resolve().parents[2] / "src"
SEEDS, ROWS, FEATURES = 3, inference.CHUNK_ROWS + 23, 4  # more than one chunk

STACKS = {
    "linear": [2],
    "tanh, no bias": [{"linear": 5, "bias": False}, "tanh", {"linear": 2, "bias": False}],
    "relu and dropout": [5, "relu", {"dropout": 0.5}, 2, {"dropout": 0.1}],
    "sigmoid": [5, "sigmoid", 1, "sigmoid"],
    "softmax": [5, "softmax", 3, "softmax"],
    "batch norm": ["batch_norm", {"linear": 5, "bias": False}, "batch_norm", "tanh", 2],
    "activation first": ["tanh", "sigmoid", 2],
}


def specs(stack: list[object]) -> list[LayerSpec]:
    return TypeAdapter(Layers).validate_python(stack)


def networks(stack: list[object]) -> list[nn.Sequential]:
    """One for each seed, in evaluation mode, with running statistics as a training leaves them."""
    generator = torch.Generator().manual_seed(1)
    made = [sequential(specs(stack), [FEATURES]).eval() for _ in range(SEEDS)]
    for network in made:
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
                if "running_var" in name:
                    value.abs_()
    return made


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_outputs_are_those_of_nn_sequential_in_evaluation_mode(stack: list[object]) -> None:
    made = networks(stack)
    states = [network.state_dict() for network in made]
    weights = {name: torch.stack([state[name] for state in states]).numpy() for name in states[0]}
    x = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = np.stack([network.double()(x.double()).numpy() for network in made])
    weights = {name: value for name, value in weights.items() if "num_batches" not in name}  # which is not kept
    output = inference.outputs(specs(stack), weights, x.numpy().T.copy())
    np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-12)


def test_the_stacks_have_every_kind_of_layer() -> None:
    kinds = {spec.kind for stack in STACKS.values() for spec in specs(stack)}
    assert kinds == set(get_args(LayerSpec.model_fields["kind"].annotation))


def test_a_seed_gets_the_same_bits_for_any_number_of_seeds() -> None:
    rng = np.random.default_rng(3)
    weights = {"0.weight": rng.normal(size=(SEEDS, 5, FEATURES)), "0.bias": rng.normal(size=(SEEDS, 5))}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    x = rng.normal(size=(FEATURES, ROWS)).astype(np.float32)
    observed = rng.normal(size=(5, ROWS)).astype(np.float32)
    together = inference.outputs(specs([5, "tanh"]), weights, x)
    losses = inference.loss("l1", together, observed)
    for seed in range(SEEDS):
        alone = inference.outputs(specs([5, "tanh"]), {name: value[[seed]] for name, value in weights.items()}, x)
        np.testing.assert_array_equal(alone[0], together[seed])
        assert inference.loss("l1", alone, observed)[0] == losses[seed]


def test_a_diverged_seed_has_no_outputs_and_no_loss_and_does_not_change_the_others() -> None:
    weights = {"0.weight": np.full((2, 1, 1), 3, dtype=np.float32), "0.bias": np.ones((2, 1), dtype=np.float32)}
    weights["0.weight"][1] = np.nan
    output = inference.outputs(specs([1]), weights, np.array([[2.0, 5.0]], dtype=np.float32))
    np.testing.assert_array_equal(output[:, :, 0], [[7, 16], [np.nan, np.nan]])
    losses = inference.loss("mse", output, np.array([[6.0, 14.0]], dtype=np.float32))
    np.testing.assert_array_equal(losses, [2.5, np.nan])


def test_sigmoid_and_softmax_of_huge_numbers_neither_overflow_nor_warn() -> None:
    h = np.array([[-800.0, -40.0, 800.0]])
    np.testing.assert_allclose(inference.sigmoid(h), [[0, 4.248354255291589e-18, 1]], rtol=1e-14, atol=1e-300)
    np.testing.assert_array_equal(inference.softmax(np.array([[-800.0], [800.0]])), [[0], [1]])


class HalfMSE(nn.Module):
    def forward(self, output: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        return ((output - observed) ** 2 / 2).mean()


REFERENCE: dict[Loss, nn.Module] = {
    "mse": nn.MSELoss(),
    "half_mse": HalfMSE(),
    "l1": nn.L1Loss(),
    "bce": nn.BCELoss(),
    "cross_entropy": nn.CrossEntropyLoss(),  # of observed shares, which may be 0 and 1
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_has_the_value_of_torch_nn(kind: Loss) -> None:
    generator = torch.Generator().manual_seed(4)
    width = {"bce": 1, "cross_entropy": 3}.get(kind, 2)
    output = torch.randn(SEEDS, 19, width, generator=generator, dtype=torch.float64) * 4
    output = output.sigmoid() if kind == "bce" else output
    observed = torch.randn(19, width, generator=generator)
    if kind in ("bce", "cross_entropy"):
        classes = torch.randint(0, max(width, 2), (19,), generator=generator)
        observed = classes[:, None].float() if width == 1 else nn.functional.one_hot(classes, width).float()
    expected = [REFERENCE[kind](output[seed], observed.double()).item() for seed in range(SEEDS)]
    assert inference.loss(kind, output.numpy(), observed.numpy().T.copy()).tolist() == pytest.approx(
        expected, rel=1e-12
    )


def test_bce_of_a_certain_and_wrong_output_is_100_and_cross_entropy_of_a_huge_one_is_finite() -> None:
    observed = np.array([[0.0]], dtype=np.float32)
    assert inference.loss("bce", np.ones((1, 1, 1)), observed).tolist() == [100]
    observed = np.array([[1.0], [0.0]], dtype=np.float32)
    assert inference.loss("cross_entropy", np.array([[[-900.0, 900.0]]]), observed).tolist() == [1800]


def test_the_stage_evaluate_loads_without_torch() -> None:
    code = "import sys, bancada.evaluation.evaluate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
