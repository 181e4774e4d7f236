"""A training that was cut off goes on, and ends in the bytes of one that was not."""

import random
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import EXAMPLES, Bench, Cut, Keeper, cut, data, data_of, differences, nobody, recipe, replica_of
from torch.optim import Optimizer

from bancada.base import BadInput, user_code
from bancada.networks.portable import seed_all
from bancada.networks.saved import Trained
from bancada.training import checkpoint, live, streams, torch_engine
from bancada.training.replica import Data, Replica, Rows

UPDATES = 15  # 3 epochs of 70 rows in batches of 16


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    yield
    user_code.forget()


def resumed(one: Replica, rows: Data, keeper: Keeper) -> Trained:
    seed_all(random.randrange(2**31))  # another process would stand elsewhere
    return torch_engine.train(one, rows, nobody, Keeper(keeper.path))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(
    "updates", [(1, 6, 8), pytest.param(range(1, UPDATES + 1), marks=pytest.mark.long)], ids=["some", "all"]
)
def test_cut_off_before_any_update_it_ends_in_the_same_bytes(name: str, updates: Sequence[int], own: Bench) -> None:
    one, rows = replica_of(name, early_stopping={"patience": 9}), data_of(name)
    whole = torch_engine.train(one, rows, nobody)
    for update in updates:
        keeper = Keeper(own.root / f"{update}.state", update)
        cut(one, rows, keeper)
        assert differences(resumed(one, rows, keeper), whole) == [], update


@pytest.mark.parametrize("name", EXAMPLES)
def test_cut_off_again_and_again_it_ends_in_the_same_bytes(name: str, own: Bench) -> None:
    one, rows, path = replica_of(name), data_of(name), own.root / "a.state"
    whole = torch_engine.train(one, rows, nobody)
    for _ in range(UPDATES - 1):
        cut(one, rows, Keeper(path, 2))  # the first is what it began with
    assert differences(resumed(one, rows, Keeper(path)), whole) == []


OPTIMIZERS = sorted(
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer
)
REFUSED = {"LBFGS": "a closure", "SparseAdam": "sparse gradients", "Muon": "matrices alone"}
FUSED = {name: {"name": name, "fused": True} for name in ("Adam", "AdamW", "SGD", "Adagrad")}
ASKED = {name: {"name": name} for name in OPTIMIZERS if name not in REFUSED} | {
    **{f"{name}, fused": asked for name, asked in FUSED.items()},
    "Adam, amsgrad": {"name": "Adam", "amsgrad": True},
    "SGD, momentum": {"name": "SGD", "momentum": 0.9, "nesterov": True},
    "RMSprop, centered": {"name": "RMSprop", "centered": True, "momentum": 0.9},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 1, 3]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 4},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.1},
    "ReduceLROnPlateau": {"patience": 0},
}
EVERY = [(name, every) for name in SCHEDULES for every in ("epoch", "update")][:-1]  # a plateau is one of epochs


def flat(value: Any) -> list[Any]:
    """What is in a nest of values, each with its type and all of its bits."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        return [type(value), array.dtype, array.shape, array.tobytes()]
    if isinstance(value, dict):
        return [type(value), *((key, flat(item)) for key, item in value.items())]
    if isinstance(value, list | tuple):
        return [type(value), *map(flat, value)]
    return [type(value), repr(value)]


def goes_on_exactly(one: Replica, rows: Data, path: Path) -> None:
    """In the middle of the second epoch; right after the resume, all is as it was kept, byte by byte."""
    whole = torch_engine.train(one, rows, nobody)
    keeper = Keeper(path, 8)
    cut(one, rows, keeper)
    again = torch_engine.Training(one, rows)
    again.resume(checkpoint.read(path))
    assert flat(again.state()) == flat(checkpoint.read(path))
    assert differences(resumed(one, rows, keeper), whole) == []


@pytest.mark.parametrize("name", ASKED)
def test_every_optimizer_goes_on_exactly(name: str, own: Bench) -> None:
    goes_on_exactly(replica_of("residual", optimizer=ASKED[name], lr=0.01), data_of("residual"), own.root / "a.state")


@pytest.mark.parametrize(("name", "every"), EVERY)
def test_every_schedule_goes_on_exactly(name: str, every: str, own: Bench) -> None:
    schedule = {"name": name, "every": every} | SCHEDULES[name]
    optimizer = {"name": "SGD", "momentum": 0.9}
    goes_on_exactly(
        replica_of("residual", optimizer=optimizer, schedule=schedule), data_of("residual"), own.root / "a.state"
    )


@pytest.mark.parametrize("schedule", [{"name": "step", "step_size": 2, "gamma": 0.5}, "inverse time"])
def test_the_schedules_of_the_small_vocabulary_go_on_exactly(schedule: Any, own: Bench) -> None:
    if isinstance(schedule, str):
        schedule = {"name": "inverse_time", "decay": 0.1}
    asked = {"loss": "cross_entropy", "lr": 0.1, "epochs": 3, "batch_size": 16, "schedule": schedule}
    goes_on_exactly(Replica(recipe({"layers": ["Flatten", 4]}, asked), 111), data(), own.root / "a.state")


# --- which rows, and which rate -------------------------------------------------------------------------------------


LOGGING = """\
from torch import nn
SEEN = []
class Logging(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 1)
    def forward(self, rows):
        if self.training:
            SEEN.append(rows[:, 0].int().tolist())
        return self.head(rows)
"""


def of_file(name: str, text: str, **train: Any) -> Replica:
    Path("src/models", f"{name.lower()}.py").write_text(text)
    asked = {"loss": "L1Loss", "lr": 0.01, "epochs": 4, "batch_size": 4} | train
    return Replica(recipe({"module": {"file": f"src/models/{name.lower()}.py", "name": name}}, asked), 111)


def seen() -> list[list[int]]:
    """The rows of each batch, since the last call."""
    found = sys.modules["models.logging"].SEEN
    taken = list(found)
    found.clear()
    return taken


@pytest.mark.parametrize("cuts", [[8], [10], [8, 4], [11, 1], [20]], ids=str)
def test_each_row_comes_once_an_epoch_in_the_order_of_an_unbroken_run(cuts: list[int], own: Bench) -> None:
    """20 rows, 5 batches an epoch; cut in the second epoch, between two, twice, and in the last one."""
    ids = Rows(np.arange(20, dtype=np.float32)[:, None], np.zeros((20, 1)))
    rows, one, path = Data(ids, ids, 0), of_file("Logging", LOGGING), own.root / "a.state"
    torch_engine.train(one, rows, nobody)
    whole = seen()
    epochs = [list(chain.from_iterable(whole[at : at + 5])) for at in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    joined = []
    for after in cuts:
        cut(one, rows, Keeper(path, after))
        joined += seen()
    resumed(one, rows, Keeper(path))
    assert [*joined, *seen()] == whole


def test_the_rate_of_each_epoch_is_the_schedules_after_a_cut_at_any_border(own: Bench) -> None:
    schedule = {"name": "MultiStepLR", "milestones": [3], "gamma": 0.1}
    one = replica_of("residual", lr=0.5, epochs=6, schedule=schedule, batch_size="full")
    for epoch in range(1, 7):
        keeper = Keeper(own.root / f"{epoch}.state", epoch)
        cut(one, data_of("residual"), keeper)
        found = resumed(one, data_of("residual"), keeper).history["lr"]
        assert found == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.05])


def test_a_constant_loss_lowers_a_plateaus_rate_at_the_same_epochs_after_a_cut(own: Bench) -> None:
    """Patience 1, factor 0.5: after each epoch 0.8, 0.8, 0.4, 0.4, 0.2."""
    nothing = Rows(np.zeros((8, 1), np.float32), np.full((8, 1), 0.7))
    frozen = LOGGING.replace("self.head(rows)", "self.head.weight * 0 * rows").replace("Logging", "Frozen")
    schedule = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5}
    one = of_file("Frozen", frozen, lr=0.8, epochs=6, batch_size="full", schedule=schedule)
    keeper = Keeper(own.root / "a.state", 3)
    cut(one, Data(nothing, nothing, 0), keeper)
    found = resumed(one, Data(nothing, nothing, 0), keeper).history["lr"][1:]  # the next epoch's, after each
    assert found == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])


# --- what was kept --------------------------------------------------------------------------------------------------


class Reported:
    """The lines that a training writes for MLflow."""

    def __init__(self, epochs: int) -> None:
        self.lines: list[dict[str, Any]] = []
        self.curves = live.Curves(1, epochs, self.lines.append)

    def __call__(self, epoch: int, row: dict[str, float]) -> None:
        self.curves.epochs(0, epoch, {name: np.array([value]) for name, value in row.items()})


def test_after_a_cut_the_curves_have_every_epoch_once_and_no_other(own: Bench) -> None:
    one, rows, keeper = replica_of("residual", epochs=6), data_of("residual"), Keeper(own.root / "a.state", 17)
    whole, before, after = Reported(6), Reported(6), Reported(6)
    torch_engine.train(one, rows, whole)
    with pytest.raises(Cut):
        torch_engine.train(one, rows, before, keeper)
    torch_engine.train(one, rows, after, Keeper(keeper.path))
    assert [line["epoch"] for line in whole.lines] == [0, 1, 2, 3, 4, 5]
    assert before.lines == whole.lines[:3]
    assert after.lines == whole.lines  # the file of the killed training is emptied


@pytest.mark.parametrize("damage", ["half", "empty", "a byte", "no digest", "gone"])
def test_a_state_that_is_not_whole_is_not_taken(damage: str, own: Bench) -> None:
    one, rows, keeper = replica_of("residual"), data_of("residual"), Keeper(own.root / "a.state", 8)
    whole = torch_engine.train(one, rows, nobody)
    cut(one, rows, keeper)
    content = bytearray(keeper.path.read_bytes())
    if damage == "a byte":
        content[random.randrange(len(content))] ^= 1
    left = {"half": content[: len(content) // 2], "empty": b"", "a byte": content, "no digest": content[:20]}
    keeper.path.write_bytes(left.get(damage, b""))
    if damage == "gone":
        keeper.path.unlink()
    assert Keeper(keeper.path).read() is None
    assert differences(resumed(one, rows, keeper), whole) == []


@pytest.mark.parametrize("step", ["open", "write", "fsync", "rename"])
def test_a_write_that_is_cut_off_leaves_the_state_before(
    step: str, own: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, rows, keeper = replica_of("residual"), data_of("residual"), Keeper(own.root / "a.state", 4)
    whole = torch_engine.train(one, rows, nobody)
    cut(one, rows, keeper)
    before = keeper.path.read_bytes()

    def killed(*args: Any, **kwargs: Any) -> Any:
        raise Cut

    with monkeypatch.context() as patched:
        target = {
            "open": "pathlib.Path.open",
            "write": "pickle.dumps",
            "fsync": "os.fsync",
            "rename": "pathlib.Path.replace",
        }[step]
        patched.setattr(target, killed)
        cut(one, rows, Keeper(keeper.path, 99))
    assert keeper.path.read_bytes() == before
    assert differences(resumed(one, rows, keeper), whole) == []


def test_a_full_disk_is_no_fault_of_the_users_network(own: Bench) -> None:
    class Full(Keeper):
        def write(self, state: Any) -> None:
            raise OSError(28, "No space left on device", "a.state")

    with pytest.raises(OSError, match="No space left") as raised:
        torch_engine.train(replica_of("cnn"), data_of("cnn"), nobody, Full(own.root / "a.state"))
    assert not isinstance(raised.value, BadInput)


def test_the_generators_of_a_seed_are_two_different_ones() -> None:
    drawn = {streams.number(seed, purpose) for seed in range(50) for purpose in (streams.DROPOUT, streams.MODULE)}
    assert len(drawn) == 100
