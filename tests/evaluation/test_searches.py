"""The plots of searches, and the best score by the number of trials: expected values by enumeration of all draws."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from bancada.evaluation.results import Results
from bancada.evaluation.searches import best_of, best_trials, parallel, search, tuning
from bancada.evaluation.trials import Searched
from bancada.training.search import best_trial

LR: dict[str, Any] = {"low": 0.001, "high": 1.0, "log": True}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_the_best_of_some_trials_is_the_mean_over_all_ways_to_draw_them(count: int) -> None:
    scores = np.array([0.1, 0.2, 0.2, 0.5, 1.5, 3.0, 10.0])
    best = sorted(min(drawn) for drawn in itertools.combinations(scores, count))
    mean, low, high = best_of(scores, count)
    assert mean == pytest.approx(np.mean(best), rel=1e-12)
    assert (low, high) == tuple(np.quantile(best, [0.025, 0.975], method="inverted_cdf"))


def test_published_example_of_three_trials() -> None:
    """Scores 1, 2, 3 where more is better."""
    assert [best_of(np.array([3.0, 2.0, 1.0]), t)[0] for t in (1, 2, 3)] == pytest.approx([2, 8 / 3, 3])


def test_a_trial_that_diverged_leaves_no_mean_where_it_can_be_the_best() -> None:
    scores = np.array([0.1, 0.2, math.nan])
    assert math.isnan(best_of(scores, 1)[0])
    assert best_of(scores, 2)[0] == pytest.approx((0.1 + 0.1 + 0.2) / 3)


def searched(scores: list[list[float]], higher: bool = False, **space: Any) -> Searched:
    trials = np.linspace(0.001, 1, len(scores)).tolist()
    keys = space or {"lr": LR}
    return Searched("tuned", keys, dict.fromkeys(keys, trials), np.array(scores), "error rate (%)", higher)


def results(*searches: Searched) -> Results:
    return Results("moons", [], [], None, searches=searches)


def test_the_chosen_trial_is_the_best_mean_and_a_diverged_seed_comes_last() -> None:
    scores = [[math.nan, 0.0], [0.1, 0.6], [0.3, 0.32]]
    for places in itertools.permutations(range(3)):
        assert searched([scores[i] for i in places]).order[0] == places.index(2)
        assert searched([scores[i] for i in places], higher=True).order[0] == places.index(1)
        assert searched([scores[i] for i in places]).order[-1] == places.index(0)


def test_of_trials_that_are_equal_but_for_rounding_the_first_is_shown_as_chosen_as_the_search_chose_it() -> None:
    scores = [[0.5], [0.3 + 1e-12], [0.3]]
    assert searched(scores).order[0] == best_trial(np.array(scores), higher=False) == 1


def test_places_of_values_are_shares_of_their_range() -> None:
    found = Searched(
        "tuned",
        {"lr": LR, "batch_size": {"choices": [20, "full", True]}},
        {"lr": [0.001, 1.0, 10**-1.5], "batch_size": [True, 20, "full"]},
        np.zeros((3, 1)),
        "",
        higher=False,
    )
    assert found.places("lr").tolist() == pytest.approx([0, 1, 0.5])
    assert found.places("batch_size").tolist() == [1, 0, 0.5]


def test_sheets_have_a_panel_for_each_value_and_none_without_a_search() -> None:
    one = searched([[1.0, 2.0], [math.nan, 1.0], [0.5, 0.6]])
    assert [draw(results()) for draw in (search, tuning, parallel)] == [None] * 3
    assert parallel(results(one)) is None
    sheet = search(results(one))
    assert sheet
    assert [ax.get_title() for ax in sheet.axes] == ["tuned: 3 trials, 1 diverged\nlr\nchosen: 1"]
    three = searched([[1.0], [2.0]], a=LR, b=LR, c=LR)
    drawn = parallel(results(three))
    assert drawn
    assert len(drawn.axes[0].get_lines()) == 2


@pytest.mark.long
def test_a_search_of_many_values_and_trials_has_sheets_of_bounded_size_that_say_what_is_left_out() -> None:
    keys = {f"optimizer.option_{i}": LR for i in range(40)}
    many = [searched([[1.0, 2.0]] * 201, **keys)] * 13
    sheet, lines = search(results(*many)), parallel(results(*many))
    assert sheet and lines
    assert len([ax for ax in sheet.axes if ax.axison]) == 48
    assert "; 48 of 520 panels" in sheet.get_suptitle().replace("\n", " ")
    assert "; 12 of 13 panels" in lines.get_suptitle().replace("\n", " ")
    assert max(figure.get_size_inches()[1] for figure in (sheet, lines)) < 60
    assert {ax.get_title() for ax in lines.axes} == {"tuned, 12 of 40 keys, 200 of 201 trials"}
    assert len(lines.axes[0].get_lines()) == 200
    names = [label.get_window_extent() for label in lines.axes[0].get_xticklabels()]
    assert max(name.x1 for name in names) < lines.bbox.width
    for of_level in (names[level::4] for level in range(4)):  # below each other
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(of_level))


def test_the_table_beside_a_search_has_the_best_trials_with_their_values() -> None:
    one = searched([[1.0, 2.0], [math.nan, 1.0], [0.5, 0.7]])
    assert best_trials(results(one)) == [
        ["variant", "values", "error rate (%)", "lowest seed", "highest seed"],
        ["tuned", "lr: 1", "0.6", "0.5", "0.7"],
        ["tuned", "lr: 0.001", "1.5", "1", "2"],
        ["tuned", "lr: 0.5005", "diverged", "diverged", "diverged"],
    ]
    long = best_trials(results(searched([[float(i)] for i in range(11)])))
    assert [row[2] for row in long[1:]] == [str(i) for i in range(10)]
    assert long[0][1] == "values of the best 10 trials"


def test_all_trials_diverged_are_drawn_without_a_warning() -> None:
    lost = searched([[math.nan], [math.nan]])
    for draw in (search, tuning):
        assert draw(results(lost))
