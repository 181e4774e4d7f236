"""What the server that processes are forked from loads before the first one: torch, this engine and compiled code."""

import gc

import torch._dynamo  # noqa: F401  (the first optimizer of a process imports it, for a second)

from bancada.networks import kernel
from bancada.training import probing  # noqa: F401  (so that no process has to load it, and the engine)

kernel.ready_to_draw()
gc.freeze()  # else a server that ends searches all of torch's objects for garbage, for seconds
