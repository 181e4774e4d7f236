"""The data are what the lessons say, the same bytes every time, and are parted as they say."""

import csv
from decimal import Decimal
from difflib import ndiff
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides
from sklearn.model_selection import train_test_split

from bancada.data import split
from bancada.data.sources.csv import CsvFile
from bancada.data.sources.house_prices import HousePrices
from bancada.data.sources.linear import LinearData
from bancada.pipeline.params import load

ROOT = Path(__file__).parents[2]
PARAMS = load(ROOT / "params.yaml")
KEY = "studies.mine.source"  # of params.yaml, for messages
PARTS = ("train", "validation", "test")
LESSON_1 = [  # temperature, rainfall, humidity, apples, oranges
    [
        (73, 67, 43, 56, 70),
        (91, 88, 64, 81, 101),
        (87, 134, 58, 119, 133),
        (102, 43, 37, 22, 37),
        (69, 96, 70, 103, 119),
    ],
    [
        (74, 66, 43, 57, 69),
        (91, 87, 65, 80, 102),
        (88, 134, 59, 118, 132),
        (101, 44, 37, 21, 38),
        (68, 96, 71, 104, 118),
    ],
    [
        (73, 66, 44, 57, 69),
        (92, 87, 64, 82, 100),
        (87, 135, 57, 118, 134),
        (103, 43, 36, 20, 38),
        (68, 97, 70, 102, 120),
    ],
]


def test_the_orchard_is_the_lessons_table_in_the_lessons_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    for study, rows in (("orchard5", LESSON_1[0]), ("orchard", [row for five in LESSON_1 for row in five])):
        table = PARAMS.source(study).make(KEY)
        assert np.array_equal(np.hstack([table.features, table.targets]), np.array(rows, dtype=float))
        assert table.feature_names == ["temperature", "rainfall", "humidity"]
        assert table.target_names == ["apples", "oranges"]


def test_the_moons_are_half_rings_of_the_lessons_radius_place_and_size():
    table = PARAMS.source("moons").make(KEY)
    labels = np.array(table.classes)[table.targets[:, 0]]
    assert (np.sum(labels == 1), np.sum(labels == -1)) == (1550, 1550)
    x, y = table.features.T
    upper, lower = labels == 1, labels == -1
    for centre, side, of in (((0, 0), 1, upper), ((10, 4), -1, lower)):  # r1 = 10, r2 = -4
        radius = np.hypot(x[of] - centre[0], y[of] - centre[1])
        assert radius.min() >= 7 - 1e-9
        assert radius.max() <= 13 + 1e-9
        assert radius.mean() == pytest.approx(10, abs=0.15)  # uniform: sd of the mean 0.044
        assert np.all(side * (y[of] - centre[1]) >= -1e-9)
        angle = np.arctan2(side * (y[of] - centre[1]), x[of] - centre[0])
        assert angle.mean() == pytest.approx(np.pi / 2, abs=0.1)
        assert np.histogram(angle, 4)[0].min() > 300


def test_the_line_is_normal_inputs_times_weights_plus_bias_plus_noise():
    table = PARAMS.source("line").make(KEY)
    assert table.features.shape == (9984 + 2976, 2)
    assert table.features.mean(axis=0) == pytest.approx([0, 0], abs=0.04)
    assert table.features.std(axis=0) == pytest.approx([1, 1], abs=0.03)
    residuals = table.targets[:, 0] - (2 * table.features[:, 0] - 3.4 * table.features[:, 1] + 4.2)
    assert residuals.std() == pytest.approx(0.01, rel=0.03)
    exact = LinearData(kind="linear", rows=5, weights=[2, -3.4], bias=4.2, noise_std=0, seed=1)
    x = exact.make(KEY)
    np.testing.assert_allclose(x.targets[:, 0], 2 * x.features[:, 0] - 3.4 * x.features[:, 1] + 4.2, rtol=1e-12)


def test_the_synthetic_wines_have_exactly_the_lessons_class_counts_and_can_be_half_learned():
    table = PARAMS.source("quality").make(KEY)
    labels = np.array(table.classes)[table.targets[:, 0]]
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    assert counts == {3: 6, 4: 33, 5: 483, 6: 462, 7: 143, 8: 16}
    assert table.features.shape == (1143, 11)
    # what the nearest class mean gets wrong, by hand: neither hopeless (always "5": 58 %) nor free
    means = np.stack([table.features[labels == label].mean(axis=0) for label in table.classes])
    likely = np.log([counts[label] for label in table.classes])
    distance = ((table.features[:, None] - means) ** 2).sum(axis=2) / 2 - likely
    assert 20 < 100 * np.mean(distance.argmin(axis=1) != table.targets[:, 0]) < 45


def test_house_prices_lie_on_a_line_but_for_big_houses_sold_for_little():
    table = PARAMS.source("houses").make(KEY)
    rooms, price = table.features[:, 0], table.targets[:, 0]
    on_the_line = 9 * rooms - 40
    outlier = price < on_the_line - 8.5  # noise sd is 2.5; the smallest outlier should cost 18.5
    assert outlier.sum() == pytest.approx(10, abs=1)
    assert rooms[outlier].min() >= 6.5
    assert price[outlier].mean() == pytest.approx(10, abs=3)
    assert (price - on_the_line)[~outlier].std() == pytest.approx(2.5, rel=0.2)
    assert np.array_equal(rooms, np.round(rooms, 1))
    assert 20 <= on_the_line[np.isclose(rooms, 7)].mean() <= 25
    none = HousePrices.model_validate({**PARAMS.source("houses").model_dump(), "outliers": 0, "noise_std": 0.0})
    exact = none.make(KEY)
    np.testing.assert_allclose(exact.targets, 9 * exact.features - 40)


@pytest.mark.parametrize("study", ["quality", "moons", "houses", "line"])
def test_computed_numbers_have_nine_significant_digits(study):
    source = PARAMS.source(study)
    table, made = source.table(KEY), source.make(KEY)
    for rounded, computed in [(table.features, made.features), (table.targets, made.targets)]:
        np.testing.assert_allclose(rounded, computed, rtol=5e-9)
        digits = [len(Decimal(repr(number)).normalize().as_tuple().digits) for number in rounded.ravel().tolist()]
        assert max(digits) <= 9


def test_the_real_wines_are_read_in_place_of_the_made_ones_and_their_id_is_no_feature(tmp_path, monkeypatch):
    names = PARAMS.source("quality").features
    (tmp_path / "data" / "sources").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data" / "sources" / "WineQT.csv"
    keys = {"kind": "csv", "path": "data/sources/WineQT.csv", "task": "classification", "targets": ["quality"]}
    source = CsvFile.model_validate(keys | {"features": names})
    for labels in (["5", "6", "5"], ["5.0", "6.0", "5.0"]):
        with path.open("w", newline="") as file:
            rows = [[f"{row}.{column}" for column in range(11)] + [label, row] for row, label in enumerate(labels)]
            csv.writer(file).writerows([[*names, "quality", "Id"], *rows])
        table = source.make(KEY).only(names)
        assert table.features[1].tolist() == [float(f"1.{column}") for column in range(11)]
        assert (table.classes, table.targets[:, 0].tolist()) == ([5, 6], [0, 1, 0])


def test_quality_is_split_as_in_the_lesson():
    table = PARAMS.source("quality").make("studies.quality.source")
    parts = split.divide(table, PARAMS.studies["quality"].split)
    train, test, train_y, test_y = train_test_split(table.features, table.targets, test_size=0.2, random_state=42)
    assert (len(train), len(test)) == (914, 229)
    assert np.array_equal(parts["train"].features, train)
    assert np.array_equal(parts["train"].targets, train_y)
    for name in ("validation", "test"):
        assert np.array_equal(parts[name].features, test)
        assert np.array_equal(parts[name].targets, test_y)


def test_half_of_every_part_of_the_moons_is_each_moon():
    parts = split.divide(PARAMS.source("moons").make("studies.moons.source"), PARAMS.studies["moons"].split)
    counts = [np.bincount(parts[name].targets[:, 0]).tolist() for name in PARTS]
    assert counts == [[500, 500], [50, 50], [1000, 1000]]


def test_the_committed_params_hold_the_lessons_studies_and_variants():
    counts = {study: len(PARAMS.variants_of(study)) for study in PARAMS.studies}
    lessons = {"orchard5": 1, "orchard": 2, "quality": 1, "moons": 12, "wine": 2, "houses": 2, "line": 2, "digits": 2}
    assert counts == lessons | {"moons_redrawn": 3, "moons_tuned": 3}


def test_an_experiment_changes_only_the_lines_of_its_own_keys_in_the_committed_params(tmp_path):
    """DVC writes the whole file anew, in a layout of its own: lists in blocks, long lines in two, nothing for null."""
    path = tmp_path / "params.yaml"
    committed = (ROOT / "params.yaml").read_text()
    path.write_text(committed)
    asked = ["lr=0.01", "studies.orchard.train.epochs=7", "variants.digits_cnn.module.args.channels=8"]
    apply_overrides(path, [*asked, "+variants.moons_relu.train.lr=0.1", "+variants.houses_l1.train.lr=0.1"])
    lines = [line for line in ndiff(committed.splitlines(), path.read_text().splitlines()) if line[0] in "-+"]
    assert [line.split("#")[0].split() for line in lines] == [
        *(["-", "lr:"], ["+", "lr:", "0.01"]),
        *(["-", "epochs:", "980"], ["+", "epochs:", "7"]),
        *(["+", "train:"], ["+", "lr:", "0.1"]),
        *(["-", "train:", "{loss:", "l1}"], ["+", "train:", "{loss:", "l1,", "lr:", "0.1}"]),
        *(["-", "args:", "{channels:", "16}"], ["+", "args:", "{channels:", "8}"]),
    ]
