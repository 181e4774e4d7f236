"""A column is numbers or words by all its cells; what cannot be used is told with its lines and what to add."""

import numpy as np
import pandas as pd
import pytest
from table_files import cells, made, parquet, read_as, refusal, source

from bancada.base import tables


def test_a_column_is_numbers_or_words_by_all_its_cells(folder):
    text = 'n,w,gap,c\n1,red,,1\n-2.5,"",3,2\n+1e3, green ,.5,3\n'
    assert read_as(text) == {"n": [1, -2.5, 1000], "w": ["red", None, "green"], "gap": [None, 3, 0.5]}


def test_a_word_in_the_last_of_300_000_lines_counts_as_one_in_the_first(folder):
    last = "x,c\n" + "1.5,2\n" * 299_998 + "s/d,2\n"
    assert refusal(last).startswith("column 'x': 1 of 299999 rows has no number: line 300000 (s/d); add missing: [")
    assert read_as(last, missing=["s/d", ""])["x"][-2:] == [1.5, None]
    assert read_as(last, words=["x"])["x"][-2:] == ["1.5", "s/d"]


def test_one_odd_cell_makes_no_words_of_numbers(folder):
    text = "peso,c\n12.5,1\n13.1,2\ns/d,3\n11.9,4\n"
    assert refusal(text) == (
        "column 'peso': 1 of 4 rows has no number: line 4 (s/d); "
        'add missing: ["s/d", ""] if that means a missing value, or words: [peso] if the column holds words'
    )
    assert read_as(text, missing=["s/d", ""]) == {"peso": [12.5, 13.1, None, 11.9]}


def test_leading_zeros_are_words_or_numbers_as_the_user_says(folder):
    text = "codigo,plain,c\n007,0,1\n7,0.5,2\n"
    assert refusal(text) == (
        "column 'codigo': 1 of 2 rows has zeros in front or more than 15 digits, as a code has: line 2 (007); "
        "add words: [codigo] if the column holds words, or numbers: [codigo] to read numbers"
    )
    assert read_as(text, words=["codigo"]) == {"codigo": ["007", "7"], "plain": [0, 0.5]}
    assert read_as(text, numbers=["codigo"])["codigo"] == [7, 7]


def test_a_blank_boolean_is_missing_and_0_is_false(folder):
    text = "ativo,sim,c\ntrue,sim,1\nFALSE,não,2\n,sim,3\n"
    assert read_as(text) == {"ativo": [1, 0, None], "sim": ["sim", "não", "sim"]}
    assert read_as("ativo,c\n1,1\n0,2\n,3\n") == {"ativo": [1, 0, None]}
    both = "ativo,c\ntrue,1\n0,2\n"
    assert "add numbers: [ativo] to read numbers, or words: [ativo]" in refusal(both)
    assert read_as(both, numbers=["ativo"]) == {"ativo": [1, 0]}


def test_only_what_is_declared_is_missing_and_known_marks_are_asked_about(folder):
    text = "regiao,c\nNA,1\nSP,2\nNone,3\n,4\n"
    assert refusal(text) == (
        "column 'regiao': 2 of 4 rows have a mark of a missing value: lines 2 (NA), 4 (None); "
        'add missing: ["NA", "None", ""] if that means a missing value, '
        'or missing: [""] if they are words like the others'
    )
    assert read_as(text.replace("\n,4", '\n"",4'), missing=[""]) == {"regiao": ["NA", "SP", "None", None]}
    assert read_as(text, missing=["NA", ""]) == {"regiao": [None, "SP", "None", None]}
    assert refusal(text, missing=["NA"]) == (
        'column \'regiao\': 1 of 4 rows has a mark of a missing value: line 5 (empty); add missing: ["NA", ""]'
        ' if that means a missing value, or missing: [""] if they are words like the others'
    )


def test_a_target_is_never_missing(folder):
    assert refusal("a,c\n1,3.1\n2,\n3,4.0\n4,NA\n") == (
        "column 'c': 2 of 4 rows have no number: lines 3 (empty), 5 (NA); mend them, or take them out"
    )
    assert refusal("a,c\n1,3.1\n2,-\n", missing=["-", ""]).startswith(
        "column 'c': 1 of 2 rows has no number: line 3 (-)"
    )
    for missing in (["x"], ["x", ""]):  # a blank is no class, even where it is not declared
        said = refusal("a,c\n1,x\n2,\n3,y\n", task="classification", missing=missing)
        assert said.startswith("column 'c': 2 of 3 rows have no label: lines 2 (x), 3 (empty); mend")
    table = made("a,c\n1,NA\n2,EU\n", "classification", features=None, missing=[""])
    assert table.classes == ["EU", "NA"]


def test_all_columns_that_cannot_be_used_are_named_in_one_line_of_bounded_length(folder):
    names = [f"f{i}" for i in range(30)]
    rows = "".join(f"{','.join(['x' * 500 if row == 3 else str(row)] * 30)},1\n" for row in range(1, 2000))
    said = refusal(f"{','.join(names)},c\n{rows}")
    assert said.startswith("column 'f0': 1 of 1999 rows has no number: line 4 (xxx")
    assert said.count("1 of 1999 rows has no number: line 4 (xxx") == 10
    assert said.endswith(
        "; and 20 more columns; add words: [f0, f1, f2, f3, f4, f5, f6, f7, f8, f9] if the column holds words"
    )
    assert len(said) < 2000
    both = refusal("a,b,c\n?,007,1\n1,8,2\nNA,9,3\n")
    assert both.startswith(
        "column 'a': 2 of 3 rows have a mark of a missing value: lines 2 (?), 4 (NA); column 'b': 1 of 3 rows has zeros"
    )
    assert both.endswith(
        'add missing: ["?", "NA", ""] if that means a missing value, or words: [a, b] if the column holds words, '
        "or numbers: [b] to read numbers"
    )


def test_a_name_or_a_cell_of_many_lines_is_told_in_one(folder):
    assert refusal('"x\ny","z\nz","z\nz",c\n1,2,3,4\n').startswith("line 1: columns named 'z z': 2; give")
    said = refusal('"x\ny",c\n1,2\n"a\nb",3\n')
    assert said.startswith('column \'x y\': 1 of 2 rows has no number: line 4 (a b); add missing: ["a\\nb", ""] if')
    assert said.endswith('or words: ["x\\ny"] if the column holds words')


@pytest.mark.parametrize(
    ("key", "names", "hint"),
    [
        ("words", ["citty"], "; did you mean 'city'?"),
        ("numbers", ["x"], "; the columns are id, city, c"),
        ("ignore", ["Id"], "; did you mean 'id'?"),
    ],
)
def test_a_key_that_names_no_column_is_refused(folder, key, names, hint):
    assert refusal("id,city,c\n1,a,2\n2,b,3\n", **{key: names}) == f"line 1: no column '{names[0]}'{hint}"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"separator": ";;"}, "must be one character"),
        ({"separator": "\\t"}, "must be one character .* a tab is written"),
        ({"separator": "a"}, "must be one character"),
        ({"thousands": "."}, "decimal and thousands are both '.'"),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands are both ','"),
        ({"encoding": "utf-88"}, "must be an encoding that Python knows"),
        ({"encoding": "rot13"}, "must be an encoding that Python knows"),
        ({"words": ["a"], "numbers": ["a"]}, "'a' is in both words and numbers"),
        ({"words": ["c"]}, "'c' is both in words and a target"),
        ({"ignore": ["c"]}, "'c' is both in ignore and a target"),
        ({"ignore": ["a"], "features": ["a"]}, "'a' is both a feature and in ignore"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys, problem):
    with pytest.raises(ValueError, match=problem.replace("'.'", r"'\.'")):
        source(**{"features": None, **keys})


def test_other_columns_than_the_features_are_kept_whatever_they_hold(folder):
    text = "day,x,who,odd,twice,twice,,c\n2024-01-02,1,7,1,a,b,c,1\n2024-01-03,2,8,?,a,b,c,2\n"
    table = made(text, features=["x"], ignore=["who"])
    assert table.asides == ["day", "odd"]
    assert cells(table) == {"x": [1, 2], "day": ["2024-01-02", "2024-01-03"], "odd": ["1", "?"]}


def test_a_name_that_stands_twice_or_is_empty_can_be_ignored(folder):
    text = ",x,t,t,c\n0,1.5,2,3,1\n1,2.5,3,4,2\n"
    ways = "give each column a name of its own, or add ignore"
    assert refusal(text) == f"line 1: columns named '': 1; columns named 't': 2; {ways}: [\"\", t]"
    assert refusal(text, ignore=[""]) == f"line 1: columns named 't': 2; {ways}: [t]"
    assert read_as(text, ignore=["", "t"]) == {"x": [1.5, 2.5]}


MIXED = pd.DataFrame(
    {
        "whole": [1, 2, 3, 4],
        "number": [1.5, None, -2.0, 1e10],
        "word": ["b", None, "a", "b"],
        "flag": [True, False, True, True],
        "day": pd.to_datetime(["2024-01-02", "2024-02-03", None, "2024-01-02"]),
        "moment": pd.to_datetime(["2024-01-02 10:30", "2024-02-03 00:00", None, "2024-01-02 10:30"]),
        "kind": pd.Categorical(["u", "v", "u", "v"]),
        "c": [1, 2, 1, 2],
    },
    index=[9, 8, 7, 6],
)


@pytest.mark.parametrize(
    "keys", [{}, {"words": ["whole", "flag"]}, {"features": ["number"]}, {"task": "classification"}]
)
@pytest.mark.parametrize("target", ["c", "flag"])
def test_the_same_table_as_csv_and_as_parquet_gives_the_same_raw_table(folder, keys, target):
    if target == "flag" and "words" in keys:
        keys = {"words": ["whole"]}
    keys = {"features": None, "ignore": [], **keys, "targets": [target]}
    files = []
    for i, content in enumerate((MIXED.to_csv(index=False), parquet(MIXED))):
        tables.write(made(content, **keys), folder / f"{i}.parquet")
        files.append((folder / f"{i}.parquet").read_bytes())
    assert files[0] == files[1]


def test_a_number_in_a_column_of_words_is_written_without_point_zero(folder):
    frame = pd.DataFrame({"turno": [1.0, None, 2.0, 2.5], "c": [1, 2, 3, 4]})
    assert read_as(parquet(frame), words=["turno"]) == {"turno": ["1", None, "2", "2.5"]}


def test_what_missing_names_is_missing_in_columns_of_numbers_too(folder):
    frame = pd.DataFrame({"x": [-999, 1, 2], "y": [0.5, -999.0, 1], "z": np.array([1, -9.9, 2], np.float32), "c": 1.0})
    found = read_as(parquet(frame), missing=["-999", "-9.9", "NA", ""])
    assert found == {"x": [None, 1, 2], "y": [0.5, None, 1], "z": [1, None, 2]}
    said = refusal(parquet(frame.assign(c=[1, -999, 3])), missing=["-999", ""])
    assert said == "column 'c': 1 of 3 rows has no number: row 2 (-999); mend them, or take them out"
    assert made(parquet(frame), features=None, missing=["-999", ""]).missing == ["-999"]
    assert made(parquet(frame), features=None).missing == []


def test_moments_of_a_zone_are_written_alike_and_fractions_without_zeros(folder):
    stamps = pd.to_datetime(["2024-01-02 00:00", "2024-01-02 10:30:00.5"], format="ISO8601")
    frame = pd.DataFrame({"t": stamps, "u": stamps.tz_localize("America/Sao_Paulo"), "c": [1, 2]})
    assert read_as(parquet(frame)) == {
        "t": ["2024-01-02", "2024-01-02 10:30:00.5"],
        "u": ["2024-01-02 00:00:00-03:00", "2024-01-02 10:30:00.5-03:00"],
    }


def test_lists_structs_and_bytes_in_parquet_are_refused_by_name_and_can_be_ignored(folder):
    frame = pd.DataFrame({"x": [1, 2], "many": [[1], [2]], "raw": [b"1", b"2"], "pair": [{"a": 1}] * 2, "c": [1, 2]})
    said = refusal(parquet(frame))
    for name in ("many", "raw", "pair"):
        assert f"column '{name}': 2 of 2 rows have no number or text, but" in said
    assert said.endswith("add ignore: [many, raw, pair]")
    assert read_as(parquet(frame), ignore=["many", "raw", "pair"], rows=1) == {"x": [1]}


def test_rows_of_parquet_are_counted_and_keys_for_texts_are_refused(folder):
    frame = pd.DataFrame({"x": [1.0, float("inf")], "c": [1, 2]})
    assert refusal(parquet(frame)).startswith("column 'x': 1 of 2 rows has a number beyond 3.4e+38")
    assert "row 2 (inf)" in refusal(parquet(frame))
    said = refusal(parquet(frame), separator=";", header=True)
    assert said == "is a parquet file, which needs no separator, header; take that out of the source"
    assert refusal(parquet(frame)[:90]) == "not a whole parquet file"
    assert refusal(parquet(frame[:0])) == "no rows"
