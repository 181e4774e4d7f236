import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from matplotlib.text import Text
from PIL import Image
from safetensors.torch import save_file

from bancada.base import BadInput, files, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.evaluation import evaluate, plots
from bancada.evaluation.leaderboard import format_leaderboard
from bancada.evaluation.sheets import sheet, write
from bancada.training import index, train
from bancada.training.settings import training_keys

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = [7, 8, 9, 10]
NAN = float("nan")


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("bancada.evaluation.plots.PLOTS", {})


def main(params, study):
    """The stages index and evaluate."""
    index.main(params, study)
    evaluate.main(params, study)


def given(source, layers, split, metric, num_seeds=4, variants=("base", "other"), predict=(), **train):
    """params.yaml with one study, `study`, whose variants all have the same layers."""
    settings = {"loss": "mse", "lr": 0.1, "batch_size": "full", "epochs": 3, **train}
    study = {"source": source, "split": split, "metric": metric, "baseline": "base", "min_difference": 0.1}
    return ParamsFile(
        {
            "seed": SEEDS[0],
            "num_seeds": num_seeds,
            "lr": None,
            "engine": None,
            "device": "cpu",
            "studies": {"study": study | {"train": settings, "predict": list(predict)}},
            "variants": {name: {"study": "study", "layers": list(layers)} for name in variants},
        }
    )


def changed(params, **study):
    """The same parameters but for these keys of the study."""
    return ParamsFile({**params.raw, "studies": {"study": params.raw["studies"]["study"] | study}})


def write_split(train, validation=None, test=None):
    for part, rows in zip(files.PARTS, (train, validation, test), strict=True):
        tables.write(train.take(np.arange(0)) if rows is None else rows, files.split("study") / f"{part}.parquet")


def write_model(params, variant, rows, weights, losses=None, diverged=None):
    """A model folder by hand. `weights`: by name, [seed, ...]; `losses`: a list of training losses for each seed."""
    asked = training_keys(params, variant).recipe()
    folder = files.model("study", variant)
    folder.mkdir(parents=True)
    arrays = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items() if "input" not in name}
    scaling = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items() if "input" in name}
    save_file(arrays | scaling, folder / "weights.safetensors")
    losses = losses or [[4.0, 2.0, 1.0]] * len(asked.seeds)
    long = [(s, e, loss) for s, of in zip(asked.seeds, losses, strict=True) for e, loss in enumerate(of)]
    seed, epoch, loss = zip(*long, strict=True)
    names = ("train_loss", "last_batch_loss", "validation_loss", "lr")
    pq.write_table(pa.table({"seed": seed, "epoch": epoch} | dict.fromkeys(names, loss)), folder / "history.parquet")
    run = {
        "study": "study",
        "variant": variant,
        "recipe": asked.model_dump(mode="json"),
        "feature_names": rows.feature_names,
        "target_names": rows.target_names,
        "classes": rows.classes,
        "diverged": {str(seed): epoch for seed, epoch in (diverged or {}).items()},
        "train_rows": len(rows),
        "shape": rows.shape,
        "kept": {},
        "parameters": sum(array[0].numel() for name, array in arrays.items() if "running" not in name),
        "outputs": [array.shape[1] for name, array in arrays.items() if name.endswith(".bias")][-1],
    }
    (folder / "run.json").write_text(json.dumps(run))


def read(name):
    with (files.evaluation("study") / name).open(newline="") as file:
        return list(csv.DictReader(file))


def scored(variant, metric, split, of="scores.csv"):
    return [row for row in read(of) if (row["variant"], row["metric"], row["split"]) == (variant, metric, split)]


MOONS = {"kind": "half_moons", "rows": 12, "radius": 10, "distance": -4, "width": 6, "seed": 1}
TABLE = {
    "kind": "table",
    "path": "data/sources/t.csv",
    "task": "regression",
    "features": ["rooms"],
    "targets": ["price"],
}
LINE = {"kind": "linear", "rows": 6, "weights": [2, -3], "bias": 4, "noise_std": 0, "seed": 1}


def two_classes(*points):
    """Rows (x, y, class index)."""
    table = np.array(points, dtype=np.float64)
    return Table(table[:, :2], table[:, 2:].astype(np.int64), ["x", "y"], ["moon"], [-1, 1])


CORNERS = two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0), (-2, 1, 0))


def classifier(seeds_right):
    """One linear unit for each seed; a wrong one decides the opposite."""
    signs = [1.0 if right else -1.0 for right in seeds_right]
    return {"0.weight": [[[sign, 0.0]] for sign in signs], "0.bias": [[0.0]] * len(signs)}


@pytest.fixture
def moons():
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


def test_error_rates_by_hand(moons, undrawn):
    main(moons, "study")
    assert [row["value"] for row in scored("base", "error_rate_percent", "train", "per_seed.csv")] == ["0"] * 4
    per_seed = scored("mixed", "error_rate_percent", "test", "per_seed.csv")
    assert [(row["seed"], row["value"]) for row in per_seed] == [("7", "25"), ("8", "25"), ("9", "75"), ("10", "25")]
    (row,) = scored("mixed", "error_rate_percent", "test")
    assert (row["mean"], row["std"], row["median"], row["num_seeds"]) == ("37.5", "25", "25", "4")
    assert float(row["ci95_low"]) == pytest.approx(37.5 - 3.182446305 * 25 / 2)  # t for 3 degrees of freedom
    assert not scored("mixed", "mse", "test")


def test_a_diverged_seed_is_an_empty_cell_and_leaves_no_mean(moons, undrawn):
    main(moons, "study")
    for metric in ("error_rate_percent", "loss"):
        values = [row["value"] for row in scored("diverged", metric, "test", "per_seed.csv")]
        assert [value == "" for value in values] == [False, False, True, False]
    (row,) = scored("diverged", "error_rate_percent", "test")
    assert (row["mean"], row["std"], row["ci95_low"], row["median"]) == ("", "", "", "25")
    written = json.loads((files.evaluation("study") / "metrics/diverged.json").read_text())
    nothing = {"mean": None, "ci95_low": None, "ci95_high": None}
    assert written == {"error_rate_percent": nothing, "diverged_seeds": 1}
    (epochs,) = scored("diverged", "epochs_to_converge", "validation")
    assert (epochs["mean"], epochs["median"]) == ("", "3")
    assert [row["loss"] for row in read("loss.csv") if row["variant"] == "diverged"] == ["3.75", "", ""]


def test_the_leaderboard_says_deterministic_only_where_the_weights_are(moons, undrawn):
    main(moons, "study")
    rows = {row["variant"]: row for row in read("leaderboard.csv")}
    assert list(rows) == ["base", "mixed", "diverged"]
    assert [row["deterministic"] for row in rows.values()] == ["true", "false", "false"]
    assert rows["base"]["split"] == "test"
    assert rows["base"]["verdict"] == "baseline"
    assert "too few seeds" in rows["mixed"]["note"]


def test_predicted_classes_are_shares_of_all_seeds(moons, undrawn):
    main(moons, "study")
    rows = [(row["variant"], row["target"], row["mean"]) for row in read("predictions.csv")]
    assert rows == [
        *[("base", "-1", "0"), ("base", "1", "1")],
        *[("diverged", "-1", "0"), ("diverged", "1", "0.75")],
        *[("mixed", "-1", "0.25"), ("mixed", "1", "0.75")],
    ]
    assert {row["features"] for row in read("predictions.csv")} == {"x = 3, y = 0"}


def test_every_out_is_there_and_has_the_same_bytes_when_made_again(moons):
    def outs():
        folder = files.evaluation("study")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    main(moons, "study")
    first = outs()
    (files.evaluation("study") / "metrics/gone.json").write_text("left over")
    main(moons, "study")
    assert outs() == first
    assert set(first) == {
        *("scores.csv", "per_seed.csv", "leaderboard.csv", "predictions.csv", "loss.csv"),
        *(f"metrics/{name}.json" for name in ("base", "mixed", "diverged")),
        *(f"plots/{name}.png" for name in ("loss", "leaderboard", "data", "decision_regions", "confusion")),
    }
    for name in first:
        if name.endswith(".png"):
            with Image.open(files.evaluation("study") / name) as picture:
                assert picture.width == 880
                assert picture.info.keys() <= {"dpi"}


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
    assert (
        read("leaderboard.csv")[0]["note"]
        == "4 of 4 seeds gave numbers that are not finite: no mean; deterministic: no interval"
    )
    assert scored("base", "error_rate_percent", "train")[0]["mean"] != ""


def test_a_new_input_that_float32_cannot_hold_once_it_is_standardized_is_refused(undrawn):
    split = {"train": 4}
    params = given(MOONS, [1], split, "error_rate_percent", predict=[{"x": 1, "y": 1}, {"y": 1e38, "x": 1}])
    write_split(CORNERS)
    scaling = {"input_mean": [0.0, 0.0], "input_std": [1.0, 0.1]}
    for variant in ("base", "other"):
        write_model(params, variant, CORNERS, classifier([True] * 4) | (scaling if variant == "other" else {}))
    with pytest.raises(
        BadInput,
        match=r"^params.yaml: studies.study.predict\[1\].y = 1e\+38: too large for other, which standardizes it$",
    ):
        main(params, "study")
    assert not files.evaluation("study").exists()


def test_a_metric_that_is_not_defined_is_called_so_and_nothing_has_diverged(monkeypatch):
    """R2 of one row."""
    params = given(TABLE, [1], {"train": 4, "test": 1}, "r2")
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows, test=rows.take(np.array([0])))
    for variant, weight in (("base", 1.0), ("other", 2.0)):
        write_model(params, variant, rows, {"0.weight": [[[weight]]] * 4, "0.bias": [[0.0]] * 4})
    texts = []
    monkeypatch.setattr("bancada.evaluation.sheets.write", lambda figure, path: texts.extend(words(figure)))
    main(params, "study")
    assert "base\n4 of 4 not defined" in texts
    assert not [text for text in texts if "diverged" in text]
    board = read("leaderboard.csv")
    for row in board:
        assert [row[name] for name in ("rank", "mean", "best_seed", "best", "worst_seed", "worst", "p_holm")] == [
            ""
        ] * 7
        assert row["diverged_seeds"] == "0"
        assert row["note"].startswith("r2 is not defined on these rows, for 4 of 4 seeds")
    assert {row["variant"]: row["verdict"] for row in board} == {"base": "baseline", "other": "not defined"}
    (mse,) = scored("base", "mse", "test")
    assert mse["mean"] == "0"
    table = format_leaderboard(board, "study")
    assert "n. d." in table and "none" not in table and "diverged" not in table


def words(figure):
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def test_a_rate_that_was_overruled_is_told_by_both_stages_the_leaderboard_and_the_metrics(undrawn, capsys):
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
    metrics = [json.loads((files.evaluation("study") / f"metrics/{name}.json").read_text()) for name in notes]
    assert [content.get("overruled") for content in metrics] == [overruled if n == "base" else None for n in notes]


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


def test_names_are_drawn_as_they_are_written():
    """matplotlib takes what stands between two $ for a formula, and lists in no legend what begins with _."""
    features, classes = np.array([[0.0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [0]])
    table = Table(features, classes, ["$\\price$", "_y"], ["_k"], ["$a$", "b"])
    figure = plots.classes_in_the_plane(table, "$title$")
    write(figure, Path("names.png"))
    (legend,) = figure.legends
    shown = [text._preprocess_math(text.get_text()) for text in legend.get_texts()]
    assert shown == [(" _k $a$ (2)", False), (" _k b (1)", False)]
    across = figure.axes[0].xaxis.label
    assert across._preprocess_math(across.get_text()) == ("$\\price$", False)


def test_a_long_title_stays_on_its_sheet_and_above_its_panel() -> None:
    line = "orchard: mean squared error on the training rows (nothing is held out), 10 training seeds on one data set"
    figure, (panel,) = sheet(1, f"{line}\n{line}", height=0.5)
    figure.draw_without_rendering()
    title = figure._suptitle
    assert title.get_text().split() == 2 * line.split()
    place = title.get_window_extent()
    assert place.x0 > 0 and place.x1 < figure.bbox.width and place.y1 < figure.bbox.height
    assert place.y0 > panel.get_window_extent().y1


def test_a_constant_feature_has_no_share_of_the_variance():
    rows = np.full((7, 3), 0.1)  # whose standard deviation is 1e-17 in binary numbers, not 0
    rows[:4, 0], rows[::2, 1] = 5, 3
    expected = np.linalg.svd(scipy.stats.zscore(rows[:, :2]), compute_uv=False) ** 2
    assert plots.principal_components(rows)[1] == pytest.approx(list(expected / expected.sum()))


def test_a_variant_that_is_taken_out_is_compared_no_more_though_its_model_is_left_over(moons, undrawn):
    main(moons, "study")
    assert {row["variant"] for row in read("leaderboard.csv")} == {"base", "diverged", "mixed"}
    variants = {name: keys for name, keys in moons.raw["variants"].items() if name != "mixed"}
    main(ParamsFile({**moons.raw, "variants": variants}), "study")
    assert files.model("study", "mixed").is_dir()
    for name in ("leaderboard.csv", "scores.csv", "per_seed.csv", "loss.csv", "predictions.csv"):
        assert {row["variant"] for row in read(name)} == {"base", "diverged"}, name


def test_the_index_has_the_hashes_that_md5sum_prints(moons):
    index.main(moons, "study")
    folder = files.model("study", "mixed")
    printed = subprocess.run(["md5sum", *sorted(folder.iterdir())], capture_output=True, text=True, check=True).stdout
    hashes = {Path(line.split()[1]).name: line.split()[0] for line in printed.splitlines()}
    assert json.loads(Path("data/index/study.json").read_text())["mixed"] == hashes


def test_a_model_that_is_missing_or_is_not_the_one_of_the_index_is_refused_by_name(moons):
    index.main(moons, "study")
    with (files.model("study", "mixed") / "history.parquet").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BadInput, match=r"data/models/study/mixed: not the one that data/index/study.json names"):
        evaluate.main(moons, "study")
    files.remove(files.model("study", "mixed"))
    for stage in (index, evaluate):
        with pytest.raises(BadInput, match=r"data/models/study/mixed/weights.safetensors: missing; .* train@mixed"):
            stage.main(moons, "study")
    files.index("study").write_text("[]")
    with pytest.raises(BadInput, match=r"data/index/study.json: the stage index did not write this"):
        evaluate.main(moons, "study")
    assert not files.evaluation("study").exists()


def test_a_study_without_variants_is_refused_by_name(moons):
    with pytest.raises(BadInput, match=r"params.yaml: studies.study: no variant belongs to it"):
        index.main(ParamsFile({**moons.raw, "variants": {}}), "study")


def test_models_of_different_seeds_are_not_compared(moons):
    fewer = ParamsFile({**moons.raw, "num_seeds": 2})
    files.remove(files.model("study", "mixed"))
    write_model(fewer, "mixed", CORNERS, classifier([True, False]))
    with pytest.raises(BadInput, match="other seeds"):
        main(moons, "study")


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ({"x": 1, "yy": 2}, r"predict\[0\].yy: unknown feature; did you mean 'y'"),
        ({"x": 1}, r"predict\[0\].y: missing"),
        ([1, 2, 3], r"predict\[0\]: 3 numbers, but the features are 2"),
    ],
)
def test_an_input_that_does_not_fit_the_features_is_refused(moons, predict, message):
    with pytest.raises(BadInput, match=message):
        main(changed(moons, predict=[predict]), "study")


def test_new_inputs_are_checked_against_features_that_only_the_table_names():
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "regression", "targets": ["c"]}
    params = given(source, [1], {"train": 6}, "mse", predict=[{"x1": 1, "xx2": 2}])
    write_split(line_rows())
    with pytest.raises(
        BadInput, match=r"^params.yaml: studies.study.predict\[0\].xx2: unknown feature; did you mean 'x2'\?$"
    ):
        evaluate.main(params, "study")
    assert not files.evaluation("study").exists()


def line_rows():
    features = np.array([[0.0, 0], [1, 0], [0, 1], [2, 1], [1, 3], [-1, 2]])
    return Table(features, features @ np.array([[2.0], [-3.0]]) + 4, ["x1", "x2"], ["y"], [])


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
    assert (exact["mean"], exact["std"], exact["ci95_low"]) == ("1", "0", "")
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


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_one_feature_and_one_target_also_get_a_plot_of_the_fit(num_seeds):
    params = given(TABLE, [1], {"train": 4, "test": 2}, "mae", num_seeds=num_seeds)
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows, test=rows.take(np.array([0, 3])))
    for variant in ("base", "other"):
        weights = {"0.weight": [[[1.0]]] * num_seeds, "0.bias": [[0.0]] * num_seeds}
        write_model(params, variant, rows, weights, [[3.0 / (e + 1) for e in range(1000)]] * num_seeds)
    main(params, "study")
    assert scored("base", "mae", "test")[0]["mean"] == "0.5"
    assert not scored("base", "mae", "validation")
    pictures = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert pictures == {"loss", "leaderboard", "data", "predicted_vs_observed", "fit"}
    epochs = [int(row["epoch"]) for row in read("loss.csv") if row["variant"] == "base"]
    assert (epochs[0], epochs[-1]) == (0, 999)
    assert len(set(epochs)) == len(epochs) <= 200
    assert epochs == sorted(epochs)
    (row,) = [row for row in read("leaderboard.csv") if row["variant"] == "other"]
    assert row["verdict"] == "no difference shown"
    assert ("one seed: no interval" in row["note"]) == (num_seeds == 1)


def test_every_seed_diverged_is_no_error():
    params = given(TABLE, [1], {"train": 4}, "mse", variants=("base", "other"))
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows)
    lost = {"0.weight": [[[NAN]]] * 4, "0.bias": [[NAN]] * 4}
    for variant in ("base", "other"):
        write_model(params, variant, rows, lost, [[NAN]] * 4, diverged=dict.fromkeys(SEEDS, 0))
    main(params, "study")
    row = read("leaderboard.csv")[1]
    assert (row["mean"], row["median"], row["difference"], row["diverged_seeds"]) == ("", "", "", "4")
    assert row["verdict"] == "no difference shown"


def test_many_features_and_text_classes_are_drawn_by_principal_components():
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "classification", "targets": ["kind"]}
    params = given(source, [3], {"train": 9}, "error_rate_percent", variants=("base",), loss="cross_entropy")
    rng = np.random.default_rng(0)
    index = np.repeat([0, 1, 2], 3)[:, None]
    rows = Table(rng.normal(size=(9, 4)), index, list("abcd"), ["kind"], ["ash", "beech", "oak"])
    write_split(rows)
    write_model(params, "base", rows, {"0.weight": rng.normal(size=(4, 3, 4)), "0.bias": np.zeros((4, 3))})
    main(params, "study")
    pictures = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert pictures == {"loss", "leaderboard", "data", "confusion"}


def test_dvcs_own_renderer_fills_the_template_of_loss_csv():
    from dvc_render.vega import VegaRenderer

    rows = [{"variant": "v", "epoch": "0", "loss": "1", "validation_loss": "", "rev": "workspace"}]
    folder = str(REPOSITORY / ".dvc/plots")
    filled = VegaRenderer(rows, "loss", x="epoch", y="loss", template="loss", template_dir=folder).get_filled_template()
    assert "DVC_METRIC" not in json.dumps(filled)
    assert filled["spec"]["encoding"]["color"]["field"] == "variant"
