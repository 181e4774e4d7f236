"""Rows that are pictures are drawn where they are decided wrongly, and a confusion of ten classes can be read."""

from typing import Any

import numpy as np
import pytest
from trained import trained_by

from bancada.base.tables import Table
from bancada.evaluation import drawn_rows, of_classes
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.results import Results
from bancada.networks.settings import Network

SEEDS = [3, 4]


def table(rows: int, shape: list[int] | None, classes: list[Any], index: list[int]) -> Table:
    size = int(np.prod(shape or [64]))
    features = np.random.default_rng(1).uniform(-2, 5, (rows, size))
    return Table(features, np.array(index)[:, None], [f"f{i}" for i in range(size)], ["digit"], classes, shape)


def results(decisions: np.ndarray, best_seed: int | None = 4) -> Results:
    """The results of one variant that decides so, [seed, row]; -1: the seed diverged."""
    outputs = np.where(decisions[:, :, None] < 0, np.nan, decisions[:, :, None] == np.arange(10))
    diverged = {seed: 0 for seed, of in zip(SEEDS, decisions, strict=True) if (of < 0).any()}
    network = Network(layers=[10], loss="cross_entropy")
    trained = trained_by(SEEDS, network=network, classes=ROWS.classes, output_count=10, diverged=diverged)
    candidate = Candidate("own", trained, {}, {"train": ROWS, "test": ROWS}, None)
    known = {"outputs": {"train": outputs, "test": outputs}, "epochs_to_converge": np.ones(2)}
    candidate.__dict__.update(known)
    row = {"over": "seeds on one data set", "best_seed": best_seed, "metric": "error_rate_percent"}
    return Results("digits", [row], [candidate], None)


def captions(figure: Any) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


ROWS = table(10, [1, 8, 8], list("abcdefghij"), list(range(10)))
WRONG_4 = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 8])


def test_what_the_best_seed_takes_for_another_class_is_drawn_with_both_classes():
    figure = of_classes.misclassified(results(np.stack([np.zeros(10, int), WRONG_4])))
    assert captions(figure) == ["i\ntaken for j", "j\ntaken for i"]
    drawn = [ax.get_images()[0].get_array() for ax in figure.axes if ax.get_images()]
    low, high = ROWS.features.min(), ROWS.features.max()
    for picture, row in zip(drawn, (8, 9), strict=True):
        np.testing.assert_allclose(picture, (ROWS.features[row].reshape(8, 8) - low) / (high - low))
    assert figure.axes[0].texts[0].get_text() == "own\nseed 4:\n2 of 10 wrong"


def test_no_more_pictures_are_drawn_than_fit_a_line():
    figure = of_classes.misclassified(results(np.stack([WRONG_4, (np.arange(10) + 1) % 10])))
    assert captions(figure) == [f"{a}\ntaken for {b}" for a, b in ("ab", "bc", "cd", "de", "ef", "fg")]


def test_a_variant_whose_seeds_all_diverged_says_so_in_place_of_pictures():
    figure = of_classes.misclassified(results(np.full((2, 10), -1), best_seed=None))
    assert captions(figure) == []
    assert figure.axes[0].texts[0].get_text() == "own\n2 of 2 diverged"


@pytest.mark.parametrize("shape", [None, [64], [1, 64], [64, 1], [2, 8, 8], [1, 1, 8, 8], [3, 9], [4, 33], [50, 5]])
def test_rows_of_other_shapes_are_no_pictures(shape):
    assert of_classes.as_pictures(table(2, shape, [0, 1], [0, 1])) is None


def test_a_picture_in_three_colours_has_them_last():
    rows = table(2, [3, 4, 5], [0, 1], [0, 1])
    pictures = of_classes.as_pictures(rows)
    assert pictures.shape == (2, 4, 5, 3)
    assert (pictures.min(), pictures.max()) == (0, 1)
    low, high = rows.features.min(), rows.features.max()
    assert pictures[1, 2, 3, 1] == pytest.approx((rows.features[1].reshape(3, 4, 5)[1, 2, 3] - low) / (high - low))


def test_a_confusion_of_many_classes_has_numbers_only_where_rows_are():
    figure = of_classes.confusion(results(np.stack([np.arange(10), WRONG_4])))
    shown = {text.get_position(): text.get_text() for text in figure.axes[0].texts if text.get_text()}
    pairs = {(8, 8): "50.0", (9, 9): "50.0", (8, 9): "50.0", (9, 8): "50.0"}
    assert shown == {(i, i): "100" for i in range(8)} | pairs


def test_ten_classes_are_drawn_in_ten_ways():
    figure = drawn_rows.classes_in_the_plane(table(10, None, list(range(10)), list(range(10))), "digits")
    ways = {(line.get_color(), line.get_marker()) for line in figure.axes[0].get_lines()}
    assert len(ways) == 10


def test_of_many_features_the_first_are_drawn_and_the_title_says_so():
    rows = Table(np.ones((3, 900)), np.ones((3, 1)), [f"f{i}" for i in range(900)], ["y"], [])
    figure = drawn_rows.targets_by_feature(rows, "own: the 3 training rows")
    assert [ax.get_xlabel() for ax in figure.axes if ax.axison] == [f"f{i}" for i in range(24)]
    assert figure.get_suptitle() == "own: the 3 training rows by the first 24 of 900 features"


def test_of_sequences_eight_numbers_are_drawn_and_the_title_says_so():
    rows = Table(np.ones((3, 150)), np.ones((3, 1)), [f"f{i}" for i in range(150)], ["y"], [], [50, 3])
    figure = drawn_rows.drawn(rows, "own")
    assert [ax.get_xlabel() for ax in figure.axes if ax.axison] == [f"f{i}" for i in range(8)]
    assert figure.get_suptitle() == "own: the 3 training rows by the first 8 of 150 features"
