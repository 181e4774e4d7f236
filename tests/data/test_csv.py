"""Tables in files are read as they stand; what cannot be used is refused by file, line and column, with a way out."""

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from disguised import DISGUISED
from real_tables import TABLES

from bancada.base import BadInput, tables
from bancada.base.settings import checked
from bancada.data import labels, texts
from bancada.data.reading import Reading
from bancada.data.settings import DataShape
from bancada.data.sources.csv import CsvFile

KEY = "studies.mine.source"  # of params.yaml, for messages
FILE = "data/sources/mine.csv"


def source(task: str = "regression", **changed) -> CsvFile:
    keys = {"path": FILE, "features": ["a", "b"], "targets": ["c"], **changed}
    return CsvFile.model_validate({"kind": "csv", "task": task, **keys})


def made(text: str | bytes, task: str = "regression", **changed) -> tables.Table:
    raw = text.encode() if isinstance(text, str) else text
    Path(FILE).write_bytes(raw)
    return source(task, **changed).make(KEY)


def cells(table: tables.Table) -> dict[str, list]:
    """The cells of each column as they were meant: numbers, words, None where a cell is empty."""
    found = {}
    for name, column in zip(table.feature_names, table.features.T.tolist(), strict=True):
        words = table.words.get(name)
        found[name] = [None if cell != cell else words[int(cell)] if words else cell for cell in column]
    return found


def read_as(text: str | bytes, **keys) -> dict[str, list]:
    """The cells of all columns but the target c."""
    return cells(made(text, features=None, **keys))


def refusal(text: str | bytes, **keys) -> str:
    """What is said about the table, after the name of the file."""
    with pytest.raises(BadInput) as refused:
        made(text, **{"features": None, **keys})
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith(f"{FILE}: ")
    return said.removeprefix(f"{FILE}: ")


def parquet(frame: pd.DataFrame, **how) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, **how)
    return file.getvalue()


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_csv_is_read_as_written_by_a_spreadsheet(folder):
    """Byte order mark, CRLF, quotes, spaces, an empty line, columns in another order and one too many."""
    table = made(b'\xef\xbb\xbfid,"c", b,a\r\nx,1.5,-2e3,0.1\r\n\r\n"y, z",+7, 8 ,9\r\n')
    assert cells(table) == {"a": [0.1, 9.0], "b": [-2000.0, 8.0], "id": ["x", "y, z"]}
    assert table.asides == ["id"]
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


def test_a_label_in_a_parquet_file_keeps_a_final_nul(folder):
    table = made(parquet(pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": ["a\0", "a"]})), "classification")
    tables.write(table, folder / "made.parquet")
    assert tables.read(folder / "made.parquet").classes == ["a", "a\0"]


def test_rows_without_a_label_are_refused_all_at_once_with_their_lines(folder):
    rows = ["1,2,ash", "1,2,", "1,2,?", '1,2,"two\nlines"', "1,2,NA", "1,2,-", "1,2,nan", "1,2,oak"]
    with pytest.raises(BadInput) as refused:
        made("\n".join(["a,b,c", *rows]), "classification")
    assert str(refused.value) == (
        "data/sources/mine.csv: column 'c': 5 of 8 rows have no label: "
        "lines 3 (empty), 4 (?), 7 (NA), 8 (-), 9 (nan); take them out, or give them a class"
    )
    with pytest.raises(BadInput, match=r"column 'c': 1 of 3 rows has no label: line 2 \(NULL\); take"):
        made("a,b,c\n1,2,NULL\n1,2,+\n1,2,-\n", "classification")
    with pytest.raises(
        BadInput, match=r"column 'c': 200 of 200 rows have no label: line.* 101 \(empty\) and 100 more; take"
    ):
        made("a,b,c\n" + "1,2,\n" * 200, "classification")


def test_what_pandas_reads_as_missing_is_no_label():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES <= labels.MISSING


BROKEN = {  # a file, the task -> the line after the file's name
    "empty": ("", "regression", "is empty"),
    "blank": ("\n\n", "regression", "is empty"),
    "header only": ("a,b,c\n", "regression", "no rows below the header"),
    "open quote": ('a,b,c\n1,2,3\n1,"2,3\n', "regression", "line 3: unexpected end of data; is a quote not closed?"),
    "after a quote": ('a,b,c\n1,"2" x,3\n', "regression", "line 2: ',' expected after '\"'"),
    "a long cell": (f"a,b,c\n1,2,{'x' * 200_000}\n", "regression", "line 2: field larger than field limit"),
    "short row": ("a,b,c\n1,2,3\n1,2\n", "regression", "line 3: 2 cells, but the header has 3 columns"),
    "long row": ("a,b,c\n1,2,3\n1,2,3,4\n", "regression", "line 3: 4 cells, but the header has 3 columns"),
    "missing column": ("a,bb,c\n1,2,3\n", "regression", "line 1: no column 'b'; did you mean 'bb'?"),
    "double column": (
        "a,b,b,c\n1,2,3,4\n",
        "regression",
        "line 1: columns 2, 3 are named 'b'; give each column a name of its own, or add ignore: [b]",
    ),
    "word": ("a,b,c\n1,2,3\n\n1,two,3\n", "regression", "column 'b': 1 of 2 rows has no number: line 4 (two); add"),
    "underscore": ("a,b,c\n1_0,2,3\n2,2,3\n", "regression", "column 'a': 1 of 2 rows has no number: line 2 (1_0); add"),
    "nan": (
        "a,b,c\n1,2,3\n1,NaN,3\n",
        "regression",
        "column 'b': 1 of 2 rows has a mark of a missing value: line 3 (Na",
    ),
    "inf": ("a,b,c\n1,2,-inf\n", "regression", "column 'c': 1 of 1 rows has a number beyond 3.4e+38, the largest that"),
    "huge": ("a,b,c\n1,2,1e999\n", "regression", "column 'c': 1 of 1 rows has a number beyond 3.4e+38, the largest"),
    "beyond a network": ("a,b,c\n1,1e39,1\n", "regression", "column 'b': 1 of 1 rows has a number beyond 3.4e+38, the"),
    "after a cell of two lines": (
        'a,b,x,c\n1,2,"l\nl",3\n1,#,x,3\n',
        "regression",
        "column 'b': 1 of 2 rows has no number: line 4 (#); add",
    ),
    "word as target": ("a,b,c\n1,2,x\n", "regression", "column 'c': 1 of 1 rows has no number: line 2 (x); mend them"),
    "one class": ("a,b,c\n1,2,3\n1,2,3\n", "classification", "column 'c' has one class, 3; at least two are needed"),
}


@pytest.mark.parametrize(("text", "task", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_refused_with_one_line_naming_file_line_and_column(folder, text, task, message):
    assert refusal(text, task=task, features=["a", "b"]).startswith(message)


def test_too_few_rows_a_wrong_ignore_and_a_missing_file_are_refused(folder):
    with pytest.raises(BadInput, match=r"^data/sources/mine.csv: 1 rows, but studies.mine.source.rows = 2$"):
        made("a,b,c\n1,2,3\n", rows=2)
    with pytest.raises(BadInput, match=r"line 1: no column 'Idd'; did you mean 'Id'\?$"):
        made("Id,a,b,c\n1,2,3,4\n", features=None, ignore=["Idd"])
    with pytest.raises(BadInput, match=r"line 1: no column 'alcohol'; the columns are a, b, c, total_phenols$"):
        made("a,b,c,total_phenols\n1,2,3,4\n", features=None, ignore=["alcohol"])
    with pytest.raises(BadInput, match=r"line 1: no column is left to be a feature$"):
        made("Id,c\n1,2\n", features=None, ignore=["Id"])
    with pytest.raises(BadInput, match=r"^data/sources/none.csv: No such file or directory$"):
        source(path="data/sources/none.csv").make(KEY)
    Path("data/sources/none.csv.dvc").touch()
    with pytest.raises(BadInput, match=r"^data/sources/none.csv: No such file or directory; `dvc pull` fetches it$"):
        source(path="data/sources/none.csv").make(KEY)


# --- numbers, words and empty cells -----------------------------------------------------------------------------------


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
        "column 'codigo': 1 of 2 rows has zeros in front: line 2 (007); "
        "add words: [codigo] if the column holds words, or numbers: [codigo] to read numbers"
    )
    assert read_as(text, words=["codigo"]) == {"codigo": ["007", "7"], "plain": [0, 0.5]}
    assert read_as(text, numbers=["codigo"])["codigo"] == [7, 7]


def test_a_blank_boolean_is_missing_and_0_is_false(folder):
    text = "ativo,sim,c\ntrue,sim,1\nFALSE,não,2\n,sim,3\n"
    assert read_as(text) == {"ativo": [1, 0, None], "sim": ["sim", "não", "sim"]}
    assert read_as("ativo,c\n1,1\n0,2\n,3\n") == {"ativo": [1, 0, None]}
    both = "ativo,c\ntrue,1\n0,2\n"
    assert "add numbers: [ativo] to read true as 1 and false as 0" in refusal(both)
    assert read_as(both, numbers=["ativo"]) == {"ativo": [1, 0]}


def test_only_what_is_declared_is_missing_and_known_marks_are_asked_about(folder):
    text = "regiao,c\nNA,1\nSP,2\nNone,3\n,4\n"
    assert refusal(text) == (
        "column 'regiao': 2 of 4 rows have a mark of a missing value: lines 2 (NA), 4 (None); "
        'add missing: ["NA", "None", ""], or missing: [""] if they are words like the others'
    )
    assert read_as(text.replace("\n,4", '\n"",4'), missing=[""]) == {"regiao": ["NA", "SP", "None", None]}
    assert read_as(text, missing=["NA", ""]) == {"regiao": [None, "SP", "None", None]}
    assert refusal(text, missing=["NA"]) == (
        "column 'regiao': 1 of 4 rows has an empty cell, which missing does not name: line 5 (empty); "
        'add missing: ["NA", ""]'
    )


def test_a_target_is_never_missing(folder):
    assert refusal("a,c\n1,3.1\n2,\n3,4.0\n4,NA\n") == (
        "column 'c': 2 of 4 rows have no number: lines 3 (empty), 5 (NA); take them out, or give them a number"
    )
    assert refusal("a,c\n1,3.1\n2,-\n", missing=["-", ""]).startswith(
        "column 'c': 1 of 2 rows has no number: line 3 (-)"
    )
    for missing in (["x"], ["x", ""]):  # a blank is no class, even where it is not declared
        said = refusal("a,c\n1,x\n2,\n3,y\n", task="classification", missing=missing)
        assert said.startswith("column 'c': 2 of 3 rows have no label: lines 2 (x), 3 (empty); take")
    table = made("a,c\n1,NA\n2,EU\n", "classification", features=None, missing=[""])
    assert table.classes == ["EU", "NA"]


def test_all_columns_that_cannot_be_used_are_named_in_one_line_of_bounded_length(folder):
    names = [f"f{i}" for i in range(30)]
    rows = "".join(f"{','.join(['x' * 500 if row == 3 else str(row)] * 30)},1\n" for row in range(1, 2000))
    said = refusal(f"{','.join(names)},c\n{rows}")
    assert said.startswith(
        "30 columns (f0, f1, f2, f3, f4, f5, f6, f7, ...): column 'f0': 1 of 1999 rows has no number: line 4 (xxx"
    )
    assert said.endswith("add words: [f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, ...] if the column holds words")
    odd = refusal(f"{','.join(names)},c\n{'x,' * 30}1\n{'2,' * 30}1\n", targets=names, features=["c"])
    assert odd.count("1 of 2 rows has no number: line 2 (x)") == 10
    assert odd.endswith("; and 20 more columns")
    both = refusal("a,b,c\n?,007,1\n1,8,2\nNA,9,3\n")
    assert both.startswith(
        "column 'a': 2 of 3 rows have a mark of a missing value: lines 2 (?), 4 (NA); add missing: ["
    )
    assert "; column 'b': 1 of 3 rows has zeros in front: line 2 (007); add" in both


def test_a_name_or_a_cell_of_many_lines_is_told_in_one(folder):
    assert refusal('"x\ny","z\nz","z\nz",c\n1,2,3,4\n').startswith("line 1: columns 2, 3 are named 'z z'; give")
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
    assert refusal(text) == f"line 1: no name above column 1; columns 3, 4 are named 't'; {ways}: [\"\", t]"
    assert refusal(text, ignore=[""]) == f"line 1: columns 3, 4 are named 't'; {ways}: [t]"
    said = refusal(text, ignore=[""], targets=["t"])  # a target cannot be ignored
    assert said == "line 1: columns 3, 4 are named 't'; give each column a name of its own"
    assert read_as(text, ignore=["", "t"]) == {"x": [1.5, 2.5]}


# --- tables that are not what they seem -------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "said", "keys"), DISGUISED.values(), ids=DISGUISED)
def test_a_table_that_is_not_what_it_seems_is_recognised_and_told_with_the_way_out(folder, text, said, keys):
    assert said in refusal(text)
    if keys:
        assert read_as(text, **keys) == {"x": [1, 4], "y": [2, 5]}


def test_names_and_lines_stay_right_below_a_note_to_excel(folder):
    assert "line 4 (#)" in refusal("sep=;\nx;c\n1;2\n#;3\n", separator=";")


def test_an_encoding_that_is_given_is_used(folder):
    text = "cidade;c\nSão Paulo;1\nGoiânia;2\n"
    assert read_as(text.encode("cp1252"), encoding="cp1252", separator=";") == {"cidade": ["São Paulo", "Goiânia"]}
    assert refusal(text.encode("cp1252"), encoding="ascii", separator=";").startswith("line 2: not a text in ASCII")
    assert "UTF-16 stream does not start with BOM" in refusal(text, encoding="utf-16", separator=";")


def test_invisible_characters_around_names_and_a_second_byte_order_mark_are_dropped(folder):
    text = '\ufeff\ufeff"x\u200b","\u2060y\u00a0",c\n1,2,3\n'
    assert read_as(text) == {"x": [1], "y": [2]}
    assert read_as("\ufeff\ufeffidade,c\n1,2\n") == {"idade": [1]}


def test_a_space_between_comma_and_quote_is_no_part_of_the_cell(folder):
    assert read_as('"x", "w", "c"\n"1", "a, b", "2"\n') == {"x": [1], "w": ["a, b"]}


def test_a_hash_in_front_of_the_first_name_is_no_comment(folder):
    assert read_as("#id,x,c\n1,2,3\n") == {"#id": [1], "x": [2]}


def test_header_false_numbers_the_columns_and_true_takes_numbers_for_names(folder):
    assert read_as("1,2,3\n4,5,6\n", header=False, targets=["column_3"]) == {"column_1": [1, 4], "column_2": [2, 5]}
    assert read_as("1990,1991,c\n1,2,3\n", header=True) == {"1990": [1], "1991": [2]}


def test_a_comma_is_decimal_or_groups_thousands_as_the_user_says_and_never_dropped(folder):
    comma = "x;c\n1,5;1\n2,25;2\n1.234,5;3\n"
    way = 'decimal: ",", thousands: "."'
    assert f"lines 2 (1,5), 3 (2,25), 4 (1.234,5); add {way}" in refusal(comma, separator=";")
    assert read_as(comma, separator=";", decimal=",", thousands=".") == {"x": [1.5, 2.25, 1234.5]}
    grouped = "x;c\n1,234.5;1\n1,5;2\n1,2,3;3\n12,345;4\n"
    said = refusal(grouped, separator=";", thousands=",")
    assert said.startswith("column 'x': 2 of 4 rows have a number in another form: lines 3 (1,5), 4 (1,2,3); add words")
    assert read_as('x,c\n"1,234.5",1\n"-12,345",2\n7,3\n', thousands=",") == {"x": [1234.5, -12345, 7]}


def test_a_point_that_may_group_thousands_is_refused_as_ambiguous_unless_decimal_is_given(folder):
    text = "x;c\n1.234;1\n12.500;2\n7;3\n"
    assert (
        '2 of 3 rows have a point that may group thousands: lines 2 (1.234), 3 (12.500); add decimal: "."'
        in refusal(text, separator=";")
    )
    assert read_as(text, separator=";", decimal=".") == {"x": [1.234, 12.5, 7]}
    assert read_as(text, separator=";", decimal=",", thousands=".") == {"x": [1234, 12500, 7]}
    assert read_as("x;c\n1.234;1\n0.500;2\n", separator=";") == {"x": [1.234, 0.5]}
    assert read_as("x,c\n1.234,1\n") == {"x": [1.234]}


def test_a_comma_inside_of_cells_does_not_hide_the_semicolons(folder):
    text = "x;w;c\n1;['x', 'y'];2\n2;['x', 'z'];3\n"
    assert refusal(text) == 'line 1: semicolons separate the columns; add separator: ";"'
    assert read_as(text, separator=";") == {"x": [1, 2], "w": ["['x', 'y']", "['x', 'z']"]}


def test_spaces_and_tabs_in_a_row_are_one_separator_but_stay_inside_of_quotes(folder):
    assert read_as(' x\t w  c \n1   "a  b"\t2\n 3 "d" \t 4  \n', separator=" ") == {"x": [1, 3], "w": ["a  b", "d"]}


def test_words_that_are_the_same_whole_number_or_day_are_one_word_and_asides_stay_as_they_are(folder):
    text = "w,day,c\n2,2024-01-02 00:00:00,1\n2.0,2024-01-02,2\n02,2024-01-02 10:30:00.500,3\n-3.00,x,4\n"
    days = ["2024-01-02", "2024-01-02", "2024-01-02 10:30:00.5", "x"]
    assert read_as(text, words=["w"]) == {"w": ["2", "2", "02", "-3"], "day": days}
    kept = cells(made(text, features=["day"], words=["w"]))["w"]
    assert kept == ["2", "2.0", "02", "-3.00"]
    assert made("a,b,c\n1,2,2.0\n1,2,2\n", "classification").classes == ["2", "2.0"]


def test_whole_numbers_that_float64_cannot_tell_apart_are_no_features_and_asides_keep_them(folder):
    large = [2**53 + 1, 2**53, 5]
    frame = pd.DataFrame({"id": large, "x": [1, 2, 3], "c": [1, 2, 3]})
    stamps = frame.assign(id=np.array([2**63 + 1, 2**63, 5], dtype=np.uint64))
    for content, first in ((frame.to_csv(index=False), "line 2 (9007199254740993)"), (parquet(frame), "row 1 (9007")):
        said = refusal(content)
        assert (
            f"column 'id': 1 of 3 rows has a whole number beyond 2**53, where two of them become one: {first}" in said
        )
        assert said.endswith("add words: [id] if the column holds words, or ignore: [id] if it is a key")
        assert read_as(content, words=["id"])["id"] == [str(one) for one in large]
        assert read_as(content, ignore=["id"]) == {"x": [1, 2, 3]}
        assert cells(made(content, features=["x"]))["id"] == [str(one) for one in large]
        assert made(content, targets=["id"], features=["x"])  # a target is learned in float32 anyway
    assert cells(made(parquet(stamps), features=["x"]))["id"] == [str(2**63 + 1), str(2**63), "5"]
    assert read_as(parquet(frame.assign(id=[2**53, 1, 2])))["id"] == [2**53, 1, 2]


def test_true_among_the_numbers_of_a_target_is_refused_unless_numbers_says_so(folder):
    text = "x,c\n1,1\n2,true\n3,3\n"
    assert refusal(text) == (
        "column 'c': 1 of 3 rows has true or false among numbers: line 3 (true); "
        "add numbers: [c] to read true as 1 and false as 0"
    )
    assert made(text, features=["x"], numbers=["c"]).targets.tolist() == [[1], [1], [3]]
    assert made("x,c\n1,false\n2,true\n", features=["x"]).targets.tolist() == [[0], [1]]


def test_columns_with_the_same_problem_are_told_together_and_one_line_holds_all_marks(folder):
    said = refusal("a,b,d,w,c\nNA,NA,?,s/d,1\n1,2,3,x,2\n4,5,6,NULL,3\n")
    assert said == (
        "3 columns (a, b, d): column 'a': 1 of 3 rows has a mark of a missing value: line 2 (NA); "
        'add missing: ["?", "NA", "NULL", ""], or words: [a, b, d] if the column holds words; '
        "column 'w': 1 of 3 rows has a mark of a missing value: line 4 (NULL); "
        'add missing as above, or missing: [""] if they are words like the others'
    )
    assert "lines 2, 3, 4, 5 (empty); take" in refusal("x,c\n1,\n2,\n3,\n4,\n")


def test_all_names_that_are_no_columns_are_told_at_once_with_those_that_are(folder):
    said = refusal("a,b,c\n1,2,3\n", targets=["y", "zz"], ignore=["q"])
    assert said == "line 1: no column 'q'; no column 'y'; no column 'zz'; the columns are a, b, c"
    many = ",".join(f"f{i}" for i in range(20))
    assert refusal(f"{many}\n{many}\n").endswith("the columns are f0, f1, f2, f3, f4, f5, f6, f7, ...")


def test_an_infinite_number_may_be_declared_missing(folder):
    text = "x,c\n1,1\nInfinity,2\n-inf,3\n"
    said = refusal(text)
    assert (
        "2 of 3 rows have a number beyond 3.4e+38, the largest that a network can take: lines 3 (Infinity), 4" in said
    )
    assert 'add missing: ["-inf", "Infinity", ""] if that means a missing value' in said
    assert read_as(text, missing=["-inf", "Infinity", ""]) == {"x": [1, None, None]}
    frame = pd.DataFrame({"x": [1, np.inf, -np.inf], "c": [1, 2, 3]})
    assert 'add missing: ["-inf", "inf", ""]' in refusal(parquet(frame))
    assert read_as(parquet(frame), missing=["-inf", "inf", ""]) == {"x": [1, None, None]}


def test_characters_that_cannot_be_seen_are_shown_by_their_codes(folder):
    said = refusal("x,c\n1\u200b,1\n2,2\n")
    assert said.startswith("column 'x': 1 of 2 rows has no number: line 2 (1\\u200b); add missing: [\"1\\u200b\", ")
    said = refusal("x,c\n\N{MINUS SIGN}1,1\n2,2\n")
    assert "; replace the minus signs U+2212 by -; add" in said


def test_advice_keeps_to_the_keys_that_are_given(folder):
    said = refusal("x;c\n1.234,5;1\n7;2\n", separator=";", decimal=",")
    assert said.endswith('(1.234,5); add thousands: ".", or words: [x] if the column holds words')
    assert "decimal" not in refusal("x;c\n1,5;1\n7;2\n", separator=";", decimal=".")
    assert read_as("x;c\n1.234;1\n12.500;2\n", separator=";", thousands=" ") == {"x": [1.234, 12.5]}


def test_a_first_line_of_names_is_refused_where_header_gives_them(folder):
    text = "age,kind,c\n1,x,2\n3,y,4\n"
    for header in (["a", "k", "c"], False):
        said = refusal(text, header=header, targets=["c"])
        assert said.startswith("line 1: 'age' stands above numbers, as a name does; delete that line")
    rows = "?,x,2\n3,y,4\n"
    keys = {"header": ["a", "k", "c"], "missing": ["?", ""]}
    assert read_as(rows, **keys) == {"a": [None, 3], "k": ["x", "y"]}
    assert read_as(f"a,k,c\n{rows}", **keys) == {"a": [None, 3], "k": ["x", "y"]}


def test_the_advice_for_rs_names_is_given_where_the_rows_are_as_r_writes_them(folder):
    for text in ("x,c\na,1,2\na,3,4\n", "x,c\n1,2,3\n4,5\n"):
        assert refusal(text) == "line 2: 3 cells, but the header has 2 columns"
    said = refusal("x,c\n1,2,\n3,4,\n")
    assert said == "line 2: 3 cells, but the header has 2 columns; the row ends in a separator; delete that"
    assert refusal("x,c\n1,2\n3\n") == "line 3: 1 cell, but the header has 2 columns"


BINARY = {
    "sqlite": b"SQLite format 3\0\x10\0\x01\x01\0" + bytes(range(256)),
    "npy": b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'fortran_order': False}" + np.linspace(-1, 3, 99).tobytes(),
    "npy of small whole numbers": b"\x93NUMPY\x01\0v\0" + np.arange(400, dtype="<i8").tobytes(),
    "pickle": pickle.dumps({"a": [1, 2.5, None] * 9}),
    "a short pickle": b"\x80\x04]\x94(K\x01K\x02K\x03e.",
    "feather": b"ARROW1\0\0\xff\xff\xff\xff\x10\0\0\0" + bytes(range(40)) * 9,
    "spss": b"$FL2@(#) IBM SPSS\0\0\x02\0\0\0\x05\0\0\0\xff\xff" + bytes(range(9)) * 50,
    "stata": b"<stata_dta>\x01\x02\0\0\x07\xfe\0\x81",
}


@pytest.mark.parametrize("content", BINARY.values(), ids=BINARY)
def test_a_file_of_another_kind_is_no_text_in_any_encoding(folder, content):
    assert refusal(content) == "is no text, but a file of another kind; export the table as CSV or parquet"


@pytest.mark.parametrize(
    ("content", "keys", "said"),
    [
        ("x,c\n1,2\n".encode("utf-16"), {"encoding": "cp1252"}, "is a text in UTF-16; say encoding: utf-16"),
        ("x,c\n1,2\n".encode("utf-32"), {}, "is a text in UTF-32; add encoding: utf-32"),
        ("x,c\n中文名,2\n".encode("gbk"), {}, "add encoding: cp1252"),  # cp1252 reads it, too, as ÖÐÎÄÃû
        ("x,c\nÁ,2\n".encode("cp850") + b"\x81,3\n", {}, "try another encoding, such as gbk or latin-1"),
        ('{"x": [1, 2]}', {}, "is JSON; a source of kind python"),
        ('[{"x": 1}]', {}, "is JSON; a source of kind python"),
        ("% made\n@RELATION t\n", {}, "is ARFF; a source of kind python"),
        ("<table><tr>", {}, "is a page in HTML, not the table"),
        ("<!-- x -->", {}, "is a page in HTML, not the table"),
        (b"%PDF-1.4\n%\xe2\xe3", {}, "is a PDF"),
        ("% by, hand\nx,c\n1,2\n", {}, "line 1 begins with %; delete comments"),
        ("// by, hand\nx,c\n1,2\n", {}, "line 1 begins with //; delete comments"),
        ("# by, hand\n# again, so\nx,c\ny,z\n", {}, "lines 1 to 2 begin with #; delete comments"),
        ('"x,c"\n"1,2"\n"3,4"\n', {}, "line 1: whole lines are in quotes; delete the quotes around them"),
        ("sep=\t\nx\tc\n1\t2\n", {}, 'line 1: sep=\\t tells Excel what separates the columns; add separator: "\\t"'),
    ],
)
def test_more_forms_of_a_file_are_told_with_the_way_out(folder, content, keys, said):
    assert said in refusal(content, **keys)


def test_characters_that_are_new_private_or_of_windows_make_no_other_file_of_a_text(folder):
    words = ["\U0001fae8", "\uf8ff"]
    assert read_as(f"w,c\n{words[0]},1\n{words[1]},2\n") == {"w": words}
    assert read_as(b"w,c\n\x93a\x94,1\nb,2\n", encoding="latin-1") == {"w": ["\x93a\x94", "b"]}


def test_a_class_of_two_lines_is_told_in_one():
    assert DataShape(1, 1, 2, 0, ["a\nb", "c"]).named_classes() == "2 classes (a b, c)"


def test_a_number_where_a_text_belongs_is_told_with_its_quotes():
    with pytest.raises(BadInput, match=r'missing\[0\] = -999: must be a text; write "-999" in quotes$'):
        checked(Reading, {"missing": [-999]}, KEY)


# --- parquet ----------------------------------------------------------------------------------------------------------

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
    assert said == "column 'c': 1 of 3 rows has no number: row 2 (-999); take them out, or give them a number"
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
        assert f"add ignore: [{name}]" in said
    assert read_as(parquet(frame), ignore=["many", "raw", "pair"], rows=1) == {"x": [1]}


def test_rows_of_parquet_are_counted_and_keys_for_texts_are_refused(folder):
    frame = pd.DataFrame({"x": [1.0, float("inf")], "c": [1, 2]})
    assert refusal(parquet(frame)).startswith("column 'x': 1 of 2 rows has a number beyond 3.4e+38")
    assert "row 2 (inf)" in refusal(parquet(frame))
    said = refusal(parquet(frame), separator=";", header=True)
    assert said == "is a parquet file, which needs no separator, header; take that out of the source"
    assert refusal(parquet(frame)[:90]) == "not a whole parquet file"
    assert refusal(parquet(frame[:0])) == "no rows"


# --- tables that people bring -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_people_bring_is_read_with_a_few_keys_which_refusals_name_one_by_one(folder, name):
    table = TABLES[name]
    keys = {"targets": table.source["targets"], "task": table.source["task"], "ignore": table.source.get("ignore", [])}
    for said, added in table.steps:
        assert said in refusal(table.text, **keys)
        keys |= added
    assert made(table.text, features=None, **keys).feature_names == table.features
    assert source(features=None, **keys) == CsvFile.model_validate(table.whole_source(FILE))


def test_pandas_reads_the_same_cells(folder):
    """titanic: quotes with commas, words, empty cells."""
    table, frame = made(TABLES["titanic"].text, features=None, **TABLES["titanic"].source), None
    frame = pd.read_csv(io.StringIO(TABLES["titanic"].text))
    for name, column in cells(table).items():
        assert column == [None if pd.isna(cell) else cell for cell in frame[name].tolist()]


def test_a_row_knows_its_line_also_far_below(folder):
    rows = [f'{i},"two\nlines"' if i % 2 else f"{i},one" for i in range(texts.CHUNK + 10)]
    Path(FILE).write_text("\n".join(["x,w", *rows]))
    found = texts.read(Path(FILE), Reading())
    lines = Path(FILE).read_text().split("\n")
    assert [lines[line - 1].split(",")[0] for line in found.lines.tolist()] == [str(i) for i in range(len(rows))]


@pytest.mark.long
def test_a_million_rows_of_20_columns_are_read_in_less_than_1_2_gib(folder):
    """Memory is that of a process of its own, as the stage generate is one."""
    rng = np.random.default_rng(1)
    rows, words = 1_000_000, np.array(["red", "green", "blue", ""])
    columns = [np.char.mod("%.6g", rng.standard_normal(rows)) for _ in range(14)]
    columns[0][::20] = ""
    columns += [words[rng.integers(0, 4, rows)] for _ in range(5)]
    columns.append(np.char.mod("%.4f", rng.standard_normal(rows)))
    with Path(FILE).open("w") as file:
        file.write(",".join([*(f"x{i}" for i in range(19)), "c"]) + "\n")
        file.writelines(f"{','.join(row)}\n" for row in zip(*columns, strict=True))
    script = (
        "import json, re, sys; from bancada.data.sources.csv import CsvFile; "
        "table = CsvFile.model_validate(json.loads(sys.argv[1])).make('k'); "
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]; "
        "print(*table.features.shape, len(table.words), peak)"
    )
    keys = json.dumps({"kind": "csv", "path": FILE, "task": "regression", "targets": ["c"]})
    done = subprocess.run([sys.executable, "-c", script, keys], capture_output=True, text=True, check=True)
    *shape, in_words, kibibytes = map(int, done.stdout.split())
    assert (shape, in_words) == ([rows, 19], 5)
    assert kibibytes < 1.2 * 2**20
