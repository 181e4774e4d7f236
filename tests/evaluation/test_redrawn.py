"""Data drawn anew for each seed: what replica i learns from, and what is said of results over data sets.

Expected: the stages of a study whose own seed is that of the draw, scikit-learn's split, and a hand calculation.
"""

import copy
import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import bancada
from bancada.base import BadInput, files, tables
from bancada.base.params_file import ParamsFile
from bancada.data import draws, generate, split
from bancada.evaluation import evaluate
from bancada.networks import saved
from bancada.pipeline import params as all_params
from bancada.training import index, train

pytestmark = pytest.mark.usefixtures("workspace")
SEEDS = 7
MOONS: dict[str, Any] = {
    "source": {"kind": "half_moons", "rows": 400, "radius": 10, "distance": -4, "width": 6, "seed": 5},
    "split": {"train": 200, "validation": 50, "test": 150, "stratify": True, "seed": 3},
    "metric": "error_rate_percent",
    "baseline": "a",
    "train": {"loss": "mse", "lr": 0.3, "batch_size": 50, "epochs": 20, "standardize": True},
}
WINE: dict[str, Any] = MOONS | {
    "source": {"kind": "sklearn", "name": "wine"},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 4},
    "train": {"loss": "cross_entropy", "lr": 0.1, "batch_size": 32, "epochs": 5, "standardize": True},
}


def asked(study: dict[str, Any], vary: bool = True, num_seeds: int = SEEDS, seed: int = 1) -> ParamsFile:
    """The study with two variants of it."""
    study = copy.deepcopy(study)
    if vary:
        study["source"]["vary"] = ["seed", "data"]
    outputs = 3 if study["source"]["kind"] == "sklearn" else 1
    variants = {name: {"study": "it", "layers": [units, "tanh", outputs]} for name, units in (("a", 3), ("b", 5))}
    top = {"seed": seed, "num_seeds": num_seeds, "lr": None, "engine": None, "device": "cpu"}
    return ParamsFile({**top, "studies": {"it": study}, "variants": variants})


def run(params: ParamsFile, evaluated: bool = True) -> None:
    generate.main(params, "it")
    split.main(params, "it")
    for variant in ("a", "b"):
        train.main(params, variant)
    if evaluated:
        index.main(params, "it")
        evaluate.main(params, "it")


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((files.evaluation("it") / f"{table}.csv").read_text())))


def errors_on_test() -> list[float]:
    found = rows("per_seed")
    of = ("b", "test", "error_rate_percent")
    return [float(row["value"]) for row in found if (row["variant"], row["split"], row["metric"]) == of]


@pytest.mark.usefixtures("undrawn")
def test_a_replica_on_a_draw_is_the_replica_of_a_study_whose_source_has_that_seed() -> None:
    run(asked(MOONS, num_seeds=3))
    found, errors = load_file(files.model("it", "b") / files.WEIGHTS), errors_on_test()
    i, alone = 2, copy.deepcopy(MOONS)
    alone["source"]["seed"] += i
    run(asked(alone, vary=False, num_seeds=1, seed=1 + i))
    expected = load_file(files.model("it", "b") / files.WEIGHTS)
    for name, value in expected.items():  # scaling has no axis of seeds there
        own = found[name][i : i + 1] if value.ndim == found[name].ndim else found[name][i]
        np.testing.assert_array_equal(own, value, err_msg=name)
    assert errors_on_test() == [errors[i]]


def test_a_table_is_split_by_the_seed_of_its_draw_and_draw_0_is_what_the_stages_wrote() -> None:
    params = asked(WINE)
    generate.main(params, "it")
    split.main(params, "it")
    features = load_wine().data
    for number, parts in zip((0, 3), draws.of_study(params, "it", (0, 3)), strict=True):
        left, test = train_test_split(np.arange(178), test_size=36, random_state=4 + number)
        kept, validation = train_test_split(left, test_size=36, random_state=4 + number)
        for part, expected in {"train": kept, "validation": validation, "test": test}.items():
            np.testing.assert_array_equal(parts[part].features, features[expected], err_msg=part)
            if number == 0:
                stored = tables.read(files.split("it") / f"{part}.parquet")
                np.testing.assert_array_equal(stored.features, parts[part].features)


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_splits_of_one_table_have_no_interval_of_the_median_and_the_corrected_variance_in_p() -> None:
    """Nadeau & Bengio 2003: the variance of the mean is (1/n + test rows / training rows) times the sample's."""
    run(asked(WINE))
    board = {row["variant"]: row for row in rows("leaderboard")}
    assert {row["over"] for row in board.values()} == {"splits of one table and seeds"}
    assert {(row["median_low"], row["median_high"]) for row in board.values()} == {("", "")}
    values = {
        variant: np.array([float(row["value"]) for row in rows("per_seed") if row["variant"] == variant
                           and (row["split"], row["metric"]) == ("test", "error_rate_percent")])
        for variant in "ab"
    }  # fmt: skip
    d = values["b"] - values["a"]
    t = d.mean() / math.sqrt((1 / SEEDS + 36 / 106) * d.var(ddof=1))
    assert float(board["b"]["p"]) == pytest.approx(2 * stats.t.sf(abs(t), SEEDS - 1), rel=1e-6)


@pytest.mark.long
def test_plots_and_tables_say_what_the_replicas_differ_in() -> None:
    run(asked(MOONS, num_seeds=3))
    assert {row["over"] for row in rows("leaderboard")} == {"data sets and seeds"}
    drawn = {path.stem for path in (files.evaluation("it") / "plots").iterdir()}
    assert {"loss", "leaderboard", "data", "decision_regions", "confusion"} <= drawn
    first = rows("reference")[0]
    assert (first["reference"], float(first["value"])) == ("majority class", 50.0)


@pytest.mark.parametrize(
    ("study", "changed", "line"),
    [
        (MOONS, {"vary": ["data"]}, "studies.it.source.vary"),
        (MOONS, {"vary": ["seed", "seed"]}, "studies.it.source.vary"),
        (MOONS, {"vary": "data"}, "studies.it.source.vary"),
        (WINE, {"vary": ["seed", "data"]}, "studies.it.split.seed = 4294967290: too large for 7 draws"),
        (WINE | {"split": {"train": 1.0}}, {"vary": ["seed", "data"]}, "vary: nothing is held out, so there is no"),
    ],
)
def test_what_cannot_vary_is_refused_before_anything_runs(
    study: dict[str, Any], changed: dict[str, Any], line: str
) -> None:
    raw = asked(study, vary=False).raw
    raw["studies"]["it"]["source"] |= changed
    raw["studies"]["it"]["split"] |= {"seed": 2**32 - 6} if study is WINE else {}
    YAML().dump(raw, Path("params.yaml"))
    with pytest.raises(BadInput) as refused:
        all_params.load()
    assert line in str(refused.value)


def test_a_table_in_order_has_no_other_draw() -> None:
    Path("data/sources").mkdir(parents=True)
    Path("data/sources/t.csv").write_text("day,x,y\n" + "".join(f"2020-01-{i:02},{i},{i * i}\n" for i in range(1, 29)))
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "regression", "targets": ["y"]}
    raw = asked(MOONS | {
        "source": source, "metric": "mae", "split": {"train": 0.5, "validation": 0.25, "test": 0.25, "order": "day"}
    }).raw  # fmt: skip
    YAML().dump(raw, Path("params.yaml"))
    with pytest.raises(BadInput, match=r"studies.it.source.vary.*rows in order are always split alike"):
        all_params.load()


def test_a_function_that_does_not_use_its_seed_makes_no_new_data() -> None:
    Path("src/sources").mkdir(parents=True)
    Path("src/sources/fixed.py").write_text(
        "import numpy as np\n\ndef make(seed):\n    x = np.arange(400.0).reshape(200, 2)\n"
        "    return {'inputs': x, 'target': (x[:, 0] > 200).astype(int)}\n"
    )
    source = {"kind": "python", "file": "src/sources/fixed.py", "name": "make", "task": "classification"}
    params = asked(MOONS | {"source": source, "split": {"train": 0.5, "test": 0.5}})
    with pytest.raises(BadInput, match=r"draws 0 and 1 have the same rows, so the source does not use its seed"):
        draws.of_study(params, "it", range(2))


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_every_seed_predicts_with_the_scaling_of_its_own_data() -> None:
    """By hand: what is learned of rooms and prices in draw 2 scales the inputs and the outputs of seed 3 alone."""
    source = {"kind": "house_prices", "rows": 60, "outliers": 2, "price_per_room": 9, "price_at_zero": -40, "seed": 4}
    source |= {"noise_std": 2.5, "outlier_price": 10}
    train_keys = {
        "loss": "mse",
        "lr": 0.1,
        "batch_size": 20,
        "epochs": 3,
        "prepare": {"targets": {"standardize": True}},
    }
    house = {"source": source, "split": {"train": 40, "test": 20, "seed": 1}, "metric": "mae"}
    params = asked(house | {"train": train_keys | {"standardize": True}}, num_seeds=3)
    params.raw["variants"] = {name: {"study": "it", "layers": [1]} for name in ("a", "b")}
    run(params)
    rooms = np.array([[3.0], [7.0]])
    rows = tables.read(files.split("it") / "test.parquet").with_features(rooms)
    found = saved.load(files.model("it", "b")).predict(rows)
    weights = load_file(files.model("it", "b") / files.WEIGHTS)
    own = draws.of_study(params, "it", [2])[0]["train"]
    inputs = (rooms - own.features.mean()) / own.features.std()
    outputs = inputs * weights["0.weight"][2, 0, 0] + weights["0.bias"][2, 0]
    np.testing.assert_allclose(found[2], outputs * own.targets.std() + own.targets.mean(), rtol=1e-6)
    Path("dvc.yaml").touch()  # which makes the folder a repository
    YAML().dump(params.raw, Path("params.yaml"))
    table = bancada.load("b").predict(pd.DataFrame({"rooms": rooms[:, 0]}), seeds="all")
    np.testing.assert_allclose(table.iloc[:, 0], found.mean(axis=0)[:, 0], rtol=1e-6)
