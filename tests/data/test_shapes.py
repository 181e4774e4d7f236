"""Rows keep the shape that their source gives them, and a shape that does not hold a row's features is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from bancada.base import BadInput, files, tables
from bancada.data import generate, sources, split
from bancada.data.settings import Split
from bancada.networks.preparation import Preparation
from bancada.networks.settings import Network
from bancada.pipeline import params
from bancada.training.train import as_taken, prepared

KEY = "studies.mine.source"
HALVES = Split(train=0.5, test=0.5)
DIGITS = {"kind": "sklearn", "name": "digits", "shape": [1, 8, 8]}


def in_folder(folder, monkeypatch, source):
    """params.yaml with one study, in a folder of its own that is the current one."""
    monkeypatch.chdir(folder)
    train = {"loss": "cross_entropy", "optimizer": "adam", "lr": 0.1, "batch_size": "full", "epochs": 1}
    study = {"source": source, "split": {"train": 0.5, "test": 0.5}, "metric": "loss", "train": train}
    common = {"seed": 1, "num_seeds": 1, "lr": None, "engine": None, "device": "cpu"}
    raw = common | {"studies": {"mine": study}, "variants": {"only": {"study": "mine", "layers": [10]}}}
    Path("params.yaml").write_text(json.dumps(raw))


def test_both_stages_keep_the_shape_and_its_order_of_pixels(tmp_path, monkeypatch):
    in_folder(tmp_path, monkeypatch, DIGITS)
    loaded = params.load()
    generate.main(params.params_file.read(), "mine")
    split.main(params.params_file.read(), "mine")
    assert loaded.source("mine").shape == [1, 8, 8]
    images = datasets.load_digits().images  # scikit-learn's own pictures, [row, 8, 8]
    made = tables.read(files.raw("mine"))
    assert np.array_equal(made.features.reshape(-1, *made.shape)[:, 0], images)
    parts = [tables.read(files.split("mine") / f"{part}.parquet") for part in files.PARTS]
    assert [part.row_shape for part in parts] == [[1, 8, 8]] * 3


def test_a_table_without_a_shape_has_plain_rows():
    made = sources.load({"kind": "sklearn", "name": "wine"}, KEY).table(KEY)
    assert (made.row_shape, made.shape) == (None, [13])


@pytest.mark.parametrize("shape", [[1, 8, 9], [64, 2], [63]])
def test_a_shape_that_does_not_hold_the_features_is_refused_with_their_number(shape):
    with pytest.raises(BadInput) as refused:
        split.parts_of(sources.load(DIGITS | {"shape": shape}, KEY).table(KEY), HALVES, "studies.mine.split")
    size = int(np.prod(shape))
    expected = f"params.yaml: {KEY}.shape: must hold the 64 features of a row, not {size} numbers"
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ([], "at least 1 item"),
        ([0, 64], "greater than 0"),
        ([8, "8"], "must be a whole number"),
        (64, "must be a list"),
    ],
)
def test_what_is_no_shape_is_refused(shape, problem, tmp_path, monkeypatch):
    in_folder(tmp_path, monkeypatch, DIGITS | {"shape": shape})
    with pytest.raises(BadInput, match=f"{KEY}.shape.*{problem}"):
        params.load()


def test_a_shape_for_a_csv_file_is_checked_once_its_columns_are_known(tmp_path, monkeypatch):
    source = {"kind": "csv", "path": "data/sources/mine.csv", "task": "regression", "targets": ["y"], "shape": [2, 2]}
    in_folder(tmp_path, monkeypatch, source)
    Path("data/sources").mkdir(parents=True)
    Path("data/sources/mine.csv").write_text("a,b,c,y\n1,2,3,4\n2,3,4,5\n")
    with pytest.raises(BadInput, match=f"{KEY}.shape: must hold the 3 features of a row, not 4 numbers"):
        split.parts_of(sources.load(source, KEY).table(KEY), HALVES, "studies.mine.split")
    Path("data/sources/mine.csv").write_text("a,b,c,d,y\n1,2,3,4,5\n")
    assert sources.load(source, KEY).table(KEY).shape == [2, 2]


@pytest.mark.parametrize("features", [None, ["a", "b", "c", "d"]])
def test_a_shape_counts_the_features_that_the_split_leaves(features, tmp_path, monkeypatch):
    source = {"kind": "csv", "path": "data/sources/mine.csv", "task": "regression", "targets": ["y"], "shape": [2, 2]}
    in_folder(tmp_path, monkeypatch, source)
    Path("data/sources").mkdir(parents=True)
    Path("data/sources/mine.csv").write_text("a,b,pid,c,d,y\n1,2,7,3,4,5\n2,3,6,4,5,6\n")
    rows = sources.load(source | {"features": features}, KEY).table(KEY)
    parts = split.parts_of(rows, Split(train=1, test=1, order="pid"), "studies.mine.split")
    assert (parts["train"].shape, parts["train"].features.tolist()) == ([2, 2], [[2, 3, 4, 5]])
    if features is None:
        with pytest.raises(BadInput, match=r"source.shape: must hold the 5 features of a row, not 4 numbers$"):
            split.parts_of(rows, Split(train=1, test=1), "studies.mine.split")
        whole = sources.load(source | {"shape": [5]}, KEY).table(KEY)
        with pytest.raises(BadInput, match=r"source.shape: must hold the 4 features of a row, not 5 numbers$"):
            split.parts_of(whole, Split(train=1, test=1, order="pid"), "studies.mine.split")


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ({"layers": [4, "relu", 10]}, [64]),
        ({"layers": [4, "relu", 10], "loss": "CrossEntropyLoss"}, [64]),
        ({"layers": ["Flatten", 10]}, [1, 8, 8]),
        ({"module": {"file": "src/models/net.py", "name": "Net"}}, [1, 8, 8]),
    ],
)
def test_only_layers_of_lower_case_names_alone_get_plain_lists(network, shape):
    table = sources.load(DIGITS, KEY).table(KEY)
    taken = as_taken(table, Network(**{"loss": "cross_entropy"} | network))
    rows = prepared(Path(), taken, Preparation())
    assert taken.shape == shape
    assert rows.inputs.shape == (1797, *shape)
    assert np.array_equal(rows.inputs.reshape(1797, 64), table.features)
