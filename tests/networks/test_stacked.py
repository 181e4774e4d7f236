"""Every layer and start, held against torch.nn and autograd."""

import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from bancada.networks.settings import GivenInit, Layers, LayerSpec, NormalInit, TorchInit, XavierNormal
from bancada.networks.stacked import Dropout, Parameters, StackedNetwork, filled
from bancada.networks.start import sequential, start

SEEDS, ROWS, FEATURES = 3, 23, 4

STACKS = {
    "linear": [2],
    "no bias": [{"linear": 3, "bias": False}, "tanh", {"linear": 2, "bias": False}],
    "tanh": [5, "tanh", 2, "tanh"],
    "relu": [5, "relu", 2],
    "sigmoid": [5, "sigmoid", 2, "sigmoid"],
    "softmax": [5, "relu", 3, "softmax"],
    "softmax inside": [5, "softmax", 2],
    "batch norm": [{"linear": 5, "bias": False}, "batch_norm", "tanh", 2],
    "batch norm first": ["batch_norm", 3, "relu", "batch_norm", 2],
    "activation first": ["tanh", 3, "tanh", "sigmoid", 2],
    "wide": [64, "relu", 32, "tanh", 3],
}


def layers(stack: list[object]) -> list[LayerSpec]:
    return TypeAdapter(Layers).validate_python(stack)


def starts(specs: list[LayerSpec], seeds: int = SEEDS) -> list[dict[str, torch.Tensor]]:
    return [start(specs, [FEATURES], TorchInit(name="torch"), torch.Generator().manual_seed(i)) for i in range(seeds)]


def padded(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.pad(x, (0, filled(ROWS) - ROWS))


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_outputs_gradients_and_statistics_are_those_of_nn_sequential_and_autograd(stack: list[object]) -> None:
    specs = layers(stack)
    states = starts(specs)
    parameters = Parameters(states)
    x = torch.randn(SEEDS, FEATURES, ROWS, generator=torch.Generator().manual_seed(9))
    by_output = torch.randn(SEEDS, 8, ROWS, generator=torch.Generator().manual_seed(10))
    network = StackedNetwork(specs, parameters, filled(ROWS), generators=[])
    network.batch(padded(torch.full((ROWS,), 1 / ROWS)), ROWS)
    output = network.forward(padded(x))[:, :, :ROWS].clone()
    network.backward(padded(by_output[:, : output.shape[1]]))
    for seed in range(SEEDS):
        module = sequential(specs, [FEATURES])
        module.load_state_dict(states[seed], strict=False)
        expected = module(x[seed].T)
        torch.testing.assert_close(output[seed], expected.T, rtol=1e-4, atol=1e-6)
        (expected.T * by_output[seed, : expected.shape[1]]).sum().backward()
        for name, value in module.named_parameters():
            torch.testing.assert_close(parameters.gradients[name][seed], value.grad, rtol=1e-3, atol=1e-5)
        for name, value in parameters.statistics.items():
            torch.testing.assert_close(value[seed], module.get_buffer(name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_outputs_in_evaluation_mode_are_those_of_nn_sequential(stack: list[object]) -> None:
    specs = layers([*stack[:-1], {"dropout": 0.5}, stack[-1]])
    states = starts(specs)
    for state in states:
        for name in state:
            if "running_var" in name:
                state[name] += 0.7
    x = torch.randn(SEEDS, FEATURES, filled(ROWS), generator=torch.Generator().manual_seed(9))
    output = StackedNetwork(specs, Parameters(states), filled(ROWS)).forward(x)
    for seed in range(SEEDS):
        module = sequential(specs, [FEATURES]).eval()
        module.load_state_dict(states[seed], strict=False)
        torch.testing.assert_close(output[seed].T, module(x[seed].T).detach(), rtol=1e-4, atol=1e-6)


def test_dropout_zeroes_its_share_scales_the_rest_and_passes_gradients_through_the_same_mask() -> None:
    dropout = Dropout(0.25, [torch.Generator().manual_seed(seed) for seed in range(2)])
    h = torch.ones(2, 40, 160)
    out = dropout.forward(h)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    zeroed = (out == 0).float().mean().item()
    assert abs(zeroed - 0.25) < 4 * math.sqrt(0.25 * 0.75 / h.numel())
    assert torch.equal(dropout.backward(torch.ones_like(h)), out)
    assert not torch.equal(dropout.forward(h), out)
    assert not torch.equal(out[0], out[1])


def test_the_default_start_is_that_of_nn_linear() -> None:
    specs = layers([3, "tanh", 5, "tanh", 1])
    drawn = start(specs, [FEATURES], TorchInit(name="torch"), torch.Generator().manual_seed(7))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).state_dict()
    assert drawn.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(drawn[name], value, rtol=1e-6, atol=0)


def test_xavier_and_normal_starts_have_their_spread_and_zero_biases() -> None:
    specs = layers([300, "tanh", 200])
    xavier = start(specs, [100], XavierNormal(name="xavier_normal"), torch.Generator().manual_seed(1))
    assert xavier["0.weight"].std().item() == pytest.approx(math.sqrt(2 / (100 + 300)), rel=0.02)
    assert xavier["2.weight"].std().item() == pytest.approx(math.sqrt(2 / (300 + 200)), rel=0.02)
    normal = start(specs, [100], NormalInit(name="normal", std=0.01), torch.Generator().manual_seed(1))
    assert normal["2.weight"].std().item() == pytest.approx(0.01, rel=0.02)
    assert not any(drawn[name].any() for drawn in (xavier, normal) for name in ("0.bias", "2.bias"))


def test_a_given_start_is_taken_as_it_is_and_refused_where_its_shape_is_wrong() -> None:
    specs = layers([2])
    given = GivenInit(name="given", weights=[[[1.0, 2.0], [3.0, 4.0]]], biases=[[5.0, 6.0]])
    state = start(specs, [2], given, torch.Generator())
    assert state["0.weight"].tolist() == [[1, 2], [3, 4]]
    assert state["0.bias"].tolist() == [5, 6]
    with pytest.raises(RuntimeError, match=r"weight: .* shape torch.Size\(\[2, 2\]\) .* is torch.Size\(\[2, 3\]\)"):
        start(specs, [3], given, torch.Generator())
    with pytest.raises(ValueError, match="shorter"):
        start(layers([2, 2]), [2], given, torch.Generator())


def test_building_a_network_leaves_torch_s_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    start(layers([3, "batch_norm", 1]), [FEATURES], TorchInit(name="torch"), torch.Generator())
    assert torch.equal(before, torch.random.get_rng_state())
