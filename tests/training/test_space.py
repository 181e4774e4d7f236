"""The space of a search and its trials: expected values from the definition of each kind of range, and from scipy."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from bancada.base import BadInput
from bancada.base.settings import checked
from bancada.training.search import points_of
from bancada.training.space import Choices, Range, Search, replaced

LR = {"low": 0.001, "high": 1, "log": True}


def search(**keys: Any) -> Search:
    return checked(Search, {"trials": 32, "space": {"lr": LR}} | keys, "studies.moons.train.search")


@pytest.mark.parametrize("seed", [0, 7])
def test_trials_are_the_points_of_scipys_sobol_sequence(seed: int) -> None:
    space = {"lr": LR, "optimizer.momentum": {"low": 0.0, "high": 0.5}}
    shares = qmc.Sobol(2, rng=seed).random_base2(5)
    expected = [(float(f"{10 ** (3 * u - 3):.6g}"), float(f"{v / 2:.6g}")) for u, v in shares.tolist()]
    assert [tuple(point.values()) for point in points_of(search(seed=seed, space=space))] == expected


def test_more_trials_begin_with_the_same_ones() -> None:
    few, many = points_of(search(trials=5)), points_of(search(trials=100))
    assert many[:5] == few
    assert len(many) == 100


def test_each_whole_number_of_a_range_comes_up_and_none_outside() -> None:
    for log in (False, True):
        part = Range(low=1, high=8, log=log)
        found = [part.value(u) for u in [0.0, *np.linspace(0, 1, 1001), 1 - 2**-53]]
        assert set(found) == set(range(1, 9))
        assert found[0] == 1
        assert found[-1] == 8
        assert all(type(value) is int for value in found)


def test_each_whole_number_has_the_same_share_of_an_even_range() -> None:
    part = Range(low=1, high=4)
    counts = np.bincount([part.value(u) for u in (np.arange(1000) + 0.5) / 1000])
    assert counts.tolist() == [0, 250, 250, 250, 250]


def test_values_never_leave_the_range_by_rounding() -> None:
    """exp(log(0.1)) is 0.10000000000000002."""
    assert Range(low=0.01, high=0.1, log=True).value(1.0) == 0.1
    assert Range(low=0.12345612, high=0.2).value(0.0) == 0.12345612  # and not 0.123456
    assert Range(low=0.3, high=0.3, log=True).value(0.4) == 0.3
    assert Range(low=3, high=3).value(0.9) == 3


def test_a_choice_keeps_its_type() -> None:
    written = [1, 1.0, True, "1"]
    part = checked(Choices, {"choices": written}, "x")
    found = [part.value(u) for u in (0.0, 0.25, 0.5, 0.999)]
    assert [type(value) for value in found] == [int, float, bool, str]


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({"lr": {"low": 0, "high": 1, "log": True}}, "search.space.lr: log: true needs a low above 0, not 0"),
        ({"lr": {"low": 2, "high": 1}}, "search.space.lr: low = 2 is above high = 1"),
        ({"lr": {"low": "1", "high": 2}}, "search.space.lr.low = 1: must be a number"),
        ({"lr": {"low": 0.0, "high": math.inf}}, "search.space.lr.high"),
        ({"lr": {"choices": ["a", "a", "b"]}}, "'a' is named twice"),
        ({"lr": {"choices": []}}, "search.space.lr.choices"),
        (
            {"epochs": {"low": 1, "high": 10**400}},
            "search.space.epochs: a whole number must not be larger than 2 ** 53",
        ),
        ({"lr.": LR}, "search.space: 'lr.' has no name before or after a dot"),
        ({"lr": {"low": 0.0}}, "search.space.lr.high: missing"),
        ({"lr": 0.1}, "search.space.lr = 0.1"),
        (
            {"optimizer.momentum": {"low": 0.0, "high": 0.9}, "optimizer": {"choices": ["sgd", "adam"]}},
            "search.space: optimizer.momentum lies within optimizer: a value of one would replace the other's",
        ),
        ({}, "search.space"),
    ],
)
def test_a_wrong_space_is_refused_with_its_key(space: Any, line: str) -> None:
    with pytest.raises(BadInput) as refused:
        search(space=space)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_best_value_at_an_edge_is_seen() -> None:
    part = Range(low=0.001, high=1, log=True)
    assert part.is_edge(0.0011)
    assert part.is_edge(0.95)
    assert not part.is_edge(0.03)
    assert not Range(low=1, high=1).is_edge(1)


def test_a_dotted_key_replaces_one_value() -> None:
    tree = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.99]}}
    assert replaced(tree, "optimizer.betas.1", 0.5) == {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.5]}}
    assert replaced(tree, "schedule.gamma", 0.5)["schedule"] == {"gamma": 0.5}
    assert tree["optimizer"] == {"name": "adam", "betas": [0.9, 0.99]}
    for key in ("lr.x", "optimizer.betas.2", "optimizer.betas.x", "optimizer.betas.01"):
        with pytest.raises(KeyError):
            replaced(tree, key, 1)
