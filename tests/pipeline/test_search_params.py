"""What `search` may say in params.yaml: each wrong key or value is refused, with its place, before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml
from ruamel.yaml import YAML

from bancada.base import BadInput, params_file
from bancada.pipeline.params import Params, load
from bancada.training.fit import doubts

AT = "studies.moons.train.search"
STUDY: dict[str, Any] = {
    "source": {"kind": "half_moons", "rows": 40, "radius": 10, "distance": -4, "width": 6, "seed": 1},
    "split": {"train": 20, "validation": 10, "test": 10},
    "metric": "error_rate_percent",
}
TRAIN: dict[str, Any] = {"loss": "mse", "lr": 0.5, "batch_size": 10, "epochs": 4}
LR = {"low": 0.001, "high": 1, "log": True}


def loaded(
    folder: Path,
    space: Any,
    study: Any = None,
    variant: Any = None,
    train: Any = None,
    search: Any = None,
    lr: float | None = None,
) -> Params:
    keys = TRAIN | {"search": {"trials": 4, "space": space} | (search or {})} | (train or {})
    params: dict[str, Any] = {"seed": 1, "num_seeds": 2, "lr": lr, "engine": None, "device": "cpu"}
    params["studies"] = {"moons": STUDY | {"train": keys} | (study or {})}
    params["variants"] = {"tuned": {"study": "moons", "layers": [2, "tanh", 1, "tanh"]} | (variant or {})}
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    return load(folder / "params.yaml")


ADAM = {"optimizer": "adam"}
MODULE = {"layers": None, "module": {"file": "src/models/net.py", "name": "Net", "args": {"width": 4}}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a key that is none": ({"space": {"lrr": LR}}, f"{AT}.space.lrr: no key of train that can be searched: lrr"),
    "no module": ({"space": {"args.width": LR}}, f"{AT}.space.args.width: no key of train that can be searched: args"),
    "an option of another optimizer": (
        {"space": {"optimizer.betas.0": {"low": 0.1, "high": 0.9}}},
        f"{AT}.space.optimizer.betas.0 = 0.1: with it, variants.tuned.train.optimizer.betas: unknown key",
    ),
    "a place that a list lacks": (
        {"space": {"optimizer.betas.2": {"low": 0.1, "high": 0.9}}, "train": ADAM},
        f"{AT}.space.optimizer.betas.2: no key of train that can be searched: 2",
    ),
    "what decides on rows": (
        {"space": {"standardize": {"choices": [True, False]}}},
        f"{AT}.space.standardize: no key of train that can be searched: standardize",
    ),
    "what decides on seeds": (
        {"space": {"num_seeds": {"choices": [2, 3]}}},
        f"{AT}.space.num_seeds: no key of train that can be searched: num_seeds",
    ),
    "the lower end": (
        {"space": {"lr": {"low": 0.0, "high": 1.0}}},
        f"{AT}.space.lr = 0.0: with it, variants.tuned.train.lr = 0.0: must be greater than 0",
    ),
    "the upper end": (
        {"space": {"optimizer.betas.1": {"low": 0.1, "high": 1.5}}, "train": ADAM},
        f"{AT}.space.optimizer.betas.1 = 1.5: with it, variants.tuned.train.optimizer.betas[1] = 1.5: must be less",
    ),
    "more than the rows": (
        {"space": {"batch_size": {"low": 5, "high": 50}}},
        f"{AT}.space.batch_size = 50: with it, variants.tuned.train.batch_size = 50: larger than the training set",
    ),
    "not whole": (
        {"space": {"epochs": {"low": 1.5, "high": 3}}},
        f"{AT}.space.epochs = 1.5: with it, variants.tuned.train.epochs = 1.5: must be a whole number",
    ),
    "a choice": (
        {"space": {"optimizer": {"choices": ["sgd", "adamm"]}}},
        f"{AT}.space.optimizer = adamm: with it, variants.tuned.train.optimizer = adamm: must be one of sgd, adam",
    ),
    "another engine": (
        {"space": {"optimizer": {"choices": ["sgd", "RMSprop"]}}},
        f"{AT}.space.optimizer = RMSprop: with it, variants.tuned.train.engine: engine torch would train it",
    ),
    "a variant's own": (
        {"space": {"lr": LR}, "variant": {"train": {"search": {"trials": 4, "space": {"lr": {"low": -1, "high": 1}}}}}},
        "variants.tuned.train.search.space.lr = -1: with it,",
    ),
    "no validation rows": (
        {"space": {"lr": LR}, "study": {"split": {"train": 20, "test": 20}}},
        f"{AT}: needs validation rows of its own, because test rows may not choose; see split.validation",
    ),
    "test rows as validation rows": (
        {"space": {"lr": LR}, "study": {"split": {"train": 20, "validation": "test", "test": 20}}},
        f"{AT}: needs validation rows of its own",
    ),
    "losses that cannot be compared": (
        {"space": {"loss": {"choices": ["mse", "l1"]}}, "study": {"metric": "loss"}},
        f"{AT}.space.loss: the study's metric, its loss, would not be the same for all trials",
    ),
    "too long": (
        {"space": {"lr": LR}, "search": {"trials": 100_000, "seeds": 1000}},
        "studies.moons.train.epochs = 4: too many for 100000000 seeds",
    ),
    "a seed that is too large": (
        {"space": {"lr": LR}, "search": {"seed": 2**20}},
        f"{AT}.seed = 1048576: must be less than 1048576",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_refused_with_its_key(tmp_path: Path, case: str) -> None:
    asked, line = REFUSED[case]
    with pytest.raises(BadInput) as refused:
        loaded(tmp_path, **asked)
    assert str(refused.value).startswith(f"params.yaml: {line}")
    assert "\n" not in str(refused.value)


def test_training_from_scratch_is_not_searched(tmp_path: Path) -> None:
    line = {"kind": "linear", "rows": 40, "weights": [2.0], "bias": 1.0, "noise_std": 0.1, "seed": 1}
    scratch = {"scratch": True, "layers": [1]}
    with pytest.raises(BadInput, match="scratch = True: training from scratch has no search"):
        loaded(tmp_path, {"lr": LR}, {"source": line, "metric": "mse"}, scratch)
    with pytest.raises(BadInput, match="the study's metric chooses, and weight_error_max is none of validation rows"):
        loaded(tmp_path, {"lr": LR}, {"source": line, "metric": "weight_error_max"}, {"layers": [1]})


def test_a_search_over_splits_of_one_table_is_refused(tmp_path: Path) -> None:
    """The validation rows of one split are training rows of others; a source with a seed has other rows for each."""
    vary = {"vary": ["seed", "data"]}
    table = {"source": {"kind": "sklearn", "name": "breast_cancer"} | vary, "split": {"train": 0.6, "validation": 0.4}}
    with pytest.raises(BadInput, match=f"{AT}: the study's source has vary: .seed, data., so validation rows of one"):
        loaded(tmp_path, {"lr": LR}, table)
    assert loaded(tmp_path, {"lr": LR}, {"source": STUDY["source"] | vary}).training("tuned").search()


def test_dotted_keys_reach_what_is_written_and_what_is_not(tmp_path: Path) -> None:
    """`adam` is a short form, whose betas are not written; a schedule has its own mapping."""
    space = {"optimizer.betas.1": {"low": 0.1, "high": 0.9}, "schedule.gamma": {"low": 0.1, "high": 0.9}}
    schedule = {"schedule": {"name": "step", "step_size": 3, "gamma": 0.5}}
    keys = loaded(tmp_path, space, train=ADAM | schedule).training("tuned")
    train = keys.with_values({"optimizer.betas.1": 0.25, "schedule.gamma": 0.75}).recipe().train
    assert train.optimizer.model_dump() == {"name": "adam", "betas": [0.9, 0.25], "eps": 1e-8, "weight_decay": 0.0}
    assert train.schedule.model_dump() == {"name": "step", "step_size": 3, "gamma": 0.75, "every": "epoch"}
    assert keys.recipe().train.optimizer.model_dump()["betas"] == [0.9, 0.999]
    decay = loaded(tmp_path, {"optimizer.weight_decay": {"low": 0.0, "high": 0.1}}, train={"optimizer": "AdamW"})
    chosen = decay.training("tuned").with_values({"optimizer.weight_decay": 0.05}).recipe().train.optimizer
    assert chosen.model_dump() == {"name": "AdamW", "args": {"weight_decay": 0.05}}
    module = loaded(tmp_path, {"args.width": {"low": 1, "high": 9}}, variant=MODULE).training("tuned")
    found = module.with_values({"args.width": 7}).recipe().module
    assert found
    assert found.args == {"width": 7}


def test_a_recipe_does_not_depend_on_the_search_that_comes_before_it(tmp_path: Path) -> None:
    one, other = (loaded(tmp_path, {"lr": LR}, search={"trials": trials}).recipe("tuned") for trials in (4, 8))
    assert one == other
    assert one.train.search is None


def test_early_stopping_beside_a_search_reads_the_rows_that_choose(tmp_path: Path) -> None:
    stopped = {"early_stopping": {"patience": 2}}
    told = "studies.moons.train.early_stopping reads the validation rows by which search chooses: scores on them are"
    [doubt] = doubts(loaded(tmp_path, {"lr": LR}, train=stopped).training("tuned"))
    assert doubt.startswith(told)
    assert not doubts(loaded(tmp_path, {"lr": LR}, train=stopped, lr=0.25).training("tuned"))  # nothing is searched


def test_a_variants_own_search_replaces_its_studys_and_null_takes_it_away(tmp_path: Path) -> None:
    own = {"trials": 2, "space": {"epochs": {"low": 1, "high": 2}}}
    found = loaded(tmp_path, {"lr": LR}, variant={"train": {"search": own}}).training("tuned").search()
    assert found
    assert (found.trials, list(found.space)) == (2, ["epochs"])
    assert loaded(tmp_path, {"lr": LR}, variant={"train": {"search": None}}).training("tuned").search() is None


def test_a_rate_at_the_top_leaves_nothing_to_search(tmp_path: Path) -> None:
    keys = loaded(tmp_path, {"lr": LR}, lr=0.25).training("tuned")
    assert keys.search() is None
    assert keys.overruled() == f"lr = 0.25 replaces studies.moons.train.lr = 0.5 and {AT}.space.lr"


def test_numbers_and_words_are_what_dvc_sees(tmp_path: Path) -> None:
    """YAML 1.2: 1e-3 is a number, `off` is a text. YAML 1.1 has a text and False."""
    path = tmp_path / "params.yaml"
    path.write_text("lr: 1e-3\noptions: [off, on]\nnumber: 0\nnegative: -7\nlarge: 1_000\nsum: 0.10\n")
    expected = {"lr": 0.001, "options": ["off", "on"], "number": 0, "negative": -7, "large": 1000, "sum": 0.1}
    assert params_file.read(path).raw == expected == load_yaml(str(path))
    path.write_text("a: 1\nseed: 010\n")
    with pytest.raises(BadInput, match="line 2 010: write a whole number without leading zeros, or a text in quotes"):
        params_file.read(path)
