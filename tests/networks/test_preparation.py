"""What is learned of training rows, and applied by numpy alone, against scikit-learn's pipelines written by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mixed import NUMBERS, WORDS, frame, table
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from bancada.base.tables import Table
from bancada.networks.preparation import SCALING, Preparation, Unprepared
from bancada.training.prepare import Prepare
from bancada.training.preparing import learned


def prepared(prepare: dict[str, Any], rows: Table, standardize: bool = False) -> Preparation:
    return learned(rows, Prepare.model_validate(prepare), standardize)


def in_float64(preparation: Preparation, rows: Table) -> np.ndarray:
    """Return the inputs as they are before they become float32."""
    parts = []
    for group in preparation.groups:
        cells = rows.features[:, [rows.feature_names.index(name) for name in group.columns]]
        parts.append(group.inputs(cells, rows.words))
    mean, std = (preparation.scaling[name] for name in SCALING)
    found: np.ndarray = (np.hstack(parts) - mean) / std
    assert np.array_equal(found.astype(np.float32), preparation.inputs(rows.features, rows.feature_names, rows.words))
    return found


def most_frequent() -> SimpleImputer:
    return SimpleImputer(missing_values=None, strategy="most_frequent")


def constant(word: str) -> SimpleImputer:
    return SimpleImputer(missing_values=None, strategy="constant", fill_value=word)


def one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


FILLED = {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"}
# what params.yaml says: what it means, as pipelines and their columns
CASES: list[tuple[dict[str, Any], list[tuple[Any, Sequence[str]]]]] = [
    (
        {"numbers": {"impute": "median"}, "words": FILLED},
        [(SimpleImputer(strategy="median"), NUMBERS), (make_pipeline(most_frequent(), one_hot()), WORDS)],
    ),
    (
        {"numbers": {"impute": "mean", "indicator": True, "standardize": True}, "words": FILLED},
        [
            (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
            (make_pipeline(most_frequent(), one_hot()), WORDS),
        ],
    ),
    (
        {
            "numbers": {"impute": {"constant": -1.5}, "indicator": True},
            "words": {"encode": "ordinal", "impute": {"constant": "none"}, "unknown": "ignore"},
        },
        [
            (SimpleImputer(strategy="constant", fill_value=-1.5, add_indicator=True), NUMBERS),
            (make_pipeline(constant("none"), ordinal()), WORDS),
        ],
    ),
    (
        {
            "numbers": {"impute": "median", "standardize": True},
            "words": {"encode": "ordinal", "impute": "most_frequent", "unknown": "ignore", "standardize": True},
        },
        [
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            (make_pipeline(most_frequent(), ordinal(), StandardScaler()), WORDS),
        ],
    ),
    (  # a column's own way replaces that of its kind as a whole, and its inputs stand where its group does
        {
            "numbers": {"impute": "median", "standardize": True},
            "words": FILLED | {"standardize": True},
            "columns": {
                "age": {"impute": {"constant": 0}, "standardize": False},
                "soil": {"encode": "ordinal", "unknown": "ignore"},
            },
        },
        [
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["height", "girth"]),
            (make_pipeline(most_frequent(), one_hot(), StandardScaler()), ["tree"]),
            (SimpleImputer(strategy="constant", fill_value=0), ["age"]),
            (ordinal(), ["soil"]),
        ],
    ),
]


@pytest.mark.parametrize(("prepare", "by_hand"), CASES)
def test_inputs_are_those_of_scikit_learns_pipelines(
    prepare: dict[str, Any], by_hand: list[tuple[Any, Sequence[str]]]
) -> None:
    cells, new = frame(), frame(25, seed=8)
    new.loc[3, "tree"], new.loc[4, "soil"], new.loc[5, "girth"] = "acer", "peat", np.nan
    expected = ColumnTransformer([(str(i), made, names) for i, (made, names) in enumerate(by_hand)], sparse_threshold=0)
    expected.fit(cells)
    preparation = prepared(prepare, table(cells))
    for rows in (cells, new):
        found, wanted = in_float64(preparation, table(rows)), expected.transform(rows)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert len(preparation.input_names(list(cells))) == found.shape[1]


def test_standardize_alone_is_scikit_learns_scaler_with_and_without_prepare() -> None:
    cells = frame()[["girth"]].assign(height=np.linspace(0, 1e-3, 60), age=0.1)
    rows, expected = table(cells), StandardScaler().fit(cells.to_numpy())
    alone, within = learned(rows, None, True), prepared({}, rows, standardize=True)
    assert alone.groups == []
    for preparation in (alone, within, prepared({"numbers": {"standardize": True}}, rows)):
        mean, std = (preparation.scaling[name] for name in SCALING)
        np.testing.assert_allclose(mean, expected.mean_, rtol=1e-12)
        np.testing.assert_allclose(std, expected.scale_, rtol=1e-12)
    kept = prepared({"numbers": {"standardize": False}}, rows, standardize=True)
    assert np.array_equal(kept.inputs(rows.features, list(cells), {}), rows.features.astype(np.float32))


def test_standardized_targets_are_scikit_learns_and_come_back_in_their_own_units() -> None:
    """Training targets 10 and 30: mean 20, sd 10. An output of 1.5 is 35."""
    rows = table(frame(2)[["girth"]], np.array([[10.0], [30.0]]))
    preparation = prepared({"targets": {"standardize": True}}, rows)
    assert preparation.learned(np.array([[40.0]])).tolist() == [[2.0]]
    assert preparation.in_own_units(np.array([[[1.5]]])).tolist() == [[[35.0]]]
    many = table(frame())
    expected = StandardScaler().fit(many.targets)
    found = prepared({"targets": {"standardize": True}, "numbers": {"impute": "mean"}, "words": FILLED}, many)
    np.testing.assert_allclose(found.learned(many.targets), expected.transform(many.targets), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [1, 0, 3, 2, 4], [4, 2, 0, 3, 1]])
def test_of_words_that_are_equally_frequent_the_smallest_fills_empty_cells(order: list[int]) -> None:
    cells = pd.DataFrame({"tree": np.array(["b", "a", "b", "a", None], dtype=object)[order]})
    preparation = prepared({"words": FILLED}, table(cells, np.zeros((5, 1))))
    assert preparation.groups[0].fill == ["a"]


@pytest.mark.parametrize("encode", ["one_hot", "ordinal"])
def test_an_unknown_word_has_the_number_of_no_known_one_and_is_counted(encode: str) -> None:
    """Also a beginning of a known word, an empty cell, and a letter beyond ASCII."""
    known = table(pd.DataFrame({"tree": ["AA", "B", "AA"]}), np.zeros((3, 1)))
    new = table(pd.DataFrame({"tree": ["AA", "B", "A", None, "Ç", "Ç"]}), np.zeros((6, 1)))
    preparation = prepared({"words": {"encode": encode, "unknown": "ignore"}}, known)
    inputs = preparation.inputs(new.features, ["tree"], new.words).tolist()
    of_known, of_unknown = ([[1, 0], [0, 1]], [0, 0]) if encode == "one_hot" else ([[0], [1]], [-1])
    assert inputs == [*of_known, *[of_unknown] * 4]
    assert preparation.unknown(new.features, ["tree"], new.words) == {"tree": {"": 1, "A": 1, "Ç": 2}}


def test_where_unknown_words_and_empty_cells_are_refused_the_first_is_named() -> None:
    known = table(pd.DataFrame({"tree": ["AA", "B"], "age": [1.0, 2.0]}), np.zeros((2, 1)))
    preparation = prepared({"words": {"encode": "one_hot"}}, known)
    for tree, age, said in [
        ("A", 1, r"row 2, column 'tree': the word 'A' is in no"),
        (None, 1, r"row 2, column 'tree': is empty"),
        ("B", np.nan, r"row 2, column 'age': is empty"),
    ]:
        new = table(pd.DataFrame({"tree": ["B", tree], "age": [1.0, age]}), np.zeros((2, 1)))
        with pytest.raises(Unprepared, match=said):
            preparation.inputs(new.features, ["tree", "age"], new.words)
    with pytest.raises(Unprepared, match="column 'age': is empty"):  # without any preparation, too
        Preparation().inputs(np.array([[np.nan]]), ["age"], {})


def test_rows_are_prepared_alike_whatever_the_order_of_columns_and_words_and_in_any_number() -> None:
    cells = frame()
    preparation = prepared({"numbers": {"impute": "median", "indicator": True}, "words": FILLED}, table(cells))
    every = table(cells)
    inputs = preparation.inputs(every.features, every.feature_names, every.words)
    turned = table(cells[list(cells)[::-1]])
    assert np.array_equal(preparation.inputs(turned.features, turned.feature_names, turned.words), inputs)
    for row in range(6):
        alone = table(cells.iloc[[row]])
        found = preparation.inputs(alone.features, alone.feature_names, alone.words)
        assert np.array_equal(found, inputs[[row]])
    assert preparation.inputs(every.features[:0], every.feature_names, every.words).shape == (0, inputs.shape[1])


@pytest.mark.parametrize(
    ("middle", "width", "scaled"),
    [(1e9, 1e-5, False), (2020.0, 1e-9, True), (0.0, 1e-200, False), (0.1, 0.0, False), (5.0, 2.0, True)],
)
def test_what_is_constant_is_scikit_learns_to_say_with_and_without_prepare(
    middle: float, width: float, scaled: bool
) -> None:
    values = middle + width * np.random.default_rng(4).standard_normal((200, 1))
    rows = Table(values, values, ["x"], ["y"], [])
    scaler = StandardScaler().fit(values)
    alone, within = learned(rows, None, True), prepared({"targets": {"standardize": True}}, rows, standardize=True)
    for found in (alone.scaling["input_std"], within.scaling["input_std"], within.scaling["target_std"]):
        np.testing.assert_allclose(found, scaler.scale_, rtol=1e-12)
    assert (scaler.scale_[0] != 1.0) == scaled
    for found in (alone.scaling["input_mean"], within.scaling["target_mean"]):
        np.testing.assert_allclose(found, scaler.mean_, rtol=1e-12)


def test_an_empty_cell_whose_word_is_unknown_is_refused_with_that_word() -> None:
    words = {"encode": "one_hot", "impute": {"constant": "none"}}
    rows = table(pd.DataFrame({"tree": ["oak", "ash"]}))
    preparation = prepared({"words": words}, rows)
    with pytest.raises(
        Unprepared, match="the word 'none, as which empty cells count' is in no training row, which have: ash, oak"
    ):
        preparation.inputs(np.array([[np.nan]]), ["tree"], {"tree": []})
