"""Encodings and decisions against the tables in the docs."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from bancada.base import BadInput, files, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.networks.encoding import UNDECIDED, encoding, last_kind
from bancada.networks.settings import Layers
from bancada.training import preparing
from bancada.training.fit import out_of_reach
from bancada.training.train import main


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
    rule = encoding(TypeAdapter(Layers).validate_python(stack), loss, len(outputs[0]), classes)
    labels = np.array([[0], [1], [1]])
    assert rule.encode(labels).tolist() == encoded
    assert rule.decide(np.array([outputs], dtype=np.float64))[0, :, 0].tolist() == decided
    assert rule.decide(rule.encode(labels).T[None].astype(np.float64))[0, :, 0].tolist() == [0, 1, 1]
    assert out_of_reach(last_kind(TypeAdapter(Layers).validate_python(stack)), rule.encode(labels)) is None


def test_targets_out_of_the_range_of_the_last_layer_are_named() -> None:
    assert out_of_reach("tanh", np.array([[-1.0, 1.0]], dtype=np.float32)) is None
    too_large = np.array([[2.0]], dtype=np.float32)
    assert out_of_reach("tanh", too_large) == "ends in tanh, which cannot reach targets from 2 to 2"


def test_standardised_features_have_mean_0_and_sd_1_and_a_constant_one_is_0() -> None:
    features = np.stack([np.full(7, 0.1), np.arange(7.0), np.full(7, 3e9)], axis=1)
    assert features[:, 0].std() > 0  # by rounding alone
    names = ["a", "b", "c"]
    learned = preparing.learned(Table(features, features[:, :1], names, ["y"], []), None, standardize=True)
    assert learned.scaling["input_std"].tolist() == [1, 2, 1]  # 0 to 6: variance (9 + 4 + 1 + 0 + 1 + 4 + 9) / 7 = 4
    expected = np.transpose([[0] * 7, [-1.5, -1, -0.5, 0, 0.5, 1, 1.5], [0] * 7])
    np.testing.assert_allclose(learned.inputs(features, names, {}), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "named"), [(1e30, 1.0, "row 2, column 'x'"), (2.0, 1e39, "row 2, column 'y'"), (2.0, 1.0, "")]
)
def test_a_row_that_float32_cannot_hold_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: float, y: float, named: str
) -> None:
    """Of 1e-30 wide training rows, a validation row at 1e30 is 1e60 standard deviations away."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    train = {"loss": "mse", "lr": 0.01, "batch_size": "full", "epochs": 1, "standardize": True}
    common = {"seed": 1, "num_seeds": 1, "lr": None, "engine": None, "device": "cpu"}
    params = ParamsFile(
        common
        | {
            "studies": {"study": {"source": {}, "split": {}, "train": train}},
            "variants": {"one": {"study": "study", "layers": [1]}},
        }
    )
    rows = Table(np.array([[1e-30], [-1e-30]]), np.array([[1.0], [2]]), ["x"], ["y"], [])
    held_out = Table(np.array([[1e-30], [x if named else 1e-30]]), np.array([[1.0], [y]]), ["x"], ["y"], [])
    tables.write(rows, files.split("study") / "train.parquet")
    tables.write(held_out, files.split("study") / "validation.parquet")
    if not named:
        main(params, "one")
        return
    with pytest.raises(BadInput) as refused:
        main(params, "one")
    assert str(refused.value).startswith(f"data/split/study/validation.parquet: {named}: ")
    assert not files.model("study", "one").exists()


@pytest.mark.parametrize("stack", [[1, "tanh"], [1, "sigmoid"], [2], [2, "softmax"]])
def test_an_output_that_is_not_finite_decides_for_no_class(stack: list[object]) -> None:
    rule = encoding(TypeAdapter(Layers).validate_python(stack), "mse", int(str(stack[0])), 2)
    for wrong in (np.nan, np.inf, -np.inf):
        outputs = np.full((1, 2, int(str(stack[0]))), 0.9)
        outputs[0, 1, -1] = wrong
        decided = rule.decide(outputs)[0, :, 0].tolist()
        assert decided[0] in (0, 1)
        assert decided[1] == UNDECIDED
