"""A search: it finds a best point that is known, by validation rows alone, and the same one whatever happens."""

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import ROOT, data_of
from ruamel.yaml import YAML

from bancada.base import BadInput, files, params_file, tables
from bancada.data import draws, generate, split
from bancada.networks import saved
from bancada.training import compiled_engine, search, store, train
from bancada.training.space import FIRST, Search

LR: dict[str, Any] = {"low": 0.05, "high": 0.95}
SOURCE = {"kind": "linear", "rows": 60, "weights": [2.0], "bias": 4.2, "noise_std": 0.001, "seed": 5}
TRAIN: dict[str, Any] = {"loss": "mse", "lr": 0.01, "batch_size": "full", "epochs": 1, "standardize": True}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DVC's folder and data/code, so that there is a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BANCADA_TRACKING", "off")
    monkeypatch.setattr(store.Store, "_is_in_the_lock", lambda self: False)
    Path(".dvc").mkdir()
    code = files.code("train", "tuned")
    code.parent.mkdir(parents=True)
    code.write_text(json.dumps({"modules": {}, "packages": {}}))


def written(
    lr: float | None = None, seed: int = 1, num_seeds: int = 2, more: Any = None, study: Any = None, **asked: Any
) -> None:
    """Write params.yaml and the rows. `asked`: keys of the search; `more`: of the training."""
    keys = {"trials": 8, "seeds": 2, "space": {"lr": LR}} | asked
    line: dict[str, Any] = {"source": SOURCE, "split": {"train": 30, "validation": 15, "test": 15}, "metric": "mse"}
    line |= study or {}
    line["train"] = TRAIN | {"search": keys} | (more or {})
    params = {"seed": seed, "num_seeds": num_seeds, "lr": lr, "engine": None, "device": "cpu"}
    params |= {"studies": {"line": line}, "variants": {"tuned": {"study": "line", "layers": [1]}}}
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    if not files.split("line").exists():
        for stage in (generate, split):
            stage.main(params_file.read(), "line")


def trained() -> dict[str, bytes]:
    train.main(params_file.read(), "tuned")
    return {path.name: path.read_bytes() for path in files.model("line", "tuned").iterdir()}


def found() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    read = saved.read_search(files.model("line", "tuned"))
    assert read
    return read


def spied(monkeypatch: pytest.MonkeyPatch, end_after: int = 10**9) -> list[int]:
    """The seeds of all replicas that an engine trains; after so many of them, Ctrl-C."""
    seeds, whole = list[int](), compiled_engine.train

    def spy(replicas: Mapping[int, Any], *rest: Any) -> Any:
        if len(seeds) >= end_after:
            raise KeyboardInterrupt
        seeds.extend(one.seed for one in replicas.values())
        return whole(replicas, *rest)

    monkeypatch.setattr(compiled_engine, "train", spy)
    return seeds


def test_the_best_point_is_found_where_it_is_known() -> None:
    """One step of gradient descent on a line reaches its end at lr = 1/2: inputs have mean 0 and variance 1."""
    written(trials=16)
    trained()
    values = [point["lr"] for point in search.points_of(Search(trials=16, space={"lr": LR}))]
    best = int(np.argmin(np.abs(np.array(values) - 0.5)))
    asked, columns = found()
    assert asked["chosen"] == {"lr": values[best]}
    assert asked["trial"] == best + 1
    assert {key: asked[key] for key in ("trials", "seeds", "seed", "metric", "edges")} == {
        "trials": 16,
        "seeds": 2,
        "seed": 0,
        "metric": "mse",
        "edges": [],
    }
    assert list(columns) == ["trial", "seed", "lr", "score"]
    assert columns["lr"] == list(np.repeat(values, 2))
    assert columns["trial"] == list(np.repeat(range(1, 17), 2))
    assert columns["seed"] == [2**31 + 1024, 2**31 + 1025] * 16
    mean = np.mean(np.reshape(columns["score"], (16, 2)), axis=1)
    assert asked["score"] == pytest.approx(mean[best], rel=1e-8)
    run = json.loads((files.model("line", "tuned") / files.RUN).read_text())
    assert run["recipe"]["train"]["lr"] == values[best]
    assert run["recipe"]["seeds"] == [1, 2]
    assert "search" not in run["recipe"]["train"]


def test_test_rows_choose_nothing_and_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    written()
    before, path, read = trained(), files.split("line") / "test.parquet", tables.read
    rows = read(path)
    shuffled = np.random.default_rng(1).permutation(rows.targets)
    tables.write(tables.Table(rows.features, shuffled, rows.feature_names, rows.target_names, []), path)
    asked = list[str]()
    monkeypatch.setattr(tables, "read", lambda at: (asked.append(at.name), read(at))[1])
    monkeypatch.setenv("BANCADA_REPLICAS", "off")
    assert trained() == before
    assert asked == ["train.parquet", "validation.parquet"]


def test_the_score_is_in_the_units_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a network learns them standardized."""
    written(trials=1, seeds=1, more={"prepare": {"targets": {"standardize": True}}, "epochs": 3})
    networks, scored = list[Any](), search.scored
    monkeypatch.setattr(search, "scored", lambda *rest: (networks.extend(rest[1]), scored(*rest))[1])
    trained()
    learned, rows = (tables.read(files.split("line") / f"{part}.parquet") for part in ("train", "validation"))
    mean, sd, target_mean, target_sd = (
        value for of in (learned.features, learned.targets) for value in (of.mean(), of.std())
    )
    [network] = networks
    outputs = (rows.features - mean) / sd * network.weights["0.weight"][0, 0] + network.weights["0.bias"][0]
    expected = np.square(outputs * target_sd + target_mean - rows.targets).mean()
    assert found()[1]["score"] == [pytest.approx(expected, rel=1e-4)]  # of float32


def test_seeds_at_the_top_change_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    written()
    before, asked = trained(), spied(monkeypatch)
    written(seed=2**31 - 1, num_seeds=5)
    after = trained()
    assert after[files.SEARCH] == before[files.SEARCH]
    assert asked == [2**31 - 1 + i for i in range(5)]


def test_tuning_seeds_are_never_those_of_a_final_training() -> None:
    """The largest of these is 2**31 - 1 + 999; and those of a search fit into the 32 bits of the compiled engine."""
    space = {"lr": LR}
    first = Search(trials=1, seeds=1000, space=space).tuning_seeds()
    last = Search(trials=1, seeds=1000, seed=2**20 - 1, space=space).tuning_seeds()
    second = Search(trials=1, seed=1, space=space).tuning_seeds()
    assert first[0] == FIRST > 2**31 + 998
    assert second[0] > first[-1]
    assert last[-1] < 2**32


def test_a_search_with_data_drawn_anew_has_draws_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each tuning seed, by which its networks are prepared and on whose validation rows they are scored."""
    asked, of_study = list[list[int]](), draws.of_study
    monkeypatch.setattr(draws, "of_study", lambda *rest: (asked.append(list(rest[2])), of_study(*rest))[1])
    written(study={"source": SOURCE | {"vary": ["seed", "data"]}}, num_seeds=3, trials=1)
    networks, scored = list[Any](), search.scored
    monkeypatch.setattr(search, "scored", lambda *rest: (networks.extend(rest[1]), scored(*rest))[1])
    trained()
    assert asked == [[0, 1, 2], [1024, 1025]]
    expected = []
    for network, parts in zip(networks, of_study(params_file.read(), "line", asked[1]), strict=True):
        rows, learned = parts["validation"], parts["train"].features
        inputs = (rows.features - learned.mean()) / learned.std()
        outputs = inputs * network.weights["0.weight"][0, 0] + network.weights["0.bias"][0]
        expected.append(np.square(outputs - rows.targets).mean())
    assert found()[1]["score"] == pytest.approx(expected, rel=1e-4)
    assert expected[0] != expected[1]
    run = json.loads((files.model("line", "tuned") / files.RUN).read_text())
    assert len(run["draws"]) == 3


def test_more_trials_keep_the_first_ones_and_train_only_the_new(monkeypatch: pytest.MonkeyPatch) -> None:
    written(trials=5)
    trained()
    _, before = found()
    asked = spied(monkeypatch)
    written(trials=9)
    with_store = trained()
    _, after = found()
    assert len([seed for seed in asked if seed >= FIRST]) == 4 * 2
    assert {name: values[:10] for name, values in after.items()} == before
    monkeypatch.setenv("BANCADA_REPLICAS", "off")
    assert trained() == with_store


def test_another_metric_scores_the_same_trainings_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    written()
    trained()
    asked, code = spied(monkeypatch), files.code("train", "tuned")
    code.write_text(json.dumps(json.loads(code.read_text()) | {"metric": "r2"}))
    written(study={"metric": "r2"})
    trained()
    described, columns = found()
    assert (asked, described["metric"]) == ([], "r2")
    assert described["score"] == pytest.approx(max(np.mean(np.reshape(columns["score"], (8, 2)), axis=1)))


def test_a_killed_search_goes_on_and_ends_in_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    written()
    monkeypatch.setattr(search, "A_CORE", 2)
    monkeypatch.setenv("BANCADA_CORES", "1")
    with monkeypatch.context() as patched:
        first = spied(patched, end_after=6)
        with pytest.raises(KeyboardInterrupt):
            trained()
    assert len(first) == 6
    assert not files.model("line", "tuned").exists()
    with monkeypatch.context() as patched:
        second = spied(patched)
        resumed = trained()
    assert len(second) == 16 - 6 + 2
    monkeypatch.setenv("BANCADA_REPLICAS", "off")
    monkeypatch.setenv("BANCADA_CORES", "2")
    assert trained() == resumed  # undisturbed, and on two cores


def test_a_rate_at_the_top_leaves_no_lr_to_search(capsys: pytest.CaptureFixture[str]) -> None:
    written(lr=0.3)
    assert files.SEARCH not in trained()
    said = "lr = 0.3 replaces studies.line.train.lr = 0.01 and studies.line.train.search.space.lr"
    assert said in capsys.readouterr().err
    written(lr=0.3, space={"lr": LR, "epochs": {"low": 1, "high": 4}})
    trained()
    asked, columns = found()
    assert list(asked["space"]) == ["epochs"]
    assert set(columns["epochs"]) == {1, 2, 3, 4}


def test_choices_keep_their_types_and_a_chosen_edge_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    space = {
        "batch_size": {"choices": [5, "full"]},
        "clip_norm": {"choices": [0.0, 9.0]},
        "lr": {"low": 0.0, "high": 0.1},
    }
    space["lr"] = {"low": 0.001, "high": 0.1}
    written(space=space)
    trained()
    _, columns = found()
    assert {type(value) for value in columns["batch_size"]} == {int, str}
    assert {type(value) for value in columns["clip_norm"]} == {float}
    written(trials=64, space={"lr": {"low": 0.001, "high": 0.01}})
    trained()
    asked, _ = found()
    assert asked["edges"] == ["lr"]
    assert f"chosen at the edge of what was searched: lr = {asked['chosen']['lr']}" in capsys.readouterr().out


def test_the_mean_over_seeds_chooses_and_what_has_no_number_comes_last() -> None:
    """Lower is better: 0.10, 0.50, 0.60 loses to 0.30, 0.31, 0.32."""
    assert search.best_trial(np.array([[0.1, 0.5, 0.6], [0.3, 0.31, 0.32]]), higher=False) == 1
    for order in itertools.permutations([math.nan, 0.4, 0.3]):
        assert search.best_trial(np.array(order)[:, None], higher=False) == order.index(0.3)
        assert search.best_trial(np.array(order)[:, None], higher=True) == order.index(0.4)
    assert search.best_trial(np.array([[0.0, math.nan, 0.0], [0.9, 0.9, 0.9]]), higher=False) == 1
    assert search.best_trial(np.array([[math.inf], [5.0]]), higher=False) == 1
    assert search.best_trial(np.array([[0.3], [0.2], [0.2]]), higher=False) == 1
    assert search.best_trial(np.array([[math.nan], [math.nan]]), higher=False) is None


def test_some_diverged_trials_are_recorded_and_all_are_refused() -> None:
    written(space={"lr": {"low": 0.1, "high": 1e30, "log": True}}, more={"epochs": 30})
    trained()
    _, columns = found()
    lost = np.isnan(columns["score"])
    assert 0 < lost.sum() < len(lost)
    before = {path.name: path.read_bytes() for path in files.model("line", "tuned").iterdir()}
    written(space={"lr": {"low": 1e20, "high": 1e30, "log": True}}, more={"epochs": 30})
    with pytest.raises(BadInput) as refused:
        trained()
    problem = "no trial of 8 has a score (mse) for each of its seeds; try another space or metric"
    assert str(refused.value) == f"params.yaml: studies.line.train.search: {problem}"
    assert {path.name: path.read_bytes() for path in files.model("line", "tuned").iterdir()} == before


@pytest.mark.long
def test_the_order_of_sets_changes_no_byte() -> None:
    written(space={"lr": LR, "epochs": {"low": 1, "high": 9}, "batch_size": {"choices": [7, "full"]}})
    known = list[dict[str, bytes]]()
    for seed in "012":
        settings = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "src"), "BANCADA_REPLICAS": "off"}
        subprocess.run([sys.executable, "-m", "bancada.training.train", "tuned"], env=settings, check=True)
        known.append({path.name: path.read_bytes() for path in files.model("line", "tuned").iterdir()})
    assert known[0] == known[1] == known[2]


@pytest.mark.long
def test_arguments_of_a_users_module_are_searched(own: Any) -> None:
    """Each trial's networks are the files that were copied when the stage began."""
    own.write(["cnn"], search={"trials": 4, "seeds": 1, "space": {"args.channels": {"low": 2, "high": 5}}})
    raw = YAML(typ="safe", pure=True)
    params = raw.load((own.root / "params.yaml").read_text())
    params["studies"]["of_cnn"]["metric"] = "error_rate_percent"
    with (own.root / "params.yaml").open("w") as file:
        raw.dump(params, file)
    assert data_of("cnn").classes == 4
    own.train("cnn")
    run = json.loads(own.model("cnn")[files.RUN])
    assert run["recipe"]["module"]["args"]["channels"] == run["search"]["chosen"]["args.channels"]
