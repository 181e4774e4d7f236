"""The losses and their gradients."""

from bancada.networks.kernel.compiled import compiled, small
from bancada.networks.kernel.functions import log
from bancada.networks.kernel.layers import EXPONENTIALS, LARGEST, softmax_forward
from bancada.networks.kernel.records import BCE, CROSS_ENTROPY, HALF, HALF_MSE, L1, MSE, ONE, TWO, ZERO, f32
from bancada.networks.kernel.sums import total

WEIGHT, SHARE = range(2)  # lines of the room for numbers of rows, beside LARGEST and EXPONENTIALS of layers.py
BCE_EPS, LOG_END = f32(1e-12), f32(-100)  # as in torch.nn.BCELoss


@compiled
def weigh(weights, order, start, rows, width, of_row, p):
    """Write the WEIGHT of each row of a batch, which sum to 1, and 0 for the rows that fill up.

    Without weights, every row counts the same.
    """
    for r in range(rows):
        of_row[WEIGHT, r] = weights[order[start + r]] if weights.size else ONE
    for r in range(rows, width):
        of_row[WEIGHT, r] = ZERO
    whole = total(of_row, WEIGHT, width, p)
    for r in range(rows):
        of_row[WEIGHT, r] = of_row[WEIGHT, r] / whole


@small
def stopped_log(x):
    """log(x), but at least -100."""
    value = log(x)
    return LOG_END if value < LOG_END else value


@compiled
def loss_and_gradient(loss, m, width, rows, y, t, g, of_row, p):
    """Return the mean loss of the first `rows` rows, and write its gradient g by y; that of rows that fill up is 0.

    mse, half_mse, l1 and bce are means over rows and outputs; bce takes probabilities, its logarithms end at -100;
    cross_entropy takes logits. Targets t are [output, row], for classes 1 and 0. of_row has the rows' WEIGHT.
    """
    part = ONE if loss == CROSS_ENTROPY else (HALF / f32(m) if loss == HALF_MSE else ONE / f32(m))
    if loss == CROSS_ENTROPY:
        softmax_forward(m, width, y, g, of_row)
        for r in range(width):
            of_row[EXPONENTIALS, r] = log(of_row[EXPONENTIALS, r])
    mean = ZERO
    for o in range(m):
        if loss in (MSE, HALF_MSE):
            for r in range(width):
                error, weight = y[o, r] - t[o, r], of_row[WEIGHT, r] * part
                of_row[SHARE, r] = error * error * weight
                g[o, r] = error * (weight * TWO)
        elif loss == L1:
            for r in range(width):
                error, weight = y[o, r] - t[o, r], of_row[WEIGHT, r] * part
                of_row[SHARE, r] = abs(error) * weight
                g[o, r] = weight if error > ZERO else (-weight if error < ZERO else error * weight)
        elif loss == BCE:
            for r in range(width):
                yes, no, weight = stopped_log(y[o, r]), stopped_log(ONE - y[o, r]), of_row[WEIGHT, r] * part
                of_row[SHARE, r] = -(t[o, r] * yes + (ONE - t[o, r]) * no) * weight
                spread = y[o, r] * (ONE - y[o, r])
                g[o, r] = (y[o, r] - t[o, r]) / (BCE_EPS if spread < BCE_EPS else spread) * weight
        else:  # g is softmax(y) so far
            for r in range(width):
                log_share, weight = y[o, r] - of_row[LARGEST, r] - of_row[EXPONENTIALS, r], of_row[WEIGHT, r]
                of_row[SHARE, r] = -(t[o, r] * log_share) * weight
                g[o, r] = (g[o, r] - t[o, r]) * weight
        for r in range(rows, width):
            of_row[SHARE, r] = ZERO
            g[o, r] = ZERO
        mean = mean + total(of_row, SHARE, width, p)
    return mean
