"""Functions of one number, in float32 arithmetic alone: no library has a part in their bits."""

import numpy as np

from bancada.networks.kernel.compiled import small
from bancada.networks.kernel.records import HALF, NAN, ONE, ONE_64, ZERO, f32, f64, i32

MAGIC = f32(12582912.0)  # 1.5 * 2^23: adding it rounds to a whole number, which is then in its lowest bits
MAGIC_BITS, EXPONENT, BIAS, ONE_BIT = i32(0x4B400000), i32(23), i32(127), i32(1)
LOG2_E, LN2_HIGH, LN2_LOW = f32(1.44269504088896341), f32(0.693359375), f32(-2.12194440e-4)
EXP_LOW, EXP_HIGH = f32(-104.0), f32(88.0)  # e^-104 is 0 in float32
E0, E1, E2 = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
E3, E4, E5 = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)


@small
def power_of_2(n):
    """Return 2^n for n from -126 to 127."""
    return i32(i32(n + BIAS) << EXPONENT).view(f32)


@small
def exp(x):
    """Return 2^n e^r with x = n ln 2 + r, a polynomial for e^r. Ends at 0 and e^88. Coefficients: Cephes, expf.

    2^n comes in two factors, because numbers below 2^-126 have no exponent of their own.
    """
    x = EXP_LOW if x < EXP_LOW else x
    x = EXP_HIGH if x > EXP_HIGH else x
    rounded = x * LOG2_E + MAGIC
    n = rounded - MAGIC
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5
    whole = i32(f32(rounded).view(i32) - MAGIC_BITS)
    half = i32(whole >> ONE_BIT)
    return (p * (r * r) + r + ONE) * power_of_2(half) * power_of_2(i32(whole - half))


ROOT_HALF_BITS, NORMAL, INFINITY = i32(0x3F3504F3), f32(2.0**-126), f32(np.inf)
UP, UP_EXPONENT = f32(2.0**24), f32(24)  # a subnormal number times 2^24 is a normal one
G0, G1, G2 = f32(7.0376836292e-2), f32(-1.1514610310e-1), f32(1.1676998740e-1)
G3, G4, G5 = f32(-1.2420140846e-1), f32(1.4249322787e-1), f32(-1.6668057665e-1)
G6, G7, G8 = f32(2.0000714765e-1), f32(-2.4999993993e-1), f32(3.3333331174e-1)


@small
def log(x):
    """Return n ln 2 + a polynomial for the logarithm of 1 + r, with x = 2^n (1 + r). Coefficients: Cephes, logf."""
    bits = f32(x * UP if x < NORMAL else x).view(i32)
    n = i32(i32(bits - ROOT_HALF_BITS) >> EXPONENT)
    r = i32(bits - i32(n << EXPONENT)).view(f32) - ONE
    p = (((((((G0 * r + G1) * r + G2) * r + G3) * r + G4) * r + G5) * r + G6) * r + G7) * r + G8
    square, power = r * r, f32(n) - (UP_EXPONENT if x < NORMAL else ZERO)
    value = r + ((p * r * square + power * LN2_LOW) - HALF * square) + power * LN2_HIGH
    value = value if x < INFINITY else x  # infinity and NaN are their own logarithms
    value = value if x != ZERO else -INFINITY
    return NAN if x < ZERO else value


TANH_END = f32(7.90531110763549805)
ROUNDS_TO_1, HALF_STEP, CURVE = f32(9.0109133), f32(2.0**-25), f32(3.306 * 2.0**-24)  # fitted to the last four steps
A1, A3, A5 = f32(4.89352455891786e-03), f32(6.37261928875436e-04), f32(1.48572235717979e-05)
A7, A9, A11 = f32(5.12229709037114e-08), f32(-8.60467152213735e-11), f32(2.00018790482477e-13)
A13 = f32(-2.76076847742355e-16)
B0, B2, B4 = f32(4.89352518554385e-03), f32(2.26843463243900e-03), f32(1.18534705686654e-04)
B6 = f32(1.19825839466702e-06)


@small
def tanh(x):
    """Return a quotient of two polynomials up to 7.9 (coefficients: Eigen), and a parabola from there to 1."""
    s = x * x
    p = (((((A13 * s + A11) * s + A9) * s + A7) * s + A5) * s + A3) * s + A1
    q = ((B6 * s + B4) * s + B2) * s + B0
    size = abs(x)
    left = ROUNDS_TO_1 - size
    left = left if left > ZERO else ZERO
    far = ONE - (HALF_STEP + CURVE * (left * left))
    return (-far if x < ZERO else far) if size > TANH_END else x * p / q


@small
def sigmoid(x):
    """Return 1 / (1 + e^-x), by e^-|x|, which cannot overflow."""
    e = exp(-abs(x))
    return (e if x < ZERO else ONE) / (ONE + e)


HALF_64, PI, TERMS = f64(0.5), f64(np.pi), 11


@small
def cos_pi(x):
    """Return the cosine of pi x in float64, for x between 0 and 1: Taylor's series, up to pi / 2."""
    near = x if x <= HALF_64 else ONE_64 - x
    square, value = (PI * near) * (PI * near), ONE_64
    for k in range(TERMS, 0, -1):
        value = ONE_64 - value * square / f64(2 * k * (2 * k - 1))
    return value if x <= HALF_64 else -value
