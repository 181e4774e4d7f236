"""What the tests of evaluations share."""

import pytest
from evaluated import CORNERS, MOONS, NAN, classifier, given, two_classes, write_model, write_split


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder, and nothing is recorded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("bancada.evaluation.plots.PLOTS", {})


@pytest.fixture
def moons(workspace):
    params = given(
        *(MOONS, [1, "tanh"], {"train": 4, "validation": 4, "test": 4}, "error_rate_percent"),
        variants=("base", "mixed", "diverged"),
        predict=[{"y": 0, "x": 3}],
    )
    write_split(CORNERS, CORNERS, two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0), (2, 1, 0)))
    write_model(params, "base", CORNERS, classifier([True] * 4))
    write_model(params, "mixed", CORNERS, classifier([True, True, False, True]))
    weights = classifier([True] * 4)
    weights["0.weight"][2], weights["0.bias"][2] = [[NAN, NAN]], [NAN]
    losses = [[4.0, 2.0, 1.0], [4.0, 1.0, 0.5], [4.0, float("inf")], [3.0, 2.0, 1.0]]
    write_model(params, "diverged", CORNERS, weights, losses, diverged={9: 1})
    return params
