"""The training of one multilayer perceptron, from its start to its last epoch, as plain loops that numba compiles.

A replica is a configuration, data and a seed, and nothing else: no thread, no library and no other replica has a part
in its bits. They are what these files say, read line by line as IEEE 754 arithmetic: float32 unless a line says
float64, every product and every sum rounded by itself, in the order written. The compiler may do several rows side by
side, but it may not reassociate, and it may not fuse, so every CPU comes to the same bytes, and so does plain Python,
which runs these very files where NUMBA_DISABLE_JIT=1 is set.

Hence the rules:

- Constants are float32 or float64 by name: a bare 2.0 beside a float32 is float32 to numpy and float64 to numba.
- No fastmath; no exp, log, tanh, cos, min or max but those of `functions.py`, only sqrt, which IEEE 754 defines.
- The order of every sum is written out (`sums.py`).
- Random numbers are uint64 arithmetic, found by their address (`draws.py`).
- A NaN that is kept is written by name: those that CPUs make have different bits.

Values are laid out [unit, row], rows last, filled up to a multiple of 32 with rows whose gradient is 0: loops over rows
then run without a rest, eight rows in one instruction. Layers are numbers in arrays (`records.py`), parameters one flat
array.
"""

from bancada.networks.kernel.records import *  # noqa: F403
from bancada.networks.kernel.replica import *  # noqa: F403
