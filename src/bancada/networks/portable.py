"""The switches of torch that make a user's network compute the same bits on every x86-64 CPU with AVX2.

They belong to the process, and come on top of the environment variables in pins.py. Which kernels differ without them
was measured on emulated and real CPUs: oneDNN's convolutions and LSTMs, and MKL's square root.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_kept: list[torch.library.Library] = []  # a registered kernel lasts as long as its library


def settle(bits: Literal["portable", "this_machine"]) -> None:
    """Set the switches. Call it again after a user's file was imported, because that may have set others."""
    torch.set_num_threads(1)  # two threads change residual networks and attention
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(False)
    torch.backends.cudnn.benchmark = False  # it chooses kernels by their speed
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = bits == "this_machine"  # type: ignore[assignment]  # a property of the module
    torch.backends.nnpack.set_flags(bits == "this_machine")
    if bits == "portable" and not _kept:
        _kept.append(exact_square_roots())
    elif bits == "this_machine" and _kept:
        _kept.pop()._destroy()


@contextmanager
def settled(bits: Literal["portable", "this_machine"]) -> Iterator[None]:
    """Set the switches for the block: a process that only uses a network has its own before and afterwards."""
    threads, dtype, onednn = torch.get_num_threads(), torch.get_default_dtype(), torch.backends.mkldnn.enabled
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, fastpath = torch.backends.cudnn.benchmark, torch.backends.mha.get_fastpath_enabled()
    flushes = not torch.tensor(1e-40, dtype=torch.float32).mul(1)  # torch does not say whether it does
    roots = len(_kept)
    with torch.backends.nnpack.flags(True):
        try:
            settle(bits)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_flush_denormal(flushes)
            torch.backends.cudnn.benchmark = benchmark
            torch.backends.mha.set_fastpath_enabled(fastpath)
            torch.backends.mkldnn.enabled = onednn
            for library in _kept[roots:]:
                library._destroy()
            del _kept[roots:]


def exact_square_roots() -> torch.library.Library:
    """Put numpy's square root, which IEEE 754 defines, in the place of MKL's, as long as the library lasts.

    `x ** 0.5` has a kernel of its own and stays as it is.
    """

    def sqrt(values: Tensor) -> Tensor:
        if values.dtype in (torch.float32, torch.float64):
            out = torch.empty_like(values)
            with np.errstate(invalid="ignore"):
                np.sqrt(values.detach().numpy(), out=out.numpy())
            return out
        if values.is_complex():
            return values**0.5
        wanted = values.dtype if values.is_floating_point() else torch.get_default_dtype()
        return sqrt(values.to(torch.float64)).to(wanted)

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced is what is wanted
        library.impl("sqrt", sqrt, "CPU")
        library.impl("sqrt_", lambda values: values.copy_(sqrt(values)), "CPU")
        library.impl("sqrt.out", lambda values, *, out: out.copy_(sqrt(values)), "CPU")
    return library
