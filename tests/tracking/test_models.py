"""MLflow models: the best seed's network from raw features to predictions, and each study's champion. The expected
predictions are those of torch.nn.Sequential."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from mounts import Mounted
from servers import served_model
from toy import NOBODY, SOURCE, commit, count, rows
from toy_models import (
    FEATURES,
    KINDS,
    expected,
    folder_of,
    model_of,
    raw_rows,
    recorded,
    scored,
    trained,
)

from bancada.base import files
from bancada.tracking import evaluations, mirror, models
from bancada.tracking.record import Recorder
from bancada.tracking.serving import ServedModel
from bancada.tracking.store import Store, open_store
from bancada.tracking.surroundings import Origin
from bancada.tracking.views import NOTE


@pytest.fixture
def alone(bench: Path) -> Path:
    """The bench with one variant."""
    shutil.rmtree(files.model("toy", "toy_adam"))
    scores = (files.evaluation("toy") / "scores.csv").read_text().splitlines()
    (files.evaluation("toy") / "scores.csv").write_text("\n".join(scores[:3]) + "\n")
    return bench


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_best_seeds_network_on_raw_features(alone: Path, kind: str) -> None:
    made = trained(kind)[1]
    scored({"toy_tanh": [5.0, 1.0, 3.0]})
    loaded = mlflow.pyfunc.load_model(str(folder_of(alone, model_of(recorded(alone)))))
    wanted, given = expected(kind, made[1]), raw_rows()
    pd.testing.assert_frame_equal(loaded.predict(given), wanted, check_dtype=False, rtol=1e-6, atol=1e-6)
    pd.testing.assert_frame_equal(loaded.predict(given[:1]), wanted[:1], check_dtype=False, rtol=1e-6, atol=1e-6)
    assert loaded.metadata.get_input_schema().input_names() == FEATURES
    assert loaded.metadata.get_output_schema().input_names() == KINDS[kind]["targets"]


def answer(loaded: PyFuncModel, cells: list[list[Any]]) -> tuple[int, str]:
    """Status and text of the scoring server, which is MLflow's own, without its HTTP."""
    body = json.dumps({"dataframe_split": {"columns": FEATURES, "data": cells}})
    try:
        response = invocations(body, "application/json", loaded, loaded.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), str(error)
    return response.status, response.response


@pytest.mark.parametrize("kind", ["names", "numbers"])
def test_a_cell_that_is_no_finite_number_is_an_error_that_names_row_and_column(alone: Path, kind: str) -> None:
    trained(kind)
    scored({"toy_tanh": [5.0, 1.0, 3.0]})
    loaded = mlflow.pyfunc.load_model(str(folder_of(alone, model_of(recorded(alone)))))
    good: list[Any] = [7.0, 150.0, 3.0]
    assert answer(loaded, [good])[0] == 200
    assert answer(loaded, []) == (200, '{"predictions": []}')
    number = "must be a finite number that float32 can hold"
    for cell, problem in (
        (None, "is empty"),
        (float("nan"), "is empty"),
        (1e39, number),
        (float("-inf"), number),
        (3e38, "too large for float32 once it is standardized"),  # the standard deviation is 0.5: 6e38
    ):
        status, text = answer(loaded, [good, [7.0, 150.0, cell]])
        shown = f" = {cell:g}" if problem == number else ""
        assert (status, text) == (400, f"row 2, column 'pH'{shown}: {problem}")
    status, text = answer(loaded, [[7.0, 150.0, 3e38]] * 7)
    assert "row 5, column 'pH' and 2 more: too large for float32" in text
    status, text = answer(loaded, [["seven", 150.0, 3.0]])
    assert (status, "Failed to convert column acidity" in text) == (400, True)


@pytest.mark.parametrize("last", ["one_hot", "tanh"])
def test_a_row_that_overflows_inside_the_network_is_an_error_that_names_the_row(last: str, tmp_path: Path) -> None:
    """Ten linear layers with weights of 3e38: a row of zeros stays 0, another one grows beyond the largest float32."""
    layers = [{"kind": "linear", "width": 2, "bias": False}] * 10 + [{"kind": "tanh"}] * (last == "tanh")
    weights = {f"{i}.weight": torch.full((2, 2), 3e38) for i in range(10)}
    described = {"feature_names": ["a", "b"], "target_names": ["c"], "classes": ["x", "y"], "threshold": None}
    described |= {"shape": [2], "outputs": 2, "bits": "portable"}
    for path in models.COPIED:
        shutil.copy(path, tmp_path)
    served = ServedModel(described | {"layers": layers}, weights, tmp_path)
    assert served.predict(pd.DataFrame({"a": [0.0], "b": [0.0]}))["c"].tolist() == ["x"]
    with pytest.raises(MlflowException, match=r"^row 2: the network gives no finite output$"):
        served.predict(pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, 1.0]}))


def test_a_model_holds_versions_and_an_example_but_no_pickle_and_no_path(alone: Path) -> None:
    trained("names")
    scored({"toy_tanh": [5.0, 1.0, 3.0]})
    opened = recorded(alone)
    folder = folder_of(alone, model_of(opened))
    assert (folder / "requirements.txt").read_text().split() == [
        "mlflow==3.17.2",
        f"numpy=={np.__version__}",
        f"pandas=={pd.__version__}",
        "safetensors==0.8.0",
        f"torch=={torch.__version__.split('+')[0]}",
    ]
    example = mlflow.pyfunc.load_model(str(folder)).input_example
    pd.testing.assert_frame_equal(example, raw_rows()[:3])
    held = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {"", ".json", ".py", ".safetensors", ".txt", ".yaml"}
    assert {path.suffix for path in held} == kinds
    assert not any(str(alone).encode() in path.read_bytes() for path in held)
    logged = opened.client.get_logged_model(model_of(opened))
    assert (logged.name, str(logged.status), logged.params["lr"]) == ("toy_tanh", "READY", "0.5")


def test_a_champion_loads_where_bancada_is_not_installed(alone: Path, tmp_path: Path) -> None:
    made = trained("names")[1]
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    commit()
    recorded(alone)
    raw_rows().to_csv(tmp_path / "rows.csv", index=False)
    code = (
        "import importlib.abc, sys\n"
        "class Nowhere(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] == 'bancada': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Nowhere())\n"
        "import mlflow, pandas\n"
        "rows = pandas.read_csv('rows.csv')\n"
        "print(*mlflow.pyfunc.load_model('models:/toy@champion').predict(rows)['species'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{alone}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(expected("names", made[0])["species"])


@pytest.mark.long
def test_a_champion_is_served_for_one_row_and_for_a_thousand(alone: Path, tmp_path: Path) -> None:
    made = trained("names")[1]
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    commit()
    recorded(alone)
    store = f"sqlite:///{alone}/mlflow.db"
    with served_model("models:/toy@champion", tmp_path / "log", MLFLOW_TRACKING_URI=store) as post:
        for sent_rows in (raw_rows()[:1], raw_rows()):
            answer = post({"dataframe_split": sent_rows.to_dict(orient="split", index=False)})
            wanted = expected("names", made[0])[: len(sent_rows)]
            assert answer == {"predictions": wanted.to_dict(orient="records")}
        with pytest.raises(urllib.error.HTTPError) as refused:
            post({"dataframe_split": {"columns": FEATURES, "data": [[7.0, None, 3.0]]}})
        assert refused.value.code == 400
        assert "row 1, column 'sugar': is empty" in refused.value.read().decode()


def test_new_weights_make_a_new_version_and_the_alias_follows_the_best(bench: Path) -> None:
    trained("signs")
    trained("signs", "toy_adam", draw=50)
    scored({"toy_tanh": [1.0, 2.0, 3.0], "toy_adam": [4.0, 5.0, 6.0]})
    commit()
    opened = recorded(bench)
    assert champion_of(opened) == ("1", "toy_tanh", "111")
    logged = count(bench, "logged_models")
    assert logged == 2
    recorded(bench)
    assert (champion_of(opened), count(bench, "model_versions")) == (("1", "toy_tanh", "111"), 1)
    scored({"toy_tanh": [7.0, 8.0, 9.0], "toy_adam": [4.0, 5.0, 6.0]})
    commit()
    recorded(bench)
    assert (champion_of(opened), count(bench, "model_versions")) == (("2", "toy_adam", "111"), 2)
    assert count(bench, "logged_models") == logged  # the best seeds are the same
    scored({"toy_tanh": [1.0, 2.0, 3.0], "toy_adam": [4.0, 5.0, 6.0]})
    commit()
    recorded(bench)
    assert (champion_of(opened), count(bench, "model_versions")) == (("1", "toy_tanh", "111"), 2)
    scored({"toy_tanh": [3.0, 1.0, 2.0], "toy_adam": [4.0, 5.0, 6.0]})
    commit()
    recorded(bench)
    assert (champion_of(opened), count(bench, "model_versions")) == (("3", "toy_tanh", "112"), 3)


def test_a_model_with_older_code_for_serving_is_replaced(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older serving.py answered rows that it should have refused."""
    trained("names")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    commit()
    older = tmp_path / "serving.py"
    older.write_text(models.SERVING.read_text() + "# older\n")
    with monkeypatch.context() as patched:
        patched.setattr(models, "SERVING", older)
        opened = recorded(alone)
    first = model_of(opened)
    assert champion_of(opened)[0] == "1"
    for _ in range(2):
        recorded(alone)
        assert model_of(opened) != first
        assert champion_of(opened)[0] == "2"
    assert (count(alone, "logged_models"), count(alone, "model_versions")) == (2, 2)


def champion_of(opened: Store) -> tuple[str, str, str]:
    version = opened.client.get_model_version_by_alias("toy", "champion")
    return str(version.version), version.tags["bancada.variant"], version.tags["bancada.best_seed"]


def test_without_rows_for_validation_the_baseline_is_the_champion_with_its_first_seed(bench: Path) -> None:
    trained("signs")
    trained("signs", "toy_adam", draw=50)
    scored({"toy_adam": [1.0, 1.0, 1.0], "toy_tanh": [3.0, 1.0, 2.0]}, split="")
    commit()
    opened = recorded(bench)
    assert champion_of(opened) == ("1", "toy_tanh", "111")
    described = opened.client.get_logged_model(model_of(opened)).tags[NOTE]
    assert described == "The network of seed 111, one of 3 seeds on one data set. It was chosen as told by a test."


def test_weights_that_differ_from_the_runs_are_not_logged_as_its_model(alone: Path) -> None:
    trained("signs")
    scored({"toy_tanh": [3.0, 1.0, 2.0]})
    opened = recorded(alone)
    first = model_of(opened)
    trained("signs", draw=70)  # the same inputs, other weights
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    Recorder(opened, Origin()).write_study("toy")
    assert model_of(opened) == first
    assert count(alone, "logged_models") == 1


def test_without_split_files_there_is_a_model_without_example_and_no_warning(alone: Path) -> None:
    trained("signs")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    shutil.rmtree(files.split("toy"))
    recorder = Recorder(open_store(alone), NOBODY, failed={})
    result = mirror.result(files.model("toy", "toy_tanh"), mirror.Inputs("split", "code"))
    assert "model" in recorder.write(result, evaluations.read("toy")).written  # warnings are errors
    assert recorder.failed == {}


@pytest.mark.parametrize("size", ["8k", "24k", "40k"])  # full at one of our files, at copies of MLflow's, at its last
def test_a_full_disk_for_temporary_files_costs_one_model_until_there_is_room(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: Callable[..., Mounted], size: str
) -> None:
    (tmp_path / "small").mkdir()
    trained("signs")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    small = mounted('mount -t tmpfs -o "size=$2" none "$1"', tmp_path / "small", size).path(tmp_path / "small")
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    recorder = Recorder(open_store(alone), NOBODY)
    recorder.write_study("toy")
    assert recorder.failed.keys() == {"toy/toy_tanh: model"}
    assert "No space left on device" in recorder.failed["toy/toy_tanh: model"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    recorded(alone)


@pytest.mark.parametrize(
    "call", ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_outputs", "log_batch"]
)
def test_an_interrupted_model_is_completed_and_not_logged_twice(
    alone: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    trained("signs")
    scored({"toy_tanh": [1.0, 2.0, 3.0]})
    opened = open_store(alone)
    done = getattr(MlflowClient, call)

    def dies_after_it(self: MlflowClient, *given: Any, **named: Any) -> None:
        done(self, *given, **named)
        if count(alone, "logged_models"):
            raise ConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, call, dies_after_it)
        interrupted = Recorder(opened, NOBODY)
        interrupted.write_study("toy")
        assert "ConnectionError: gone" in interrupted.failed.values()
    recorded(alone)
    assert count(alone, "logged_models") == 1
    assert rows(alone, "select count(*) from inputs where destination_type = 'MODEL_OUTPUT'") == [(1,)]
    mlflow.pyfunc.load_model(str(folder_of(alone, model_of(opened)))).predict(raw_rows())


def test_writing_models_does_not_wait_for_torch() -> None:
    code = "import sys, bancada.tracking.models; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    assert models.EXAMPLE_ROWS == 3
