"""The compiled engine as a stage uses it: threads, slices of epochs, states that outlive a kill, and no torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SEED, Bench, Cut, all_trained, data, differences, recipe
from pydantic import ValidationError

from bancada.base import BadInput
from bancada.networks.saved import Trained
from bancada.training import compiled_engine, torch_engine
from bancada.training.replica import Data, Replica, Rows
from bancada.training.settings import SGD, Common, TrainingKeys, Variant

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [{"linear": 6, "bias": False}, "batch_norm", "tanh", {"dropout": 0.2}, 4]
ASKED = {
    "loss": "cross_entropy",
    "lr": 0.05,
    "epochs": 12,
    "batch_size": 16,
    "optimizer": "adamw",
    "schedule": "cosine",
}
STOPPING = {"early_stopping": {"patience": 2}, "class_weight": "balanced"}


def rows(train: int = 70) -> Data:
    """Four classes, of flat images."""
    made = data(train=train)
    flat = [Rows(part.inputs.reshape(len(part), -1), part.targets) for part in (made.train, made.validation)]
    return Data(*flat, made.classes)


def replicas(seeds: range, layers: Any = LAYERS, **changed: Any) -> list[Replica]:
    asked = recipe({"layers": layers}, ASKED | changed, "compiled")
    return [Replica(asked, SEED + seed) for seed in seeds]


def trained(asked: list[Replica], of: Data, report: Any = None) -> list[Trained]:
    return all_trained(compiled_engine, asked, of, report)


@pytest.mark.parametrize("cores", ["1", "2", "4"])
@pytest.mark.parametrize("stopping", [{}, STOPPING], ids=["all epochs", "early stopping"])
def test_a_replica_has_the_same_bytes_alone_in_company_and_on_any_number_of_threads(
    cores: str, stopping: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, of = replicas(range(5), **stopping), rows()
    alone = [trained([one], of)[0] for one in asked]
    monkeypatch.setenv("BANCADA_CORES", cores)
    assert [differences(*pair) for pair in zip(trained(asked, of), alone, strict=True)] == [[]] * 5
    assert [differences(*pair) for pair in zip(trained(asked[::-1], of), alone[::-1], strict=True)] == [[]] * 5
    assert differences(alone[0], alone[1])


class Recorded:
    """What a training reports; it is cut off once a replica has told of its epoch `cut`."""

    def __init__(self, cut: int = 10**9) -> None:
        self.cut, self.told, self.calls = cut, dict[int, list[float]](), 0

    def epochs(self, place: int, first: int, history: Mapping[str, np.ndarray]) -> None:
        told = self.told.setdefault(place, [])
        assert first == len(told), "an epoch is missing, or was told twice"
        told += history["train_loss"].tolist()
        self.calls += 1
        if len(told) > self.cut:
            raise Cut


def test_every_epoch_is_told_once_and_in_its_order_until_the_replicas_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_engine, "ROUND_S", 0.03)
    report = Recorded()
    found = trained(replicas(range(3), epochs=1000), rows(), report)
    for place, one in enumerate(found):
        told = report.told[place]
        assert told == one.history["train_loss"].tolist()
    assert report.calls < 500  # some epochs at a time


@pytest.mark.parametrize("stopping", [{}, STOPPING], ids=["all epochs", "early stopping"])
def test_a_training_that_was_killed_goes_on_from_its_states_and_ends_in_the_same_bytes(
    stopping: dict[str, Any], own: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BANCADA_CHECKPOINT_S", "0")
    for name in ("ROUND_S", "SLICE_S"):  # an epoch at a time
        monkeypatch.setattr(compiled_engine, name, 0.0)
    of, asked = rows(), replicas(range(3), **stopping)
    whole = trained(asked, of)
    kept = [replace(one, state=own.root / f"{one.seed}.state") for one in asked]
    for cut in (1, 2, 4):
        with pytest.raises(Cut):
            trained(kept, of, Recorded(cut))
    capsys.readouterr()
    assert [differences(*pair) for pair in zip(trained(kept, of), whole, strict=True)] == [[]] * 3
    assert f"seed {SEED} goes on after epoch " in capsys.readouterr().out


def test_states_are_kept_once_in_half_a_minute(own: Bench) -> None:
    asked = [replace(one, state=own.root / f"{one.seed}.state") for one in replicas(range(2), epochs=200)]
    trained(asked, rows())
    assert list(own.root.glob("*.state")) == []


@pytest.mark.parametrize(
    ("changed", "layers"),
    [
        ({"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "schedule": "none"}, [6, "tanh", 4]),
        ({"schedule": {"name": "cosine", "t_max": 4, "eta_min": 0.001}}, [6, "relu", 4]),
        ({"schedule": {"name": "cosine", "every": "update"}, "clip_norm": 0.5}, [6, "tanh", 4]),
        (STOPPING, [{"linear": 6, "bias": False}, "batch_norm", "tanh", 4]),
        (STOPPING | {"loss": "mse", "lr": 0.3, "optimizer": "sgd"}, [6, "tanh", 4, "softmax"]),
        ({"batch_size": "full", "class_weight": "balanced"}, [6, "sigmoid", 4]),
    ],
    ids=["nesterov", "cosine by epoch", "cosine by update", "early stopping", "weighted mse", "full batches"],
)
def test_the_keys_that_both_engines_have_mean_the_same(changed: dict[str, Any], layers: list[Any]) -> None:
    [one], of = replicas(range(1), layers, **changed), rows()
    [compiled] = trained([one], of)
    other = torch_engine.train(Replica(recipe({"layers": layers}, ASKED | changed), SEED), of, lambda epoch, row: None)
    for name, value in compiled.weights.items():
        np.testing.assert_allclose(value, other.weights[name], rtol=2e-4, atol=2e-5, err_msg=name)
    for name, values in compiled.history.items():
        np.testing.assert_allclose(values, other.history[name], rtol=2e-5, atol=1e-6, err_msg=name)
    assert (compiled.kept, compiled.parameters, compiled.outputs) == (other.kept, other.parameters, other.outputs)


def test_a_seed_that_diverges_is_recorded_with_its_epoch_and_ends_early() -> None:
    for one in trained(replicas(range(2), [4], loss="mse", optimizer="sgd", lr=1e6, epochs=500), rows()):
        assert one.diverged is not None
        assert len(one.history["train_loss"]) == one.diverged + 1 < 100
        assert np.isnan(one.weights["0.weight"]).all()
        assert not np.isfinite(one.history["train_loss"][-1])


def test_without_validation_rows_the_validation_loss_is_missing_and_nothing_diverges() -> None:
    of = rows()
    [one] = trained(replicas(range(1)), replace(of, validation=of.validation.first(0)))
    assert np.isnan(one.history["validation_loss"]).all()
    assert one.diverged is None


def test_a_thousand_replicas_train_together_and_each_has_its_own_bytes() -> None:
    asked, of = replicas(range(1000), [4], epochs=20), rows()
    found = trained(asked, of)
    for place in (0, 499, 999):
        assert differences(found[place], trained([asked[place]], of)[0]) == []
    assert len({one.weights["0.weight"].tobytes() for one in found}) == 1000


def test_a_training_on_this_engine_imports_no_torch(own: Bench) -> None:
    own.write_rows("toys", rows())
    own.write_code("toy", "f0")
    text = f"""
seed: 1
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  toys: {{source: {{}}, split: {{}}, train: {{loss: cross_entropy, lr: 0.1, epochs: 3, batch_size: 16}}}}
variants:
  toy: {{study: toys, layers: {json.dumps(LAYERS)}}}
"""
    (own.root / "params.yaml").write_text(text)
    code = "import sys, runpy; sys.argv = ['', 'toy']; runpy.run_module('bancada.training.train', run_name='__main__')"
    code += "; print({'torch', 'sklearn', 'mlflow', 'dvc', 'pandas'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=own.root, env=own.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


# --- which engine ---------------------------------------------------------------------------------------------------


def keys(top: str | None = None, device: str = "cpu", train: Mapping[str, Any] = {}, **variant: Any) -> TrainingKeys:
    common = Common(seed=1, num_seeds=1, lr=None, engine=top, device=device)
    network = {} if "module" in variant else {"layers": [4]}
    return TrainingKeys("mine", Variant(study="s", train=dict(train), **network, **variant), dict(ASKED), common)


MODULE = {"module": {"file": "src/models/mine.py", "name": "Mine"}}
TORCH_NAME = {"optimizer": {"name": "RMSprop"}}


@pytest.mark.parametrize(
    ("asked", "engine"),
    [
        (keys(), "compiled"),
        (keys(train={"engine": "torch"}), "torch"),
        (keys("compiled", train={"engine": "torch"}), "compiled"),
        (keys("torch", train={"engine": "compiled"}), "torch"),
        (keys("compiled", **MODULE), "torch"),
        (keys("compiled", train=TORCH_NAME), "torch"),
        (keys("compiled", scratch=True), "scratch"),
        (keys("torch", scratch=True), "scratch"),
        (keys("compiled", device="cuda"), "torch"),
        (keys(train=STOPPING), "compiled"),
    ],
)
def test_which_engine_trains_a_variant(asked: TrainingKeys, engine: str) -> None:
    assert asked.engine()[0] == engine


@pytest.mark.parametrize(
    "more", [MODULE, {"train": TORCH_NAME}, {"scratch": True}, {"train": {"bits": "this_machine"}}]
)
def test_what_the_compiled_engine_does_not_have_stays_on_its_engine_which_says_so(more: dict[str, Any]) -> None:
    assert "engine: compiled at the top of params.yaml is not for it" in keys("compiled", **more).engine()[1]
    own = {**more, "train": {**more.get("train", {}), "engine": "compiled"}}
    with pytest.raises(BadInput, match=r"variants\.mine\.train\.engine = compiled: it does not have"):
        keys(**own).recipe()


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        SGD(name="sgd", nesterov=True)


# --- Ctrl-C and kills of a stage ------------------------------------------------------------------------------------


ENDLESS = 300_000  # epochs: half a minute
LONG = """
seed: 1
num_seeds: {seeds}
lr: null
engine: null
device: cpu
studies:
  toys: {{source: {{}}, split: {{}}, train: {{loss: cross_entropy, lr: 0.01, epochs: {epochs}, batch_size: 16}}}}
variants:
  toy: {{study: toys, layers: [16, tanh, 4]}}
"""


def started(own: Bench, seeds: int, epochs: int, **variables: str) -> "subprocess.Popen[str]":
    own.write_rows("toys", rows())
    own.write_code("toy", "f0")
    (own.root / "params.yaml").write_text(LONG.format(seeds=seeds, epochs=epochs))
    return own.start("toy", **variables)


def states(own: Bench) -> list[Path]:
    return list((own.root / ".dvc/tmp/bancada/replicas").glob("*.state"))


def wait_for_states(own: Bench, count: int) -> None:
    end = time.monotonic() + 60
    while len(states(own)) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_ends_the_threads_within_a_second_and_the_next_run_goes_on(own: Bench) -> None:
    process = started(own, 4, ENDLESS, BANCADA_CHECKPOINT_S="0.1")
    wait_for_states(own, 4)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 1
    assert process.returncode == 130, out + err
    assert "interrupted; what was finished is kept" in err
    assert "Traceback" not in err
    again = started(own, 4, ENDLESS)
    told = [again.stdout.readline() for _ in range(5)] if again.stdout else []
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate(timeout=30)
    assert sum("goes on after epoch" in line for line in told) == 4
