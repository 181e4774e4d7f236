"""Evaluations of variants whose rows are prepared: scores in the targets' units, predictions, and what is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluated import TABLE, given, main, read, scored, write_model, write_split
from mixed import frame, study, table
from test_plots import words

from bancada.base import BadInput, files, tables
from bancada.base.tables import Table
from bancada.data import generate, split
from bancada.evaluation import sheets
from bancada.training import train

pytestmark = pytest.mark.usefixtures("workspace")
PREPARE: dict[str, Any] = {
    "numbers": {"impute": "median", "indicator": True, "standardize": True},
    "words": {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"},
}
OF_NUMBERS = {"targets": {"standardize": True}}


def test_scores_of_standardized_targets_are_in_their_own_units_and_the_loss_is_what_was_learned(undrawn) -> None:
    """Training targets 10 and 30, mean 20, sd 10; a test target 40, of which the output 1.5 is the prediction 35."""
    params = given(TABLE, [1], {"train": 2, "test": 1}, "mae")
    rows = Table(np.array([[1.0], [2.0]]), np.array([[10.0], [30.0]]), ["rooms"], ["price"], [])
    write_split(rows, test=Table(np.array([[3.0]]), np.array([[40.0]]), ["rooms"], ["price"], []))
    weights = {"0.weight": [[[0.5]]] * 4, "0.bias": [[0.0]] * 4, "target_mean": [20.0], "target_std": [10.0]}
    for variant in ("base", "other"):
        write_model(params, variant, rows, weights)
    main(params, "study")
    found = {name: scored("base", name, "test")[0]["mean"] for name in ("mae", "mse", "loss")}
    assert found == {"mae": "5", "mse": "25", "loss": "0.25"}


def test_weights_are_compared_with_the_true_ones_of_their_own_features(undrawn) -> None:
    """Columns that are prepared otherwise stand elsewhere among the inputs."""
    source = {"kind": "linear", "rows": 60, "weights": [2, -30, 400], "bias": 5, "noise_std": 0, "seed": 1}
    prepare = {"columns": {"x2": {"standardize": True}}, "targets": {"standardize": True}}
    more: dict[str, Any] = {"train": {"epochs": 400, "lr": 0.1, "batch_size": "full"}, "metric": "weight_error_max"}
    params = study(prepare, {"mine": {"study": "study", "layers": [1]}}, source=source, **more)
    generate.main(params, "study")
    split.main(params, "study")
    train.main(params, "mine")
    main(params, "study")
    for metric in ("weight_error_max", "bias_error"):
        assert float(scored("mine", metric, "test")[0]["mean"]) == pytest.approx(0, abs=1e-2)


def trained(cells: pd.DataFrame, classes: bool, **more: Any) -> list[str]:
    """Train and evaluate two variants on the rows. Return all texts of the plots, each plot's behind its name."""
    place = np.arange(len(cells))
    rows = table(cells, place[:, None] % 2 if classes else None, ["no", "yes"] if classes else ())
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "classification", "targets": ["y"]}
    keys: dict[str, Any] = {"source": source, "metric": "error_rate_percent"} if classes else {}
    keys |= {"train": {"loss": "cross_entropy"}} if classes else {}
    layers = [{"layers": [size, "tanh", 2]} for size in (3, 4)]
    variants = {name: {"study": "study", **made} for name, made in zip(("mine", "wide"), layers, strict=True)}
    params = study(PREPARE if classes else PREPARE | OF_NUMBERS, variants, **keys | more)
    tables.write(rows, files.raw("study"))
    split.main(params, "study")
    for variant in variants:
        train.main(params, variant)
    main(params, "study")
    return sorted(path.stem for path in (files.evaluation("study") / "plots").iterdir())


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will have all texts of all plots."""
    found = list[str]()
    write = sheets.write

    def read_and_written(figure: Any, path: Path) -> set[str]:
        lacking = write(figure, path)
        found.extend(words(figure))
        return lacking

    monkeypatch.setattr("bancada.evaluation.sheets.write", read_and_written)
    return found


ALWAYS = ["data", "leaderboard", "loss"]


@pytest.mark.parametrize(
    ("columns", "classes", "others", "title"),
    [
        (
            ["height", "tree", "age", "soil", "girth"],
            True,
            ["confusion"],
            "study: the 36 training rows, without 2 columns of words and {rows} rows with empty cells",
        ),
        (["height", "tree", "age"], True, ["confusion"], "without 1 column of words and {rows} rows with empty cells"),
        (
            ["height", "age"],
            True,
            ["confusion", "decision_regions"],
            "study: the 36 training rows, without {rows} rows with empty cells",
        ),
        (
            ["height", "tree", "age", "girth"],
            False,
            ["predicted_vs_observed"],
            "study: the 36 training rows, without 1 column of words and {cells} empty cells",
        ),
        (["girth", "tree"], True, ["confusion"], "study: the 36 training rows, without 1 column of words"),
    ],
)
def test_plots_leave_out_words_and_empty_cells_and_say_so(
    columns: list[str], classes: bool, others: list[str], title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = drawn(monkeypatch)
    assert trained(frame()[columns], classes) == sorted([*ALWAYS, *others])
    rows = tables.read(files.split("study") / "train.parquet")
    empty = np.isnan(rows.features[:, [columns.index(name) for name in columns if name not in rows.words]])
    expected = title.format(rows=int(empty.any(axis=1).sum()), cells=int(empty.sum()))
    assert any(text.endswith(expected) for text in texts)
    assert ("points: test rows without empty cells" in " ".join(texts)) == ("decision_regions" in others)


def test_words_alone_have_no_plot_of_the_rows() -> None:
    assert trained(frame()[["tree", "soil"]], True) == ["confusion", "leaderboard", "loss"]
    assert trained(frame()[["soil"]], False) == ["leaderboard", "loss", "predicted_vs_observed"]


def test_a_line_is_fitted_to_the_rows_that_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, numbers = drawn(monkeypatch), np.arange(60.0)[:, None]
    rows = table(frame()[["height"]], numbers)
    variants = {name: {"study": "study", "layers": [size, "tanh", 1]} for name, size in (("mine", 2), ("wide", 3))}
    params = study(OF_NUMBERS | {"numbers": {"impute": "mean"}}, variants)
    tables.write(rows, files.raw("study"))
    split.main(params, "study")
    for variant in variants:
        train.main(params, variant)
    main(params, "study")
    parts = {part: tables.read(files.split("study") / f"{part}.parquet").features for part in ("train", "test")}
    for part, features in parts.items():
        assert np.isnan(features).any()
        assert f"{part} rows ({np.isfinite(features).sum()})" in texts
    assert any("loss (mean squared error of standardized targets)" in text for text in texts)


def test_new_inputs_may_have_words_and_empty_cells(undrawn, capsys: pytest.CaptureFixture[str]) -> None:
    """The number 2 is the word "2", however it is written; "" and null are an empty cell."""
    cells = frame()[["height", "tree"]].assign(soil=pd.Series(["1", "2", "3"] * 20, dtype=object))
    predict: list[Any] = [
        {"height": 20, "tree": "oak", "soil": 2},
        [20, "oak", 2.0],
        [20, "oak", "2"],
        [20, "oak", "02"],
        [None, None, 2],
        [None, "", "2"],
    ]
    trained(cells, False, predict=predict)
    found = [row for row in read("predictions.csv") if (row["variant"], row["target"]) == ("mine", "y0")]
    assert [row["features"] for row in found] == [
        *["height = 20, tree = oak, soil = 2"] * 3,
        "height = 20, tree = oak, soil = 02",
        *["height = , tree = , soil = 2"] * 2,
    ]
    means = [row["mean"] for row in found]
    assert means[0] == means[1] == means[2] != means[3]
    assert means[4] == means[5]
    told = "predict: column 'soil' has 1 cell with a word of no training row (02)"
    assert capsys.readouterr().err == "".join(f"{name}: ignores unknown words: {told}\n" for name in ("mine", "wide"))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (
            [20, "acer"],
            r"\[0\].tree: the word 'acer' is in no training row, which have: ash, oak; mine has no",
        ),
        ([None, "oak"], r"\[0\].height: is empty; mine has no number for it"),
        ([20, None], r"\[0\].tree: is empty; mine has no number for it"),
        (["tall", "oak"], r"\[0\]\[0\] = tall: must be a number"),
        ({"height": "tall", "tree": "oak"}, r"\[0\].height = tall: must be a number"),
        ([20], r"\[0\]: 1 values, but the features are 2: height, tree"),
    ],
)
def test_a_new_input_that_cannot_be_prepared_is_refused_at_its_key(new: Any, said: str, undrawn) -> None:
    cells = frame()[["girth", "tree"]].rename(columns={"girth": "height"}).assign(tree="oak")
    cells["tree"] = pd.Series(["oak", "ash"] * 30, dtype=object)
    with pytest.raises(BadInput, match=f"^params.yaml: studies.study.predict{said}"):
        trained(cells, False, predict=[new], train={"prepare": {"words": {"encode": "one_hot"}}})
