"""Every row goes into exactly one part, as scikit-learn would part them; an impossible split is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from bancada.base import BadInput, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.data import split
from bancada.data.settings import Split

ROOT = Path(__file__).parents[2]
PARTS = ("train", "validation", "test")


def numbered(rows: int, labels: list[int] | None = None) -> Table:
    """Rows whose one feature is their number."""
    features, target = np.arange(rows, dtype=float)[:, None], np.zeros((rows, 1))
    if labels is None:
        return Table(features, target, ["row"], ["y"], [])
    classes, index = np.unique(labels, return_inverse=True)
    return Table(features, index.astype(np.int64)[:, None], ["row"], ["label"], classes.tolist())


def rows_of(part: Table) -> list[int]:
    return part.features[:, 0].astype(int).tolist()


def parted(table: Table, **keys) -> dict[str, list[int]]:
    return {name: rows_of(part) for name, part in split.divide(table, Split.model_validate(keys)).items()}


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_row_is_in_exactly_one_part_of_the_size_asked_for(train, validation, test, seed):
    parts = parted(numbered(train + validation + test), train=train, validation=validation, test=test, seed=seed)
    assert [len(parts[name]) for name in PARTS] == [train, validation, test]
    assert sorted(row for part in parts.values() for row in part) == list(range(train + validation + test))


@given(st.integers(40, 300), st.integers(0, 8), st.integers(0, 8), st.booleans(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_row_is_in_exactly_one_part_for_fractions_too(rows, validation, test, stratify, seed):
    """The held-out parts round up: never more than one row from the fraction."""
    validation, test = validation / 20, test / 20
    table = numbered(rows, [row % 2 for row in range(rows)])
    keys = {"train": 1 - validation - test, "validation": validation, "test": test, "seed": seed}
    parts = parted(table, **keys, stratify=stratify)
    assert sorted(row for part in parts.values() for row in part) == list(range(rows))
    for name, fraction in (("validation", validation), ("test", test)):
        assert 0 <= len(parts[name]) - fraction * rows < 1 + 1e-6
        if stratify:
            assert abs(sum(row % 2 for row in parts[name]) - len(parts[name]) / 2) <= 1


def test_three_parts_are_scikit_learns_test_rows_then_validation_rows_of_what_is_left():
    left, test = train_test_split(np.arange(50), test_size=10, random_state=7)
    train, validation = train_test_split(left, test_size=5, random_state=7)
    expected = {"train": train.tolist(), "validation": validation.tolist(), "test": test.tolist()}
    assert parted(numbered(50), train=35, validation=5, test=10, seed=7) == expected


def test_a_study_that_holds_nothing_out_keeps_its_rows_in_order():
    assert parted(numbered(15), train=1.0) == {"train": list(range(15)), "validation": [], "test": []}


def test_another_seed_gives_another_split():
    assert parted(numbered(50), train=0.8, test=0.2, seed=1) != parted(numbered(50), train=0.8, test=0.2, seed=2)


@pytest.mark.parametrize(
    ("labels", "keys", "message"),
    [
        ([0] * 10, {"train": 8, "test": 3}, "the parts add up to 11, but the data have 10 rows"),
        ([0] * 10, {"train": 1}, "the parts add up to 1, but the data have 10 rows; all of them are 1.0, not 1"),
        ([0] * 10, {"train": 0.8, "test": 0.3}, "the fractions add up to 1.1, not to 1"),
        ([0] * 10, {"train": 8, "test": 0.2}, "write all parts as rows or all as fractions"),
        ([0] * 2, {"train": 0.2, "validation": 0.4, "test": 0.4}, "no training rows are left of 2"),
        ([0] * 9 + [5], {"train": 1, "test": 9}, "leaves no training row of class "),
        (
            [0] * 9 + [5],
            {"train": 5, "test": 5, "stratify": True},
            "test rows cannot be stratified: The least populated",
        ),
        (
            [0, 1, 2] * 4,
            {"train": 10, "test": 2, "stratify": True},
            "test rows cannot be stratified: The test_size = 2",
        ),
        (None, {"train": 8, "test": 2, "stratify": True}, "only classes can be stratified"),
    ],
)
def test_an_impossible_split_is_refused_naming_the_key_and_writing_nothing(
    tmp_path, monkeypatch, labels, keys, message
):
    """By the stage: how many rows a CSV has, and of which classes, is known no earlier."""
    monkeypatch.chdir(tmp_path)
    tables.write(numbered(10 if labels is None else len(labels), labels), Path("data/raw/mine.parquet"))
    with pytest.raises(BadInput) as refused:
        split.main(study_of(keys), "mine")
    assert str(refused.value).startswith(f"params.yaml: studies.mine.split: {message}")
    assert "\n" not in str(refused.value)
    assert not Path("data/split").exists()


def study_of(keys: dict[str, object]) -> ParamsFile:
    return ParamsFile({"studies": {"mine": {"split": keys}}})


def test_the_class_that_has_no_training_row_is_named():
    held_out = train_test_split(np.arange(10), test_size=5, random_state=0)[1]
    labels = [3 if row == held_out[0] else 5 for row in range(10)]
    with pytest.raises(ValueError, match=r"^leaves no training row of class 3$"):
        parted(numbered(10, labels), train=5, test=5, seed=0)


def test_the_stage_writes_all_three_files_and_the_same_bytes_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables.write(numbered(10, ["a", "b"] * 5), Path("data/raw/mine.parquet"))
    params, folder = study_of({"train": 0.8, "validation": "test", "test": 0.2}), Path("data/split/mine")
    split.main(params, "mine")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(first) == ["test.parquet", "train.parquet", "validation.parquet"]
    assert first["validation.parquet"] == first["test.parquet"]
    (folder / "left over.parquet").touch()
    split.main(params, "mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    split.main(study_of({"train": 1.0}), "mine")
    assert tables.read(folder / "test.parquet").features.shape == (0, 1)


def test_missing_rows_are_refused_with_the_stage_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^data/raw/mine.parquet: missing; `dvc repro generate@mine` makes it$"):
        split.main(study_of({"train": 1.0}), "mine")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_table_is_refused_with_its_name_and_not_with_a_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = Path("data/raw/mine.parquet")
    broken.parent.mkdir(parents=True)
    foreign = pq.ParquetWriter(broken, pa.schema([("a", pa.int64())]))
    foreign.close()  # a parquet file, but not ours
    for content in (broken.read_bytes(), b"", b"not parquet"):
        broken.write_bytes(content)
        with pytest.raises(
            BadInput, match=r"^data/raw/mine.parquet: not a table that bancada wrote; `dvc repro -f gene"
        ):
            split.main(study_of({"train": 1.0}), "mine")
    with pytest.raises(BadInput, match=r"^data/split/mine/test.parquet: missing; `dvc repro split@mine` make"):
        tables.read(Path("data/split/mine/test.parquet"))
