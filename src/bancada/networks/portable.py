"""The switches of torch that make a user's network compute the same bits on every x86-64 CPU with AVX2.

They belong to the process, and come on top of the environment variables in pins.py. Which kernels differ without them
was measured on emulated and real CPUs: oneDNN's convolutions and LSTMs, and MKL's square root.
"""

import warnings
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
    if bits == "portable":
        exact_square_roots()


def exact_square_roots() -> None:
    """Put numpy's square root, which IEEE 754 defines, in the place of MKL's, for the rest of the process.

    `x ** 0.5` has a kernel of its own and stays as it is.
    """
    if _kept:
        return

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
    _kept.append(library)
