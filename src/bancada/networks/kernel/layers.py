"""The layers: forward from the values h before one to y behind it, and backward to the gradients of the loss.

Backward is from g, the loss's gradient by y, to d, that by h. n units before a layer, m behind it (or n on both sides),
`width` rows with those that fill up; p is room for sums.
"""

import numpy as np

from bancada.networks.kernel import records
from bancada.networks.kernel.compiled import compiled, merged
from bancada.networks.kernel.draws import MASK, random_words
from bancada.networks.kernel.functions import exp, sigmoid, tanh
from bancada.networks.kernel.records import EACH, NAN, NONE, ONE, ZERO, f32, f64
from bancada.networks.kernel.sums import dot, product, total

FEW = 16  # a layer with fewer inputs sums its weights' gradients over rows in another order (see linear_backward)
NORM_EPS, NORM_MOMENTUM = f32(1e-5), f32(0.1)  # batch norm's, as in torch.nn.BatchNorm1d
LARGEST, EXPONENTIALS, BAD = range(2, 5)  # lines of the room for numbers of rows: largest, sum of exponentials, faults


@compiled
def linear_forward(n, m, width, parameters, at, bias, h, y):
    """Compute W h + b. Parameters from `at`: W [m, n], b [m]."""
    for o in range(m):
        begin = parameters[at + m * n + o] if bias else ZERO
        for r in range(width):
            y[o, r] = begin
    product(m, n, width, parameters, at, n, EACH, h, y)


@compiled
def linear_backward(n, m, width, parameters, at, bias, h, g, d, first, gradients, p, turned):
    """Write the gradients of W, b and h; `first`: not that of h, which are the data.

    W's is the sum over rows of g h: folded where there are few inputs, otherwise in the order of the rows, many inputs
    side by side.
    """
    if bias:
        for o in range(m):
            gradients[at + m * n + o] = total(g, o, width, p)
    if n < FEW:
        for o in range(m):
            for i in range(n):
                gradients[at + o * n + i] = dot(g, o, h, i, width, p)
    else:
        for i in range(n):
            for r in range(width):
                turned[r, i] = h[i, r]
        own = gradients[at : at + m * n]
        own[:] = ZERO
        product(m, width, n, g.reshape(-1), NONE, g.shape[1], EACH, turned, own.reshape(m, n))
    if not first:
        for i in range(n):
            for r in range(width):
                d[i, r] = ZERO
        product(n, m, width, parameters, at, EACH, n, g, d)


@compiled
def each_forward(kind, n, width, h, y):
    """Compute a function of each number: tanh, 1 / (1 + e^-h), relu, where NaN stays, or dropout outside training."""
    for o in range(n):
        if kind == records.TANH:
            for r in range(width):
                y[o, r] = tanh(h[o, r])
        elif kind == records.SIGMOID:
            for r in range(width):
                y[o, r] = sigmoid(h[o, r])
        elif kind == records.RELU:
            for r in range(width):
                y[o, r] = ZERO if h[o, r] < ZERO else h[o, r]
        else:
            for r in range(width):
                y[o, r] = h[o, r]


@compiled
def each_backward(kind, n, width, y, mask, g, d):
    """Multiply by the slope: 1 - y^2 of tanh, y (1 - y) of sigmoid, 1 of relu where y is positive, dropout's mask."""
    for o in range(n):
        if kind == records.TANH:
            for r in range(width):
                d[o, r] = g[o, r] * (ONE - y[o, r] * y[o, r])
        elif kind == records.SIGMOID:
            for r in range(width):
                d[o, r] = g[o, r] * (y[o, r] * (ONE - y[o, r]))
        elif kind == records.RELU:
            for r in range(width):
                d[o, r] = g[o, r] if y[o, r] > ZERO else ZERO
        else:
            for r in range(width):
                d[o, r] = g[o, r] * mask[o, r]


@compiled
def softmax_forward(n, width, h, y, of_row):
    """Over the units of a row. Leaves their LARGEST, and the sum of the EXPONENTIALS of what is below it, in of_row."""
    for r in range(width):
        of_row[LARGEST, r] = h[0, r]
        of_row[EXPONENTIALS, r] = ZERO
    for o in range(1, n):
        for r in range(width):
            of_row[LARGEST, r] = h[o, r] if h[o, r] > of_row[LARGEST, r] else of_row[LARGEST, r]
    for o in range(n):
        for r in range(width):
            y[o, r] = exp(h[o, r] - of_row[LARGEST, r])
            of_row[EXPONENTIALS, r] = of_row[EXPONENTIALS, r] + y[o, r]
    for o in range(n):
        for r in range(width):
            y[o, r] = y[o, r] / of_row[EXPONENTIALS, r]


@compiled
def softmax_backward(n, width, y, g, d, p):
    """Multiply what exceeds the sum of g y by y."""
    for r in range(width):
        p[r] = ZERO
    for o in range(n):
        for r in range(width):
            p[r] = p[r] + g[o, r] * y[o, r]
    for o in range(n):
        for r in range(width):
            d[o, r] = (g[o, r] - p[r]) * y[o, r]


@compiled
def dropout_forward(n, width, h, y, mask, rate, key, batch, epoch, words):
    """Zeroes each number with probability `rate` and scales the others up. Srivastava et al. 2014, inverted.

    key: seed, MASK, layer.
    """
    scale, limit = ONE / (ONE - rate), np.uint32(f64(rate) * f64(4294967296.0))
    for o in range(n):
        random_words(key, (o, batch, epoch), width, words)
        for r in range(width):
            mask[o, r] = scale if words[r] >= limit else ZERO
            y[o, r] = h[o, r] * mask[o, r]


@compiled
def batch_norm_forward(n, width, rows, parameters, at, statistics, s, h, y, normal, inverse_sd, p):
    """Units to mean 0 and variance 1 over the batch's `rows`, then scaled and shifted. Ioffe & Szegedy 2015.

    The running means and variances (from s) move a step towards the batch's; `normal` is kept for the way back. One
    row has no variance, and the running one is then NaN.
    """
    count, unbiased = f32(rows), f32(rows) / f32(rows - 1) if rows > 1 else NAN
    for o in range(n):
        scale, shift = parameters[at + o], parameters[at + n + o]
        for r in range(rows, width):
            h[o, r] = ZERO
        mean = total(h, o, width, p) / count
        for r in range(width):
            normal[o, r] = h[o, r] - mean
        for r in range(rows, width):
            normal[o, r] = ZERO
        var = dot(normal, o, normal, o, width, p) / count
        factor = ONE / np.sqrt(var + NORM_EPS)
        for r in range(width):
            normal[o, r] = normal[o, r] * factor
            y[o, r] = shift + normal[o, r] * scale
        inverse_sd[o] = factor
        statistics[s + o] = (ONE - NORM_MOMENTUM) * statistics[s + o] + NORM_MOMENTUM * mean
        statistics[s + n + o] = (ONE - NORM_MOMENTUM) * statistics[s + n + o] + NORM_MOMENTUM * (var * unbiased)


@compiled
def batch_norm_backward(n, width, rows, parameters, at, normal, inverse_sd, g, d, gradients, p):
    """Write the gradients of the scales, the shifts and h."""
    count = f32(rows)
    for o in range(n):
        by_scale, by_shift = dot(g, o, normal, o, width, p), total(g, o, width, p)
        gradients[at + o], gradients[at + n + o] = by_scale, by_shift
        by_scale, by_shift, factor = by_scale / count, by_shift / count, parameters[at + o] * inverse_sd[o]
        for r in range(width):
            d[o, r] = (g[o, r] - (by_shift + normal[o, r] * by_scale)) * factor
        for r in range(rows, width):
            d[o, r] = ZERO


@compiled
def batch_norm_evaluate(n, width, parameters, at, statistics, s, h, y):
    """With the running mean and variance: outside training."""
    for o in range(n):
        scale, shift, mean = parameters[at + o], parameters[at + n + o], statistics[s + o]
        factor = ONE / np.sqrt(statistics[s + n + o] + NORM_EPS)
        for r in range(width):
            y[o, r] = (h[o, r] - mean) * factor * scale + shift


@compiled
def spoil(n, width, h, of_row):
    """Make BAD NaN for rows with a number that is not finite, which relu, tanh and sigmoid would hide."""
    for o in range(n):
        for r in range(width):
            of_row[BAD, r] = of_row[BAD, r] + h[o, r] * ZERO


@merged
def forward(layers, parameters, statistics, room, batch, here, width, training, careful):
    """Compute what each layer makes of a batch. batch: seed, epoch and number. here: its rows, width: filled up.

    careful: take note of BAD rows.
    """
    seed, epoch, number = batch
    room.of_row[BAD, :] = ZERO
    for layer in range(layers.kind.size):
        kind, n, m, at = layers.kind[layer], layers.inputs[layer], layers.outputs[layer], layers.at[layer]
        s = layers.statistics[layer]
        h, y, kept, factors = room.values[layer], room.values[layer + 1], room.kept[layer], room.factors[layer]
        if careful:
            spoil(n, width, h, room.of_row)
        if kind == records.LINEAR:
            linear_forward(n, m, width, parameters, at, layers.bias[layer], h, y)
        elif kind == records.SOFTMAX:
            softmax_forward(n, width, h, y, room.of_row)
        elif kind == records.BATCH_NORM and training:
            batch_norm_forward(n, width, here, parameters, at, statistics, s, h, y, kept, factors, room.p)
        elif kind == records.BATCH_NORM:
            batch_norm_evaluate(n, width, parameters, at, statistics, s, h, y)
        elif kind == records.DROPOUT and training:
            key = (seed, MASK, layer)
            dropout_forward(n, width, h, y, kept, layers.rate[layer], key, number, epoch, room.words)
        else:
            each_forward(kind, n, width, h, y)


@merged
def backward(layers, parameters, gradients, room, here, width):
    """Compute the gradient by all parameters from that by the outputs."""
    for layer in range(layers.kind.size - 1, -1, -1):
        kind, n, m, at = layers.kind[layer], layers.inputs[layer], layers.outputs[layer], layers.at[layer]
        h, y, d, g = room.values[layer], room.values[layer + 1], room.grads[layer], room.grads[layer + 1]
        kept, p = room.kept[layer], room.p
        if kind == records.LINEAR:
            bias = layers.bias[layer]
            linear_backward(n, m, width, parameters, at, bias, h, g, d, layer == 0, gradients, p, room.turned)
        elif kind == records.SOFTMAX:
            softmax_backward(n, width, y, g, d, p)
        elif kind == records.BATCH_NORM:
            batch_norm_backward(n, width, here, parameters, at, kept, room.factors[layer], g, d, gradients, p)
        else:
            each_backward(kind, n, width, y, kept, g, d)
