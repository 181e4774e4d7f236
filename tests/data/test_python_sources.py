"""Sources of one's own: the rows are those that the function returns, and each mistake is told in one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bancada.base import BadInput, files, tables, user_code
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.data import generate, sources, split

KEY = "studies.mine.source"
FILE = "src/sources/waves.py"
HEAD = "import numpy as np\nimport pandas as pd\n\n\n"
Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(folder, monkeypatch):
    """Writes `def make(SIGNATURE)` with a body into src/sources/waves.py, and returns the source in params.yaml."""

    def written(body: str, signature: str = "seed", head: str = HEAD, **keys: Any) -> dict[str, Any]:
        path = Path(FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(f"{head}def make({signature}):\n{lines}")
        user_code.forget()
        return {"kind": "python", "file": FILE, "name": "make", "task": "regression"} | keys

    yield written
    user_code.forget()


def made(source: dict[str, Any]) -> Table:
    return sources.load(source, KEY).table(KEY)


def refused(source: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as error:
        made(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(one: Table, other: Table) -> bool:
    names = ("feature_names", "target_names", "classes", "row_shape", "words", "asides")
    arrays = ("features", "targets")
    return all(getattr(one, name) == getattr(other, name) for name in names) and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in arrays
    )


# --- what is returned -----------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_the_function_for_its_seed_and_arguments(write):
    body = "x = np.random.default_rng(seed).normal(size=(rows, 2))\nreturn {'inputs': x, 'target': x.sum(1) * scale}"
    source = write(body, "seed, rows, scale=1.0", args={"rows": 5, "scale": 2.0}, seed=7)
    x = np.random.default_rng(7).normal(size=(5, 2))
    table = made(source)
    assert np.array_equal(table.features, x)
    assert np.array_equal(table.targets, x.sum(1, keepdims=True) * 2)
    assert (table.feature_names, table.target_names) == (["inputs[0]", "inputs[1]"], ["target"])
    assert (table.row_shape, table.classes) == (None, [])
    del source["seed"]
    assert np.array_equal(made(source).features, np.random.default_rng(0).normal(size=(5, 2)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (50, 3)])
def test_rows_keep_their_shape_through_both_stages(write, shape):
    body = (
        f"x = np.random.default_rng(seed).random((12, *{shape}))\nreturn {{'inputs': x, 'target': ['b', 'a', 'c'] * 4}}"
    )
    raw = {"source": write(body, task="classification"), "split": {"train": 0.5, "test": 0.5}}
    params = ParamsFile({"studies": {"mine": raw}})
    generate.main(params, "mine")
    split.main(params, "mine")
    images = np.random.default_rng(0).random((12, *shape))
    raw_rows = tables.read(files.raw("mine"))
    assert np.array_equal(raw_rows.features.reshape(-1, *raw_rows.shape), images)
    assert raw_rows.feature_names[-1] == f"inputs{[size - 1 for size in shape]}"
    assert [raw_rows.classes[place] for place in raw_rows.targets[:, 0]] == ["b", "a", "c"] * 4
    for part in ("train", "test"):
        assert tables.read(files.split("mine") / f"{part}.parquet").row_shape == list(shape)


@pytest.mark.parametrize(
    ("target", "task", "expected"),
    [
        ("[3, 1, 3]", "classification", ([[1], [0], [1]], [1, 3])),
        ("np.array([3.0, 1.0, 3.0])", "classification", ([[1], [0], [1]], [1, 3])),
        ("[' b', 'a', 'b ']", "classification", ([[1], [0], [1]], ["a", "b"])),
        ("np.array([[3], [1], [3]])", "classification", ([[1], [0], [1]], [1, 3])),
        ("np.array([[3, 4], [1, 2], [3, 0]])", "regression", ([[3, 4], [1, 2], [3, 0]], [])),
        ("[True, False, True]", "regression", ([[1], [0], [1]], [])),
    ],
)
def test_targets_are_numbers_or_classes_as_the_task_says(write, target, task, expected):
    table = made(write(f"return {{'inputs': [[1], [2], [3]], 'target': {target}}}", task=task))
    assert (table.targets.tolist(), table.classes) == expected
    assert table.feature_names == ["inputs"]


def test_several_targets_may_be_named(write):
    body = "return {'inputs': [[1.0], [2.0]], 'target': [[1, 2], [3, 4]]}"
    assert made(write(body)).target_names == ["target[0]", "target[1]"]
    assert made(write(body, targets=["price", "rent"])).target_names == ["price", "rent"]
    assert refused(write(body, targets=["price"])) == (
        f"{FILE}: make: returned 2 targets; must be as many as {KEY}.targets names"
    )


FRAME = """\
return pd.DataFrame({
    "age": [20, None, 40, 31], "sex": ["m", "f", None, "m"], "id": ["p1", "p1", "p2", "p3"],
    "note": ["x", "y", "z", "w"], "smokes": [True, False, True, True], "price": [1.5, 2.0, 3.0, 4.0],
})
"""
CSV = "age,sex,id,note,smokes,price\n20,m,p1,x,true,1.5\n,f,p1,y,false,2\n40,,p2,z,true,3\n31,m,p3,w,true,4\n"


@pytest.mark.parametrize(
    "keys",
    [
        {"targets": ["price"]},
        {"targets": ["price"], "ignore": ["note", "id"]},
        {"targets": ["price"], "features": ["sex", "age"]},
        {"targets": ["sex"], "task": "classification", "ignore": ["sex"]},
        {"targets": ["id"], "task": "classification", "ignore": ["note"]},
        {"targets": ["price"], "words": ["age"]},
        {"targets": ["prize"]},
        {"targets": ["age"]},
    ],
)
def test_a_data_frame_is_read_as_the_same_cells_in_a_csv_file(write, keys):
    Path("data/sources/mine.csv").write_text(CSV)
    answers = []
    by_file = {"kind": "csv", "path": "data/sources/mine.csv", "task": "regression"} | keys
    for source in (write(FRAME, **keys), by_file):
        try:
            answers.append(made(source))
        except BadInput as error:
            told = str(error).replace(FILE, "").replace("data/sources/mine.csv", "").replace("line 1: ", "")
            answers.append(re.sub(r"(line|row) (\d)", lambda found: str(int(found[2]) - (found[1] == "line")), told))
    assert answers[0] == answers[1] if isinstance(answers[1], str) else same(*answers)


def test_the_groups_of_a_split_may_be_a_column_of_a_data_frame(write):
    rows = made(write(FRAME, targets=["price"], features=["age"]))
    parts = split.parts_of(rows, split.Split(train=0.6, test=0.4, groups="id"), "studies.mine.split")
    assert {name: part.feature_names for name, part in parts.items()} == {name: ["age"] for name in files.PARTS}


@pytest.mark.parametrize(
    ("key", "cells", "split_keys"),
    [
        ("groups", [f"p{row // 3}" for row in range(12)], {"train": 0.5, "test": 0.5}),
        ("groups", [row // 3 for row in range(12)], {"train": 0.5, "test": 0.5}),
        ("order", [f"2024-01-{30 - row}" for row in range(12)], {"train": 6, "test": 6}),
        ("order", list(range(12, 0, -1)), {"train": 6, "test": 6}),
    ],
)
def test_images_are_split_by_groups_or_order_and_keep_their_shape(write, key, cells, split_keys):
    body = f"x = np.arange(12 * 64).reshape(12, 1, 8, 8)\nreturn {{'inputs': x, 'target': range(12), '{key}': {cells}}}"
    params = ParamsFile({"studies": {"mine": {"source": write(body), "split": {**split_keys, key: key}}}})
    generate.main(params, "mine")
    split.main(params, "mine")
    parts = {part: tables.read(files.split("mine") / f"{part}.parquet") for part in ("train", "test")}
    of = {part: [cells[int(row)] for row in table.targets[:, 0]] for part, table in parts.items()}
    assert {part: (table.row_shape, table.features.shape) for part, table in parts.items()} == {
        part: ([1, 8, 8], (6, 64)) for part in parts
    }
    assert np.array_equal(parts["test"].features[:, 0], parts["test"].targets[:, 0] * 64)
    assert not set(of["train"]) & set(of["test"])
    assert key == "groups" or max(of["train"]) < min(of["test"])


def test_moments_of_numpy_are_an_order(write):
    days = "np.array(['2024-03-01', '2024-02-01'], 'datetime64[ns]')"
    table = made(write(f"return {{'inputs': [[1], [2]], 'target': [1, 2], 'order': {days}}}"))
    assert table.words == {"order": ["2024-02-01", "2024-03-01"]}
    parts = split.parts_of(table, split.Split(train=1, test=1, order="order"), "studies.mine.split")
    assert parts["train"].targets.tolist() == [[2]]


def test_a_target_may_not_have_the_name_of_the_groups(write):
    body = "return {'inputs': [[1], [2]], 'target': [1, 2], 'groups': [1, 2]}"
    assert refused(write(body, targets=["groups"])).startswith(
        f"{FILE}: make: 'groups' is both a target and another column"
    )


def test_groups_that_change_from_call_to_call_are_refused(write):
    body = "calls.append(1)\nreturn {'inputs': np.ones((2, 3, 4)), 'target': [1, 2], 'groups': ['a', str(len(calls))]}"
    source = sources.load(write(body, head=f"{HEAD}calls = []\n\n\n"), KEY)
    with pytest.raises(BadInput, match="another call with the same arguments differs in"):
        source.refuse_changing(source.table(KEY), KEY)


# --- mistakes -------------------------------------------------------------------------------------------------------

STACK = "np.stack(rows) makes one of a list of rows that have the same shape"
OBJECTS = "make: inputs holds object, not numbers; astype(float) makes numbers of what looks like it"
MISTAKES = {
    "no rows": ("{'inputs': [], 'target': []}", f"make: inputs has the shape [0]; must be [row, ...]; {STACK}"),
    "dict": ("{'inputs': {0: [1]}, 'target': [1]}", f"make: inputs has the shape []; must be [row, ...]; {STACK}"),
    "array of arrays": (
        "{'inputs': np.array([np.ones(2), np.ones(3)], dtype=object), 'target': [1, 2]}",
        OBJECTS,
    ),
    "tensor": (
        "{'inputs': torch.ones(2, 2, requires_grad=True), 'target': [1, 2]}",
        "make: inputs: RuntimeError: Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy()",
    ),
    "its own array": ("{'inputs': Broken(), 'target': [1]}", "make: inputs: 6: in Broken.__array__: KeyError: 'x'"),
    "groups": (
        "{'inputs': [[1], [2]], 'target': [1, 2], 'groups': ['a']}",
        "make: returned the shapes inputs [2, 1], target [2], groups [1]; must be inputs [row, ...], target [row] or",
    ),
    "nothing": ("None", "make: returned an object of type NoneType; must be a pandas DataFrame, or"),
    "other names": ("{'x': [[1]], 'y': [1]}", "make: returned a mapping of x, y; must be a pandas DataFrame, or"),
    "lengths": (
        "{'inputs': [[1], [2]], 'target': [1]}",
        "make: returned the shapes inputs [2, 1], target [1]; must be inputs [row, ...], target [row] or [row, ta",
    ),
    "ragged": ("{'inputs': [[1, 2], [3]], 'target': [1, 2]}", "make: inputs: ValueError: setting an array element"),
    "not finite": (
        "{'inputs': np.array([[[1.0, 2]], [[3, np.nan]]]), 'target': [1, 2]}",
        "make: inputs[1, 0, 1] = nan: must be a finite number",
    ),
    "too large": ("{'inputs': [[1e39]], 'target': [1]}", "column 'inputs': 1 of 1 rows has a number beyond 3.4e+38"),
    "texts": ("{'inputs': [['a']], 'target': [1]}", "make: inputs holds <U1, not numbers"),
    "complex": ("{'inputs': [[1j]], 'target': [1]}", "make: inputs holds complex128, not numbers"),
    "empty": ("{'inputs': [[1, None]], 'target': [1]}", OBJECTS),
    "target": (
        "{'inputs': [[1], [2]], 'target': [1, np.inf]}",
        "column 'target': 1 of 2 rows has a number beyond 3.4e+38",
    ),
    "cube": ("{'inputs': [[1]], 'target': [[[1]]]}", "make: returned the shapes inputs [1, 1], target [1, 1, 1]; must"),
    "names twice": (
        "pd.DataFrame([[1, 2, 3]], columns=['a', 'a', 'target'])",
        "columns named 'a': 2; give each column a name of its own, or add ignore: [a]",
    ),
    "mixed": (
        "pd.DataFrame({'a': [1, 'x', None, 2.0], 'target': [1, 2, 3, 4]})",
        "column 'a': 1 of 4 rows has no number: row 2 (x); add missing: [",
    ),
    "objects in a column": (
        "pd.DataFrame({'a': [1, object()], 'target': [1, 2]})",
        "make: column 'a' cannot be stored: Could not convert",
    ),
    "empty frame": ("pd.DataFrame({'a': [], 'target': []})", "no rows"),
    "its own error": ("1 / seed", "13: in make: ZeroDivisionError: division by zero"),
}


OWN_ARRAYS = """\
import torch


class Broken:
    def __array__(self, dtype=None, copy=None):
        return {}["x"]
"""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_learned_from_is_told_with_the_file_and_the_place(write, mistake):
    returned, told = MISTAKES[mistake]
    source = write(f"x = 1\nreturn {returned}", head=OWN_ARRAYS + HEAD)
    assert refused(source).replace(f"{FILE}:", "").strip().startswith(told)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("['a', 'a', 'a']", "column 'target' has one class, a; at least two are needed"),
        (
            "['a', '', None]",
            "column 'target': 2 of 3 rows have no label: rows 2 (empty), 3 (empty); mend them, or take them out",
        ),
        ("[1, 0.5, 2]", "make: target[1] = 0.5: is no class; texts and whole numbers are"),
        (
            "[[1, 2], [1, 2], [2, 1]]",
            "make: returned 2 targets; must be one, of classes",
        ),
    ],
)
def test_what_is_no_class_is_told(write, target, told):
    source = write(
        f"return {{'inputs': [[1], [2], [3]], 'target': {target}}}", task="classification", targets=["target"]
    )
    assert refused(source).startswith(f"{FILE}: {told}")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"file": "src/models/waves.py"},
            f"params.yaml: {KEY}.file = src/models/waves.py: must be a Python file below",
        ),
        ({"file": "src/sources/wave.py"}, "src/sources/wave.py: no such file; did you mean 'src/sources/waves.py'?"),
        ({"name": "mak"}, f"{FILE}: there is no class or function mak in it; did you mean 'make'?"),
        (
            {"args": {"row": 1}},
            f"{FILE}: make: got an unexpected keyword argument 'row'; it takes seed, rows; did you",
        ),
        ({"args": {"seed": 1}}, f"params.yaml: {KEY}.args.seed: is source.seed, beside args"),
        ({"separator": ";"}, f"params.yaml: {KEY}.separator: is for files of text; a function returns numbers"),
        ({"features": ["x"]}, f"params.yaml: {KEY}.features: is for columns; {FILE} returns arrays"),
        ({"seed": -1}, f"params.yaml: {KEY}.seed = -1: must be greater than or equal to 0"),
    ],
)
def test_keys_that_do_not_fit_are_told(write, keys, told):
    source = write("return {'inputs': [[1], [2]], 'target': [1, 2]}", "seed, rows=1") | keys
    assert refused(source).startswith(told)


# --- a function of its arguments ------------------------------------------------------------------------------------

CHANGING = {
    "unseeded array": (
        "{'inputs': np.random.rand(3, 1, 2), 'target': [1, 2, 3]}",
        "another call with the same arguments differs in column 'inputs[0, 0]' and 1 more",
    ),
    "unseeded column": (
        "pd.DataFrame({'a': [1, 2], 'b': np.random.rand(2), 'target': [1, 2]})",
        "another call with the same arguments differs in column 'b'",
    ),
    "counter": (
        "{'inputs': [[calls.append(1) or len(calls)]], 'target': [1]}",
        "another call with the same arguments differs in column",
    ),
    "hash": (
        "{'inputs': [[1], [2], [3], [4], [5]], 'target': [hash(name) % 1000 for name in 'abcde']}",
        "another call with the same arguments differs in target 'target'",
    ),
}


@pytest.mark.parametrize("changing", CHANGING)
def test_a_source_that_is_no_function_of_its_arguments_is_refused_by_the_stage(write, changing):
    returned, told = CHANGING[changing]
    source = write(f"return {returned}", head=f"{HEAD}calls = []\n\n\n")
    with pytest.raises(BadInput) as error:
        generate.main(ParamsFile({"studies": {"mine": {"source": source}}}), "mine")
    why = "random numbers that do not come from `seed`, the time, or the order of a set are usual reasons"
    assert str(error.value).startswith(f"{FILE}: make: {told}")
    assert str(error.value).endswith(why)
    assert not Path("data/raw").exists()


def test_one_that_changes_its_arguments_or_prints_is_fine(write):
    body = "print('hello')\nsizes.append(3)\nreturn {'inputs': np.ones((len(sizes), 1)), 'target': range(len(sizes))}"
    source = write(body, "seed, sizes", args={"sizes": [1, 2]})
    generate.main(ParamsFile({"studies": {"mine": {"source": source}}}), "mine")
    assert len(tables.read(files.raw("mine"))) == 3


# --- the files that it reads ----------------------------------------------------------------------------------------

TWO = "\nreturn {'inputs': [[1], [2]], 'target': [1, 2]}"


def test_files_in_data_sources_and_modules_beside_it_may_be_read(write):
    Path("data/sources/deep").mkdir()
    Path("data/sources/deep/mine.csv").write_text("a,target\n1,2\n3,4\n")
    source = write("from .helpers import table\nreturn table('data/sources/deep/mine.csv')")
    Path("src/sources/helpers.py").write_text("from pandas import read_csv as table\n")
    assert made(source).features.tolist() == [[1], [3]]


@pytest.mark.parametrize(
    "reading",
    [
        "with open('notes/mine.csv') as file: file.read()",
        "pd.read_csv('notes/mine.csv')",
        "np.loadtxt(Path('notes') / 'mine.csv', skiprows=1)",
        "os.open(b'notes/mine.csv', os.O_RDONLY)",
        "sqlite3.connect('notes/mine.csv').close()",
        "Path('data/sources/../../notes/mine.csv').read_text()",
    ],
)
def test_another_file_of_the_repository_is_refused_by_name_and_line(write, reading):
    Path("notes").mkdir()
    Path("notes/mine.csv").write_text("1\n2\n")
    head = f"import os\nimport sqlite3\nfrom pathlib import Path\n{HEAD}"
    assert refused(write(f"{reading}{TWO}", head=head)) == (
        f"{FILE}:9: opens notes/mine.csv; move it into data/sources, where DVC notices when it changes"
    )


def test_a_file_elsewhere_is_refused_and_one_of_the_system_or_a_temporary_one_is_not(
    write, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("home") / "mine.csv"
    elsewhere.write_text("1")
    source = write(
        f"Path('/etc/hosts').read_text()\nPath({str(elsewhere)!r}).read_text(){TWO}",
        head=f"from pathlib import Path\n{HEAD}",
    )
    assert len(made(source)) == 2  # pytest's folders are temporary ones
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    assert refused(source).startswith(f"{FILE}:8: opens {elsewhere}; move it into data/sources")


def test_a_file_that_is_read_on_import_or_by_a_helper_is_refused_with_that_line(write):
    Path("limits.json").write_text("[1]")
    source = write(TWO.strip(), head="from pathlib import Path\nTABLE = Path('limits.json').read_text()\n\n\n")
    assert refused(source).startswith(f"{FILE}:2: opens limits.json;")
    source = write(f"from .helpers import read\nread(){TWO}")
    Path("src/sources/helpers.py").write_text("def read():\n    with open('params.yaml') as file: return file.read()\n")
    Path("params.yaml").write_text("")
    assert refused(source).startswith("src/sources/helpers.py:2: opens params.yaml;")


@pytest.mark.parametrize(
    "writing",
    [
        "open('data/sources/mine.csv', 'a').close()",
        "pd.DataFrame([1]).to_csv('data/sources/mine.csv')",
        "np.save('data/sources/mine.npy', np.ones(2))",
        "os.close(os.open('data/sources/mine.csv', os.O_RDWR | os.O_CREAT))",
        "Path('data/sources/mine.csv').read_text(); Path('data/sources/mine.csv').write_text('1')",
        "open('src/sources/other.py', 'w').close(); Path('src/sources/other.py').unlink()",
    ],
)
def test_a_source_that_writes_into_the_repository_is_refused_by_name_and_line(write, writing):
    Path("data/sources/mine.csv").write_text("1\n")
    told = refused(write(f"{writing}{TWO}", head=f"import os\nfrom pathlib import Path\n{HEAD}"))
    assert re.fullmatch(
        rf"{FILE}:8: writes (data|src)/sources/\w+.\w+; a source must return its rows, and leave files as they are",
        told,
    )


def test_a_source_may_write_temporary_files(write):
    body = f"import tempfile\nwith tempfile.TemporaryFile() as file: file.write(b'1'){TWO}"
    assert len(made(write(body))) == 2


def test_a_missing_file_is_told_with_the_line_that_reads_it(write):
    told = refused(write(f"open('data/sources/none.csv').read(){TWO}"))
    assert told == f"{FILE}:6: in make: FileNotFoundError: [Errno 2] No such file or directory: 'data/sources/none.csv'"
