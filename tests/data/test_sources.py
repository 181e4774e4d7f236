"""The data are what the lessons say, the same bytes every time."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from bancada.data.sources.csv import CsvFile
from bancada.data.sources.half_moons import HalfMoons
from bancada.data.sources.linear import LinearData
from bancada.data.sources.sklearn import Sklearn

ROOT = Path(__file__).parents[2]
KEY = "studies.mine.source"  # of params.yaml, for messages


def small_moons(rows: int, seed: int = 3) -> HalfMoons:
    return HalfMoons(kind="half_moons", rows=rows, radius=10, distance=-4, width=6, seed=seed)


# --- the lessons' data ----------------------------------------------------------------------------------------------


def test_the_moons_follow_the_lessons_formulas_and_draws():
    """Angles and radii of A, then of B, from one generator."""
    rng = np.random.default_rng(3)
    a, r = rng.uniform(0, np.pi, 20), rng.uniform(7, 13, 20)
    b, s = rng.uniform(0, np.pi, 20), rng.uniform(7, 13, 20)
    expected = [
        *zip(r * np.cos(a), r * np.sin(a), strict=True),
        *zip(s * np.cos(b) + 10, -s * np.sin(b) + 4, strict=True),
    ]
    np.testing.assert_allclose(small_moons(40).make(KEY).features, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["wine", "iris", "breast_cancer", "digits", "diabetes"])
def test_scikit_learns_tables_keep_their_rows_and_labels(name):
    source = Sklearn(kind="sklearn", name=name)
    table, bunch = source.make(KEY), getattr(datasets, f"load_{name}")()
    assert np.array_equal(table.features, bunch.data)
    assert table.classes == sorted(table.classes)
    if name == "diabetes":
        assert np.array_equal(table.targets[:, 0], bunch.target)
    else:
        assert [table.classes[i] for i in table.targets[:, 0]] == [bunch.target_names[i] for i in bunch.target]
    assert source.has_classes == bool(table.classes)


def test_numbers_in_a_file_keep_all_their_digits(folder):
    (folder / "data/sources/mine.csv").write_text("a,b\n0.12345678901234567,1234567890123\n2,3\n")
    source = CsvFile(kind="csv", path="data/sources/mine.csv", task="regression", targets=["b"])
    table = source.table(KEY)
    assert table.features[:, 0].tolist() == [0.12345678901234567, 2.0]
    assert table.targets[:, 0].tolist() == [1234567890123.0, 3.0]


def test_the_line_is_added_up_term_by_term_as_python_does_it():
    source = LinearData(kind="linear", rows=200, weights=[2, -3.4, 0.7], bias=4.2, noise_std=0, seed=5)
    table = source.make(KEY)
    wanted = [2.0 * a + -3.4 * b + 0.7 * c + 4.2 for a, b, c in table.features.tolist()]
    assert table.targets[:, 0].tolist() == wanted


def test_another_seed_gives_other_rows():
    assert not np.array_equal(small_moons(10, 1).make(KEY).features, small_moons(10, 2).make(KEY).features)
