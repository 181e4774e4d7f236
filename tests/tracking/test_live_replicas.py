"""Curves of seeds that are trained one by one: an epoch's mean once all have passed it, the furthest one until then,
and where early stopping ended them. The expected means are computed by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import NOBODY, count, rows, train_variant

from bancada.base import files, tables
from bancada.networks.saved import HISTORY_COLUMNS, Trained, carried
from bancada.tracking import mirror
from bancada.tracking.live_runs import LiveRun
from bancada.tracking.record import Recorder
from bancada.tracking.store import Store, open_store
from bancada.training import live

PLANNED, SEEDS = 6, [111, 112, 113]
LOSSES = [[1.0, 0.5, 0.75], [3.0, np.inf], [2.0] * PLANNED]  # the first stops, the second diverges
KEPT = {"111": 1, "113": 0}
MEANS = {0: 2.0, 1: 1.25, 2: 1.375, 3: 1.25, 4: 1.25, 5: 1.25}  # from epoch 3 on, the first counts with 0.5
FOLDER = files.model("toy", "toy_tanh")


def histories() -> list[dict[str, np.ndarray]]:
    columns = [np.array(losses) for losses in LOSSES]
    return [dict(zip(HISTORY_COLUMNS, (of, of, 2 * of, np.full(len(of), 0.5)), strict=True)) for of in columns]


@pytest.fixture
def training(bench: Path) -> dict[str, Any]:
    """A finished training of the torch engine, as its folder has it. Return what its live file begins with."""
    train_variant("toy_tanh", epochs=PLANNED, early_stopping={"patience": 1})
    described: dict[str, Any] = json.loads((FOLDER / "run.json").read_text())
    described["recipe"]["engine"] = "torch"
    shown = {"diverged": {"112": 1}, "kept": KEPT, "parameters": 20, "outputs": 1}
    (FOLDER / "run.json").write_text(json.dumps(described | shown))
    of, lengths = histories(), [len(losses) for losses in LOSSES]
    columns = {name: np.concatenate([one[name] for one in of]) for name in HISTORY_COLUMNS}
    columns |= {"seed": np.repeat(SEEDS, lengths), "epoch": np.concatenate([np.arange(n) for n in lengths])}
    tables.write_columns(columns, FOLDER / "history.parquet")
    return {key: value for key, value in described.items() if key not in shown}


def pass_epochs(curves: live.Curves, place: int, epochs: Sequence[int]) -> None:
    of = histories()[place]
    for epoch in epochs:
        curves.epochs(place, epoch, {name: of[name][epoch : epoch + 1] for name in HISTORY_COLUMNS})


def end(curves: live.Curves, place: int) -> None:
    kept = KEPT.get(str(SEEDS[place]))
    curves.ended(place, Trained({}, histories()[place], 20, 1, diverged=1 if place == 1 else None, kept=kept))


def curve(bench: Path, name: str) -> dict[int, float]:
    found = rows(bench, f"select step, value from metrics where key = '{name}' order by step")
    assert len(dict(found)) == len(found)
    return dict(found)


def send(curves: live.Curves, run: LiveRun, store: Store) -> None:
    """Two seeds end; the third is after epoch 4."""
    pass_epochs(curves, 2, range(3))
    run.send(store)
    pass_epochs(curves, 0, range(3))
    end(curves, 0)
    pass_epochs(curves, 2, range(3, 5))
    run.send(store)
    pass_epochs(curves, 1, range(2))
    end(curves, 1)
    run.send(store)


def test_a_mean_is_logged_once_all_seeds_have_passed_its_epoch_and_the_furthest_seed_until_then(
    bench: Path, training: dict[str, Any]
) -> None:
    store, run = open_store(bench), LiveRun("toy_tanh", NOBODY, 0)
    with live.shown(training) as curves:
        pass_epochs(curves, 2, range(3))
        run.send(store)
        assert curve(bench, "live/train_loss") == {0: 2.0, 1: 2.0, 2: 2.0}
        assert curve(bench, "live/validation_loss") == {0: 4.0, 1: 4.0, 2: 4.0}
        assert curve(bench, "train_loss") == curve(bench, "finished_seeds") == {}
        pass_epochs(curves, 0, range(3))
        end(curves, 0)
        run.send(store)
        assert curve(bench, "train_loss") == {}
        assert curve(bench, "finished_seeds") == {1: 1.0}
        pass_epochs(curves, 1, range(2))
        end(curves, 1)
        run.send(store)
        assert curve(bench, "train_loss") == {epoch: MEANS[epoch] for epoch in range(3)}
        assert curve(bench, "finished_seeds") == {1: 1.0, 2: 2.0}


def test_a_training_that_goes_on_after_a_kill_logs_nothing_twice_and_ends_with_what_is_recorded(
    bench: Path, training: dict[str, Any]
) -> None:
    store = open_store(bench)
    for _ in range(2):
        run = LiveRun("toy_tanh", NOBODY, 0)
        with live.shown(training) as curves:
            send(curves, run, store)
        run.end(store, "KILLED")
        assert curve(bench, "train_loss") == {epoch: MEANS[epoch] for epoch in range(5)}
    before = set(rows(bench, "select key, step, value, timestamp from metrics"))
    Recorder(store, NOBODY).write(mirror.result(FOLDER), began_ms=1)
    assert rows(bench, "select status from runs") == [("FINISHED",)]
    assert before < set(rows(bench, "select key, step, value, timestamp from metrics"))
    assert curve(bench, "train_loss") == MEANS
    assert curve(bench, "validation_loss") == {epoch: 2 * mean for epoch, mean in MEANS.items()}
    assert curve(bench, "finished_seeds") == {1: 1.0, 2: 2.0, 3: 3.0}
    assert curve(bench, "kept_epoch") == {111: 1.0, 113: 0.0}
    assert curve(bench, "last_epoch") == {111: 2.0, 113: 5.0}
    assert curve(bench, "parameters") == {0: 20.0}
    assert curve(bench, "diverged_seeds") == {0: 1.0}


def test_a_training_without_validation_rows_has_no_points_of_a_validation_loss(
    bench: Path, training: dict[str, Any]
) -> None:
    store, run = open_store(bench), LiveRun("toy_tanh", NOBODY, 0)
    with live.shown(training) as curves:
        losses = dict(zip(HISTORY_COLUMNS, np.array([[1.0], [1.0], [np.nan], [0.5]]), strict=True))
        curves.epochs(0, 0, losses)
        run.send(store)
    assert rows(bench, "select key, value from metrics") == [("live/train_loss", 1.0)]
    assert count(bench, "runs") == 1


def test_a_stopped_seed_goes_on_with_the_values_of_the_epoch_that_it_keeps() -> None:
    columns = {
        "seed": np.array([1, 1, 1, 2, 2, 2, 2, 2]),
        "epoch": np.array([0, 1, 2, 0, 1, 2, 3, 4]),
        "loss": np.array([5.0, 3.0, 4.0, 9.0, 8.0, 7.0, 6.0, 5.0]),
    }
    found = carried(columns, {1: 1, 2: 4})
    assert found["loss"][found["seed"] == 1].tolist() == [5.0, 3.0, 4.0, 3.0, 3.0]
    assert found["epoch"][found["seed"] == 1].tolist() == [0, 1, 2, 3, 4]
    assert found["loss"][found["seed"] == 2].tolist() == [9.0, 8.0, 7.0, 6.0, 5.0]


def test_settings_of_torchs_classes_have_their_names_in_params_yaml(training: dict[str, Any]) -> None:
    module = {"file": "src/models/net.py", "name": "Net", "args": {"width": 16}}
    training["recipe"] |= {"module": module}
    training["recipe"]["train"] |= {
        "loss": {"name": "HuberLoss", "args": {"delta": 2.0}},
        "optimizer": {"name": "AdamW", "args": {"weight_decay": 0.01}},
        "schedule": {"name": "StepLR", "args": {"step_size": 3}, "every": "epoch"},
    }
    inputs = mirror.Inputs("a", "b")
    found = mirror.parameters(mirror.description(training, inputs))
    wanted = {
        **{"loss": "HuberLoss", "loss.delta": "2.0", "optimizer.name": "AdamW", "optimizer.weight_decay": "0.01"},
        **{"schedule.name": "StepLR", "schedule.step_size": "3", "schedule.every": "epoch"},
        **{"module": "src/models/net.py Net", "module.args.width": "16", "engine": "torch"},
        "early_stopping.patience": "1",
    }
    assert wanted.items() <= found.items()
    assert "loss.name" not in found
