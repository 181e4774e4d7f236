"""Raw rows of words and numbers go into the MLflow model, as MLflow's scoring server takes them. What they give is what
an evaluation makes of the same rows."""

import json
import shutil
import urllib.error
from pathlib import Path
from typing import Any, Literal

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from safetensors.numpy import load_file, save_file
from servers import served_model
from toy_models import folder_of, model_of, recorded, scored
from words import FEATURES, NEW, table_of, trained_on_words

from bancada.base import files
from bancada.networks import saved
from bancada.tracking import mirror, models

KNOWN = {"peso": 10.0, "turno": "2", "sexo": "AA", "zona": "10"}


def folder(bench: Path, engine: Literal["compiled", "torch"] = "torch") -> Path:
    shutil.rmtree(files.model("toy", "toy_adam"))
    scores = files.evaluation("toy") / "scores.csv"
    scores.write_text("".join(line for line in scores.read_text().splitlines(True) if "toy_adam" not in line))
    trained_on_words(engine)
    scored({"toy_tanh": [5.0, 1.0, 3.0]})
    return folder_of(bench, model_of(recorded(bench)))


@pytest.fixture
def model(bench: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(folder(bench)))


def evaluated(rows: pd.DataFrame = NEW) -> np.ndarray:
    """What an evaluation makes of these rows with the second seed, which is the best on validation rows."""
    return saved.load(files.model("toy", "toy_tanh")).predict(table_of(rows, np.zeros((len(rows), 1))))[1, :, 0]


def answer(model: PyFuncModel, body: str, kind: str = "application/json") -> Any:
    """The predictions, or the message of status 400, of the scoring server without its HTTP."""
    try:
        response = invocations(body, kind, model, model.metadata.get_input_schema())
    except MlflowException as error:
        assert error.get_http_status_code() == 400
        return error.message
    return [row["precio"] for row in json.loads(response.response)["predictions"]]


def asked(model: PyFuncModel, **cells: Any) -> Any:
    """The answer to one row."""
    return answer(model, json.dumps({"dataframe_records": [KNOWN | cells]}))


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_served_rows_are_the_evaluated_ones(bench: Path, engine: Literal["compiled", "torch"]) -> None:
    """To the last bit where torch computes both; what the compiled engine trained is served by torch."""
    served = mlflow.pyfunc.load_model(str(folder(bench, engine)))
    expected = evaluated()
    assert len(set(expected)) == 5
    np.testing.assert_allclose(served.predict(NEW)["precio"], expected, rtol=1e-6 if engine == "compiled" else 0)
    mixed = NEW.assign(extra="x")[["extra", *reversed(FEATURES)]]
    np.testing.assert_array_equal(served.predict(mixed)["precio"], served.predict(NEW)["precio"])
    for at in range(5):
        np.testing.assert_allclose(served.predict(mixed[at : at + 1])["precio"], expected[at : at + 1], rtol=1e-6)


def test_the_same_words_and_empty_cells_give_the_same_bits_in_each_form_of_a_request(model: PyFuncModel) -> None:
    """A blank cell makes pandas' column of 2 and 3 one of 2.0 and 3.0, and MLflow makes texts of `inputs`."""
    [two] = asked(model)
    [no_sex] = asked(model, sexo=None)
    for turno in (2, 2.0, "2", " 2 "):
        assert asked(model, turno=turno) == [two]
    rows = [KNOWN | {"turno": turno, "sexo": sexo} for turno, sexo in ((2, "AA"), (2.0, None), ("2", "B"), (2, "AA"))]
    bodies = {form: json.dumps({form: rows}) for form in ("dataframe_records", "instances")}
    columns = {name: [row[name] for row in rows] for name in KNOWN}
    bodies["inputs"] = json.dumps({"inputs": columns})
    bodies["dataframe_split"] = json.dumps({"dataframe_split": pd.DataFrame(rows).to_dict(orient="split")})
    found = {form: answer(model, body) for form, body in bodies.items()}
    table = "zona,sexo,turno,peso\n10,AA,2,10\n10,,2,10\n10,B,2,10\n10,AA,2,10.0\n"
    found["csv"] = answer(model, table, "text/csv")
    assert found == dict.fromkeys(found, found["csv"])
    np.testing.assert_allclose(found["csv"], [two, no_sex, asked(model, sexo="B")[0], two], rtol=1e-6)


def test_a_blank_among_words_that_are_numbers_leaves_the_others_as_they_are(model: PyFuncModel) -> None:
    table = "peso,turno,sexo,zona\n10,2,AA,20\n10,2,AA,{}\n10,2,AA,30\n10,2,AA,20\n"
    blank, other = (answer(model, table.format(cell), "text/csv") for cell in ("", "99"))
    assert blank == other  # neither is a word of the training rows
    rows = [[10, 2, "AA", zona] for zona in (20, None, 30, "20")]
    sent = answer(model, json.dumps({"dataframe_split": {"columns": FEATURES, "data": rows}}))
    assert sent == blank
    assert blank[0] == pytest.approx(blank[3], rel=1e-6)  # torch computes the last values of a batch otherwise
    assert len({round(price, 3) for price in blank}) == 3
    assert asked(model, zona="020") == asked(model, zona=99) != asked(model, zona=20)
    assert "row 2, column 'turno': is empty" in answer(model, table.replace("10,2,AA,{}", "10,,AA,20"), "text/csv")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"turno": "02"}, "row 1, column 'turno': the word '02' is in no training row, which have: 1, 2, 3"),
        ({"turno": 4}, "row 1, column 'turno': the word '4' is in no training row"),
        ({"turno": None}, "row 1, column 'turno': is empty"),
        ({"peso": "s/d"}, "Failed to convert column peso"),
        ({"peso": 1e39}, "row 1, column 'peso' = 1e+39: must be a finite number"),
    ],
)
def test_what_has_no_number_is_refused_with_its_row_and_column(
    model: PyFuncModel, cells: dict[str, Any], message: str
) -> None:
    assert message in asked(model, **cells)


def test_marks_of_the_source_are_empty_cells_of_served_rows(bench: Path) -> None:
    served = folder(bench)
    plain = mlflow.pyfunc.load_model(str(served))
    file = next(served.rglob("network.json"))
    assert "missing" not in json.loads(file.read_text())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"missing": ["-999", "s/d"]}))
    marked = mlflow.pyfunc.load_model(str(served))
    assert asked(marked, peso=-999, sexo="s/d") == asked(plain, peso=None, sexo=None) != asked(plain, peso=-999)
    assert asked(marked, sexo=-999) == asked(plain, sexo=None)
    assert "row 1, column 'turno': is empty" in asked(marked, turno="s/d")


def test_a_word_that_is_ignored_is_an_answer_and_not_that_of_a_known_one(model: PyFuncModel) -> None:
    known = [asked(model, sexo=sexo)[0] for sexo in ("AA", "B")]
    [unknown] = asked(model, sexo="A")
    assert unknown not in known
    assert asked(model, sexo="Ç") == asked(model, sexo="aa") == [unknown]
    assert asked(model, sexo=None) == asked(model, sexo="") == asked(model, sexo="B")  # the most frequent one
    zones = [asked(model, zona=zona)[0] for zona in ("30", "10", "20", "99", None)]
    assert len(set(zones)) == 4  # an empty cell that is not imputed is no word either


def test_a_missing_column_is_refused_by_name_and_a_target_is_not_asked_for(model: PyFuncModel) -> None:
    row = {name: cell for name, cell in KNOWN.items() if name != "sexo"}
    message = answer(model, json.dumps({"dataframe_records": [row]}))
    assert "Model is missing inputs ['sexo']" in message
    assert "precio" not in model.metadata.get_input_schema().input_names()


def test_the_signature_and_the_example_have_words(model: PyFuncModel) -> None:
    kinds = {column.name: column.type.name for column in model.metadata.get_input_schema()}
    assert kinds == {"peso": "double", "turno": "string", "sexo": "string", "zona": "string"}
    example = model.input_example
    assert example["turno"].tolist() == ["1", "2", "3"]
    assert example.isna().sum().sum() == 2
    np.testing.assert_allclose(model.predict(example[:2])["precio"], evaluated(example[:2]), rtol=1e-6)


def test_words_of_a_data_frame_may_be_numbers_and_categories_as_objects(model: PyFuncModel) -> None:
    rows = NEW.assign(
        turno=NEW["turno"].astype(int), zona=NEW["zona"].astype(float), sexo=NEW["sexo"].astype("category")
    )
    with pytest.raises(MlflowException, match="Incompatible input types for column turno"):
        model.predict(rows)
    objects = rows.astype(dict.fromkeys(("turno", "sexo", "zona"), object))
    np.testing.assert_array_equal(model.predict(objects)["precio"], evaluated())


def test_predictions_are_in_the_targets_own_units(bench: Path) -> None:
    """The training targets 10 and 30 have mean 20 and standard deviation 10, so that an output of 1.5 means 35."""
    trained_on_words("compiled")
    path = files.model("toy", "toy_tanh") / "weights.safetensors"
    weights = load_file(path)
    weights |= {name: np.zeros_like(value) for name, value in weights.items() if name.endswith(("weight", "bias"))}
    save_file(weights | {"2.bias": np.full((3, 1), 1.5, dtype=np.float32)}, path)
    result = mirror.result(path.parent)
    with models.packed(result, 112, "run", "model") as packed:
        served = mlflow.pyfunc.load_model(str(packed))
        assert served.predict(NEW)["precio"].tolist() == [35.0] * 5
    assert saved.load(path.parent).predict(table_of(NEW, np.zeros((5, 1)))).tolist() == [[[35.0]] * 5] * 3


def test_true_and_false_are_1_and_0_and_a_blank_is_empty(model: PyFuncModel) -> None:
    for truth, number in ((True, 1.0), (False, 0.0), ("0", 0.0)):
        assert asked(model, peso=truth) == asked(model, peso=number)
    assert asked(model, peso=None) == pytest.approx(list(evaluated(pd.DataFrame([KNOWN | {"peso": np.nan}]))), rel=1e-6)


@pytest.mark.long
def test_words_are_served_over_http(bench: Path, tmp_path: Path) -> None:
    with served_model(str(folder(bench)), tmp_path / "log") as post:
        [found] = post({"dataframe_records": [KNOWN | {"peso": None, "turno": 2}]})["predictions"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            post({"dataframe_records": [KNOWN, KNOWN | {"turno": "02"}]})
        assert refused.value.code == 400
        assert "row 2, column 'turno': the word '02' is in no training row" in refused.value.read().decode()
    row = pd.DataFrame([KNOWN | {"peso": np.nan}])
    np.testing.assert_allclose(found["precio"], evaluated(row)[0], rtol=1e-6)
