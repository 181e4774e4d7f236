"""One training from where it stands to an epoch, and the forward pass outside training: the loops over layers."""

import numpy as np

from bancada.networks.kernel.compiled import compiled, entry, small
from bancada.networks.kernel.draws import MASK, shuffle
from bancada.networks.kernel.layers import (
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
from bancada.networks.kernel.losses import loss_and_gradient, weigh
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
def spoil(n, width, h, bad):
    """Make `bad` NaN for rows with a number that is not finite, which relu, tanh and sigmoid would hide."""
    for o in range(n):
        for r in range(width):
            bad[0, r] = bad[0, r] + h[o, r] * ZERO


@compiled
def evaluate(layers, loss, parameters, statistics, rows, order, values, target, g, of_row, p, out):
    """Return the mean loss over all rows, with dropout off and batch norm's running statistics. NaN without rows.

    out: [row, output] for the outputs, NaN where a number on the way is not finite; or [0, output]. Weights of rows do
    not count.
    """
    count, depth, outputs = rows.inputs.shape[0], layers.kind.size, rows.targets.shape[1]
    mean, bad, same = f64(0.0), np.zeros((1, CHUNK), f32), np.zeros(0, f32)
    for first in range(0, count, CHUNK):
        here = min(CHUNK, count - first)
        width = filled(here)
        gather(rows.inputs, order, first, here, values[0])
        gather(rows.targets, order, first, here, target)
        weigh(same, order, first, here, width, of_row, p)
        bad[:] = ZERO
        for layer in range(depth):
            kind, n = layers.kind[layer], layers.inputs[layer]
            h, y = values[layer], values[layer + 1]
            if out.shape[0]:
                spoil(n, width, h, bad)
            if kind == BATCH_NORM:
                batch_norm_evaluate(n, width, parameters, layers.at[layer], statistics, layers.statistics[layer], h, y)
            elif kind == DROPOUT:
                copy(n, width, h, y)
            else:
                plain_forward(layer, layers, width, parameters, h, y, of_row)
        y = values[depth]
        if out.shape[0]:
            spoil(outputs, width, y, bad)
            for r in range(here):
                for o in range(outputs):
                    out[first + r, o] = y[o, r] if bad[0, r] == ZERO else NAN
        of_rows = loss_and_gradient(loss, outputs, width, here, y, target, g, of_row, p)
        mean += f64(of_rows) * f64(here)
    return mean / f64(count) if count else NAN_64


@small
def named_nan(x):
    """Return x, or NaN by name: those that CPUs make have different bits."""
    return x if x == x else NAN_64


@entry
def run(layers, settings, seed, rows, validation, place, until, out):
    """Train one replica to epoch `until`, or to its end where that is before. Return the loss over `validation`.

    Nothing but `place` is carried from one call to the next. until -1: evaluate the validation rows and no more, and
    write their outputs into out [row, output].
    """
    state, statistics, history, progress = place
    parameters, gradients = state[PARAMETERS], state[GRADIENTS]
    count, held_out_rows, depth = rows.inputs.shape[0], validation.inputs.shape[0], layers.kind.size
    outputs = validation.targets.shape[1]
    batch = min(settings.batch, count) if settings.batch > 0 else count
    batches = (count + batch - 1) // batch if count else 0

    units = outputs
    for layer in range(depth):
        units = max(units, layers.inputs[layer], layers.outputs[layer])
    room = filled(max(batch, min(CHUNK, held_out_rows)))
    values = np.zeros((depth + 1, units, room), f32)  # values[layer] enter layer layer
    grads = np.zeros((depth + 1, units, room), f32)  # the loss's gradients by them
    kept = np.zeros((depth, units, room), f32)  # masks of dropout, normal values of batch norm
    inverse_sd, turned = np.zeros((depth, units), f32), np.zeros((room, units), f32)
    target, of_row, p = (
        np.zeros((outputs, room), f32),
        np.zeros((4, room), f32),
        np.zeros(max(room, state.shape[1]), f32),
    )
    words = np.zeros(max(room, count + 3), np.uint32)
    order, in_order = np.arange(count), np.arange(held_out_rows)

    if until < 0:
        return evaluate(
            layers,
            settings.loss,
            parameters,
            statistics[0],
            validation,
            in_order,
            values,
            target,
            grads[depth],
            of_row,
            p,
            out,
        )
    if settings.batch > 0 and settings.order == FIXED:
        shuffle(seed, 0, order, words)
    rate, power1, power2 = progress[LAST_RATE], progress[POWER_1], progress[POWER_2]
    held_out = NAN_64
    for epoch in range(int(progress[DONE]), until):
        if progress[DIVERGED] >= 0:
            break
        if settings.patience > 0 and epoch - 1 - progress[BEST_EPOCH] >= settings.patience:
            break
        if settings.batch > 0 and settings.order == SHUFFLED:
            shuffle(seed, epoch, order, words)
        if not settings.every_update:
            rate = scheduled(settings, rate, epoch)
        mean_loss, loss = f64(0.0), ZERO
        for number in range(batches):
            here = min(batch, count - number * batch)
            width = filled(here)
            gather(rows.inputs, order, number * batch, here, values[0])
            gather(rows.targets, order, number * batch, here, target)
            weigh(rows.weights, order, number * batch, here, width, of_row, p)
            for layer in range(depth):
                kind, n, at = layers.kind[layer], layers.inputs[layer], layers.at[layer]
                h, y = values[layer], values[layer + 1]
                if kind == DROPOUT:
                    key = (seed, MASK, layer)
                    dropout_forward(n, width, h, y, kept[layer], layers.rate[layer], key, number, epoch, words)
                elif kind == BATCH_NORM:
                    s, factors = layers.statistics[layer], inverse_sd[layer]
                    batch_norm_forward(n, width, here, parameters, at, statistics[0], s, h, y, kept[layer], factors, p)
                else:
                    plain_forward(layer, layers, width, parameters, h, y, of_row)
            y, g = values[depth], grads[depth]
            loss = loss_and_gradient(settings.loss, outputs, width, here, y, target, g, of_row, p)
            mean_loss += f64(loss) * f64(here)
            for layer in range(depth - 1, -1, -1):
                kind, n, m, at = layers.kind[layer], layers.inputs[layer], layers.outputs[layer], layers.at[layer]
                h, y, d, g = values[layer], values[layer + 1], grads[layer], grads[layer + 1]
                if kind == LINEAR:
                    bias = layers.bias[layer]
                    linear_backward(n, m, width, parameters, at, bias, h, g, d, layer == 0, gradients, p, turned)
                elif kind == TANH:
                    tanh_backward(n, width, y, g, d)
                elif kind == SIGMOID:
                    sigmoid_backward(n, width, y, g, d)
                elif kind == RELU:
                    relu_backward(n, width, y, g, d)
                elif kind == SOFTMAX:
                    softmax_backward(n, width, y, g, d, p)
                elif kind == DROPOUT:
                    dropout_backward(n, width, kept[layer], g, d)
                elif kind == BATCH_NORM:
                    factors = inverse_sd[layer]
                    batch_norm_backward(n, width, here, parameters, at, kept[layer], factors, g, d, gradients, p)
            if settings.every_update:
                rate = scheduled(settings, rate, epoch * batches + number)
            if settings.clip_norm > 0 and not np.isfinite(clip(state, f32(settings.clip_norm), p)):
                progress[BAD_BATCH] = number
                break
            power1, power2 = power1 * settings.beta1, power2 * settings.beta2
            update(settings, state, rate, (power1, power2))
            if not np.isfinite(mean_loss):
                break
        held_out = evaluate(
            layers,
            settings.loss,
            parameters,
            statistics[0],
            validation,
            in_order,
            values,
            target,
            grads[depth],
            of_row,
            p,
            out,
        )
        history[epoch, TRAIN_LOSS] = named_nan(mean_loss / f64(count))
        history[epoch, LAST_BATCH_LOSS] = named_nan(f64(loss))
        history[epoch, VALIDATION_LOSS] = named_nan(held_out)
        history[epoch, RATE] = rate
        progress[DONE] = epoch + 1
        finite = np.isfinite(mean_loss) and (held_out_rows == 0 or np.isfinite(held_out))
        if not finite or progress[BAD_BATCH] >= 0:
            progress[DIVERGED] = epoch
        elif settings.patience > 0 and held_out < progress[BEST_LOSS] - settings.min_delta:
            progress[BEST_LOSS], progress[BEST_EPOCH] = held_out, epoch
            state[BEST, :] = parameters
            statistics[1, :] = statistics[0]
    progress[LAST_RATE], progress[POWER_1], progress[POWER_2] = rate, power1, power2
    return held_out
