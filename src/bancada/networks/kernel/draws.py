"""Random numbers: each has an address, and nothing is drawn before or after anything else: there is no state to keep.

The key is the seed, the purpose and the layer; the counter is the place in the block, the unit, the batch, the epoch.
"""

import numpy as np

from bancada.networks.kernel.compiled import compiled, entry, small
from bancada.networks.kernel.functions import NORMAL, log
from bancada.networks.kernel.records import HALF, NONE, ONE, TWO, f32, u64

START, ORDER, MASK = np.int64(0), np.int64(1), np.int64(2)  # what random numbers are for
LOW_32, SHIFT_32 = u64(0xFFFFFFFF), u64(32)
MULTIPLIER_0, MULTIPLIER_1 = u64(0xD2511F53), u64(0xCD9E8D57)
STEP_0, STEP_1 = u64(0x9E3779B9), u64(0xBB67AE85)
UNIT_24, ZERO_64, ONE_64, EIGHT = f32(2.0**-24), u64(0), u64(1), u64(8)


@small
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four random words from a counter and a key. Salmon et al. 2011, Parallel random numbers."""
    for _ in range(10):
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c2 = (product_1 >> SHIFT_32) ^ c1 ^ k0, (product_0 >> SHIFT_32) ^ c3 ^ k1
        c1, c3 = product_1 & LOW_32, product_0 & LOW_32
        k0, k1 = (k0 + STEP_0) & LOW_32, (k1 + STEP_1) & LOW_32
    return c0, c1, c2, c3


@compiled
def random_words(key, address, count, words):
    """Write the `count` words of an address, and up to three more to a multiple of 4. words: uint32.

    key: seed, purpose, layer. address: unit, batch, epoch.
    """
    seed, purpose, layer = key
    unit, batch, epoch = address
    k0, k1 = u64(seed) & LOW_32, u64(layer * 4 + purpose)
    c1, c2, c3 = u64(unit), u64(batch), u64(epoch)
    for i in range((count + 3) // 4):
        w0, w1, w2, w3 = philox(u64(i), c1, c2, c3, k0, k1)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = w0, w1, w2, w3


@entry
def shuffle(seed, epoch, order, words):
    """Write a random order of the rows. Fisher & Yates; a place is the upper half of word * choices. Lemire 2019.

    order: int64 [row]; words: room for uint32 [row + 3].
    """
    random_words((seed, ORDER, NONE), (NONE, NONE, epoch), order.size, words)
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        j = np.int64((u64(words[i]) * u64(i + 1)) >> SHIFT_32)
        order[i], order[j] = order[j], order[i]


@compiled
def uniform(seed, layer, part, bound, out, words):
    """Write numbers that are uniform between -bound and bound. words: room for uint32 [out + 3]."""
    random_words((seed, START, layer), (part, NONE, NONE), out.size, words)
    for i in range(out.size):
        out[i] = bound * (f32(words[i] >> np.uint32(8)) * UNIT_24 * TWO - ONE)


@compiled
def normal(seed, layer, part, sd, out):
    """Write normal numbers of mean 0, two at a time from a point in the unit circle. Marsaglia & Bray 1964."""
    k0, k1, c1 = u64(seed) & LOW_32, u64(layer * 4 + START), u64(part)
    found, i = 0, 0
    while found < out.size:
        w0, w1, _, _ = philox(u64(i), c1, ZERO_64, ONE_64, k0, k1)
        i += 1
        x = (f32(w0 >> EIGHT) + HALF) * UNIT_24 * TWO - ONE
        y = (f32(w1 >> EIGHT) + HALF) * UNIT_24 * TWO - ONE
        s = x * x + y * y
        if s < ONE and s > NORMAL:
            size = np.sqrt(-TWO * log(s) / s) * sd
            out[found] = x * size
            if found + 1 < out.size:
                out[found + 1] = y * size
            found += 2


@entry
def draw(seed, layer, part, bound, sd, out, words):
    """Write the start of a layer's weights (part 0) or biases (1): uniform up to `bound`, or normal where that is 0.

    words: room for uint32 [out + 3].
    """
    if bound > 0:
        uniform(seed, layer, part, f32(bound), out, words)
    else:
        normal(seed, layer, part, f32(sd), out)
