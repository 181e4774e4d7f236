"""Tables in files are read as they stand; what cannot be used is refused by file, line and column, with a way out."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_tables import TABLES
from table_files import FILE, KEY, cells, made, parquet, refusal, source

from bancada.base import BadInput, tables
from bancada.data import labels, texts
from bancada.data.reading import Reading
from bancada.data.sources.csv import CsvFile


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
        "lines 3 (empty), 4 (?), 7 (NA), 8 (-), 9 (nan); mend them, or take them out"
    )
    with pytest.raises(BadInput, match=r"column 'c': 1 of 3 rows has no label: line 2 \(NULL\); mend"):
        made("a,b,c\n1,2,NULL\n1,2,+\n1,2,-\n", "classification")
    with pytest.raises(BadInput, match=r"'c': 200 of 200 rows have no label: line.* 11 \(empty\) and 190 more; mend"):
        made("a,b,c\n" + "1,2,\n" * 200, "classification")


def test_what_pandas_reads_as_missing_is_no_label():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES <= labels.MISSING


BROKEN = {  # a file, the task -> the line after the file's name
    "empty": ("", "regression", "is empty"),
    "blank": ("\n\n", "regression", "is empty"),
    "header only": ("a,b,c\n", "regression", "no rows below the header"),
    "open quote": ('a,b,c\n1,2,3\n1,"2,3\n', "regression", "line 3: unexpected end of data; is a quote not closed"),
    "after a quote": ('a,b,c\n1,"2" x,3\n', "regression", "line 2: ',' expected after '\"'"),
    "a long cell": (f"a,b,c\n1,2,{'x' * 200_000}\n", "regression", "line 2: field larger than field limit"),
    "short row": ("a,b,c\n1,2,3\n1,2\n", "regression", "line 3: 2 cells, but the header has 3 columns"),
    "long row": ("a,b,c\n1,2,3\n1,2,3,4\n", "regression", "line 3: 4 cells, but the header has 3 columns"),
    "missing column": ("a,bb,c\n1,2,3\n", "regression", "line 1: no column 'b'; did you mean 'bb'?"),
    "double column": (
        "a,b,b,c\n1,2,3,4\n",
        "regression",
        "line 1: columns named 'b': 2; give each column a name of its own, or add ignore: [b]",
    ),
    "word": ("a,b,c\n1,2,3\n\n1,two,3\n", "regression", "column 'b': 1 of 2 rows has no number: line 4 (two); add"),
    "underscore": ("a,b,c\n1_0,2,3\n2,2,3\n", "regression", "column 'a': 1 of 2 rows has no number: line 2 (1_0); add"),
    "nan": (
        "a,b,c\n1,2,3\n1,NaN,3\n",
        "regression",
        "column 'b': 1 of 2 rows has a mark of a missing value: line 3 (Na",
    ),
    "inf": ("a,b,c\n1,2,-inf\n", "regression", "column 'c': 1 of 1 rows has an infinite number: line 2 (-inf); mend"),
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
