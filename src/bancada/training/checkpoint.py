"""A nest of dicts, lists, arrays and plain values in one file, and back, bit by bit. Nothing is pickled.

Arrays and tensors are those of a safetensors file, all else is JSON in one of them, with the file's name without its
end; the file begins with a hash of the rest. A reader finds the last whole file, whatever happened while the next one
was written.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from bancada.base import files

KEEP_S = 30.0  # between two states of a replica under way
PLAIN = (type(None), bool, int, float, str)
NEST = "nest"  # the array with the JSON
DIGEST_BYTES = 32


def every_s() -> float:
    """Return the seconds between two states that a replica under way keeps."""
    return float(os.environ.get("BANCADA_CHECKPOINT_S", KEEP_S))


def write(path: Path, nest: Any) -> None:
    """Write the file whole, or not at all. Raise TypeError for a value of another kind, OSError for a full disk.

    Of two processes that write the same file at the same time, one may lose what it wrote.
    """
    arrays: dict[str, np.ndarray] = {}
    described = json.dumps(
        [path.stem, _flat(nest, "/", arrays)]
    ).encode()  # Python writes a float so that it reads the same back
    stored = safetensors.save(arrays | {NEST: np.frombuffer(described, np.uint8)})
    lost = suppress(FileNotFoundError)  # the other one took the temporary file
    with lost, files.whole(path) as unfinished, unfinished.open("wb") as file:
        file.write(hashlib.sha256(stored).digest() + stored)
        file.flush()
        os.fsync(file.fileno())  # a power cut leaves the former file or this one


def read(path: Path, as_tensor: Callable[[np.ndarray], Any] = lambda array: array) -> Any:
    """Return what `write` stored; None where there is no whole file, or one that had another name.

    `as_tensor` makes those that were tensors.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, stored = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(stored).digest() != digest:
        return None
    arrays = safetensors.load(stored)
    stem, nest = json.loads(arrays[NEST].tobytes())
    return _nest(nest, arrays, as_tensor) if stem == path.stem else None


def _flat(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray) or hasattr(value, "detach"):
        is_array, name = isinstance(value, np.ndarray), str(len(arrays))
        arrays[name] = np.asarray(value, order="C") if is_array else value.detach().numpy(force=True).copy()
        return {"array" if is_array else "tensor": name}
    if isinstance(value, dict):
        kind = "counter" if isinstance(value, Counter) else "dict"  # MultiStepLR has a Counter
        return {kind: [[key, _flat(item, f"{path}/{key}", arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flat(item, f"{path}/{i}", arrays) for i, item in enumerate(value)]}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be kept")


def _nest(value: Any, arrays: dict[str, np.ndarray], as_tensor: Callable[[np.ndarray], Any]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    if kind in ("array", "tensor"):
        return arrays[inner] if kind == "array" else as_tensor(arrays[inner])
    if kind in ("dict", "counter"):
        made = {key: _nest(item, arrays, as_tensor) for key, item in inner}
        return Counter(made) if kind == "counter" else made
    items = [_nest(item, arrays, as_tensor) for item in inner]
    return tuple(items) if kind == "tuple" else items
