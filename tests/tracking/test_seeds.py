"""What MLflow shows of each seed, what a run is called, and how it is found by the first letters of its id."""

from pathlib import Path

import clones
import pytest
from catching_up import tracks
from toy import NOBODY, PARAMS, Origin, train_variant

from bancada.base import BadInput, files, params_file
from bancada.tracking import mirror
from bancada.tracking.catch_up import track
from bancada.tracking.experiments import full_id
from bancada.tracking.record import Recorder
from bancada.tracking.store import open_store

SCORES = "toy_tanh,test,error_rate_percent,111,1.25\ntoy_tanh,test,error_rate_percent,112,12.3456\n"
LAYERS = "{linear: 3, bias: false}, batch_norm, tanh, {dropout: 0.1}, 1, tanh"  # of the toy's models
COMMITTED = PARAMS.replace("3, tanh, 1, tanh", LAYERS)


@pytest.fixture
def scored(bench: Path) -> Path:
    path = files.evaluation("toy") / "per_seed.csv"
    path.write_text(f"{path.read_text()}{SCORES}toy_tanh,test,error_rate_percent,113,\ntoy_tanh,train,loss,111,3\n")
    return bench


def test_the_scores_of_seeds_are_a_metric_by_seed_and_are_not_written_twice(scored: Path) -> None:
    store = open_store(scored)
    name = "seeds/test_error_rate_percent"

    def points() -> list[tuple[int, float]]:
        [run_id, _] = Recorder(store, NOBODY).write_study("toy")
        return [(point.step, point.value) for point in store.client.get_metric_history(run_id, name)]

    assert points() == [(111, 1.25), (112, 12.35)]  # four digits; a seed that diverged has none
    path = files.evaluation("toy") / "per_seed.csv"
    path.write_text(path.read_text().replace("12.3456", "13"))
    assert points() == [(111, 1.25), (112, 12.35), (112, 13)]


def test_each_seed_gets_a_nested_run_once_and_not_again_after_someone_deleted_it(
    scored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracks(capfd)
    assert track(False, seeds_of="toy_tanh") == 0
    assert "toy/toy_tanh: 3 runs of seeds new, 0 were there or deleted" in capfd.readouterr().out
    client = open_store(scored).client
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    nested = client.search_runs([experiment.experiment_id], "tags.`bancada.seed` != ''")
    losses = {run.data.tags["bancada.seed"]: run.data.metrics["train_loss"] for run in nested}
    assert losses == {"111": 112, "112": 113, "113": 114}  # each seed's own: seed + epoch / 4 in the fifth epoch
    errors = {run.info.run_name: run.data.metrics.get("test_error_rate_percent") for run in nested}
    assert errors == {"toy_tanh seed=111": 1.25, "toy_tanh seed=112": 12.35, "toy_tanh seed=113": None}
    assert len(client.search_runs([experiment.experiment_id], "tags.`bancada.fingerprint` != ''")) == 2  # the view's
    client.delete_run(nested[0].info.run_id)
    assert track(False, seeds_of="toy_tanh") == 0
    assert "0 runs of seeds new, 3 were there or deleted" in capfd.readouterr().out
    with pytest.raises(BadInput, match=r"^--seeds toy_tahn: no trained variant; did you mean 'toy_tanh'\?$"):
        track(False, seeds_of="toy_tahn")


def test_a_run_is_named_by_what_was_asked_where_the_committed_parameters_differ(bench: Path) -> None:
    Path("params.yaml").write_text(COMMITTED)
    for command in ("git init -q", "git add params.yaml", "git commit -q -m parameters"):
        clones.succeeds(bench, *command.split())
    head = Origin(commit=clones.succeeds(bench, "git", "rev-parse", "HEAD").strip())
    store = open_store(bench)

    def name(**keys: object) -> str:
        run_id = Recorder(store, head).write(train_variant("toy_tanh", **keys)).run_id
        return str(store.client.get_run(run_id).info.run_name)

    assert name() == "toy_tanh"
    assert (
        name(lr=0.01, optimizer={"name": "adam"})
        == "toy_tanh lr=0.01, optimizer=adam, optimizer.betas=[0.9, 0.999], ..."
    )


def test_what_a_search_chose_is_not_what_was_asked(bench: Path) -> None:
    asked = "epochs: 5, search: {trials: 4, seeds: 1, space: {lr: {low: 0.1, high: 1}}}}"
    before = params_file.parse(COMMITTED.replace("epochs: 5}", asked), "params.yaml")
    result = train_variant("toy_tanh", lr=0.7)
    search = {"trials": 8, "seeds": 1, "seed": 0, "space": {"lr": {"low": 0.1, "high": 1, "log": False}}}
    found = mirror.Result(**vars(result) | {"search": search | {"chosen": {"lr": 0.7}}})
    assert mirror.run_name(found, before) == "toy_tanh search.trials=8"


def test_a_run_is_found_by_the_first_letters_of_its_id(bench: Path) -> None:
    store = open_store(bench)
    run_id = Recorder(store, NOBODY).write(train_variant("toy_tanh")).run_id
    assert full_id(store, run_id[:6]) == full_id(store, run_id) == run_id
    assert full_id(store, "0000ffff") == "0000ffff"
