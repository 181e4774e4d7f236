"""Predictions without a server: `bancada predict` and `bancada.load`. Expected numbers are computed by hand."""

import json
import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from toy import SOURCE, train_variant, write_leaderboard

import bancada
from bancada.base import BadInput, files, index, lockfile, syntax
from bancada.pipeline import predict

SEEDS = [111, 112, 113]
FEATURES = ["edad", "ingreso", "zona"]
WEIGHTS = np.array([[[1, 2, 3]], [[10, 20, 30]], [[4, 5, 6]]], dtype=np.float32)  # [seed, target, feature]
ROWS = np.arange(27).reshape(9, 3) / 2
MEAN, STD = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 0.5])
SCALED = (ROWS - MEAN) / STD
BEST = SCALED @ WEIGHTS[1, 0]


@pytest.fixture
def line(bench: Path) -> Path:
    """A linear network of numbers, three seeds, of which the second is the best on validation rows."""
    (bench / "dvc.yaml").write_text("stages: {}\n")
    train_variant("toy_tanh")
    write_model([], WEIGHTS, "mse")
    return bench


def write_model(classes: list[str], weights: np.ndarray, loss: str, diverged: dict[str, int] | None = None) -> None:
    folder = files.model("toy", "toy_tanh")
    run = json.loads((folder / "run.json").read_text())
    run["recipe"]["layers"] = [{"kind": "linear", "width": weights.shape[1], "bias": False}]
    run["recipe"]["train"] |= {"loss": loss, "bits": "portable"}
    run |= {"feature_names": FEATURES, "shape": [3], "target_names": ["precio"], "classes": classes}
    run |= {"outputs": weights.shape[1], "parameters": 3, "diverged": diverged or {}}
    (folder / "run.json").write_text(json.dumps(run))
    save_file({"0.weight": weights, "input_mean": MEAN, "input_std": STD}, folder / "weights.safetensors")
    files.INDEX.mkdir(parents=True, exist_ok=True)
    files.index("toy").write_text(json.dumps(index.of_models("toy", ["toy_tanh"])))
    write_leaderboard({"toy_tanh": "1"}, best_seeds={"toy_tanh": SEEDS[1]})


def write_csv(columns: list[str], rows: np.ndarray = ROWS) -> Path:
    """A table of these columns; one that is no feature is filled with words."""
    cells = [
        ["x" if name not in FEATURES else repr(float(row[FEATURES.index(name)])) for name in columns] for row in rows
    ]
    Path("rows.csv").write_text("\n".join(",".join(row) for row in [columns, *cells]) + "\n")
    return Path("rows.csv")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "bancada", "predict", *arguments], capture_output=True, text=True)


def test_columns_are_found_by_name_and_others_are_noted(line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict.predict("toy_tanh", write_csv(FEATURES), Path("plain.csv"), "best")
    assert capsys.readouterr().err == ""
    predict.predict("toy_tanh", write_csv(["zona", "edad", "id", "ingreso"]), Path("mixed.csv"), "best")
    assert capsys.readouterr().err == "rows.csv: not used by toy_tanh: id\n"
    assert Path("mixed.csv").read_bytes() == Path("plain.csv").read_bytes()
    np.testing.assert_allclose(pd.read_csv("plain.csv")["precio"], BEST, rtol=1e-6)


def test_one_row_gets_what_it_gets_among_nine(line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict.predict("toy_tanh", write_csv(FEATURES), None, "best")
    nine = capsys.readouterr().out.splitlines()
    for i in range(9):
        predict.predict("toy_tanh", write_csv(FEATURES, ROWS[i : i + 1]), None, "best")
        assert capsys.readouterr().out.splitlines() == [nine[0], nine[i + 1]]


def test_all_seeds_give_their_mean_and_standard_deviation(line: Path) -> None:
    found = bancada.load("toy_tanh").predict(ROWS, seeds="all")
    of_seeds = np.stack([SCALED @ weights[0] for weights in WEIGHTS])
    np.testing.assert_allclose(found["precio_mean"], of_seeds.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["precio_std"], of_seeds.std(0, ddof=1), rtol=1e-6)


def test_all_seeds_give_each_class_its_share_of_those_that_did_not_diverge(
    line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = np.zeros((3, 2, 3), dtype=np.float32)
    weights[1, 0], weights[2, 1], weights[0] = 1, 1, np.nan  # seed 112 decides for no, 113 for yes
    write_model(["no", "yes"], weights, "cross_entropy", {"111": 0})
    rows = ROWS[3:]  # above the mean, so that the sum is positive
    assert bancada.load("toy_tanh").predict(rows)["precio"].tolist() == ["no"] * 6
    predict.predict("toy_tanh", write_csv(FEATURES, rows), None, "all")
    out, err = capsys.readouterr()
    assert out.splitlines() == ["no,yes"] + ["0.5,0.5"] * 6
    assert err == "toy_tanh: without 1 of 3 seeds, which diverged\n"


def test_a_variant_whose_seeds_all_diverged_says_so(line: Path) -> None:
    write_model([], np.full_like(WEIGHTS, np.nan), "mse", dict.fromkeys(map(str, SEEDS), 0))
    with pytest.raises(BadInput, match=r"^toy_tanh: every seed diverged, so there is no network to predict with"):
        bancada.load("toy_tanh")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("edad,zona\n1,2\n", "line 1: no column 'ingreso'"),
        ("edad,zona,ingresos\n1,2,3\n", "line 1: no column 'ingreso'; did you mean 'ingresos'?"),
        (
            "edad,zona,ingreso,zona\n1,2,3,4\n",
            "line 1: columns named 'zona': 2; give each column a name of its own",
        ),
        ("edad,ingreso,zona\n1,2,3\n1,,3\n", "line 3, column 'ingreso': is empty"),
        ("edad,ingreso,zona\n1,2,nan\n", "column 'zona': 1 of 1 rows has a mark of a missing value: line 2 (nan)"),
        ("edad,ingreso,zona\n1,two,3\n", "column 'ingreso': 1 of 1 rows has no number: line 2 (two)"),
        ("edad,ingreso,zona\n1,2\n", "line 2: 2 cells, but the header has 3 columns"),
        ("edad,ingreso,zona\n1,1e39,3\n", "column 'ingreso': 1 of 1 rows has a number beyond 3.4e+38"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name_and_writes_nothing(line: Path, text: str, problem: str) -> None:
    Path("rows.csv").write_text(text)
    with pytest.raises(BadInput) as refused:
        predict.predict("toy_tanh", Path("rows.csv"), Path("out.csv"), "best")
    assert str(refused.value).startswith(f"rows.csv: {problem}")
    assert "\n" not in str(refused.value)
    assert not Path("out.csv").exists()


def test_a_data_frame_is_read_by_name_and_an_array_in_the_order_of_the_features(line: Path) -> None:
    loaded = bancada.load("toy_tanh")
    frame = pd.DataFrame(ROWS, columns=FEATURES, index=list("abcdefghi"))
    np.testing.assert_allclose(loaded.predict(frame[["zona", "edad", "ingreso"]])["precio"], BEST, rtol=1e-6)
    assert list(loaded.predict(frame).index) == list("abcdefghi")
    np.testing.assert_allclose(loaded.predict(ROWS)["precio"], BEST, rtol=1e-6)
    with pytest.raises(BadInput, match=r"^toy_tanh: the data frame has no column 'zona'$"):
        loaded.predict(frame[["edad", "ingreso"]])
    with pytest.raises(BadInput, match=r"^toy_tanh: rows of 2 features, not 3$"):
        loaded.predict(ROWS[:, :2])
    with pytest.raises(BadInput, match=r"^toy_tanh: there are no rows to predict from$"):
        loaded.predict(frame[:0])
    frame.loc["b", "ingreso"] = np.inf
    with pytest.raises(BadInput, match=r"^toy_tanh: row 2, column 'ingreso' = inf: must be a finite number"):
        loaded.predict(frame)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("two", " = two: must be a number"),
        (None, ": is empty"),
        (pd.NA, ": is empty"),
        (np.nan, ": is empty"),
        ("nan", " = nan: must be a number"),
        ("1_000", " = 1_000: must be a number"),
        (pd.Timestamp(2024, 4, 3), " = 2024-04-03 00:00:00: must be a number"),
        (1e39, " = 1e+39: must be a finite number that float32 can hold"),
    ],
)
def test_a_cell_that_is_no_number_is_refused_by_row_and_column(line: Path, cell: object, problem: str) -> None:
    loaded = bancada.load("toy_tanh")
    frame = pd.DataFrame(ROWS, columns=FEATURES).astype(object)
    frame.loc[1, "ingreso"] = cell
    for rows in (frame, frame.to_numpy(), frame.to_numpy().tolist()):
        with pytest.raises(BadInput) as refused:
            loaded.predict(rows)
        assert str(refused.value) == f"toy_tanh: row 2, column 'ingreso'{problem}"


def test_unknown_seeds_are_refused(line: Path) -> None:
    with pytest.raises(BadInput, match=r"^toy_tanh: seeds = 'al': must be best or all; did you mean 'all'\?$"):
        bancada.load("toy_tanh").predict(ROWS, seeds="al")  # type: ignore[arg-type]  # what is wrong is what is tried


def test_a_folder_is_not_replaced_by_predictions(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "load", None)  # nothing is computed
    (line / "mine").mkdir()
    (line / "mine/notes").write_text("mine")
    with pytest.raises(BadInput, match=r"^mine: is a folder, not a file$"):
        predict.predict("toy_tanh", write_csv(FEATURES), Path("mine"), "best")
    assert (line / "mine/notes").read_text() == "mine"
    os.mkfifo(line / "pipe")
    with pytest.raises(BadInput, match=r"^pipe: is a device, not a file$"):
        predict.predict("toy_tanh", write_csv(FEATURES), Path("pipe"), "best")


def test_a_variant_that_is_not_ready_is_refused_with_the_way_out(line: Path) -> None:
    with pytest.raises(BadInput, match=r"variants.toy_tan: missing; did you mean 'toy_tanh'"):
        bancada.load("toy_tan")
    weights = files.model("toy", "toy_tanh") / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before + b" ")
    with pytest.raises(BadInput, match=r"not evaluated yet; `dvc repro evaluate@toy` does it"):
        bancada.load("toy_tanh")
    weights.write_bytes(before)
    write_leaderboard({"toy_tanh": "1"})
    with pytest.raises(BadInput, match=r"leaderboard.csv: no best seed of toy_tanh"):
        bancada.load("toy_tanh")


NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1, bias=False)
    def forward(self, rows):
        from .late import flat
        return self.inner(flat(rows))
"""


def test_a_users_network_predicts_and_leaves_nothing_in_the_notebook(line: Path) -> None:
    Path("src/models").mkdir(parents=True)
    Path("src/models/net.py").write_text(NET)
    Path("src/models/late.py").write_text("def flat(rows): return rows.flatten(1)\n")
    folder = files.model("toy", "toy_tanh")
    run = json.loads((folder / "run.json").read_text())
    del run["recipe"]["layers"]
    run["recipe"] |= {"module": {"file": "src/models/net.py", "name": "Net", "args": {}}, "engine": "torch"}
    (folder / "run.json").write_text(json.dumps(run | {"shape": [3, 1]}))
    save_file({"inner.weight": WEIGHTS, "input_mean": MEAN, "input_std": STD}, folder / "weights.safetensors")
    files.index("toy").write_text(json.dumps(index.of_models("toy", ["toy_tanh"])))
    hashed = {"code": {"deps": [{"path": "src", "md5": lockfile.dvc_md5(Path("src"))}]}}
    Path("dvc.lock").write_text(json.dumps({"stages": hashed}))
    loaded, finders = bancada.load("toy_tanh"), list(sys.meta_path)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled, torch.get_rng_state()
    with chdir("/"):
        np.testing.assert_allclose(loaded.predict(ROWS)["precio"], BEST, rtol=1e-6)
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert sys.meta_path == finders
    assert "models" not in sys.modules
    Path("src/models/late.py").write_text("def flat(rows): return -rows.flatten(1)\n")
    with pytest.raises(BadInput, match=r"^toy_tanh: src has changed since its training; `dvc repro evaluate@toy`"):
        bancada.load("toy_tanh")


def test_the_command_works_below_the_root_and_answers_bad_input_with_2(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    (line / "below").mkdir()
    monkeypatch.chdir(line / "below")
    write_csv(FEATURES)
    Path("out.csv").symlink_to("linked.csv")
    done = run("toy_tanh", "rows.csv", "--out", "out.csv")
    assert Path("out.csv").is_symlink()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    np.testing.assert_allclose(pd.read_csv("out.csv")["precio"], BEST, rtol=1e-6)
    write_csv(FEATURES[:2])
    done = run("toy_tanh", "rows.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("rows.csv: line 1: no column 'zona'; the columns are edad, ingreso\n")


def test_a_notebook_loads_neither_mlflow_nor_torch_for_the_small_vocabulary(line: Path) -> None:
    code = (
        "import sys, bancada\n"
        "print(bancada.load('toy_tanh').predict([[1, 2, 3]])['precio'][0])\n"
        "print(sorted({'mlflow', 'torch'} & sys.modules.keys()))"
    )
    environment = {"PYTHONPATH": str(SOURCE), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0.0", "[]"]


def test_no_stage_depends_on_predictions() -> None:
    """Else every training would run again when they change. Each stage depends on what `bancada` itself imports."""
    modules, _ = syntax.Folder(SOURCE).closure(["bancada"])
    assert modules.keys() == {"bancada", "bancada.pins"}
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = bancada.laod
