"""One training from where it stands to an epoch, and the forward pass outside training: the loops over layers."""

import numpy as np

from bancada.networks.kernel.compiled import compiled, entry, merged, small
from bancada.networks.kernel.draws import MASK, shuffle
from bancada.networks.kernel.layers import (
    BAD,
    batch_norm_backward,
    batch_norm_evaluate,
    batch_norm_forward,
    copy,
    dropout_backward,
    dropout_forward,
    linear_backward,
    linear_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from bancada.networks.kernel.losses import loss_and_gradient, weigh, weigh_alike
from bancada.networks.kernel.records import (
    BAD_BATCH,
    BATCH_NORM,
    BEST,
    BEST_EPOCH,
    BEST_LOSS,
    DIVERGED,
    DONE,
    DROPOUT,
    FILL,
    FIXED,
    GRADIENTS,
    LAST_BATCH_LOSS,
    LAST_RATE,
    LINEAR,
    NAN,
    NAN_64,
    NONE,
    PARAMETERS,
    POWER_1,
    POWER_2,
    RATE,
    RELU,
    SHUFFLED,
    SIGMOID,
    SOFTMAX,
    TANH,
    TRAIN_LOSS,
    VALIDATION_LOSS,
    ZERO,
    f32,
    f64,
)
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
def plain_forward(layer, layers, width, parameters, h, y, of_row):
    """Compute the layers that do the same in training and outside."""
    kind, n, m = layers.kind[layer], layers.inputs[layer], layers.outputs[layer]
    if kind == LINEAR:
        linear_forward(n, m, width, parameters, layers.at[layer], layers.bias[layer], h, y)
    elif kind == TANH:
        tanh_forward(n, width, h, y)
    elif kind == SIGMOID:
        sigmoid_forward(n, width, h, y)
    elif kind == RELU:
        relu_forward(n, width, h, y)
    elif kind == SOFTMAX:
        softmax_forward(n, width, h, y, of_row)


@compiled
def spoil(n, width, h, of_row):
    """Make BAD NaN for rows with a number that is not finite, which relu, tanh and sigmoid would hide."""
    for o in range(n):
        for r in range(width):
            of_row[BAD, r] = of_row[BAD, r] + h[o, r] * ZERO


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
        weigh_alike(here, width, of_row)
        of_row[BAD, :] = ZERO
        for layer in range(depth):
            kind, n = layers.kind[layer], layers.inputs[layer]
            h, y = room.values[layer], room.values[layer + 1]
            if out.shape[0]:
                spoil(n, width, h, of_row)
            if kind == BATCH_NORM:
                batch_norm_evaluate(n, width, parameters, layers.at[layer], statistics, layers.statistics[layer], h, y)
            elif kind == DROPOUT:
                copy(n, width, h, y)
            else:
                plain_forward(layer, layers, width, parameters, h, y, of_row)
        y = room.values[depth]
        if out.shape[0]:
            spoil(outputs, width, y, of_row)
            for r in range(here):
                for o in range(outputs):
                    out[first + r, o] = y[o, r] if of_row[BAD, r] == ZERO else NAN
        of_rows = loss_and_gradient(loss, outputs, width, here, y, room.target, room.grads[depth], of_row, room.p)
        mean += f64(of_rows) * f64(here)
    return mean / f64(count) if count else NAN_64


@merged
def forward(layers, parameters, statistics, room, batch, here, width):
    """Compute what each layer makes of a batch. batch: seed, epoch and number. here: its rows, width: filled up."""
    seed, epoch, number = batch
    for layer in range(layers.kind.size):
        kind, n, at, s = layers.kind[layer], layers.inputs[layer], layers.at[layer], layers.statistics[layer]
        h, y, kept, factors = room.values[layer], room.values[layer + 1], room.kept[layer], room.factors[layer]
        if kind == DROPOUT:
            key = (seed, MASK, layer)
            dropout_forward(n, width, h, y, kept, layers.rate[layer], key, number, epoch, room.words)
        elif kind == BATCH_NORM:
            batch_norm_forward(n, width, here, parameters, at, statistics, s, h, y, kept, factors, room.p)
        else:
            plain_forward(layer, layers, width, parameters, h, y, room.of_row)


@merged
def backward(layers, parameters, gradients, room, here, width):
    """Compute the gradient by all parameters from that by the outputs."""
    for layer in range(layers.kind.size - 1, -1, -1):
        kind, n, m, at = layers.kind[layer], layers.inputs[layer], layers.outputs[layer], layers.at[layer]
        h, y, d, g = room.values[layer], room.values[layer + 1], room.grads[layer], room.grads[layer + 1]
        kept, p = room.kept[layer], room.p
        if kind == LINEAR:
            bias = layers.bias[layer]
            linear_backward(n, m, width, parameters, at, bias, h, g, d, layer == 0, gradients, p, room.turned)
        elif kind == TANH:
            tanh_backward(n, width, y, g, d)
        elif kind == SIGMOID:
            sigmoid_backward(n, width, y, g, d)
        elif kind == RELU:
            relu_backward(n, width, y, g, d)
        elif kind == SOFTMAX:
            softmax_backward(n, width, y, g, d, p)
        elif kind == DROPOUT:
            dropout_backward(n, width, kept, g, d)
        elif kind == BATCH_NORM:
            factors = room.factors[layer]
            batch_norm_backward(n, width, here, parameters, at, kept, factors, g, d, gradients, p)


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
    parameters, gradients, order, held_out = state[PARAMETERS], state[GRADIENTS], room.order, NAN_64
    if until < 0:
        return evaluate(layers, settings.loss, parameters, statistics[0], validation, room, out)
    count, depth, outputs = rows.inputs.shape[0], layers.kind.size, rows.targets.shape[1]
    batch = min(settings.batch, count) if settings.batch > 0 else count
    batches = (count + batch - 1) // batch
    if settings.batch > 0 and settings.order == FIXED:
        shuffle(seed, NONE, order, room.words)
    rate, power1, power2 = progress[LAST_RATE], progress[POWER_1], progress[POWER_2]
    for epoch in range(int(progress[DONE]), until):
        stale = settings.patience > 0 and epoch - 1 - progress[BEST_EPOCH] >= settings.patience
        if stale or progress[DIVERGED] >= 0:
            break
        if settings.batch > 0 and settings.order == SHUFFLED:
            shuffle(seed, epoch, order, room.words)
        if not settings.every_update:
            rate = scheduled(settings, rate, epoch)
        mean_loss, loss = f64(0.0), ZERO
        for number in range(batches):
            first, here = number * batch, min(batch, count - number * batch)
            width = filled(here)
            gather(rows.inputs, order, first, here, room.values[0])
            gather(rows.targets, order, first, here, room.target)
            if rows.weights.size:
                weigh(rows.weights, order, first, here, width, room.of_row, room.p)
            elif number == 0 or here < batch:
                weigh_alike(here, width, room.of_row)
            forward(layers, parameters, statistics[0], room, (seed, epoch, number), here, width)
            y, g = room.values[depth], room.grads[depth]
            loss = loss_and_gradient(settings.loss, outputs, width, here, y, room.target, g, room.of_row, room.p)
            mean_loss += f64(loss) * f64(here)
            backward(layers, parameters, gradients, room, here, width)
            if settings.every_update:
                rate = scheduled(settings, rate, epoch * batches + number)
            if settings.clip_norm > 0 and not np.isfinite(clip(state, f32(settings.clip_norm), room.p)):
                progress[BAD_BATCH] = number
                break
            power1, power2 = power1 * settings.beta1, power2 * settings.beta2
            update(settings, state, rate, (power1, power2))
            if not np.isfinite(mean_loss):
                break
        held_out = evaluate(layers, settings.loss, parameters, statistics[0], validation, room, out)
        history[epoch, TRAIN_LOSS] = named_nan(mean_loss / f64(count))
        history[epoch, LAST_BATCH_LOSS] = named_nan(f64(loss))
        history[epoch, VALIDATION_LOSS] = named_nan(held_out)
        history[epoch, RATE] = rate
        progress[DONE] = epoch + 1
        finite = np.isfinite(mean_loss) and (validation.inputs.shape[0] == 0 or np.isfinite(held_out))
        if not finite or progress[BAD_BATCH] >= 0:
            progress[DIVERGED] = epoch
        elif settings.patience > 0 and held_out < progress[BEST_LOSS] - settings.min_delta:
            progress[BEST_LOSS], progress[BEST_EPOCH] = held_out, epoch
            for k in range(state.shape[1]):
                state[BEST, k] = state[PARAMETERS, k]
            for k in range(statistics.shape[1]):
                statistics[1, k] = statistics[0, k]
    progress[LAST_RATE], progress[POWER_1], progress[POWER_2] = rate, power1, power2
    return held_out
