"""Hides from bancada's own modules what Windows does not have; libraries see it still. Loaded as sitecustomize."""

import builtins
import types
from typing import Any

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
FUNCTIONS = {
    "os": {
        "chown", "chroot", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp",
        "getsid", "getuid", "killpg", "mkfifo", "nice", "openpty", "register_at_fork",
        "sched_getaffinity", "sched_setaffinity", "setpgid", "setsid", "statvfs", "sysconf", "uname", "wait3", "wait4",
        "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
    },
    "signal": {"SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "alarm", "pthread_sigmask", "setitimer", "sigwait"},
    "multiprocessing": {"forkserver"},
}  # fmt: skip
real = builtins.__import__


def hidden(module: types.ModuleType) -> types.ModuleType:
    """The module without its functions of Unix."""
    name, copy = module.__name__, types.ModuleType(module.__name__)
    copy.__dict__.update({key: value for key, value in vars(module).items() if key not in FUNCTIONS[name]})
    if name == "multiprocessing":
        copy.get_all_start_methods = lambda: ["spawn"]  # type: ignore[attr-defined]  # a module takes any
    return copy


def imported(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> types.ModuleType:
    """As `__import__`, whose arguments have these names."""
    module = real(name, globals, locals, fromlist, level)
    if str((globals or {}).get("__name__")).partition(".")[0] not in ("bancada", "__mp_main__"):
        return module
    if name in MODULES:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return hidden(module) if name in FUNCTIONS else module


builtins.__import__ = imported
