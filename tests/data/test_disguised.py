"""Tables that are not what they seem are recognised, and told with the way out."""

import pickle

import numpy as np
import pandas as pd
import pytest
from disguised import DISGUISED
from table_files import KEY, cells, made, parquet, read_as, refusal

from bancada.base import BadInput
from bancada.base.settings import checked
from bancada.data.reading import Reading
from bancada.data.settings import DataShape


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
    assert refusal(text.encode("cp1252"), encoding="ascii", separator=";").startswith("line 2: is no text in ASCII")
    assert "is no text in UTF-16" in refusal(text, encoding="utf-16", separator=";")


def test_invisible_characters_around_names_and_a_second_byte_order_mark_are_dropped(folder):
    text = '\ufeff\ufeff"x\u200b","\u2060y\u00a0",c\n1,2,3\n'
    assert read_as(text) == {"x": [1], "y": [2]}
    assert read_as('\u200b"x","y",c\n1,2,3\n') == {"x": [1], "y": [2]}
    assert read_as("\ufeff\ufeffidade,c\n1,2\n") == {"idade": [1]}


def test_a_space_between_comma_and_quote_is_no_part_of_the_cell(folder):
    assert read_as('"x", "w", "c"\n"1", "a, b", "2"\n') == {"x": [1], "w": ["a, b"]}


def test_a_hash_in_front_of_the_first_name_is_no_comment(folder):
    assert read_as("#id,x,c\n1,2,3\n") == {"#id": [1], "x": [2]}
    assert read_as("#w,x,c\na,1,2\nb,3,4\n") == {"#w": ["a", "b"], "x": [1, 3]}
    assert "semicolons separate" in refusal("#id;x;c\n1;2;3\n4;5;6\n")


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


def test_a_damaged_row_does_not_hide_the_semicolons(folder):
    text = "x;w;c\n1;a;2\n2;b\n3;d;4\n"
    assert refusal(text) == 'line 1: semicolons separate the columns; add separator: ";"'
    assert refusal(text, separator=";") == "line 3: 2 cells, but the header has 3 columns"
    assert "line 3: 2 cells, but" in refusal(text.replace(";", ","))


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
    for content, first in ((frame.to_csv(index=False), "lines 2 (9007199254740993)"), (parquet(frame), "rows 1 (9007")):
        said = refusal(content)
        assert f"column 'id': 2 of 3 rows have zeros in front or more than 15 digits, as a code has: {first}" in said
        assert said.endswith("add words: [id] if the column holds words, or numbers: [id] to read numbers")
        assert read_as(content, words=["id"])["id"] == [str(one) for one in large]
        assert read_as(content, ignore=["id"]) == {"x": [1, 2, 3]}
        assert cells(made(content, features=["x"]))["id"] == [str(one) for one in large]
        assert made(content, targets=["id"], features=["x"])  # a target is learned in float32 anyway
    assert cells(made(parquet(stamps), features=["x"]))["id"] == [str(2**63 + 1), str(2**63), "5"]
    assert read_as(parquet(frame.assign(id=[2**53, 1, 2])))["id"] == [2**53, 1, 2]


def test_true_among_the_numbers_of_a_target_is_refused_unless_numbers_says_so(folder):
    text = "x,c\n1,1\n2,true\n3,3\n"
    assert refusal(text) == (
        "column 'c': 1 of 3 rows has true or false among numbers: line 3 (true); add numbers: [c] to read numbers"
    )
    assert made(text, features=["x"], numbers=["c"]).targets.tolist() == [[1], [1], [3]]
    assert made("x,c\n1,false\n2,true\n", features=["x"]).targets.tolist() == [[0], [1]]


def test_one_line_holds_all_marks(folder):
    said = refusal("a,b,d,w,c\nNA,NA,?,s/d,1\n1,2,3,x,2\n4,5,6,NULL,3\n")
    assert said == (
        "column 'a': 1 of 3 rows has a mark of a missing value: line 2 (NA); "
        "column 'b': 1 of 3 rows has a mark of a missing value: line 2 (NA); "
        "column 'd': 1 of 3 rows has a mark of a missing value: line 2 (?); "
        "column 'w': 1 of 3 rows has a mark of a missing value: line 4 (NULL); "
        'add missing: ["?", "NA", "NULL", ""] if that means a missing value, or words: [a, b, d] if the column holds '
        'words, or missing: [""] if they are words like the others'
    )


def test_all_names_that_are_no_columns_are_told_at_once_with_those_that_are(folder):
    said = refusal("a,b,c\n1,2,3\n", targets=["y", "zz"], ignore=["q"])
    assert said == "line 1: no column 'q'; no column 'y'; no column 'zz'; the columns are a, b, c"
    many = ",".join(f"f{i}" for i in range(20))
    assert refusal(f"{many}\n{many}\n").endswith("the columns are f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 10 more")


def test_an_infinite_number_may_be_declared_missing(folder):
    text = "x,c\n1,1\nInfinity,2\n-inf,3\n"
    said = refusal(text)
    assert "2 of 3 rows have an infinite number: lines 3 (Infinity), 4 (-inf); add" in said
    assert 'add missing: ["-inf", "Infinity", ""] if that means a missing value' in said
    assert read_as(text, missing=["-inf", "Infinity", ""]) == {"x": [1, None, None]}
    frame = pd.DataFrame({"x": [1, np.inf, -np.inf], "c": [1, 2, 3]})
    assert "2 of 3 rows have a number beyond 3.4e+38, the largest that a network can take: rows 2" in refusal(
        parquet(frame)
    )
    assert read_as(parquet(frame), missing=["-inf", "inf", ""]) == {"x": [1, None, None]}


def test_characters_that_cannot_be_seen_are_shown_by_their_codes(folder):
    said = refusal("x,c\n1\u200b,1\n2,2\n")
    assert said.startswith("column 'x': 1 of 2 rows has no number: line 2 (1\\u200b); add missing: [\"1\\u200b\", ")


def test_advice_keeps_to_the_decimal_that_is_given(folder):
    said = refusal("x;c\n1.234,5;1\n7;2\n", separator=";", decimal=",")
    assert said.endswith('(1.234,5); add decimal: ",", thousands: ".", or words: [x] if the column holds words')
    assert "decimal" not in refusal("x;c\n1,5;1\n7;2\n", separator=";", decimal=".")
    assert read_as("x;c\n1.234;1\n12.500;2\n", separator=";", thousands=" ") == {"x": [1.234, 12.5]}


def test_a_first_line_of_names_is_refused_where_header_gives_them(folder):
    text = "age,kind,c\n1,x,2\n3,y,4\n"
    for header in (["a", "k", "c"],):
        said = refusal(text, header=header, targets=["c"])
        assert said.startswith("column 'a': 1 of 3 rows has no number: line 1 (age); ")
    rows = "?,x,2\n3,y,4\n"
    keys = {"header": ["a", "k", "c"], "missing": ["?", ""]}
    assert read_as(rows, **keys) == {"a": [None, 3], "k": ["x", "y"]}
    assert read_as(f"a,k,c\n{rows}", **keys) == {"a": [None, 3], "k": ["x", "y"]}


def test_the_advice_for_rs_names_is_given_where_the_rows_are_as_r_writes_them(folder):
    way = "if the first cell is the row's name, as R writes it, add header: [row, x, c]"
    assert refusal("x,c\na,1,2\nb,3,4\n") == f"line 2: 3 cells, but the header has 2 columns; {way}"
    assert refusal("x,c\n1,2,\n3,4,\n") == "line 2: 3 cells, but the header has 2 columns"  # the rows end in a comma
    assert refusal("x,c\n1,2\n1,3,4\n") == "line 3: 3 cells, but the header has 2 columns"
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
    assert "is no text in UTF-8; add encoding: cp1252, or utf-16 or another, if it is a text; otherwise" in refusal(
        content
    )


def test_characters_that_are_new_private_or_of_windows_make_no_other_file_of_a_text(folder):
    words = ["\U0001fae8", "\uf8ff"]
    assert read_as(f"w,c\n{words[0]},1\n{words[1]},2\n") == {"w": words}
    assert read_as(b"w,c\n\x93a\x94,1\nb,2\n", encoding="latin-1") == {"w": ["\x93a\x94", "b"]}


def test_a_class_of_two_lines_is_told_in_one():
    assert DataShape(1, 1, 2, 0, ["a\nb", "c"]).named_classes() == "2 classes (a b, c)"


def test_a_number_where_a_text_belongs_is_told_with_its_quotes():
    with pytest.raises(BadInput, match=r'missing\[0\] = -999: must be a text; write "-999" in quotes$'):
        checked(Reading, {"missing": [-999]}, KEY)
