"""One training from where it stands to an epoch, and the forward pass outside training: the loops over layers."""

import numpy as np

from bancada.networks.kernel import records
from bancada.networks.kernel.compiled import compiled, entry, small
from bancada.networks.kernel.draws import shuffle
from bancada.networks.kernel.layers import BAD, backward, forward, spoil
from bancada.networks.kernel.losses import loss_and_gradient, weigh
from bancada.networks.kernel.records import FILL, NAN, NAN_64, NONE, ZERO, f32, f64
from bancada.networks.kernel.steps import clip, scheduled, update

CHUNK = 256  # rows that are evaluated at once


@small
def filled(rows):
    """Return the number of rows with those that fill up."""
    return (rows + FILL - 1) // FILL * FILL


@compiled
def gather(table, order, start, rows, out):
    """Write rows order[start : start + rows] of a table [row, column] as [column, row], filled up with zeros."""
    for c in range(table.shape[1]):
        for r in range(rows):
            out[c, r] = table[order[start + r], c]
        for r in range(rows, filled(rows)):
            out[c, r] = ZERO


@compiled
def evaluate(layers, loss, parameters, statistics, rows, room, out):
    """Return the mean loss over all rows, with dropout off and batch norm's running statistics. NaN without rows.

    Every row counts the same. out: [row, output] for the outputs, NaN where a number on the way is not finite; or none.
    """
    count, depth, outputs = rows.inputs.shape[0], layers.kind.size, rows.targets.shape[1]
    order, of_row, mean = room.in_order, room.of_row, f64(0.0)
    for first in range(0, count, CHUNK):
        here = min(CHUNK, count - first)
        width = filled(here)
        gather(rows.inputs, order, first, here, room.values[0])
        gather(rows.targets, order, first, here, room.target)
        weigh(rows.weights[:0], order, first, here, width, of_row, room.p)
        forward(layers, parameters, statistics, room, (NONE, NONE, NONE), here, width, False, out.shape[0] > 0)
        y = room.values[depth]
        if out.shape[0]:
            spoil(outputs, width, y, of_row)
            for r in range(here):
                for o in range(outputs):
                    out[first + r, o] = y[o, r] if of_row[BAD, r] == ZERO else NAN
        of_rows = loss_and_gradient(loss, outputs, width, here, y, room.target, room.grads[depth], of_row, room.p)
        mean += f64(of_rows) * f64(here)
    return mean / f64(count) if count else NAN_64


@compiled
def keep(state, statistics):
    """Write the parameters and the running statistics over the best ones so far."""
    for k in range(state.shape[1]):
        state[records.BEST, k] = state[records.PARAMETERS, k]
    for k in range(statistics.shape[1]):
        statistics[1, k] = statistics[0, k]


@small
def named_nan(x):
    """Return x, or NaN by name: those that CPUs make have different bits."""
    return x if x == x else NAN_64


@entry
def run(layers, settings, seed, rows, validation, place, until, room, out):
    """Train to epoch `until`, or to the end of the training where that is before.

    until -1: evaluate the validation rows and no more. Return their loss, and write their outputs into out, if any.
    """
    state, statistics, history, progress = place
    parameters, gradients, order, held_out = state[records.PARAMETERS], state[records.GRADIENTS], room.order, NAN_64
    if until < 0:
        return evaluate(layers, settings.loss, parameters, statistics[0], validation, room, out)
    count, depth, outputs = rows.inputs.shape[0], layers.kind.size, rows.targets.shape[1]
    batch = min(settings.batch, count) if settings.batch > 0 else count
    batches = (count + batch - 1) // batch
    if settings.batch > 0 and settings.order == records.FIXED:
        shuffle(seed, NONE, order, room.words)
    rate, power1, power2 = progress[records.LAST_RATE], progress[records.POWER_1], progress[records.POWER_2]
    for epoch in range(int(progress[records.DONE]), until):
        stale = settings.patience > 0 and epoch - 1 - progress[records.BEST_EPOCH] >= settings.patience
        if stale or progress[records.DIVERGED] >= 0:
            break
        if settings.batch > 0 and settings.order == records.SHUFFLED:
            shuffle(seed, epoch, order, room.words)
        if not settings.every_update:
            rate = scheduled(settings, rate, epoch)
        mean_loss, loss = f64(0.0), ZERO
        for number in range(batches):
            first, here = number * batch, min(batch, count - number * batch)
            width = filled(here)
            gather(rows.inputs, order, first, here, room.values[0])
            gather(rows.targets, order, first, here, room.target)
            if rows.weights.size or number == 0 or here < batch:
                weigh(rows.weights, order, first, here, width, room.of_row, room.p)
            forward(layers, parameters, statistics[0], room, (seed, epoch, number), here, width, True, False)
            y, g = room.values[depth], room.grads[depth]
            loss = loss_and_gradient(settings.loss, outputs, width, here, y, room.target, g, room.of_row, room.p)
            mean_loss += f64(loss) * f64(here)
            backward(layers, parameters, gradients, room, here, width)
            if settings.every_update:
                rate = scheduled(settings, rate, epoch * batches + number)
            if settings.clip_norm > 0 and not np.isfinite(clip(state, f32(settings.clip_norm), room.p)):
                progress[records.BAD_BATCH] = number
                break
            power1, power2 = power1 * settings.beta1, power2 * settings.beta2
            update(settings, state, rate, (power1, power2))
            if not np.isfinite(mean_loss):
                break
        held_out = evaluate(layers, settings.loss, parameters, statistics[0], validation, room, out)
        history[epoch, records.TRAIN_LOSS] = named_nan(mean_loss / f64(count))
        history[epoch, records.LAST_BATCH_LOSS] = named_nan(f64(loss))
        history[epoch, records.VALIDATION_LOSS] = named_nan(held_out)
        history[epoch, records.RATE] = rate
        progress[records.DONE] = epoch + 1
        finite = np.isfinite(mean_loss) and (validation.inputs.shape[0] == 0 or np.isfinite(held_out))
        if not finite or progress[records.BAD_BATCH] >= 0:
            progress[records.DIVERGED] = epoch
        elif settings.patience > 0 and held_out < progress[records.BEST_LOSS] - settings.min_delta:
            progress[records.BEST_LOSS], progress[records.BEST_EPOCH] = held_out, epoch
            keep(state, statistics)
    progress[records.LAST_RATE], progress[records.POWER_1], progress[records.POWER_2] = rate, power1, power2
    return held_out
