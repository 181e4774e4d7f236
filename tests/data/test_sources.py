"""The data are what the lessons say, the same bytes every time; a broken table is refused by file, line and column."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from bancada.base import BadInput, tables
from bancada.data import labels
from bancada.data.sources.classification import Classification
from bancada.data.sources.csv import CsvFile
from bancada.data.sources.half_moons import HalfMoons
from bancada.data.sources.house_prices import HousePrices
from bancada.data.sources.linear import LinearData
from bancada.data.sources.sklearn import Sklearn
from bancada.pipeline.params import load

ROOT = Path(__file__).parents[2]
PARAMS = load(ROOT / "params.yaml")
KEY = "studies.mine.source"  # of params.yaml, for messages

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


def small_moons(rows: int, seed: int = 3) -> HalfMoons:
    return HalfMoons(kind="half_moons", rows=rows, radius=10, distance=-4, width=6, seed=seed)


# --- the lessons' data ----------------------------------------------------------------------------------------------


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
    shape = source.table_shape()
    assert (table.features.shape, len(table.classes)) == ((shape.rows, shape.features), shape.classes)


@pytest.mark.parametrize("study", ["orchard5", "quality", "moons", "houses", "line"])
def test_the_declared_shape_is_the_shape_of_the_table(study, monkeypatch):
    monkeypatch.chdir(ROOT)
    source = PARAMS.source(study)
    table, shape = source.make(KEY), source.table_shape()
    assert table.features.shape == (shape.rows, shape.features)
    assert (table.targets.shape[1], len(table.classes)) == (shape.targets, shape.classes)
    assert table.feature_names == source.feature_names()


def test_another_seed_gives_other_rows():
    assert not np.array_equal(small_moons(10, 1).make(KEY).features, small_moons(10, 2).make(KEY).features)


# --- CSV ------------------------------------------------------------------------------------------------------------


def source(task: str = "regression", **changed) -> CsvFile:
    keys = {"path": "data/sources/mine.csv", "features": ["a", "b"], "targets": ["c"], **changed}
    return CsvFile.model_validate({"kind": "csv", "task": task, **keys})


def made(text: str | bytes, task: str = "regression", **changed) -> tables.Table:
    raw = text.encode() if isinstance(text, str) else text
    Path("data/sources/mine.csv").write_bytes(raw)
    return source(task, **changed).make(KEY)


def test_a_csv_is_read_as_written_by_a_spreadsheet(folder):
    """Byte order mark, CRLF, quotes, spaces, an empty line, columns in another order and one too many."""
    table = made(b'\xef\xbb\xbfid,"c", b,a\r\nx,1.5,-2e3,0.1\r\n\r\n"y, z",+7, 8 ,9\r\n')
    assert table.features.tolist() == [[0.1, -2000.0], [9.0, 8.0]]
    assert table.targets.tolist() == [[1.5], [7.0]]


def test_features_that_are_not_named_are_all_other_columns(folder):
    table = made("id,a,c,b\n1,2,3,4\n", features=None, ignore=["id"])
    assert (table.feature_names, table.features.tolist()) == (["a", "b"], [[2.0, 4.0]])


def test_rows_limits_the_table_to_its_first_rows(folder):
    assert made("a,b,c\n1,2,3\n4,5,6\n7,8,9\n", rows=2).features.tolist() == [[1.0, 2.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["3", "1", "3"], [1, 3]),
        (["-1", "10", "2", "0"], [-1, 0, 2, 10]),
        (["2.0", "10.0", "2.0"], [2, 10]),  # as a table that was once a column of floats
        (["red", "blue", "red"], ["blue", "red"]),
        (["1", "DE"], ["1", "DE"]),  # one word makes words of all labels
        (["18_25", "26_35"], ["18_25", "26_35"]),
        (["1_0", "10", "7"], ["10", "1_0", "7"]),
        (["1E1", "10"], ["10", "1E1"]),
        (["1", "01", "+1", "1.0", "1.00"], ["+1", "01", "1", "1.0", "1.00"]),
        (["2.0", "2"], ["2", "2.0"]),
        (["0", "-0"], ["-0", "0"]),
        (["3", "3.5"], ["3", "3.5"]),
        (["True", "1"], ["1", "True"]),
        (["\uff13", "3"], ["3", "\uff13"]),  # a full-width 3
        (["inf", "1"], ["1", "inf"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),  # 2 ** 53 and one more
        (["+", "-"], ["+", "-"]),
        (["a\0", "a"], ["a", "a\0"]),
    ],
)
def test_a_label_is_the_text_that_stands_there_and_a_number_only_where_all_are_whole(folder, texts, classes):
    table = made("a,b,c\n" + "".join(f"1,2,{text}\n" for text in texts), "classification")
    assert table.classes == classes
    assert [type(label) for label in table.classes] == [type(label) for label in classes]
    found = [table.classes[i] for i in table.targets[:, 0]]
    kind = type(classes[0])
    assert found == [kind(float(text)) if kind is int else text for text in texts]
    tables.write(table, folder / "made.parquet")
    again = tables.read(folder / "made.parquet")
    assert [again.classes[i] for i in again.targets[:, 0]] == found


def test_rows_without_a_label_are_refused_all_at_once_with_their_lines(folder):
    rows = ["1,2,ash", "1,2,", "1,2,?", '1,2,"two\nlines"', "1,2,NA", "1,2,-", "1,2,nan", "1,2,oak"]
    with pytest.raises(BadInput) as refused:
        made("\n".join(["a,b,c", *rows]), "classification")
    assert str(refused.value) == (
        "data/sources/mine.csv: column 'c': 5 rows have no label: "
        "lines 3 (empty), 4 (?), 7 (NA), 8 (-), 9 (nan); take them out, or give them a class"
    )
    with pytest.raises(BadInput, match=r"column 'c': 1 row has no label: line 2 \(NULL\); take"):
        made("a,b,c\n1,2,NULL\n1,2,+\n1,2,-\n", "classification")
    with pytest.raises(BadInput, match=r"column 'c': 200 rows have no label: line.* 101 \(empty\) and 100 more; take"):
        made("a,b,c\n" + "1,2,\n" * 200, "classification")


def test_what_pandas_reads_as_missing_is_no_label():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES <= labels.MISSING


BROKEN = {  # a file, the task -> the line after the file's name
    "empty": ("", "regression", "is empty"),
    "blank": ("\n\n", "regression", "is empty"),
    "header only": ("a,b,c\n", "regression", "no rows below the header"),
    "not UTF-8": (b"a,b,c\n1,2,3\n1,\xff,3\n", "regression", "line 3: not a text in UTF-8"),
    "open quote": ('a,b,c\n1,2,3\n1,"2,3\n', "regression", "line 3: unexpected end of data"),
    "short row": ("a,b,c\n1,2,3\n1,2\n", "regression", "line 3: 2 cells, but the header has 3 columns"),
    "long row": ("a,b,c\n1,2,3,4\n", "regression", "line 2: 4 cells, but the header has 3 columns"),
    "semicolons": ("a;b;c\n1;2;3\n", "regression", "line 1: one column only; commas separate columns"),
    "missing column": ("a,bb,c\n1,2,3\n", "regression", "line 1: no column 'b'; did you mean 'bb'?"),
    "double column": ("a,b,b,c\n1,2,3,4\n", "regression", "line 1: there are two columns 'b'"),
    "word": ("a,b,c\n1,2,3\n\n1,two,3\n", "regression", "line 4, column 'b' = two: must be a number"),
    "underscore": ("a,b,c\n1_0,2,3\n", "regression", "line 2, column 'a' = 1_0: must be a number"),
    "empty cell": ("a,b,c\n1,2,3\n1,,3\n", "regression", "line 3, column 'b': is empty"),
    "nan": ("a,b,c\n1,2,3\n1,NaN,3\n", "regression", "line 3, column 'b' = NaN: must be a finite number"),
    "inf": ("a,b,c\n1,2,-inf\n", "regression", "line 2, column 'c' = -inf: must be a finite number"),
    "huge": ("a,b,c\n1,2,1e999\n", "regression", "line 2, column 'c' = 1e999: must be a finite number"),
    "beyond a network": ("a,b,c\n1,2,1e39\n", "regression", "line 2, column 'c' = 1e39: must not be beyond 3.4e+38"),
    "after a cell of two lines": ('a,b,x,c\n1,2,"l\nl",3\n1,?,x,3\n', "regression", "line 4, column 'b' = ?: must be"),
    "word as target": ("a,b,c\n1,2,x\n", "regression", "line 2, column 'c' = x: must be a number"),
    "word as feature": ("a,b,c\n1,2,x\n1,z,y\n", "classification", "line 3, column 'b' = z: must be a number"),
    "one class": ("a,b,c\n1,2,3\n1,2,3\n", "classification", "column 'c' has one class, 3; at least two are needed"),
}


@pytest.mark.parametrize(("text", "task", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_refused_with_one_line_naming_file_line_and_column(folder, text, task, message):
    with pytest.raises(BadInput) as refused:
        made(text, task)
    assert str(refused.value).startswith(f"data/sources/mine.csv: {message}")
    assert "\n" not in str(refused.value)


def test_too_few_rows_a_wrong_ignore_and_a_missing_file_are_refused(folder):
    with pytest.raises(BadInput, match=r"^data/sources/mine.csv: 1 rows, but studies.mine.source.rows = 2$"):
        made("a,b,c\n1,2,3\n", rows=2)
    with pytest.raises(BadInput, match=r"line 1: no column 'Idd'; did you mean 'Id'\?$"):
        made("Id,a,b,c\n1,2,3,4\n", features=None, ignore=["Idd"])
    with pytest.raises(BadInput, match=r"line 1: no column 'alcohol'$"):
        made("a,b,c,total_phenols\n1,2,3,4\n", features=None, ignore=["alcohol"])
    with pytest.raises(BadInput, match=r"line 1: no column is left to be a feature$"):
        made("Id,c\n1,2\n", features=None, ignore=["Id"])
    with pytest.raises(BadInput, match=r"^data/sources/none.csv: No such file or directory$"):
        source(path="data/sources/none.csv").make(KEY)
    Path("data/sources/none.csv.dvc").touch()
    with pytest.raises(BadInput, match=r"^data/sources/none.csv: No such file or directory; `dvc pull` fetches it$"):
        source(path="data/sources/none.csv").make(KEY)


def test_the_real_wines_are_read_where_a_path_is_set_and_their_id_is_no_feature(folder):
    names = PARAMS.source("quality").feature_names()
    quality = PARAMS.source("quality").model_dump() | {"path": "data/sources/WineQT.csv"}
    path = folder / "data" / "sources" / "WineQT.csv"

    def write(labels):
        with path.open("w", newline="") as file:
            rows = [[f"{row}.{column}" for column in range(11)] + [label, row] for row, label in enumerate(labels)]
            csv.writer(file).writerows([[*names, "quality", "Id"], *rows])

    write([5, 6, 5])
    table = Classification.model_validate(quality).make(KEY)
    assert table.feature_names == names
    assert table.features[1].tolist() == [float(f"1.{column}") for column in range(11)]
    assert table.classes == [3, 4, 5, 6, 7, 8]
    assert table.targets[:, 0].tolist() == [2, 3, 2]
    write(["5.0", "6.0", "5.0"])
    assert Classification.model_validate(quality).make(KEY).targets[:, 0].tolist() == [2, 3, 2]
    write(["5", "6", "05"])
    with pytest.raises(BadInput, match=r"line 4, column 'quality' = 05: is no class of"):
        Classification.model_validate(quality).make(KEY)
    write([5, 6, 9])
    with pytest.raises(
        BadInput, match=r"line 4, column 'quality' = 9: is no class of studies.mine.source.class_counts"
    ):
        Classification.model_validate(quality).make(KEY)
