"""The signals that end a program: Windows has fewer of them."""

import signal

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # there, the latter ends a process at once
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # beside Ctrl-C
