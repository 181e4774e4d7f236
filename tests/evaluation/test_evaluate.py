"""The tables of an evaluation, calculated by hand."""

import json

import numpy as np
import pytest
from evaluated import (
    CORNERS,
    LINE,
    MOONS,
    NAN,
    SEEDS,
    TABLE,
    changed,
    given,
    line_rows,
    main,
    read,
    scored,
    two_classes,
    write_model,
    write_split,
)

from bancada.base import files
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.training import train

pytestmark = pytest.mark.usefixtures("workspace")


def test_error_rates_by_hand(moons, undrawn):
    main(moons, "study")
    assert [row["value"] for row in scored("base", "error_rate_percent", "train", "per_seed.csv")] == ["0"] * 4
    per_seed = scored("mixed", "error_rate_percent", "test", "per_seed.csv")
    assert [(row["seed"], row["value"]) for row in per_seed] == [("7", "25"), ("8", "25"), ("9", "75"), ("10", "25")]
    (row,) = scored("mixed", "error_rate_percent", "test")
    assert (row["mean"], row["std"], row["median"], row["num_seeds"]) == ("37.5", "25", "25", "4")
    assert (row["median_low"], row["median_high"]) == ("", "")  # four seeds allow no interval of 95 %
    assert not scored("mixed", "mse", "test")


def test_a_diverged_seed_is_an_empty_cell_and_leaves_no_mean(moons, undrawn):
    main(moons, "study")
    for metric in ("error_rate_percent", "loss"):
        values = [row["value"] for row in scored("diverged", metric, "test", "per_seed.csv")]
        assert [value == "" for value in values] == [False, False, True, False]
    (row,) = scored("diverged", "error_rate_percent", "test")
    assert (row["mean"], row["std"], row["median_low"], row["median"]) == ("", "", "", "25")
    written = json.loads((files.evaluation("study") / "metrics/diverged.json").read_text())
    assert written == {"median": 25, "failed": 1}
    (epochs,) = scored("diverged", "epochs_to_converge", "validation")
    assert (epochs["mean"], epochs["median"]) == ("", "3")
    assert [row["loss"] for row in read("loss.csv") if row["variant"] == "diverged"] == ["3.75", "", ""]


def test_the_leaderboard_is_of_the_test_rows_and_the_best_seed_of_the_validation_rows(moons, undrawn):
    main(moons, "study")
    rows = {row["variant"]: row for row in read("leaderboard.csv")}
    assert list(rows) == ["base", "mixed", "diverged"]
    assert {row["split"] for row in rows.values()} == {"test"}
    assert rows["base"]["verdict"] == "baseline"
    assert rows["mixed"]["reason"] == "4 seeds: no p below 0.25; 2 comparisons need 7; equal on 3 of 4 seeds"
    assert (rows["diverged"]["max"], rows["diverged"]["failed_seeds"]) == ("diverged", "1")
    assert [row["best_seed"] for row in rows.values()] == ["7", "7", "7"]
    assert {row["best_seed_is"] for row in rows.values()} == {"the best on the validation rows"}
    assert [row["champion"] for row in rows.values()] == ["true", "false", "false"]
    assert [row["value"] for row in read("reference.csv")] == ["50", "25"]


@pytest.mark.parametrize(
    ("validation", "why"),
    [("test", "the study's validation rows are its test rows"), (0, "the study has no validation rows")],
)
def test_test_rows_choose_no_seed(moons, undrawn, validation, why):
    params = changed(moons, split={"train": 4, "validation": validation, "test": 4})
    main(params, "study")
    rows = read("leaderboard.csv")
    assert {row["best_seed"] for row in rows} == {"7"}
    assert {row["best_seed_is"] for row in rows} == {f"the first: {why}"}
    assert [row["variant"] for row in rows if row["champion"] == "true"] == ["base"]


def test_predicted_classes_are_shares_of_all_seeds(moons, undrawn):
    main(moons, "study")
    rows = [(row["variant"], row["target"], row["mean"]) for row in read("predictions.csv")]
    assert rows == [
        *[("base", "-1", "0"), ("base", "1", "1")],
        *[("diverged", "-1", "0"), ("diverged", "1", "0.75")],
        *[("mixed", "-1", "0.25"), ("mixed", "1", "0.75")],
    ]
    assert {row["features"] for row in read("predictions.csv")} == {"x = 3, y = 0"}


def test_a_finished_seed_whose_outputs_overflow_has_no_score_and_decides_nothing():
    """`lost` has ten layers of weights 3e38 in seed 8: 2 becomes more than float64 can hold, 0 stays 0."""
    layers = [1] * 10 + ["tanh"]
    params = given(
        *(MOONS, layers, {"train": 4, "test": 4}, "error_rate_percent"),
        variants=("base", "lost"),
        predict=[{"x": 2, "y": 0}, {"x": 0, "y": 0}],
        num_seeds=3,
    )
    write_split(CORNERS, test=two_classes((0, 1, 0), (0, 1, 0), (-1, 1, 0), (-2, 1, 0)))
    small = {f"{i}.weight": [[[1.0]]] * 3 for i in range(1, 10)} | {f"{i}.bias": [[0.0]] * 3 for i in range(10)}
    small["0.weight"] = [[[1.0, 0.0]]] * 3
    write_model(params, "base", CORNERS, small)
    large = {
        name: [values[0], [[3e38] * len(values[0][0])] if "weight" in name else [0.0], values[2]]
        for name, values in small.items()
    }
    large["0.weight"][1] = [[3e38, 0.0]]
    write_model(params, "lost", CORNERS, large)
    main(params, "study")
    for part in ("train", "test"):
        for metric in ("error_rate_percent", "loss"):
            values = [row["value"] != "" for row in scored("lost", metric, part, "per_seed.csv")]
            assert values == [True, False, True]
    row = {row["variant"]: row for row in read("leaderboard.csv")}["lost"]
    assert (row["mean"], row["diverged_seeds"], row["rank"]) == ("", "0", "2")
    assert row["note"].startswith("1 of 3 seeds gave numbers that are not finite: no mean")
    shares = [(row["input"], row["target"], row["mean"]) for row in read("predictions.csv") if row["variant"] == "lost"]
    assert shares[:2] == [("1", "-1", "0"), ("1", "1", "0.666666667")]
    assert shares[2:] == [("2", "-1", "1"), ("2", "1", "0")]


def test_an_input_that_no_seed_decides_has_no_share(undrawn):
    params = given(MOONS, [1, "tanh"], {"train": 4}, "error_rate_percent", variants=("base",), predict=[[1, 1]])
    write_split(CORNERS)
    lost = {"0.weight": [[[NAN, NAN]]] * 4, "0.bias": [[NAN]] * 4}
    write_model(params, "base", CORNERS, lost, [[NAN]] * 4, diverged=dict.fromkeys(SEEDS, 0))
    main(params, "study")
    assert [row["mean"] for row in read("predictions.csv")] == ["", ""]


@pytest.mark.parametrize("layers", [[1, "tanh"], [2, "sigmoid"], [2, "relu"]])
def test_a_test_row_that_float32_cannot_hold_once_it_is_standardized_is_not_decided(layers, undrawn):
    """The activation of an infinity would be finite: a decision for some class."""
    split = {"train": 4, "validation": 4, "test": 1}
    params = given(MOONS, layers, split, "error_rate_percent", variants=("base",), standardize=True)
    write_split(CORNERS, CORNERS, two_classes((1e30, 1, 1)))
    units = layers[0]
    scaling = {"input_mean": [0.0, 0.0], "input_std": [1e-30, 1.0]}
    write_model(
        *(params, "base", CORNERS),
        {"0.weight": [[[1.0, 0.0]] * units] * 4, "0.bias": [[0.0] * units] * 4} | scaling,
    )
    main(params, "study")
    assert [row["value"] for row in scored("base", "error_rate_percent", "test", "per_seed.csv")] == [""] * 4
    assert read("leaderboard.csv")[0]["note"] == "4 of 4 seeds gave numbers that are not finite: no mean"
    assert scored("base", "error_rate_percent", "train")[0]["mean"] != ""


def test_a_rate_that_was_overruled_is_told_by_both_stages_and_the_leaderboard(undrawn, capsys):
    """What `dvc exp run -S lr=0.01` leaves, and then -S studies.study.train.lr=0.003."""
    params = given(LINE, [1], {"train": 6}, "mse", num_seeds=1, lr=0.003)
    params.raw["variants"]["other"]["train"] = {"lr": 0.01}
    write_split(line_rows())
    train.main(params, "base")
    plain = (files.model("study", "base") / "run.json").read_bytes()
    assert b"overruled" not in plain and capsys.readouterr().err == ""
    leftover = ParamsFile({**params.raw, "lr": 0.01})
    train.main(leftover, "base")
    overruled, way_out = "lr = 0.01 replaces studies.study.train.lr = 0.003", "`lr: null` at the top of params.yaml"
    assert capsys.readouterr().err.startswith(f"base: {overruled}; {way_out}")
    assert json.loads((files.model("study", "base") / "run.json").read_text())["overruled"] == overruled
    train.main(leftover, "other")  # its rate is the same
    main(leftover, "study")
    assert capsys.readouterr().err.startswith(f"study: {overruled} in 1 of 2 variants; {way_out}")
    notes = {row["variant"]: row["note"] for row in read("leaderboard.csv")}
    assert overruled in notes["base"].split("; ") and "replaces" not in notes["other"]


def test_the_num_seeds_of_a_study_is_told_by_both_stages_and_the_leaderboard(undrawn, capsys):
    params = given(LINE, [1], {"train": 6}, "mse", num_seeds=1, variants=("base",), lr=0.003)
    params.raw["studies"]["study"]["train"]["num_seeds"] = 3
    write_split(line_rows())
    train.main(params, "base")
    told = "studies.study.train.num_seeds = 3 replaces num_seeds = 1"
    assert capsys.readouterr().err == f"base: {told}\n"
    main(params, "study")
    assert capsys.readouterr().err == f"study: {told} in 1 of 1 variant\n"
    [row] = read("leaderboard.csv")
    assert (row["num_seeds"], row["note"]) == ("3", told)


def test_the_order_of_variants_in_params_changes_no_byte(moons, undrawn):
    def outs():
        return {path.name: path.read_bytes() for path in files.evaluation("study").rglob("*") if path.is_file()}

    main(moons, "study")
    first = outs()
    variants = moons.raw["variants"]
    main(
        ParamsFile({**moons.raw, "variants": {name: variants[name] for name in ("mixed", "diverged", "base")}}), "study"
    )
    assert outs() == first


def test_weight_errors_and_predictions_of_linear_data_by_hand(undrawn):
    params = given(LINE, [1], {"train": 6}, "weight_error_max", predict=[[1, 1]], num_seeds=2)
    rows = line_rows()
    write_split(rows)
    write_model(params, "base", rows, {"0.weight": [[[2.5, -3.0]], [[2.0, -3.25]]], "0.bias": [[4.0], [4.5]]})
    write_model(params, "other", rows, {"0.weight": [[[2.0, -3.0]]] * 2, "0.bias": [[4.0]] * 2})
    main(params, "study")
    values = [row["value"] for row in scored("base", "weight_error_max", "train", "per_seed.csv")]
    assert values == ["0.5", "0.25"]
    assert [row["value"] for row in scored("base", "bias_error", "train", "per_seed.csv")] == ["0", "0.5"]
    (row,) = [row for row in read("predictions.csv") if row["variant"] == "base"]
    assert (row["target"], row["mean"], row["median"]) == ("y", "3.375", "3.375")  # 2.5 - 3 + 4 and 2 - 3.25 + 4.5
    (exact,) = scored("other", "r2", "train")
    assert (exact["mean"], exact["std"], exact["median_low"]) == ("1", "0", "")
    assert read("leaderboard.csv")[0]["split"] == "train"


def test_weight_errors_are_in_the_units_of_the_unscaled_features(undrawn):
    params = given(LINE, [1], {"train": 6}, "weight_error_max", num_seeds=2, variants=("base",), standardize=True)
    rows = line_rows()
    write_split(rows)
    scaling = {"input_mean": [1.0, 2.0], "input_std": [2.0, 0.5]}
    # y = 2 x1 - 3 x2 + 4 in scaled features: 4 (x1 - 1) / 2 - 1.5 (x2 - 2) / 0.5 + 0
    write_model(params, "base", rows, {"0.weight": [[[4.0, -1.5]]] * 2, "0.bias": [[0.0]] * 2} | scaling)
    main(params, "study")
    assert scored("base", "weight_error_max", "train")[0]["mean"] == "0"
    assert scored("base", "bias_error", "train")[0]["mean"] == "0"
    assert scored("base", "mse", "train")[0]["mean"] == "0"


def test_every_seed_diverged_is_no_error():
    params = given(TABLE, [1], {"train": 4}, "mse", variants=("base", "other"))
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows)
    lost = {"0.weight": [[[NAN]]] * 4, "0.bias": [[NAN]] * 4}
    for variant in ("base", "other"):
        write_model(params, variant, rows, lost, [[NAN]] * 4, diverged=dict.fromkeys(SEEDS, 0))
    main(params, "study")
    row = read("leaderboard.csv")[1]
    shown = (row["mean"], row["median"], row["difference"], row["diverged_seeds"], row["failed_seeds"])
    assert shown == ("", "diverged", "0", "4", "4")
    assert (row["verdict"], row["reason"]) == ("undecided", "every seed of both diverged")
