"""Settings that make numpy, torch and MKL compute the same bits on every x86-64 CPU with AVX2.

The compiled engine (networks/kernel) needs none of them: they are for the torch engine, and for what numpy, scipy and
scikit-learn compute (sources of data, splits, preparations, plots).

The libraries read these environment variables once, while they load. Therefore `import bancada` sets them, and every
entry point imports bancada before numpy and torch.
"""

import os
import sys
import warnings

PINS = {
    # numpy: the same code for exp, log and sin on CPUs with and without AVX-512; for users' sources, and in plots
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    # numpy's and scipy's matrix products, which scikit-learn and users' sources call
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    # torch's elementwise kernels, on the torch engine
    "ATEN_CPU_CAPABILITY": "avx2",
    # the torch engine's matrix products, exp and log: MKL obeys AVX2 on Intel CPUs only, COMPATIBLE on every CPU
    "MKL_CBWR": "COMPATIBLE",
    # the number of threads changes the order of a sum over many rows, in torch and in scikit-learn
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
CONTRARY = "NPY_ENABLE_CPU_FEATURES"  # numpy refuses to load if both this and NPY_DISABLE_CPU_FEATURES are set


def apply() -> None:
    """Set the variables. Print one line if the shell had set others; warn if numpy or torch was already loaded."""
    late = [name for name in ("numpy", "torch") if name in sys.modules]
    overruled = {name: name for name, value in PINS.items() if os.environ.get(name, value) != value}
    if CONTRARY in os.environ:
        overruled[CONTRARY] = "NPY_DISABLE_CPU_FEATURES"
    unset = PINS.keys() - os.environ.keys()
    asked = ", ".join(f"{name}={os.environ[name]}" for name in overruled)
    os.environ.pop(CONTRARY, None)
    os.environ.update(PINS)
    if overruled:
        pinned = ", ".join(f"{name}={PINS[name]}" for name in dict.fromkeys(overruled.values()))
        message = f"bancada: {asked} from the shell is overruled by {pinned}, so that results keep their bits"
        print(message, file=sys.stderr)
    if late and (overruled or unset):
        warnings.warn(
            f"bancada was imported after {' and '.join(late)}: its pins for the same bits on every CPU came too late",
            stacklevel=3,
        )
