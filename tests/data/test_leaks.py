"""Groups, order and copies: parts as scikit-learn makes them, so that no row of a patient, a day or a copy leaks."""

import time
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit, TimeSeriesSplit, train_test_split

from bancada.base import BadInput, tables
from bancada.base.settings import checked
from bancada.base.tables import Table
from bancada.data import sources, split
from bancada.data.settings import Split

KEY = "studies.mine.split"
PARTS = ("train", "validation", "test")


def table(target: list[float] | None = None, asides: list[str] | None = None, **columns) -> Table:
    """A table of these columns, texts as words. `row` is the number of each row."""
    rows = len(next(iter(columns.values())))
    words, cells = {}, {"row": np.arange(rows, dtype=float)}
    for name, values in columns.items():
        if any(isinstance(value, str) for value in values):
            words[name] = sorted({value for value in values if value is not None})
            values = [None if value is None else words[name].index(value) for value in values]
        cells[name] = np.array([np.nan if value is None else value for value in values], dtype=float)
    targets = np.array(target or np.zeros(rows), dtype=float)[:, None]
    return Table(np.column_stack(list(cells.values())), targets, list(cells), ["y"], [], None, words, asides)


def divided(rows: Table, **keys) -> dict[str, Table]:
    return split.parts_of(rows, checked(Split, keys, KEY), KEY)


def numbers(parts: dict[str, Table]) -> dict[str, list[int]]:
    return {name: parts[name].features[:, 0].astype(int).tolist() for name in PARTS}


def refused(rows: Table, **keys) -> str:
    with pytest.raises(BadInput) as error:
        divided(rows, **keys)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"params.yaml: {KEY}: ")


# --- groups ---------------------------------------------------------------------------------------------------------

PATIENTS = [f"p{i}" for i in np.random.default_rng(5).integers(0, 17, 90)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_fall_into_parts_as_scikit_learns_group_shuffle_split_says(seed):
    rows, patients = np.arange(90), np.array(PATIENTS)
    left, test = next(GroupShuffleSplit(1, test_size=0.25, random_state=seed).split(rows, groups=patients))
    parts = divided(table(p=PATIENTS), groups="p", train=0.75, test=0.25, seed=seed)
    assert numbers(parts) == {"train": left.tolist(), "validation": [], "test": test.tolist()}
    both = numbers(divided(table(p=PATIENTS), groups="p", train=0.75, validation="test", test=0.25, seed=seed))
    assert both == {"train": left.tolist(), "validation": test.tolist(), "test": test.tolist()}
    three = numbers(divided(table(p=PATIENTS), groups="p", train=0.5, validation=0.25, test=0.25, seed=seed))
    assert three["test"] == test.tolist()
    groups = [set(patients[three[part]]) for part in PARTS]
    assert sorted(row for part in three.values() for row in part) == list(range(90))
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert [len(group) for group in groups] == [7, 5, 5]  # of 17; the parts that are held out round up


def test_groups_may_be_numbers_and_are_fractions_alone():
    by_number = table(p=[float(name[1:]) for name in PATIENTS])
    parts = numbers(divided(by_number, groups="p", train=0.5, test=0.5))
    ids = np.array([int(name[1:]) for name in PATIENTS])
    assert parts["test"] == next(GroupShuffleSplit(1, test_size=0.5, random_state=0).split(ids, groups=ids))[1].tolist()
    problem = "with groups, the parts are fractions of the groups, such as train: 0.8, test: 0.2"
    assert refused(by_number, groups="p", train=80, test=10) == problem
    problem = "no training groups are left of 3"
    assert refused(table(p=["a", "b", "c"]), groups="p", train=0.1, validation=0.45, test=0.45) == problem


def test_fewer_groups_than_parts_are_refused_with_their_column_and_number():
    assert refused(table(p=["a"] * 9), groups="p", train=0.5, test=0.5) == (
        "groups = p: 2 parts need as many groups, but the rows make 1"
    )
    assert refused(table(p=["a", "b"] * 9), groups="p", train=0.4, validation=0.3, test=0.3) == (
        "groups = p: 3 parts need as many groups, but the rows make 2"
    )
    alike = table(x=[1.0] * 9, row=[1.0] * 9).only(["x"])
    assert refused(alike, copies="together", train=0.5, test=0.5) == (
        "copies: together: 2 parts need as many groups, but the rows make 1"
    )


@pytest.mark.parametrize("asides", [None, ["p"]])
def test_the_column_is_no_feature(asides):
    parts = divided(table(p=PATIENTS, x=[1.0] * 90, asides=asides), groups="p", train=0.5, test=0.5)
    assert {name: part.feature_names for name, part in parts.items()} == {name: ["row", "x"] for name in PARTS}
    assert not parts["train"].words


def test_the_column_is_a_feature_if_the_source_names_it(tmp_path, monkeypatch):
    """Through a file of data/raw, which alone the stage reads."""
    monkeypatch.chdir(tmp_path)
    for named, expected in ((["row", "p"], ["row", "p"]), (None, ["row"])):
        raw = tmp_path / f"data/raw/{named is None}.parquet"
        tables.write(table(p=PATIENTS, asides=None if named is None else []), raw)
        parts = divided(tables.read(raw), groups="p", train=0.5, test=0.5)
        assert parts["test"].feature_names == expected


def test_a_csv_file_says_by_its_features_whether_the_column_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("data/sources/mine.csv")
    path.parent.mkdir(parents=True)
    path.write_text("p,x,y\n" + "".join(f"{row % 5},{row},{row}\n" for row in range(20)))
    raw = {"kind": "csv", "path": str(path), "task": "regression", "targets": ["y"]}
    for features, expected in ((None, ["x"]), (["p", "x"], ["p", "x"])):
        rows = sources.load(raw | {"features": features}, "studies.mine.source").table("studies.mine.source")
        assert divided(rows, groups="p", train=0.5, test=0.5)["train"].feature_names == expected


def test_a_column_that_is_not_there_is_refused_with_what_may_be_meant():
    rows = table(paciente=PATIENTS)
    assert refused(rows, groups="pacient", train=0.5, test=0.5) == (
        "groups = pacient: no column of data/raw; did you mean 'paciente'?"
    )
    assert refused(rows, order="y", train=0.5, test=0.5) == "order = y: is a target"


def test_empty_cells_are_refused_with_their_rows():
    gaps = table(p=[None if row in (2, 7) else name for row, name in enumerate(PATIENTS)])
    expected = "groups = p: empty in rows 3, 8; fill the cells, or take the rows out"
    assert refused(gaps, groups="p", train=0.5, test=0.5) == expected
    many = table(t=[None] * 14 + [1.0])
    assert "order = t: empty in rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4 more" in refused(
        many, order="t", train=14, test=1
    )


@pytest.mark.parametrize(
    "keys",
    [{"groups": "p", "order": "p"}, {"copies": "together", "stratify": True}, {"order": "p", "copies": "together"}],
)
def test_two_ways_to_split_are_refused(keys):
    assert refused(table(p=PATIENTS), train=0.5, test=0.5, **keys) == (
        f"{' and '.join(keys)} exclude each other; keep one of them"
    )


# --- order ----------------------------------------------------------------------------------------------------------

DAYS = np.random.default_rng(3).permutation(30).tolist()
FORMS = {"numbers": float, "dates": lambda day: str(date(2023, 12, 20) + timedelta(day))}
FORMS["times"] = lambda day: f"{date(2023, 12, 20) + timedelta(day // 2)}T{'03' if day % 2 else '02'}:00:00"


@pytest.mark.parametrize("form", FORMS)
def test_later_rows_are_held_out_as_scikit_learn_does_without_shuffling(form):
    rows = table(t=[FORMS[form](day) for day in DAYS])
    in_time = np.argsort(DAYS)
    left, test = train_test_split(in_time, test_size=6, shuffle=False)
    train, validation = train_test_split(left, test_size=4, shuffle=False)
    expected = {"train": train.tolist(), "validation": validation.tolist(), "test": test.tolist()}
    assert numbers(divided(rows, order="t", train=20, validation=4, test=6)) == expected
    *_, (before, after) = TimeSeriesSplit(4, test_size=6).split(in_time)
    parts = divided(rows, order="t", train=0.8, validation="test", test=0.2, seed=8)
    later = in_time[after].tolist()
    assert numbers(parts) == {"train": in_time[before].tolist(), "validation": later, "test": later}
    assert parts["test"].feature_names == ["row"]


BRAZIL = ["25/04/2024", "03/04/2024"]


def test_other_dates_need_their_form():
    """Read month first, the later day would be in training."""
    rows = table(dia=BRAZIL)
    assert numbers(divided(rows, order="dia", order_format="%d/%m/%Y", train=1, test=1))["test"] == [0]
    assert refused(rows, order="dia", train=1, test=1) == (
        "order = dia: 03/04/2024: no number and no ISO date such as 2024-04-25; "
        'order_format: "%d/%m/%Y" reads other dates'
    )
    wrong = refused(
        table(dia=[*BRAZIL, "31/02/2024", "01/01/2024"]), order="dia", order_format="%d/%m/%Y", train=3, test=1
    )
    assert wrong == "order = dia: 31/02/2024: no date of the form %d/%m/%Y"


@pytest.mark.parametrize(
    ("column", "keys", "problem"),
    [
        (
            [1.0, 2.0],
            {"order_format": "%Y"},
            "order_format: the column 't' holds numbers; source.words: [t] keeps its texts",
        ),
        (["2024-01-01", "2024-01-01T10:00+00:00"], {}, "order = t: some times have a time zone, others have none"),
        (["2024-01-01", "soon"], {}, "order = t: soon: no number and no ISO date"),
    ],
)
def test_what_has_no_order_is_refused(column, keys, problem):
    assert refused(table(t=column), order="t", train=1, test=1, **keys).startswith(problem)


def test_whole_numbers_beyond_float64_have_the_order_of_numbers():
    """Nanoseconds, and keys of different lengths, which are in another order as texts."""
    parts = divided(table(t=[str(2**53 + 1), "99", str(2**53), str(10**18)]), order="t", train=2, test=2)
    assert numbers(parts) == {"train": [1, 2], "validation": [], "test": [0, 3]}


def test_a_form_without_order_and_an_unknown_code_are_refused():
    assert "order_format needs order" in refused(table(t=["a"]), order_format="%Y", train=1.0)
    assert "is a bad directive" in refused(table(t=["a"]), order="t", order_format="%Q", train=1.0)


def test_rows_of_one_day_on_both_sides_of_a_boundary_are_told(capsys):
    divided(table(t=["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-02"]), order="t", train=2, test=2)
    assert capsys.readouterr().out == f"{KEY}: order: 1 train and 2 test rows have the same t, 2024-01-02\n"
    divided(table(t=["2024-01-01", "2024-01-02"]), order="t", train=1, test=1)
    assert capsys.readouterr().out == ""


# --- copies ---------------------------------------------------------------------------------------------------------


def with_copies(target: list[float] | None = None) -> Table:
    """40 rows, the last 10 of them copies of the first 10, empty cells and words among them."""
    x, word = [float(row) for row in range(30)], [None if row == 3 else "ab"[row % 2] for row in range(30)]
    made = table(target, x=x + x[:9] + [-0.0 + 9], word=word + word[:10])
    made.features[0, 1], made.features[30, 1] = 0.0, -0.0
    made.features[2, 1] = made.features[32, 1] = np.nan
    return made.only(["x", "word"])


def copies(rows: Table, capsys, **keys) -> list[str]:
    divided(rows, **keys)
    return [line.removeprefix(f"{KEY}: ") for line in capsys.readouterr().out.splitlines()]


def test_copies_in_two_parts_are_counted_by_pair_of_parts_and_by_target(capsys):
    train, test = train_test_split(np.arange(40), test_size=0.5, random_state=0)
    of = {row: row - 30 if row >= 30 else row for row in range(40)}
    crossing = sum(of[row] in {of[other] for other in train} for row in test)
    assert crossing > 1  # counted by hand
    told = copies(with_copies(), capsys, train=0.5, validation="test", test=0.5)
    way = "copies: together keeps such rows in one part"
    assert told == [
        f"{crossing} of 20 test rows stand among the training rows, too "
        f"({crossing} with the same target, 0 with another); {way}"
    ]
    other = [float(row >= 30) for row in range(40)]
    (line,) = copies(with_copies(other), capsys, train=0.5, test=0.5)
    assert f"(0 with the same target, {crossing} with another)" in line
    left, test = train_test_split(np.arange(40), test_size=12, random_state=2)
    train, validation = train_test_split(left, test_size=12, random_state=2)
    of_part = dict(zip(PARTS, ([of[row] for row in part] for part in (train, validation, test)), strict=True))
    expected = [
        f"{count} of 12 {b} rows stand{'s' * (count == 1)} among the {a.replace('train', 'training')} rows, too"
        for a, b in combinations(PARTS, 2)
        if (count := sum(row in of_part[a] for row in of_part[b]))
    ]
    three = copies(with_copies(), capsys, train=0.4, validation=0.3, test=0.3, seed=2)
    assert [line.partition(" (")[0] for line in three] == expected
    assert len(expected) > 1


def test_rows_of_a_file_are_copies_however_they_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = Path("data/sources/mine.csv")
    path.parent.mkdir(parents=True)
    path.write_text("t,x,word,y\n1,1,a,5\n2,1.0, a ,5.0\n3,+1,a,6\n4,2,a,5\n5,,a,5\n6,,a,5\n")
    raw = {"kind": "csv", "path": str(path), "task": "regression", "targets": ["y"]}
    rows = sources.load(raw, "studies.mine.source").table("studies.mine.source")
    (line,) = copies(rows, capsys, order="t", train=1, test=5)
    assert line.startswith(
        "2 of 5 test rows stand among the training rows, too (1 with the same target, 1 with another)"
    )
    (line,) = copies(rows, capsys, order="t", train=5, test=1)
    assert line.startswith(
        "1 of 1 test rows stands among the training rows, too (1 with the same target, 0 with another)"
    )


@pytest.mark.parametrize("seed", range(5))
def test_copies_together_leave_none_in_two_parts(seed, capsys):
    assert copies(with_copies(), capsys, copies="together", train=0.6, validation=0.2, test=0.2, seed=seed) == []
    parts = divided(with_copies(), copies="together", train=0.6, validation=0.2, test=0.2, seed=seed)
    assert sum(map(len, parts.values())) == 40
    assert sum(len({str(row + 0.0) for row in part.features}) for part in parts.values()) == 30


@pytest.mark.long
def test_a_million_rows_are_compared_in_seconds():
    features = np.random.default_rng(0).standard_normal((1_000_000, 20))
    features[-1], features[::7, 3] = features[0], np.nan
    rows = Table(features, features[:, :1], [f"x{i}" for i in range(20)], ["y"], [])
    began = time.monotonic()
    split.divide(rows, Split(train=0.9, test=0.1))
    assert time.monotonic() - began < 30  # 4 s on two cores


@pytest.mark.parametrize("seed", range(8))
def test_a_word_on_one_row_splits_with_every_seed_and_is_unknown_where_it_is_held_out(seed):
    rows = table(word=["rare", *["often", "seldom"] * 10])
    parts = divided(rows, train=0.7, test=0.3, seed=seed)
    held_out = 0 in numbers(parts)["test"]
    known = parts["train"].words["word"]
    assert ("rare" in known) != held_out
    unknown = [word for word in parts["test"].words["word"] if word not in known]
    assert unknown == ["rare"] * held_out
