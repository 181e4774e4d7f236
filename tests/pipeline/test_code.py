"""The stage code: data/code names what each stage really imports, and what changes there is what reruns."""

import json
from pathlib import Path

import pytest
from clones import PARAMS, executed, run, succeeds
from committed import commit, edit

from bancada.pipeline import code

ROOT = Path(__file__).parents[2]


# --- what the stages really import, and what DVC really reruns ------------------------------------------------------

PROGRAM = """\
import runpy, sys
module, name = sys.argv[1:]
sys.argv[1:] = [name]
runpy.run_module(module, run_name="__main__", alter_sys=True)
print("LOADED", *sorted(name for name in sys.modules if name.partition(".")[0] == "bancada"), module)
"""
MORE_KINDS = """
  flowers:
    source: {kind: sklearn, name: iris}
    split: {train: 1.0}
    metric: error_rate_percent
    train: {loss: mse, lr: 0.5, batch_size: full, epochs: 1}
  orchard:
    source: {kind: table, path: data/sources/orchard.csv, task: regression, targets: [apples, oranges]}
    split: {train: 1.0}
    metric: mse
    train: {loss: mse, lr: 0.1, batch_size: full, epochs: 1}
  waves:
    source: {kind: python, file: src/sources/waves.py, name: make, task: regression}
    split: {train: 1.0}
    metric: mse
    train: {loss: mse, lr: 0.1, batch_size: full, epochs: 1}
variants:
  waves_linear: {study: waves, layers: [1]}
  flowers_linear: {study: flowers, layers: [3]}
  orchard_linear: {study: orchard, layers: [2]}
"""


@pytest.mark.long
def test_what_a_stage_imports_when_it_runs_is_in_its_file(repository: Path) -> None:
    (repository / "params.yaml").write_text(PARAMS.replace("variants:\n", MORE_KINDS.lstrip("\n")))
    Path("src/sources").mkdir()
    Path("src/sources/waves.py").write_text("def make(seed): return {'inputs': [[1], [2]], 'target': [1, 2]}")
    succeeds(repository, "python", "-m", "bancada.pipeline.code")
    stages = [
        "generate waves",
        "generate moons",
        "generate flowers",
        "generate orchard",
        "split moons",
        "train moons_adam",
        "evaluate moons",
    ]
    for stage, name in map(str.split, stages):
        printed = succeeds(repository, "python", "-c", PROGRAM, code.STAGES[stage], name, BANCADA_TRACKING="off")
        loaded = set(printed.partition("LOADED ")[2].split())
        named = json.loads((repository / f"data/code/{stage}/{name}.json").read_text())["modules"].keys()
        assert len(loaded) > 5
        assert loaded <= named, f"{stage}@{name}"
        kinds = (
            {"moons": "half_moons", "flowers": "sklearn", "orchard": "table", "waves": "python"}
            if stage == "generate"
            else {}
        )
        for study, kind in kinds.items():
            assert (f"bancada.data.sources.{kind}" in named) == (name == study)


@pytest.mark.long
def test_dvc_reruns_code_alone_after_a_comment_and_evaluations_after_a_new_plot(repository: Path) -> None:
    """In the workspace, as an experiment, and as an experiment in a folder of its own."""
    plots = repository / "src/bancada/evaluation/plots.py"
    off = {"BANCADA_TRACKING": "off"}
    edit(plots, "import math\n", "import math  # a comment\n", 1)
    assert executed(succeeds(repository, "dvc", "repro", **off)) == ["code"]
    assert run(repository, "dvc", "status", "-q").returncode == 0
    edit(plots, "MAX_POINTS = 400", "MAX_POINTS = 300")
    assert executed(succeeds(repository, "dvc", "repro", **off)) == ["code", "evaluate@moons"]
    commit(repository)
    edit(plots, "MAX_POINTS = 300", "MAX_POINTS = 400")
    assert executed(succeeds(repository, "dvc", "exp", "run", **off)) == ["code", "evaluate@moons"]
    lr = ("-S", "studies.moons.train.lr=0.25")
    temporary = executed(succeeds(repository, "dvc", "exp", "run", "--temp", *lr, **off))
    trained = ["train@moons_adam", "train@moons_tanh"]
    assert sorted(temporary) == ["code", "evaluate@moons", "index@moons", "report", *trained]
