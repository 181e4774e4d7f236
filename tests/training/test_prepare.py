"""train.prepare through the stages: fitted on training rows alone, refused before a training, the same for engines."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mixed import frame, study, table
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from bancada.base import BadInput, files, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.data import split
from bancada.evaluation import evaluate
from bancada.networks import saved
from bancada.pipeline.beforehand import refuse_bad_data
from bancada.pipeline.params import Params, load
from bancada.training import index, preparing, replica, train
from bancada.training.prepare import Prepare

PREPARE: dict[str, Any] = {
    "numbers": {"impute": "median", "indicator": True, "standardize": True},
    "words": {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"},
    "targets": {"standardize": True},
}
STUDIES = "params.yaml: studies.study.train.prepare"
MINE = "params.yaml: variants.mine.train.prepare"


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, without MLflow, with the torch engine in this process, and without plots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setitem(replica.ENGINES, "torch", "in_process")
    monkeypatch.setattr("bancada.evaluation.plots.PLOTS", {})


def trained(params: ParamsFile, rows: Table, variant: str = "mine") -> Path:
    """Split and train, as the stages do. Return the model's folder."""
    tables.write(rows, files.raw("study"))
    split.main(params, "study")
    train.main(params, variant)
    return files.model("study", variant)


def checked(params: ParamsFile, rows: Table) -> None:
    """Check the study as `bancada repro` does before it runs anything."""
    tables.write(rows, files.raw("study"))
    split.main(params, "study")
    YAML().dump(params.raw, Path("params.yaml"))
    refuse_bad_data(load(), {"study"}, {"study"})


def refusal(prepare: dict[str, Any] | None, rows: Table, **more: Any) -> str:
    """Return why the check of `bancada repro` refuses the study; the stage train refuses it in the same words."""
    params = study(prepare, **more)
    with pytest.raises(BadInput) as refused:
        checked(params, rows)
    with pytest.raises(BadInput) as of_stage:
        train.main(params, "mine")
    assert str(of_stage.value) == str(refused.value)
    assert not files.model("study", "mine").exists()
    return str(refused.value)


# --- fitted on the training rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [None, "torch"])
def test_nothing_of_validation_and_test_rows_reaches_the_preparation_or_the_weights(engine: str | None) -> None:
    params = study(PREPARE, train={"engine": engine})
    folder, rows = trained(params, table(frame())), table(frame())
    before, weights = json.loads((folder / "run.json").read_text()), (folder / "weights.safetensors").read_bytes()
    learning = tables.read(files.split("study") / "train.parquet").features[:, 4]
    others = ~np.isin(rows.features[:, 4], learning)
    assert others.sum() == 24
    cells, targets = frame(), rows.targets.copy()
    cells.loc[others, ["height", "age", "girth"]], targets[others] = 1e6, 1e6
    for name in ("tree", "soil"):
        cells.loc[others, name] = "a word of its own"
    trained(params, table(cells, targets))
    after = json.loads((folder / "run.json").read_text())
    assert tables.read(files.split("study") / "test.parquet").words["tree"] == ["a word of its own"]
    assert json.dumps(after) == json.dumps(before)
    assert before["preparation"][1]["categories"] == [["ash", "elm", "oak"], ["clay", "sand", "Ärde"]]
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert {"input_mean", "input_std", "target_mean", "target_std"} <= load_file(folder / "weights.safetensors").keys()


@pytest.mark.parametrize("engine", [None, "torch"])
def test_an_engine_gets_plain_numbers_and_trains_as_on_a_table_of_them(engine: str | None) -> None:
    params = study(PREPARE, train={"engine": engine})
    folder = trained(params, table(frame()))
    by_words, model = load_file(folder / "weights.safetensors"), saved.load(folder)
    for part in files.PARTS:
        path = files.split("study") / f"{part}.parquet"
        rows, preparation = tables.read(path), model.preparation
        inputs = preparation.inputs(rows.features, rows.feature_names, rows.words).astype(np.float64)
        names = preparation.input_names(rows.feature_names)
        targets = preparation.learned(rows.targets)
        tables.write(replace(rows, features=inputs, targets=targets, feature_names=names, words={}), path)
    train.main(study(None, train={"engine": engine}), "mine")
    by_numbers = load_file(folder / "weights.safetensors")
    assert by_numbers.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert by_numbers["0.weight"].shape == (2, 3, 11)  # height, age, girth, two indicators, three trees, three soils
    for name, values in by_numbers.items():
        assert np.array_equal(by_words[name], values)


def test_a_word_of_one_row_is_unknown_where_that_row_does_not_train(capsys: pytest.CaptureFixture[str]) -> None:
    cells = frame()
    cells.loc[0, "soil"] = "peat"
    said, without = set(), 0
    for seed in range(6):
        keys = {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": seed}
        params = study(PREPARE, split=keys)
        folder = trained(params, table(cells))
        known = json.loads((folder / "run.json").read_text())["preparation"][1]["categories"][1]
        index.main(params, "study")
        capsys.readouterr()
        evaluate.main(params, "study")
        err = capsys.readouterr().err
        without += "peat" not in known
        assert (err == "") == ("peat" in known)
        said |= {err}
    assert (
        without
        and "mine: ignores unknown words: test: column 'soil' has 1 cell with a word of no training row (peat)\n"
        in said
    )


@pytest.mark.long
def test_the_same_bytes_whatever_the_order_of_pythons_sets() -> None:
    tables.write(table(frame()), files.raw("study"))
    YAML().dump(study(PREPARE).raw, Path("params.yaml"))
    code = (
        "from bancada.base import params_file; from bancada.data import split; from bancada.training import train;"
        "params = params_file.read(); split.main(params, 'study'); train.main(params, 'mine')"
    )
    found = set()
    for seed in "012":
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        made = sorted([*files.model("study", "mine").iterdir(), *files.split("study").iterdir()])
        found.add(tuple(path.read_bytes() for path in made))
    assert len(found) == 1


# --- refused before a training ---------------------------------------------------------------------------------------


def with_cells(part: str, **cells: str | None) -> Table:
    """Return the table, in which a row of this part has these cells."""
    tables.write(table(frame()), files.raw("study"))
    split.main(study(None), "study")
    girth = tables.read(files.split("study") / f"{part}.parquet").features[0, 4]
    changed = frame()
    for name, cell in cells.items():
        changed.loc[changed["girth"] == girth, name] = cell
    return table(changed)


REFUSE = {**PREPARE, "words": {"encode": "one_hot", "impute": "most_frequent"}}
WAY_OUT = "`unknown: ignore` takes words of no training row"


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_word_of_no_training_row_is_refused_where_it_would_be_met_with_the_way_out(part: str) -> None:
    params, rows = study(REFUSE), with_cells(part, tree="acer", soil="peat")
    soil = "column 'soil' has 1 cell with a word of no training row (peat)"
    told = f"column 'tree' has 1 cell with a word of no training row (acer); {soil}; {WAY_OUT}"
    with pytest.raises(BadInput) as refused:
        checked(params, rows)
    assert str(refused.value) == f"{STUDIES}: {part} rows: {told}"
    if part == "validation":
        with pytest.raises(BadInput) as refused:
            train.main(params, "mine")
        assert str(refused.value) == f"data/split/study/validation.parquet: studies.study.train.prepare: {told}"
        return
    train.main(params, "mine")
    index.main(params, "study")
    with pytest.raises(BadInput) as refused:
        evaluate.main(params, "study")
    assert str(refused.value) == f"data/split/study/test.parquet: mine: {told}"
    assert not files.evaluation("study").exists()


def test_ignored_words_are_told_once_for_all_variants_before_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    variants = {name: {"study": "study", "layers": [2]} for name in ("mine", "other")}
    checked(study(PREPARE, variants), with_cells("test", tree="acer"))
    told = "ignores unknown words: test: column 'tree' has 1 cell with a word of no training row (acer)"
    assert capsys.readouterr().err == f"mine, other: {told}\n"


def test_empty_cells_that_count_as_a_word_of_no_training_row_are_told_as_that_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = numbers_and(tree=FEW_WORDS)
    tables.write(rows, files.raw("study"))
    split.main(study(None), "study")
    girths = tables.read(files.split("study") / "test.parquet").features[:2, 0]
    rows.features[np.isin(rows.features[:, 0], girths), 1] = np.nan
    told = "column 'tree' has 2 cells with a word of no training row (none, as which empty cells count)"
    words = {"encode": "one_hot", "impute": {"constant": "none"}}
    with pytest.raises(BadInput) as refused:
        checked(study({"words": words}), rows)
    assert str(refused.value) == f"{STUDIES}: test rows: {told}; {WAY_OUT}"
    checked(study({"words": words | {"unknown": "ignore"}}), rows)
    assert capsys.readouterr().err == f"mine: ignores unknown words: test: {told}\n"


@pytest.mark.parametrize("standardize", [True, False])
def test_an_empty_cell_beyond_the_training_rows_is_refused_where_nothing_fills_it(standardize: bool) -> None:
    cells = frame()[["girth"]].assign(height=frame()["girth"])
    rows = table(cells)
    tables.write(rows, files.raw("study"))
    split.main(study(None), "study")
    girth = tables.read(files.split("study") / "test.parquet").features[0, 0]
    cells.loc[cells["girth"] == girth, "height"] = np.nan
    with pytest.raises(BadInput) as refused:
        checked(study(None, train={"standardize": standardize}), table(cells))
    said = "test rows: column 'height' has 1 empty cell; `impute` fills empty cells"
    assert str(refused.value) == f"{STUDIES}: {said}"


def numbers_and(**columns: Any) -> Table:
    """Return 40 rows whose features are girth, a number, and these columns."""
    return table(
        frame(40)[["girth"]].assign(**{name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    )


FEW_WORDS, OWN_WORDS = ["oak", "ash"] * 20, [f"tree {i}" for i in range(40)]
ONE_HOT = {"encode": "one_hot", "unknown": "ignore"}


def test_all_that_nothing_prepares_is_refused_in_one_message_with_what_to_write() -> None:
    rows = numbers_and(
        height=[None] * 40, age=[None, *[1.0] * 39], tree=[*FEW_WORDS[:-1], None], soil=["a", "b", "c", "d"] * 10
    )
    whole: dict[str, Any] = {"split": {"train": 1.0}}
    found = (
        "column 'height' is empty in every training row; put it into source.ignore; "
        "column 'age' has 1 empty cell in 40 training rows; "
        "column 'tree' holds words (ash, oak); column 'tree' has 1 empty cell in 40 training rows; "
        "column 'soil' holds words (a, b, c, ...)"
    )
    words = "words: {encode: one_hot, impute: most_frequent, unknown: ignore}"
    said = f"{STUDIES}: {found}; add prepare: {{numbers: {{impute: median}}, {words}}}"
    assert refusal(None, rows, **whole) == said
    own = {"columns": {"tree": {"encode": "ordinal"}, "age": {}}, "words": ONE_HOT}
    ways = "columns.age: {impute: median}, columns.tree: {impute: most_frequent}"
    assert refusal(own, rows, **whole).endswith(f"; in prepare, say {ways}")


# what is prepared how, of which rows: where it is refused, and in which words
REFUSED: list[tuple[dict[str, Any], Table, str]] = [
    (
        {"columns": {"trees": ONE_HOT}, "words": ONE_HOT},
        numbers_and(tree=FEW_WORDS),
        ".columns.trees: no feature; did you mean 'tree'?",
    ),
    (
        {"columns": {"tree": {"impute": "median"}}},
        numbers_and(tree=FEW_WORDS),
        ".columns.tree: the column holds words, but is prepared as numbers",
    ),
    (
        {"columns": {"girth": ONE_HOT}},
        numbers_and(),
        ".columns.girth: the column holds numbers; source.words keeps them as words",
    ),
]


@pytest.mark.parametrize(("prepare", "rows", "said"), REFUSED)
@pytest.mark.parametrize("of", ["study", "variant"])
def test_what_does_not_fit_the_columns_is_refused_at_its_key(prepare: Any, rows: Table, said: str, of: str) -> None:
    own = {"mine": {"study": "study", "layers": [2], "train": {"prepare": prepare}}}
    line = refusal(prepare, rows) if of == "study" else refusal({"words": ONE_HOT}, rows, variants=own)
    assert line == (STUDIES if of == "study" else MINE) + said


@pytest.mark.parametrize(("words", "numbers"), [(39, 2**28), (10_000, 40 * 24 - 1)])
def test_more_words_than_memory_or_networks_can_take_are_refused_unless_they_are_ordinal(
    words: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "MOST_WORDS", words)
    monkeypatch.setattr(preparing, "MOST_NUMBERS", numbers)
    rows = numbers_and(tree=OWN_WORDS, soil=FEW_WORDS)
    said = "42 words would make too many inputs: 40 of column 'tree'; put it into source.ignore, or say encode: ordinal"
    assert refusal({"words": ONE_HOT}, rows, split={"train": 1.0}) == f"{STUDIES}: {said}"
    preparing.refuse_uncovered(rows, Prepare.model_validate({"words": ONE_HOT | {"encode": "ordinal"}}), False, "")


def test_what_is_hardly_meant_is_told_and_trains(capsys: pytest.CaptureFixture[str]) -> None:
    params = study({"words": ONE_HOT}, split={"train": 1.0})
    checked(params, numbers_and(tree=OWN_WORDS))
    own = "column 'tree' has another word in every training row, which no other row can have; put it into source.ignore"
    assert capsys.readouterr().err == f"mine: {own}\n"
    trained(params, numbers_and())
    assert capsys.readouterr().err == "mine: prepare.words has no effect: no feature holds words\n"


CLASSES = {"source": {"kind": "half_moons", "rows": 60, "radius": 10, "distance": -4, "width": 6, "seed": 1}}
SCRATCH = {"mine": {"study": "study", "layers": [2], "scratch": True}}


@pytest.mark.parametrize(
    ("prepare", "more", "said"),
    [
        (
            {"targets": {"standardize": True}},
            CLASSES | {"metric": "loss"},
            ".targets: needs numbers, but the study pred",
        ),
        (
            {"numbers": {"indicator": True}},
            {},
            ".numbers.indicator: needs impute, which says what the empty cells count",
        ),
        ({"numbers": {"impute": "modal"}}, {}, ".numbers.impute = modal: must be a mapping or median or mean"),
        ({"numbers": {"impute": {"constant": "x"}}}, {}, ".numbers.impute.constant = x: must be a number"),
        ({"words": {"encode": "hot"}}, {}, ".words.encode = hot: must be one of one_hot, ordinal"),
        ({"words": {"impute": "most_frequent"}}, {}, ".words.encode: missing"),
        ({"columns": {"tree": {"impute": "most_frequent"}}}, {}, ".columns.tree.encode: missing"),
        ({"columns": {"tree": {"impute": {"constant": "none"}}}}, {}, ".columns.tree.encode: missing"),
    ],
)
def test_wrong_keys_are_refused_before_the_rows_are_read(prepare: Any, more: Any, said: str) -> None:
    YAML().dump(study(prepare, **more).raw, Path("params.yaml"))
    with pytest.raises(BadInput) as refused:
        load()
    assert str(refused.value).startswith(STUDIES + said)


def test_training_from_scratch_has_no_preparation() -> None:
    YAML().dump(study({"numbers": {"standardize": True}}, variants=SCRATCH).raw, Path("params.yaml"))
    with pytest.raises(BadInput, match=r"variants.mine.scratch = True: .*; it has prepare$"):
        load()


def test_losses_of_standardized_targets_and_of_others_make_no_leaderboard() -> None:
    own = {"study": "study", "layers": [2], "train": {"prepare": {"targets": {"standardize": True}}}}
    params = study(None, {"raw": {"study": "study", "layers": [2]}, "scaled": own}, metric="loss")
    YAML().dump(params.raw, Path("params.yaml"))
    each = r"\(raw: mse, scaled: mse of standardized targets\)"
    with pytest.raises(BadInput, match=f"^params.yaml: studies.study.metric = loss: the losses .* compared {each}$"):
        load()


# --- which key wins, and the width of the inputs ---------------------------------------------------------------------


def test_the_prepare_of_a_variant_replaces_that_of_its_study_as_a_whole() -> None:
    own = {"study": "study", "layers": [2], "train": {"prepare": {"words": {"encode": "ordinal"}}}}
    none = {"study": "study", "layers": [2], "train": {"prepare": None}}
    YAML().dump(study(PREPARE, {"own": own, "none": none}).raw, Path("params.yaml"))
    params: Params = load()
    train_keys = params.recipe("own").train
    assert train_keys.prepare == Prepare.model_validate({"words": {"encode": "ordinal"}})
    assert train_keys.prepare.numbers.impute is None and not train_keys.prepare.targets.standardize
    assert params.recipe("none").train.prepare is None


NET = """\
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 2)

    def forward(self, rows):
        return self.first(rows)
"""
WIDE = [{"Linear": {"in_features": 4, "out_features": 2}}]
GIVEN = {"init": {"name": "given", "weights": [[[1.0] * 4] * 2], "biases": [[0.0, 0.0]]}}
OF_FILE = {"module": {"file": "src/models/net.py", "name": "Net"}}
SHAPES = r"mat1 and mat2 shapes cannot be multiplied \(2x11 and 4x2\)"


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            {"layers": WIDE},
            rf"layers\[0\]: Linear\(.*\) for rows of shape \[11\]: {SHAPES}; a row has 11 inputs after its preparation",
        ),
        (
            OF_FILE,
            rf"src/models/net.py:9: in Net.forward: RuntimeError: {SHAPES}; a row has 11 inputs after its preparation",
        ),
        ({"layers": [2], "train": GIVEN}, r"train.init.weights\[0\]: must be 2 rows of 11 numbers"),
    ],
)
def test_a_network_of_another_width_is_refused_with_the_right_one(network: dict[str, Any], said: str) -> None:
    Path("src/models").mkdir(parents=True)
    Path("src/models/net.py").write_text(NET)
    line = refusal(PREPARE, table(frame()), variants={"mine": {"study": "study", **network}})
    assert re.fullmatch(rf"(params.yaml: )?variants.mine[.:] ?{said}", line)
    cells = frame()[["girth"]].assign(height=1.0, age=frame()["girth"])
    if "init" not in said:
        shared = {"variants": {"mine": {"study": "study", **network}}}
        assert refusal(None, table(cells), **shared).endswith("(2x3 and 4x2); a row has 3 features")


def test_rows_of_a_shape_keep_their_order_and_number() -> None:
    rows = replace(table(frame()[["girth"]].assign(height=1.0, age=frame()["girth"])), row_shape=[1, 3])
    layers: dict[str, Any] = {"variants": {"mine": {"study": "study", "layers": ["Flatten", 2]}}}
    checked(study({"numbers": {"standardize": True}}, **layers), rows)
    own = {"columns": {"height": {"standardize": True}}}
    line = refusal(own, rows, **layers)
    assert line == f"{STUDIES}: would make other inputs, or another order of them, but rows have the shape [1, 3]"
    checked(study(own), rows)  # layers of lower-case names take a plain list
    train.main(study(own), "mine")
