"""What belongs to the process: torch's switches and the generators, for the same bits on every x86-64 CPU with AVX2.

The switches come on top of the environment variables in pins.py. Which kernels differ without them
was measured on emulated and real CPUs: oneDNN's convolutions and LSTMs, and MKL's square root.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Bits = Literal["portable", "this_machine"]
_kept: list[torch.library.Library] = []  # a registered kernel lasts as long as its library


def settle(bits: Bits) -> None:
    """Set the switches. Call it again after a user's file was imported, because that may have set others."""
    for _, put, value in _switches(bits):
        put(value)


@contextmanager
def settled(bits: Bits) -> Iterator[None]:
    """Set the switches for the block: a process that only uses a network has its own before and afterwards."""
    before = [(put, get()) for get, put, _ in _switches(bits)]
    try:
        settle(bits)
        yield
    finally:
        for put, value in before:
            put(value)


def _switches(bits: Bits) -> list[tuple[Callable[[], Any], Callable[[Any], object], Any]]:
    """Return how each switch is read and set, and to what."""
    fast, cudnn, onednn = bits == "this_machine", torch.backends.cudnn, torch.backends.mkldnn
    return [
        (torch.get_num_threads, torch.set_num_threads, 1),  # two threads change residual networks and attention
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, "error"),
        (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        (_flushes_denormal, torch.set_flush_denormal, False),
        # benchmark chooses kernels by their speed
        (partial(getattr, cudnn, "benchmark"), partial(setattr, cudnn, "benchmark"), False),
        (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False),
        (partial(getattr, onednn, "enabled"), partial(setattr, onednn, "enabled"), fast),
        (torch._C._get_nnpack_enabled, torch.backends.nnpack.set_flags, fast),
        (lambda: bool(_kept), _take_exact_square_roots, not fast),
    ]


def _flushes_denormal() -> bool:
    """Return whether torch takes the smallest numbers for 0, which it does not say."""
    return not torch.tensor(1e-40, dtype=torch.float32).mul(1)


def _take_exact_square_roots(exact: bool) -> None:
    if exact and not _kept:
        _kept.append(exact_square_roots())
    elif _kept and not exact:
        _kept.pop()._destroy()


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


def seed_all(number: int) -> None:
    """Seed the global generators of torch, numpy and Python, from which a module may draw."""
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


def generator_states() -> dict[str, Any]:
    """Return the states of these generators."""
    found = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def restore(found: Mapping[str, Any]) -> None:
    """Set the generators to these states."""
    torch.set_rng_state(found["torch"])
    np.random.set_state(found["numpy"])
    random.setstate(found["python"])
    if "cuda" in found:
        torch.cuda.set_rng_state(found["cuda"])


@contextmanager
def same_draws() -> Iterator[None]:
    """Seed the generators, for a module that draws even when it is evaluated. Afterwards, put them back."""
    before = generator_states()
    seed_all(0)
    yield
    restore(before)
