"""A seed that early stopping ended goes on in curves over seeds with the values of the epoch that it keeps."""

import numpy as np
import pytest
from trained import trained_by

from bancada.base.tables import Table
from bancada.evaluation import plots
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.results import Results
from bancada.networks.saved import carried

# seed 5 is best in epoch 1 and ends after epoch 2; 6 goes on to epoch 4; 7 diverges in epoch 1
TRAIN = {5: [3.0, 2.0, 1.5], 6: [4.0, 3.0, 2.0, 1.0, 0.5], 7: [5.0, np.inf]}
HELD_OUT = {5: [3.0, 1.0, 1.2], 6: [4.0, 3.0, 2.0, 1.5, 1.4], 7: [5.0, np.nan]}


def history(seeds: list[int]) -> dict[str, np.ndarray]:
    rows = [(seed, epoch) for seed in seeds for epoch in range(len(TRAIN[seed]))]
    seed, epoch = (np.array(column) for column in zip(*rows, strict=True))
    losses = {"train_loss": TRAIN, "validation_loss": HELD_OUT}
    return {"seed": seed, "epoch": epoch} | {name: np.array([of[s][e] for s, e in rows]) for name, of in losses.items()}


def candidate(seeds: list[int]) -> Candidate:
    trained = trained_by(seeds, diverged={7: 1} if 7 in seeds else {}, kept={5: 1, 6: 4})
    rows = Table(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]), ["x"], ["y"], [])
    return Candidate("own", trained, history(seeds), {"train": rows, "validation": rows}, None)


def test_the_epochs_that_a_stopped_seed_did_not_train_have_the_values_that_it_keeps():
    columns = carried(history([5, 6]), {5: 1, 6: 4})
    rows = set(
        zip(*(columns[name].tolist() for name in ("seed", "epoch", "train_loss", "validation_loss")), strict=True)
    )
    trained = {(s, e, TRAIN[s][e], HELD_OUT[s][e]) for s in (5, 6) for e in range(len(TRAIN[s]))}
    assert rows == trained | {(5, 3, 2.0, 1.0), (5, 4, 2.0, 1.0)}
    assert len(columns["seed"]) == 10


def test_a_history_without_early_stopping_stays_as_it_is():
    before = history([6, 7])
    assert all(np.array_equal(before[name], values, equal_nan=True) for name, values in carried(before, {}).items())


def test_mean_curves_go_on_to_the_last_epoch_of_all_seeds():
    rows = list(candidate([5, 6]).mean_curves())
    assert [row[2] for row in rows] == [3.5, 2.5, 1.75, 1.5, 1.25]
    assert [row[3] for row in rows] == pytest.approx([3.5, 2.0, 1.6, 1.25, 1.2])


def test_a_seed_that_diverged_is_not_carried_on():
    assert candidate([5, 6, 7]).curve("validation_loss").tolist()[2] == pytest.approx([5.0] + [np.nan] * 4, nan_ok=True)


def test_a_stopped_seed_converged_as_its_own_epochs_say():
    # 5 falls from 3 to 1 in epoch 1; 6 from 4 to 1.4, of which 99 % are made at 1.426, in epoch 4
    assert candidate([5, 6]).epochs_to_converge.tolist() == [2, 5]


def test_the_loss_plot_marks_where_each_seed_ended():
    drawn = plots.loss(Results("study", [{"over": "seeds on one data set"}], [candidate([5, 6, 7])], None))
    [marks] = [line for line in drawn.axes[0].get_lines() if line.get_label() == "end of a seed's training"]
    assert marks.get_xdata().tolist() == [3, 5]
    assert marks.get_ydata().tolist() == [1.2, 1.4]
