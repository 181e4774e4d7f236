"""Sums and products. The order of every sum is what is written here, however many rows are computed side by side."""

from bancada.networks.kernel.compiled import compiled, merged


@compiled
def product(m, k, n, a, at, line, step, b, c):
    """Add a b to c, for m lines, k terms and n columns; each sum over k in its order, beginning with what c holds.

    b and c are [line, column]; a[o, i] is a[at + o * line + i * step], so that it may be a part, or turned. Two lines
    of c and four of b are held at a time: for speed alone, the sums do not change by it.
    """
    pairs, fours = m - m % 2, k - k % 4
    for o in range(0, pairs, 2):
        for i in range(0, fours, 4):
            u = at + o * line + i * step
            v = u + line
            u0, u1, u2, u3 = a[u], a[u + step], a[u + 2 * step], a[u + 3 * step]
            v0, v1, v2, v3 = a[v], a[v + step], a[v + 2 * step], a[v + 3 * step]
            for r in range(n):
                b0, b1, b2, b3 = b[i, r], b[i + 1, r], b[i + 2, r], b[i + 3, r]
                c[o, r] = c[o, r] + u0 * b0 + u1 * b1 + u2 * b2 + u3 * b3
                c[o + 1, r] = c[o + 1, r] + v0 * b0 + v1 * b1 + v2 * b2 + v3 * b3
        for i in range(fours, k):
            u0, v0 = a[at + o * line + i * step], a[at + (o + 1) * line + i * step]
            for r in range(n):
                c[o, r] = c[o, r] + u0 * b[i, r]
                c[o + 1, r] = c[o + 1, r] + v0 * b[i, r]
    for o in range(pairs, m):
        for i in range(0, fours, 4):
            u = at + o * line + i * step
            u0, u1, u2, u3 = a[u], a[u + step], a[u + 2 * step], a[u + 3 * step]
            for r in range(n):
                c[o, r] = c[o, r] + u0 * b[i, r] + u1 * b[i + 1, r] + u2 * b[i + 2, r] + u3 * b[i + 3, r]
        for i in range(fours, k):
            u0 = a[at + o * line + i * step]
            for r in range(n):
                c[o, r] = c[o, r] + u0 * b[i, r]


@merged
def fold(p, n):
    """Return the sum of p's first n numbers: the upper half is added to the lower until few are left. Writes over p."""
    while n > 8:
        half = (n + 1) // 2
        for k in range(n - half):
            p[k] = p[k] + p[k + half]
        n = half
    s = p[0]
    for k in range(1, n):
        s = s + p[k]
    return s


@merged
def dot(x, o, y, i, n, p):
    """Return the sum of x[o] * y[i] over n rows, a multiple of 4: quarters side by side, then folded."""
    q = n // 4
    for k in range(q):
        first, second = x[o, k] * y[i, k], x[o, k + q] * y[i, k + q]
        third, fourth = x[o, k + 2 * q] * y[i, k + 2 * q], x[o, k + 3 * q] * y[i, k + 3 * q]
        p[k] = first + second + third + fourth
    return fold(p, q)


@merged
def total(x, o, n, p):
    """Return the sum of x[o] over n rows, in the order of `dot`."""
    q = n // 4
    for k in range(q):
        p[k] = x[o, k] + x[o, k + q] + x[o, k + 2 * q] + x[o, k + 3 * q]
    return fold(p, q)
