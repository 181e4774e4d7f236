"""Predictions for raw rows with words and empty cells: from files as the study's source says, and from data frames.
The expected numbers are those of an evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from toy import PARAMS
from toy_models import scored
from words import FEATURES, NEW, table_of, trained_on_words

import bancada
from bancada.base import BadInput, files, index, tables
from bancada.data.settings import Split
from bancada.data.sources.csv import CsvFile
from bancada.data.split import divide
from bancada.evaluation.settings import new_inputs
from bancada.networks import saved
from bancada.pipeline import predict

MOONS = "{kind: half_moons, rows: 16, radius: 10, distance: -4, width: 6, seed: 1}"
SOURCE = {
    "kind": "csv",
    "path": "data/sources/precios.csv",
    "targets": ["precio"],
    "task": "regression",
    "separator": ";",
    "decimal": ",",
    "missing": ["?", ""],
    "words": ["turno", "zona"],
}
TOLD = "column 'peso': empty cells imputed: 2; column 'sexo': empty cells imputed: 1; column 'sexo' has 2 cells with "
KNOWN = {"peso": 10.0, "turno": "2", "sexo": "AA", "zona": "10"}


def prices(engine: Literal["compiled", "torch"], source: dict[str, Any] = SOURCE) -> None:
    Path("dvc.yaml").write_text("stages: {}\n")
    Path("params.yaml").write_text(PARAMS.replace(MOONS, str(source).replace("True", "true")))
    trained_on_words(engine)
    files.INDEX.mkdir(parents=True, exist_ok=True)
    files.index("toy").write_text(json.dumps(index.of_models("toy", ["toy_tanh"])))
    scored({"toy_tanh": [5.0, 1.0, 3.0]})


def evaluated(rows: pd.DataFrame = NEW) -> np.ndarray:
    """What an evaluation makes of these rows with all seeds."""
    return saved.load(files.model("toy", "toy_tanh")).predict(table_of(rows, np.zeros((len(rows), 1))))[..., 0]


def written(rows: pd.DataFrame = NEW, name: str = "rows.csv", **how: Any) -> Path:
    rows.to_csv(name, index=False, **{"sep": ";", "decimal": ",", "na_rep": "?"} | how)
    return Path(name)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_rows_of_a_file_and_of_a_data_frame_get_the_bits_of_the_evaluation(
    bench: Path, engine: Literal["compiled", "torch"], capsys: pytest.CaptureFixture[str]
) -> None:
    prices(engine)
    expected = evaluated()
    for rows in (NEW, NEW[["zona", "sexo", "turno", "peso"]], NEW.to_numpy(), NEW.to_numpy().tolist()):
        found = bancada.load("toy_tanh").predict(rows)
        np.testing.assert_array_equal(found["precio"], expected[1])
    of_all = bancada.load("toy_tanh").predict(NEW, seeds="all")
    np.testing.assert_array_equal(of_all["precio_mean"], expected.mean(0))
    np.testing.assert_array_equal(of_all["precio_std"], expected.std(0, ddof=1))
    assert capsys.readouterr().err == ""
    predict.predict("toy_tanh", written(), Path("out.csv"), "best")
    np.testing.assert_array_equal(pd.read_csv("out.csv")["precio"], expected[1])
    told = capsys.readouterr().err
    assert told.startswith(f"rows.csv: {TOLD}")
    assert "words of no training row (A, Ç); column 'zona' has 1 cell with a word of no training row (99);" in told
    assert told.endswith("column 'zona' has 1 empty cell\n")
    assert told.count("\n") == 1


def test_parquet_rows_and_rows_that_name_their_columns_need_no_other_source(bench: Path) -> None:
    """The words are numbers in parquet; a blank makes them 20.0."""
    prices("torch", SOURCE | {"header": [*FEATURES, "precio"]})
    numbers = NEW.assign(turno=NEW["turno"].astype(int), zona=NEW["zona"].astype(float))
    numbers.to_parquet("new.parquet")
    predict.predict("toy_tanh", Path("new.parquet"), Path("parquet.csv"), "best")
    predict.predict("toy_tanh", written(), Path("named.csv"), "best")
    assert Path("named.csv").read_text() == Path("parquet.csv").read_text()


@pytest.mark.parametrize("cells", [{"turno": 2}, {"turno": 2.0}, {"turno": "2"}, {"turno": np.int8(2), "zona": 10.0}])
def test_words_may_be_numbers(bench: Path, cells: dict[str, Any]) -> None:
    prices("compiled")
    row = pd.DataFrame([KNOWN | cells])
    np.testing.assert_array_equal(bancada.load("toy_tanh").predict(row)["precio"], evaluated(pd.DataFrame([KNOWN]))[1])


@pytest.mark.parametrize("empty", [None, np.nan, pd.NA, ""])
def test_empty_cells_are_imputed_however_pandas_writes_them(bench: Path, empty: Any) -> None:
    prices("compiled")
    rows = pd.DataFrame([KNOWN | {"peso": empty, "sexo": empty}, KNOWN]).astype(object)
    expected = evaluated(pd.DataFrame([KNOWN | {"peso": np.nan, "sexo": None}, KNOWN]))[1]
    loaded = bancada.load("toy_tanh")
    np.testing.assert_array_equal(loaded.predict(rows)["precio"], expected)
    np.testing.assert_array_equal(loaded.predict(rows.astype({"turno": "category"}))["precio"], expected)


def test_a_word_that_may_not_be_unknown_is_refused_by_its_line_and_nothing_is_written(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices("compiled")
    rows = pd.DataFrame([KNOWN, KNOWN | {"turno": "02"}])
    unknown = "column 'turno': the word '02' is in no training row, which have: 1, 2, 3"
    with pytest.raises(BadInput, match=f"^rows.csv: line 3, {unknown}$"):
        predict.predict("toy_tanh", written(rows), Path("out.csv"), "best")
    with pytest.raises(BadInput, match=f"^toy_tanh: row 2, {unknown}$"):
        bancada.load("toy_tanh").predict(rows)
    with pytest.raises(BadInput, match=r"^toy_tanh: row 1, column 'turno': is empty$"):
        bancada.load("toy_tanh").predict(pd.DataFrame([KNOWN | {"turno": None}]))
    with pytest.raises(BadInput, match=r"^toy_tanh: row 1, column 'peso' = s/d: must be a number$"):
        bancada.load("toy_tanh").predict(pd.DataFrame([KNOWN | {"peso": "s/d"}]))
    assert not Path("out.csv").exists()
    assert capsys.readouterr().err == ""


def test_a_file_in_another_form_is_to_be_written_like_the_studys_table(bench: Path) -> None:
    """Whose own form is right: the keys of its source are not to be changed."""
    prices("compiled")
    rows = pd.DataFrame([KNOWN, KNOWN | {"peso": 1.5}])
    way = "the file needs a first line of names, and cells as params.yaml: studies.toy.source says"
    for how, problem in (
        ({"sep": ","}, "line 1: commas separate the columns"),
        (
            {"decimal": "."},
            "column 'peso': 2 of 2 rows have a number in another form: lines 2 (10.0), 3 (1.5); mend them, or take"
            " them out",
        ),
    ):
        with pytest.raises(BadInput) as refused:
            predict.predict("toy_tanh", written(rows, **how), None, "best")
        assert str(refused.value) == f"rows.csv: {problem}; {way}"
    with pytest.raises(BadInput, match=r"^rows.csv: line 1: no column 'peso'; the columns are turno, sexo, zona$"):
        predict.predict("toy_tanh", written(rows.drop(columns="peso")), None, "best")


def marked(missing: list[str]) -> None:
    """The variant as it is trained where the source says `missing`."""
    file = files.model("toy", "toy_tanh") / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"missing": missing}))
    files.index("toy").write_text(json.dumps(index.of_models("toy", ["toy_tanh"])))


def test_marks_of_the_source_are_empty_cells_of_a_data_frame_in_words_and_in_numbers(bench: Path) -> None:
    prices("compiled")
    expected = evaluated(pd.DataFrame([KNOWN | {"peso": np.nan, "sexo": None}, KNOWN]))[1]
    marked(["-999", "s/d"])
    loaded = bancada.load("toy_tanh")
    for empty in (-999, -999.0, "-999", "s/d", " s/d "):
        for sexo in ("s/d", -999, "-999.0", None):
            rows = pd.DataFrame([KNOWN | {"peso": empty, "sexo": sexo}, KNOWN])
            np.testing.assert_array_equal(loaded.predict(rows)["precio"], expected)
    in_float32 = pd.DataFrame([KNOWN | {"peso": -999, "sexo": "s/d"}, KNOWN]).astype({"peso": np.float32})
    np.testing.assert_array_equal(loaded.predict(in_float32)["precio"], expected)


def test_marks_come_from_the_source_through_both_stages_into_the_variant(bench: Path) -> None:
    Path("data/sources").mkdir(parents=True)
    Path("data/sources/t.csv").write_text("x,c\n1,2\n-999,3\n3,4\n4,5\n")
    source = CsvFile.model_validate(
        {"kind": "csv", "path": "data/sources/t.csv", "task": "regression", "targets": ["c"], "missing": ["-999", ""]}
    )
    tables.write(source.table("k"), Path("raw.parquet"))
    parts = divide(tables.read(Path("raw.parquet")), Split(train=0.5, test=0.5))
    tables.write(parts["train"], Path("train.parquet"))
    rows = tables.read(Path("train.parquet"))
    assert rows.missing == ["-999"]
    assert saved.description({"study": "s", "variant": "v"}, rows, [1])["missing"] == ["-999"]
    assert new_inputs([[-999], [5]], rows).features[:, 0].tolist() == [pytest.approx(np.nan, nan_ok=True), 5]
    plain = replace(rows, missing=[])
    assert "missing" not in saved.description({"study": "s", "variant": "v"}, plain, [1])
    tables.write(plain, Path("plain.parquet"))
    assert b"missing" not in Path("plain.parquet").read_bytes()
