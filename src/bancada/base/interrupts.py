"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) end the program, but not in the middle of DVC's bookkeeping.

DVC writes its list of the files in use again while an exception passes through it. Where the exception came during such
a write, DVC finds half a file, and raises an error of its own in its place.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

IMPATIENT = 3  # the third signal ends the program at once, also where DVC hangs
_came: list[int] = []
_waits = [False]  # whether signals wait: in the program, and in each block, the innermost last


def install() -> None:
    """Handle the three signals, except those that are ignored, as SIGHUP is under nohup."""
    _came.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _arrive)


def _arrive(number: int, _: object) -> None:
    _came.append(number)
    if not _waits[-1] or len(_came) >= IMPATIENT:
        end_if_any()


def end_if_any() -> None:
    """Raise KeyboardInterrupt if Ctrl-C came, and SystemExit with 128 + N if another signal came, at each call."""
    if _came:
        raise KeyboardInterrupt if _came[0] == signal.SIGINT else SystemExit(128 + _came[0])


@contextmanager
def wait(waiting: bool = True) -> Iterator[None]:
    """Let signals wait until the block ends; they then replace its exception. With False: they end the block."""
    _waits.append(waiting)
    try:
        yield
    finally:
        _waits.pop()
        if not _waits[-1]:
            end_if_any()
