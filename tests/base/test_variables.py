"""The environment variables BANCADA_*: a wrong one is refused before any work, in one line each."""

import pytest

from bancada.base import BadInput, stage
from bancada.base.params_file import TOP, ParamsFile
from bancada.base.variables import variables
from bancada.pipeline.params import Params


def test_what_is_not_set_or_empty_has_its_default(monkeypatch):
    for name in ("CORES", "CHECKPOINT_S", "REPLICAS", "TRACKING"):
        monkeypatch.setenv(f"BANCADA_{name}", "")
    found = variables()
    assert (found.cores, found.checkpoint_s, found.replicas, found.tracking) == (None, 30.0, "on", "on")
    monkeypatch.setenv("BANCADA_CORES", "3")
    monkeypatch.setenv("BANCADA_TRACKING", "OFF")
    assert (stage.cores(), variables().tracking) == (3, "off")


def test_all_wrong_ones_are_told_at_once(monkeypatch):
    for name, value in (("CORES", "0"), ("CHECKPOINT_S", "soon"), ("REPLICAS", "no"), ("TRACKING", "of")):
        monkeypatch.setenv(f"BANCADA_{name}", value)
    with pytest.raises(BadInput) as refused:
        variables()
    assert str(refused.value).splitlines() == [
        "BANCADA_CORES = 0: must be greater than or equal to 1",
        "BANCADA_CHECKPOINT_S = soon: must be a number",
        "BANCADA_REPLICAS = no: must be 'on' or 'off'",
        "BANCADA_TRACKING = of: must be 'on', 'off' or 'shared'",
    ]


def test_a_stage_refuses_a_wrong_one_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("BANCADA_CORES", "many")
    with pytest.raises(SystemExit) as ended:
        stage.run(lambda params, name: None, of="studies")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("BANCADA_CORES = many: must be a whole number")


def test_a_command_refuses_a_wrong_one_in_one_line(monkeypatch):
    from typer.testing import CliRunner

    from bancada.cli import app

    done = CliRunner().invoke(app, ["clean"], env={"BANCADA_CHECKPOINT_S": "-1"})
    assert (done.exit_code, done.output) == (2, "BANCADA_CHECKPOINT_S = -1: must be greater than or equal to 0\n")


def test_a_missing_key_is_not_taken_for_another_of_the_file():
    assert set(TOP) == set(Params.model_fields)
    for raw, key, said in (
        ({"device": "cpu"}, "engine", "engine: missing"),
        ({"num_seeds": 2}, "seed", "seed: missing"),
        ({"engin": None}, "engine", "engine: missing; did you mean 'engin'?"),
        ({"studies": {"moons": {}}}, "studies.moon", "studies.moon: missing; did you mean 'moons'?"),
    ):
        with pytest.raises(BadInput) as refused:
            ParamsFile(raw).value(key)
        assert str(refused.value) == f"params.yaml: {said}"
