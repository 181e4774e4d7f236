"""What the torch engine makes of losses, class weights, schedules and early stopping, by hand calculation."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_by_hand import COMMON, TRAIN, by_hand, classes, keys, module, numbers, replica, same, trained

from bancada.base import BadInput
from bancada.networks import torch_network
from bancada.networks.saved import Trained
from bancada.training import fit, torch_engine
from bancada.training.replica import Data, Replica, Rows
from bancada.training.settings import TrainingKeys, Variant


def of_module(made: type[nn.Module], monkeypatch: pytest.MonkeyPatch, **train: Any) -> Replica:
    """Return a replica whose network is this class, as if it stood in the user's file."""
    monkeypatch.setattr(torch_network, "network", lambda described, shape: made())
    variant = Variant.model_validate({"study": "toy", "module": {"file": "src/models/x.py", "name": "X"}})
    return Replica(TrainingKeys("mine", variant, TRAIN | train, COMMON).recipe(), 111)


def three(targets: list[int], count: int = 0) -> Data:
    x = np.array([[0.0], [1.0], [2.0]], dtype=np.float32)
    return Data(Rows(x, np.array(targets)[:, None]), Rows(x, np.array(targets)[:, None]), count)


def scripted(losses: list[float], monkeypatch: pytest.MonkeyPatch, **train: Any) -> Trained:
    """Train while the validation loss is this, epoch by epoch."""
    script = iter(losses)
    monkeypatch.setattr(torch_engine.Training, "_validation_loss", lambda self: next(script))
    asked = replica([1], epochs=len(losses), **train)
    return torch_engine.train(asked, numbers(), lambda epoch, row: None)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "mse", "half_mse", "l1"])
def test_outputs_that_equal_the_targets_have_no_loss(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """[n, 1] against [n] would be spread to [n, n], and MSELoss would give 1.3333 (pytorch/pytorch#16045)."""
    asked = of_module(module(lambda rows: rows), monkeypatch, loss=loss, batch_size=3)
    assert trained(asked, three([0, 1, 2])).history["train_loss"].tolist() == [0.0, 0.0]


def test_outputs_without_an_axis_of_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = of_module(module(lambda rows: rows[:, 0]), monkeypatch, loss="MSELoss", batch_size=3)
    with pytest.raises(BadInput, match=r"gives \[2\] for 2 rows, not \[row, output\]"):
        trained(asked, three([0, 1, 2]))


def test_nll_loss_is_refused_where_outputs_are_no_logarithms_of_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = module(lambda rows: torch.tensor([[2.0, 0.0]]).expand(len(rows), 2))
    asked = of_module(scores, monkeypatch, loss="NLLLoss", batch_size=3)
    with pytest.raises(BadInput, match=r"X: NLLLoss takes .* sum to 8.389, not 1; end in LogSoftmax, or use Cross"):
        trained(asked, three([0, 1, 0], 2))
    logarithms = module(lambda rows: torch.tensor([[2.0, 0.0]]).log_softmax(1).expand(len(rows), 2))
    found = trained(of_module(logarithms, monkeypatch, loss="NLLLoss", batch_size=3), three([0, 0, 0], 2))
    np.testing.assert_allclose(found.history["train_loss"], -np.log(0.8808), rtol=1e-4)


def test_a_network_that_changes_its_inputs_in_place_does_not_change_the_data() -> None:
    asked = [replica([{"ELU": {"inplace": inplace}}, 3, "tanh", 1], epochs=4) for inplace in (False, True)]
    data = numbers()
    before = data.train.inputs.copy(), data.validation.inputs.copy()
    plain, in_place = (trained(one, data) for one in asked)
    np.testing.assert_array_equal(in_place.history["validation_loss"], plain.history["validation_loss"])
    np.testing.assert_array_equal(data.train.inputs, before[0])
    np.testing.assert_array_equal(data.validation.inputs, before[1])


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^params.yaml: variants.mine.layers: has no parameters that could be learned"):
        trained(replica(["GELU", "Flatten"]), classes())


def test_a_smaller_last_batch_counts_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.sqrt(np.array([[1.0]] * 8 + [[10.0]], dtype=np.float32))
    data = Data(Rows(x, np.zeros((9, 1))), Rows(x, np.zeros((9, 1))), 0)
    found = trained(of_module(module(lambda rows: rows), monkeypatch, epochs=1), data)
    np.testing.assert_allclose([found.history["train_loss"][0], found.history["validation_loss"][0]], 2.0, rtol=1e-6)


def test_a_last_batch_of_one_row_is_tried_before_training() -> None:
    line = r"^params.yaml: variants.mine.layers: a first batch: .*than 1 value per channel .*choose another batch_size$"
    with pytest.raises(BadInput, match=line):
        trained(replica([3, {"BatchNorm1d": {"num_features": 3}}, 1]), numbers(9))


# --- class weights ---------------------------------------------------------------------------------------------------


def weighted(loss: Any, labels: list[int], output: list[list[float]]) -> float:
    """Return the weighted loss of the first rows, which have these outputs, as one batch."""
    y = np.array(labels)[:, None]
    rows = Rows(np.zeros((len(y), 1), dtype=np.float32), y)
    data, asked = Data(rows, rows.first(0), len(output[0])), replica(loss=loss).recipe.train.loss
    function = torch_engine.weighted_loss(asked, data, "cpu")
    return function(torch.tensor(output), torch.from_numpy(y[: len(output), 0]), torch.arange(len(output))).item()


def test_balanced_weights_are_those_of_scikit_learn_and_a_class_without_rows_is_harmless() -> None:
    """Six rows of class 0, two of class 2, none of class 1: weights 8/18 and 8/6 (scikit-learn#32941)."""
    labels, output = [0, 0, 0, 0, 0, 0, 2, 2], [[1.0, 0.0, -1.0]] * 8
    found = weighted("cross_entropy", labels, output)
    weights = torch.tensor([0.4444444, 1.0, 1.3333333])
    assert found == pytest.approx(nn.CrossEntropyLoss(weights)(torch.tensor(output), torch.tensor(labels)).item())
    assert found == pytest.approx((0.4076 + 2.4076) / 2, abs=1e-4)  # log(e + 1 + 1/e) = 1.4076, less 1 and less -1


def test_a_validation_row_of_a_class_without_training_rows_has_a_finite_loss() -> None:
    data = classes(3)
    train = Data(Rows(data.train.inputs, np.where(data.train.targets == 1, 0, data.train.targets)), data.validation, 3)
    found = trained(replica([3], loss="cross_entropy", class_weight="balanced"), train)
    assert np.isfinite([found.history["train_loss"], found.history["validation_loss"]]).all()


def test_class_weights_scale_the_smoothing_part_as_in_torch_which_is_said() -> None:
    """The row of class 0 with p = [0.8, 0.2] has the loss 2.6150 for weights in the ratio 1 : 15 (pytorch#104776)."""
    loss = {"name": "CrossEntropyLoss", "label_smoothing": 0.2}
    assert weighted(loss, [0] * 15 + [1], [[math.log(0.8), math.log(0.2)]]) == pytest.approx(2.6150, abs=1e-4)
    assert weighted(loss, [0, 1], [[math.log(0.8), math.log(0.2)]]) == pytest.approx(0.3618, abs=1e-4)
    [line] = fit.doubts(keys([2], loss=loss, class_weight="balanced"))
    assert line.startswith("variants.mine.train.class_weight also scales the part of label_smoothing")
    assert fit.doubts(keys([2], loss=loss)) == []
    assert fit.doubts(keys([2], loss="cross_entropy", class_weight="balanced")) == []


def test_early_stopping_watches_the_loss_without_class_weights() -> None:
    data = classes(2, 9)
    found = trained(replica([2], loss="cross_entropy", class_weight="balanced", epochs=1), data)
    layer = nn.Linear(2, 2)
    layer.load_state_dict({name[2:]: torch.from_numpy(value) for name, value in found.weights.items()})
    plain = nn.CrossEntropyLoss()(layer(torch.from_numpy(data.validation.inputs)), torch.tensor([0, 1, 0, 1, 0]))
    assert found.history["validation_loss"][0] == pytest.approx(plain.item(), rel=1e-6)


# --- early stopping and schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "stopping", "epochs", "kept"),
    [
        ([1.00, 0.96, 0.92, 0.88, 0.84, 0.84, 0.84, 0.84], {"patience": 3, "min_delta": 0.1}, 7, 4),
        ([1.0, 0.75, 0.75], {"patience": 1, "min_delta": 0.25}, 2, 1),  # as much as min_delta is no improvement
        ([0.40, 0.20, 0.30, 0.35], {"patience": 10}, 4, 2),  # the limit of epochs keeps the best, too
        ([0.5, 0.5, 0.5, 0.5], {"patience": 2}, 3, 1),
    ],
)
def test_early_stopping_keeps_the_epoch_with_the_last_improvement(
    losses: list[float], stopping: dict[str, float], epochs: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scripted(losses, monkeypatch, early_stopping=stopping)
    assert len(found.history["lr"]) == epochs
    assert found.kept == kept - 1


def test_plateau_patience_is_counted_as_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5}
    found = scripted([0.7] * 6, monkeypatch, schedule=schedule, lr=0.8)
    assert found.history["lr"].tolist() == [0.8, 0.8, 0.8, 0.4, 0.4, 0.2]  # in the epoch; after it 0.8, 0.8, 0.4, ...


def test_plateau_needs_validation_rows_of_its_own() -> None:
    line = r"^params.yaml: variants.mine.train.schedule = ReduceLROnPlateau: needs validation rows of its own"
    with pytest.raises(BadInput, match=line):
        fit.refuse_stopping_without_rows(keys(schedule="ReduceLROnPlateau"), validation=False)
    fit.refuse_stopping_without_rows(keys(schedule="StepLR"), validation=False)


def test_one_cycle_steps_by_update_over_all_batches() -> None:
    """18 rows in batches of 4 are 5 updates an epoch (Lightning#5631, pytorch#65417)."""
    schedule = {"name": "OneCycleLR", "max_lr": 0.1}
    training = torch_engine.Training(replica([1], schedule=schedule, epochs=3), numbers(18))
    rates = list[float]()
    training.optimizer.register_step_pre_hook(lambda made, *others: rates.append(made.param_groups[0]["lr"]))
    training.run(lambda epoch, row: None, None)
    assert training.schedule.total_steps == 15  # type: ignore[union-attr]  # OneCycleLR alone has it
    assert (len(rates), max(rates), rates.index(max(rates))) == (15, pytest.approx(0.09944, abs=1e-5), 4)
    assert rates[-1] < 1e-6


def test_a_schedule_steps_by_epoch_where_nothing_is_said() -> None:
    found = trained(replica([1], schedule={"name": "StepLR", "step_size": 1}, lr=0.5, epochs=3), numbers(18))
    np.testing.assert_allclose(found.history["lr"], [0.5, 0.05, 0.005])


def test_lr_is_the_rate_of_a_cycle_that_names_none_and_else_it_is_said_that_it_has_no_effect() -> None:
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    asked = replica(schedule="OneCycleLR", lr=0.1, optimizer="SGD")
    expected = by_hand(
        asked,
        numbers(),
        nn.MSELoss(),
        lambda values: torch.optim.SGD(values, lr=0.1),
        lambda optimizer: one_cycle(optimizer, max_lr=0.1, total_steps=6),
        "update",
    )
    same(trained(asked, numbers()), expected)
    assert fit.doubts(keys(schedule="OneCycleLR")) == []
    [line] = fit.doubts(keys(schedule={"name": "OneCycleLR", "max_lr": 0.5}))
    assert line.startswith("lr = 0.01 has no effect: max_lr = 0.5 of OneCycleLR replaces it")
