"""Scores that scikit-learn computes, and the reference rows of a study."""

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import sklearn.preprocessing
from evaluated import (
    CORNERS,
    MOONS,
    changed,
    classifier,
    given,
    main,
    read,
    scored,
    two_classes,
    write_model,
    write_split,
)

from bancada.base import BadInput
from bancada.base.tables import Table
from bancada.evaluation import evaluate, reference, settings
from bancada.networks import metrics
from bancada.networks.encoding import Encoding

RNG = np.random.default_rng(3)
NUMBERS = RNG.normal(size=(7, 2)) + np.array([5, -9])
PREDICTED = NUMBERS + RNG.normal(size=(3, 7, 2))
CLASSES = np.array([0, 1, 2, 2, 1, 0, 2, 2])[:, None]
DECIDED = RNG.integers(0, 3, size=(4, 8, 1))
PROBABILITIES = RNG.dirichlet([1, 1, 1], size=(4, 8))


def iris() -> Table:
    features, index = sklearn.datasets.load_iris(return_X_y=True)
    return Table(features, index[:, None].astype(np.int64), list("abcd"), ["species"], ["x", "y", "z"])


def test_scores_are_scikit_learns_for_every_seed():
    judge = sklearn.metrics
    rmse = [judge.root_mean_squared_error(NUMBERS, one) for one in PREDICTED]
    assert metrics.rmse(PREDICTED, NUMBERS) == pytest.approx(rmse)
    mape = [judge.mean_absolute_percentage_error(NUMBERS, one) for one in PREDICTED]
    assert metrics.mape(PREDICTED, NUMBERS) == pytest.approx(mape)
    balanced = [judge.balanced_accuracy_score(CLASSES[:, 0], one[:, 0]) for one in DECIDED]
    assert metrics.balanced_accuracy(DECIDED, CLASSES) == pytest.approx(balanced)
    f1 = [judge.f1_score(CLASSES[:, 0], one[:, 0], average="macro") for one in DECIDED]
    assert metrics.f1_macro(DECIDED, CLASSES) == pytest.approx(f1)
    auc = [judge.roc_auc_score(CLASSES[:, 0], one, multi_class="ovr") for one in PROBABILITIES]
    assert metrics.roc_auc(PROBABILITIES, CLASSES) == pytest.approx(auc)


def test_where_a_score_is_not_defined_it_is_missing():
    assert np.isnan(metrics.mape(np.ones((2, 1, 1)), np.zeros((1, 1)))).all()
    assert np.isnan(metrics.roc_auc(PROBABILITIES[:, :2], CLASSES[:2])).all()
    assert np.isnan(metrics.rmse(np.full((1, 7, 2), np.nan), NUMBERS)).all()
    one_class = np.zeros((2, 1), np.int64)
    assert list(metrics.balanced_accuracy(np.array([[[0], [1]]]), one_class)) == [0.5]


def test_class_scores_of_softmax_and_of_one_sigmoid():
    logits = RNG.normal(size=(1, 8, 3))
    expected = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    of_classes = Encoding("one_hot", 3)
    np.testing.assert_allclose(of_classes.scores(logits, probabilities=False), expected)
    assert of_classes.scores(expected, probabilities=True) is expected
    two, outputs = (CLASSES > 0).astype(np.int64), RNG.uniform(size=(1, 8, 1))
    found = metrics.roc_auc(Encoding("bits").scores(outputs, probabilities=False), two)
    assert found == pytest.approx(sklearn.metrics.roc_auc_score(two[:, 0], outputs[0, :, 0]))


def test_references_of_classes_are_the_majority_and_scikit_learns_logistic_regression():
    table = iris()
    order = np.random.default_rng(0).permutation(150)
    train, test = table.take(order[:90]), table.take(order[90:])
    simple, linear = reference.references(train, test, "test", "error_rate_percent")
    majority = np.bincount(train.targets[:, 0]).argmax()
    assert simple == ("majority class", "test", "error_rate_percent", 100 * (test.targets != majority).mean(), "")
    scaled = sklearn.preprocessing.StandardScaler().fit(train.features)
    model = sklearn.linear_model.LogisticRegression().fit(scaled.transform(train.features), train.targets[:, 0])
    wrong = model.predict(scaled.transform(test.features)) != test.targets[:, 0]
    assert linear.value == pytest.approx(100 * wrong.mean(), rel=1e-5)
    simple, linear = reference.references(train, test, "test", "roc_auc")
    assert simple.value == 0.5 and 0.99 < linear.value <= 1


def test_references_of_numbers_are_the_mean_and_scikit_learns_linear_regression():
    features, targets = sklearn.datasets.load_diabetes(return_X_y=True)
    table = Table(features, targets[:, None], [f"f{i}" for i in range(10)], ["progression"], [])
    train, test = table.take(np.arange(300)), table.take(np.arange(300, 442))
    for metric, judge in (("mse", sklearn.metrics.mean_squared_error), ("r2", sklearn.metrics.r2_score)):
        simple, linear = reference.references(train, test, "test", metric)
        model = sklearn.linear_model.LinearRegression().fit(train.features, train.targets)
        assert linear.value == pytest.approx(judge(test.targets, model.predict(test.features)), rel=1e-5)
        assert simple.value == pytest.approx(judge(test.targets, np.full((142, 1), train.targets.mean())))


def test_words_and_empty_cells_have_references_and_too_many_cells_have_not(monkeypatch):
    words = {"colour": ["blue", "red"]}
    features = np.array([[0.0, 1], [1, np.nan], [0, 2], [1, 3], [np.nan, 1]])
    table = Table(features, np.array([[0], [1], [0], [1], [0]]), ["colour", "size"], ["kind"], ["a", "b"], words=words)
    assert [each.value for each in reference.references(table, table, "test", "error_rate_percent")] == [40, 0]
    monkeypatch.setattr(reference, "MOST_CELLS", 100)
    simple, linear = reference.references(table, table, "test", "error_rate_percent")
    assert simple.value == 40 and np.isnan(linear.value)
    assert linear.note == "left out: 1e+02 cells, more than 10^7"


def test_a_metric_of_weights_and_the_loss_have_no_references():
    assert reference.references(iris(), iris(), "test", "loss") == []
    assert reference.references(iris(), iris(), "test", "weight_error_max") == []


def test_what_cannot_be_fitted_is_left_out_with_the_reason_also_where_one_draw_cannot_be():
    table, one_class = iris(), iris().take(np.arange(50))
    linear = reference.references(one_class, one_class, "test", "error_rate_percent")[1]
    assert np.isnan(linear.value) and linear.note.startswith("left out: ")
    draws = [{"train": table, "test": table}, {"train": one_class, "test": table}]
    simple, of_draws = evaluate.over_draws(draws, "test", "error_rate_percent")[0]
    assert simple.value == pytest.approx(200 / 3)
    assert np.isnan(of_draws.value) and of_draws.note == linear.note


def made(**study):
    params = given(MOONS, [1, "tanh"], {"train": 4, "test": 4}, "error_rate_percent", variants=("base", "mixed"))
    write_split(CORNERS, test=two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0), (2, 1, 0)))
    write_model(params, "base", CORNERS, classifier([True] * 4))
    write_model(params, "mixed", CORNERS, classifier([True, True, False, True]))
    return changed(params, **study)


@pytest.mark.usefixtures("workspace", "undrawn")
def test_a_score_is_computed_where_it_is_asked_for():
    main(made(metric="f1_macro", fails_below=0.9), "study")
    values = [row["value"] for row in scored("mixed", "f1_macro", "test", "per_seed.csv")]
    right, wrong = (sklearn.metrics.f1_score([1, 1, 0, 0], d, average="macro") for d in ([1, 1, 0, 1], [0, 0, 1, 0]))
    assert [float(value) for value in values] == pytest.approx([right, right, wrong, right])
    assert not scored("mixed", "balanced_accuracy", "test")
    board = {row["variant"]: row for row in read("leaderboard.csv")}
    assert (board["mixed"]["failed_seeds"], board["mixed"]["best_seed"]) == ("4", "7")
    assert board["base"]["champion"] == "true"
    assert [row["reference"] for row in read("reference.csv")] == ["majority class", "logistic regression"]


@pytest.mark.usefixtures("workspace")
def test_a_limit_on_the_wrong_side_is_refused():
    with pytest.raises(BadInput, match=r"studies\.study\.fails_below.*lower is better: use fails_above"):
        settings.comparison(made(fails_below=0.9), "study")


@pytest.mark.usefixtures("workspace", "undrawn")
def test_a_seed_that_decides_for_the_majority_class_has_failed():
    """2 of 3 wrong is 66.6666667 in the files, and more in binary numbers."""
    params = given(MOONS, [1, "tanh"], {"train": 4, "test": 3}, "error_rate_percent", variants=("base",))
    write_split(CORNERS, test=two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0)))
    write_model(params, "base", CORNERS, {"0.weight": [[[0.0, 0.0]]] * 4, "0.bias": [[-1.0]] * 4})
    main(params, "study")
    assert [row["value"] for row in read("reference.csv")] == ["66.6666667", "0"]
    assert read("leaderboard.csv")[0]["failed_seeds"] == "4"
