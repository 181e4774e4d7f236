"""Encodings and decisions against the tables in the docs."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from bancada.base.tables import Table
from bancada.networks.encoding import encoding, scaled
from bancada.networks.settings import Layers
from bancada.training.fit import out_of_reach
from bancada.training.train import input_scaling


@pytest.mark.parametrize(
    ("stack", "loss", "classes", "encoded", "outputs", "decided"),
    [
        # outputs of three rows -> the class decided for each; labels [0, 1, 1] encoded
        ([1, "tanh"], "mse", 2, [[-1, 1, 1]], [[-0.1], [0.1], [0.9]], [0, 1, 1]),
        ([1], "mse", 2, [[-1, 1, 1]], [[-3.0], [0.1], [2.0]], [0, 1, 1]),
        ([1, "sigmoid"], "mse", 2, [[0, 1, 1]], [[0.1], [0.49], [0.51]], [0, 0, 1]),
        ([1, "relu"], "l1", 2, [[0, 1, 1]], [[0.0], [0.4], [7.0]], [0, 0, 1]),
        ([2], "cross_entropy", 2, [[1, 0, 0], [0, 1, 1]], [[3, 1], [0, 1], [-2, -1]], [0, 1, 1]),
        ([2, "tanh"], "mse", 2, [[1, -1, -1], [-1, 1, 1]], [[0.9, 0.1], [0, 0.1], [0.3, 0.2]], [0, 1, 0]),
        ([2, "tanh"], "cross_entropy", 2, [[1, 0, 0], [0, 1, 1]], [[0.9, 0.1], [0, 0.1], [0.3, 0.2]], [0, 1, 0]),
    ],
)
def test_the_encoding_lies_in_the_range_of_the_output_and_is_decoded_again(
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
    assert rule.decide(np.array([outputs], dtype=np.float64))[0, :, 0].tolist() == decided
    assert rule.decide(rule.encode(labels).T[None].astype(np.float64))[0, :, 0].tolist() == [0, 1, 1]
    assert out_of_reach(TypeAdapter(Layers).validate_python(stack), rule.encode(labels)) is None


def test_targets_out_of_the_range_of_the_last_layer_are_named() -> None:
    specs = TypeAdapter(Layers).validate_python([1, "tanh"])
    assert out_of_reach(specs, np.array([[-1.0, 1.0]], dtype=np.float32)) is None
    assert (
        out_of_reach(specs, np.array([[2.0]], dtype=np.float32))
        == "ends in tanh, which cannot reach targets from 2 to 2"
    )


def test_standardised_features_have_mean_0_and_sd_1_and_a_constant_one_is_0() -> None:
    features = np.stack([np.full(7, 0.1), np.arange(7.0), np.full(7, 3e9)], axis=1)
    assert features[:, 0].std() > 0  # by rounding alone
    scaling = input_scaling(Table(features, features[:, 1:2], ["a", "b", "c"], ["t"], []))
    assert scaling["input_std"].tolist() == [1, 2, 1]  # 0 to 6: variance (9 + 4 + 1 + 0 + 1 + 4 + 9) / 7 = 4
    expected = [[0] * 7, [-1.5, -1, -0.5, 0, 0.5, 1, 1.5], [0] * 7]
    np.testing.assert_allclose(scaled(features, scaling), expected, atol=1e-12)
