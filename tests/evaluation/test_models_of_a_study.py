"""Which models are evaluated, by the index of a study, and what is refused."""

import json
import subprocess
from pathlib import Path

import pytest
from evaluated import CORNERS, MOONS, changed, classifier, given, line_rows, main, read, write_model, write_split

from bancada.base import BadInput, files
from bancada.base.params_file import ParamsFile
from bancada.evaluation import evaluate
from bancada.training import index

pytestmark = pytest.mark.usefixtures("workspace")


def test_a_new_input_that_float32_cannot_hold_once_it_is_standardized_is_refused(undrawn):
    split = {"train": 4}
    params = given(MOONS, [1], split, "error_rate_percent", predict=[{"x": 1, "y": 1}, {"y": 1e38, "x": 1}])
    write_split(CORNERS)
    scaling = {"input_mean": [0.0, 0.0], "input_std": [1.0, 0.1]}
    for variant in ("base", "other"):
        write_model(params, variant, CORNERS, classifier([True] * 4) | (scaling if variant == "other" else {}))
    with pytest.raises(
        BadInput,
        match=r"^params.yaml: studies.study.predict\[1\].y = 1e\+38: too large for other, which standardizes it$",
    ):
        main(params, "study")
    assert not files.evaluation("study").exists()


def test_a_variant_that_is_taken_out_is_compared_no_more_though_its_model_is_left_over(moons, undrawn):
    main(moons, "study")
    assert {row["variant"] for row in read("leaderboard.csv")} == {"base", "diverged", "mixed"}
    variants = {name: keys for name, keys in moons.raw["variants"].items() if name != "mixed"}
    main(ParamsFile({**moons.raw, "variants": variants}), "study")
    assert files.model("study", "mixed").is_dir()
    for name in ("leaderboard.csv", "scores.csv", "per_seed.csv", "loss.csv", "predictions.csv"):
        assert {row["variant"] for row in read(name)} == {"base", "diverged"}, name


def test_the_index_has_the_hashes_that_md5sum_prints(moons):
    index.main(moons, "study")
    folder = files.model("study", "mixed")
    printed = subprocess.run(["md5sum", *sorted(folder.iterdir())], capture_output=True, text=True, check=True).stdout
    hashes = {Path(line.split()[1]).name: line.split()[0] for line in printed.splitlines()}
    assert json.loads(Path("data/index/study.json").read_text())["mixed"] == hashes


def test_a_model_that_is_missing_or_is_not_the_one_of_the_index_is_refused_by_name(moons):
    index.main(moons, "study")
    with (files.model("study", "mixed") / "history.parquet").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BadInput, match=r"data/models/study/mixed: not the one that data/index/study.json names"):
        evaluate.main(moons, "study")
    files.remove(files.model("study", "mixed"))
    for stage in (index, evaluate):
        with pytest.raises(BadInput, match=r"data/models/study/mixed/weights.safetensors: missing; .* train@mixed"):
            stage.main(moons, "study")
    files.index("study").write_text("[]")
    with pytest.raises(BadInput, match=r"data/index/study.json: missing, or not what the stage wrote"):
        evaluate.main(moons, "study")
    assert not files.evaluation("study").exists()


def test_a_study_without_variants_is_refused_by_name(moons):
    with pytest.raises(BadInput, match=r"params.yaml: studies.study: no variant belongs to it"):
        index.main(ParamsFile({**moons.raw, "variants": {}}), "study")


def test_models_of_different_seeds_are_not_compared(moons):
    fewer = ParamsFile({**moons.raw, "num_seeds": 2})
    files.remove(files.model("study", "mixed"))
    write_model(fewer, "mixed", CORNERS, classifier([True, False]))
    with pytest.raises(BadInput, match=r"mixed: trained with other seeds than base \(9, 10\); `dvc repro` trains both"):
        main(moons, "study")


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ({"x": 1, "yy": 2}, r"predict\[0\].yy: unknown feature; did you mean 'y'"),
        ({"x": 1}, r"predict\[0\].y: missing"),
        ([1, 2, 3], r"predict\[0\]: 3 values, but the features are 2"),
    ],
)
def test_an_input_that_does_not_fit_the_features_is_refused(moons, predict, message):
    with pytest.raises(BadInput, match=message):
        main(changed(moons, predict=[predict]), "study")


def test_new_inputs_are_checked_against_features_that_only_the_table_names():
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "regression", "targets": ["c"]}
    params = given(source, [1], {"train": 6}, "mse", predict=[{"x1": 1, "xx2": 2}])
    write_split(line_rows())
    with pytest.raises(
        BadInput, match=r"^params.yaml: studies.study.predict\[0\].xx2: unknown feature; did you mean 'x2'\?$"
    ):
        evaluate.main(params, "study")
    assert not files.evaluation("study").exists()
