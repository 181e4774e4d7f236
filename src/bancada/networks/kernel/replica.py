"""The kernel as Python sees it: networks from layers of params.yaml, their start, their training and their outputs."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int64

from bancada.networks.kernel import draws, records, training
from bancada.networks.kernel.compiled import config, one_at_a_time
from bancada.networks.kernel.records import Layers, Place, Room, Rows, Settings
from bancada.networks.settings import GivenInit, Init, LayerSpec, NormalInit, TorchInit, XavierNormal

DrawnInit = TorchInit | XavierNormal | NormalInit
Weights = dict[str, np.ndarray]  # by the names of torch.nn.Sequential's state_dict: "0.weight"


@dataclass(frozen=True)
class Network:
    """Layers as the compiled functions take them."""

    layers: Layers
    parts: dict[str, tuple[int, int, tuple[int, ...]]]  # by name: of parameters 0 or statistics 1, where, the shape
    outputs: int
    parameters: int  # numbers that the optimizer changes
    size: int  # places in a line of the state, with those that fill up
    statistics: int  # running means and variances of batch norm


def network(layers: Sequence[LayerSpec], features: int) -> Network:
    """Return the network of these layers for rows of so many features."""
    lines, parts = list[tuple[float, ...]](), dict[str, tuple[int, int, tuple[int, ...]]]()
    units, ends = features, [0, 0]
    for i, layer in enumerate(layers):
        before, shapes = units, dict[str, tuple[int, ...]]()
        if layer.kind == "linear":
            units = layer.width or 0
            shapes = {"weight": (units, before)} | ({"bias": (units,)} if layer.bias is not False else {})
        elif layer.kind == "batch_norm":
            shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (units,))
        lines.append((records.KINDS[layer.kind], before, units, ends[0], "bias" in shapes, layer.rate or 0.0, ends[1]))
        for name, shape in shapes.items():
            of = int(name.startswith("running"))
            parts[f"{i}.{name}"] = of, ends[of], shape
            ends[of] += math.prod(shape)
    types = (np.int64, np.int64, np.int64, np.int64, np.bool_, np.float32, np.int64)
    arrays: list[np.ndarray] = [np.array([line[i] for line in lines], kind) for i, kind in enumerate(types)]
    size = max(1, math.ceil(ends[0] / records.FILL)) * records.FILL
    return Network(Layers(*arrays), parts, units, ends[0], size, ends[1])


def _parts(network: Network, *lines: np.ndarray) -> Weights:
    """Return views of a line of the state, and of the statistics, by state_dict's names and in its order."""
    return {
        name: lines[of][at : at + math.prod(shape)].reshape(shape) for name, (of, at, shape) in network.parts.items()
    }


def start(network: Network, init: Init, seed: int, settings: Settings) -> Place:
    """Return the place of a training before its first epoch."""
    place = _place(network, 2 if settings.patience else 1, settings.epochs)
    place.progress[[records.BEST_LOSS, records.BEST_EPOCH, records.DIVERGED, records.BAD_BATCH]] = np.inf, -1, -1, -1
    place.progress[[records.LAST_RATE, records.POWER_1, records.POWER_2]] = settings.rate, 1, 1
    parts, layers = _parts(network, place.state[0], place.statistics[0]), network.layers
    for layer in np.flatnonzero(layers.kind == records.BATCH_NORM).tolist():
        parts[f"{layer}.weight"][:] = parts[f"{layer}.running_var"][:] = 1
    linear = np.flatnonzero(layers.kind == records.LINEAR).tolist()
    sizes = {at: (int(layers.inputs[at]), int(layers.outputs[at]), f"{at}.bias" in parts) for at in linear}
    for layer, (weight, bias) in linear_starts(sizes, init, seed).items():
        parts[f"{layer}.weight"][:] = weight
        if bias is not None:
            parts[f"{layer}.bias"][:] = bias
    return place


LinearStart = tuple[Float32[np.ndarray, "output input"], Float32[np.ndarray, " output"] | None]


def linear_starts(layers: Mapping[int, tuple[int, int, bool]], init: Init, seed: int) -> dict[int, LinearStart]:
    """Return the weights and biases, given or drawn, that linear layers begin with, by their place in a network.

    layers: the inputs, the outputs, and whether there are biases.
    """
    if isinstance(init, GivenInit):
        given = zip(layers, init.weights, init.biases, strict=True)
        return {layer: (np.array(weight, np.float32), np.array(bias, np.float32)) for layer, weight, bias in given}
    return {layer: linear_start(layer, *size, init, seed) for layer, size in layers.items()}


def linear_start(layer: int, inputs: int, outputs: int, bias: bool, init: DrawnInit, seed: int) -> LinearStart:
    """Return the weights and biases that the linear layer in this place of a network begins with.

    As torch: uniform up to 1 / sqrt(inputs). Otherwise the weights are normal and the biases 0.
    """
    ready_to_draw()
    weight, words = np.zeros((outputs, inputs), np.float32), np.zeros(outputs * inputs + 3, np.uint32)
    biases = np.zeros(outputs, np.float32) if bias else None
    bound = float(np.float32(1) / np.sqrt(np.float32(inputs))) if isinstance(init, TorchInit) else 0.0
    sd = init.std if isinstance(init, NormalInit) else float(np.sqrt(np.float32(2) / np.float32(inputs + outputs)))
    draws.draw(seed, layer, 0, bound, sd, weight.reshape(-1), words)
    if biases is not None and bound:
        draws.draw(seed, layer, 1, bound, sd, biases, words)
    return weight, biases


def order_of_rows(seed: int, epoch: int, rows: int) -> Int64[np.ndarray, " row"]:
    """Return the order of the rows in an epoch. A fixed order is that of epoch 0."""
    ready_to_draw()
    order = np.zeros(rows, np.int64)
    draws.shuffle(seed, epoch, order, np.zeros(rows + 3, np.uint32))
    return order


def train(
    network: Network, settings: Settings, seed: int, rows: Rows, validation: Rows, place: Place, until: int
) -> None:
    """Train to epoch `until`, or to the end of the training where that is before. Writes into `place`."""
    ready()
    _run(network.layers, settings, seed, (rows, validation), place, min(until, settings.epochs), NO_OUTPUTS)
    if ended(settings, place) and not all(np.isfinite(value).all() for value in named(network, place).values()):
        place.progress[records.DIVERGED] = place.progress[records.DONE] - 1


def ended(settings: Settings, place: Place) -> bool:
    """Return whether the training is over: after its last epoch, diverged, or stopped early."""
    done = place.progress[records.DONE]
    stale = settings.patience > 0 and done - 1 - place.progress[records.BEST_EPOCH] >= settings.patience
    return bool(done >= settings.epochs or place.progress[records.DIVERGED] >= 0 or stale)


def named(network: Network, place: Place) -> Weights:
    """Return copies of the parameters and running statistics: with early stopping, those of the best epoch so far.

    They are NaN where the training diverged.
    """
    best = len(place.state) > records.BEST and place.progress[records.BEST_EPOCH] >= 0
    lines = (place.state[records.BEST], place.statistics[1]) if best else (place.state[0], place.statistics[0])
    kept = {name: value.copy() for name, value in _parts(network, *lines).items()}
    if place.progress[records.DIVERGED] >= 0:
        for value in kept.values():
            value[...] = records.NAN
    return kept


def note(network: Network, place: Place) -> str:
    """Return, in words, which gradient had no finite norm to be clipped; an empty string if none."""
    batch = int(place.progress[records.BAD_BATCH])
    gradients = _parts(network, place.state[records.GRADIENTS], place.statistics[0])
    wrong = [name for name, value in gradients.items() if "running" not in name and not np.isfinite(value).all()]
    what = f"the gradient of {wrong[0]}" if wrong else "the norm of the gradient"
    return f"batch {batch + 1}: {what} is not finite" if batch >= 0 else ""


def outputs(
    network: Network, weights: Mapping[str, np.ndarray], inputs: Float32[np.ndarray, "row feature"]
) -> Float32[np.ndarray, "row output"]:
    """Return the outputs in evaluation mode; NaN where weights are NaN or a number on the way is not finite."""
    place, out = _place(network), np.zeros((len(inputs), network.outputs), np.float32)
    for name, part in _parts(network, place.state[0], place.statistics[0]).items():
        part[...] = weights[name]
    _evaluate(network, "mse", inputs, np.zeros_like(out), place, out)
    return out


def mean_loss(
    loss: str, outputs: Float32[np.ndarray, "row output"], targets: Float32[np.ndarray, "row output"]
) -> float:
    """Return the training loss over these rows, in which every row counts the same; NaN in the outputs gives NaN."""
    nothing = network([], outputs.shape[1])
    return _evaluate(nothing, loss, outputs, targets, _place(nothing), NO_OUTPUTS)


NO_OUTPUTS = np.zeros((0, 0), np.float32)


def _place(network: Network, lines: int = 1, epochs: int = 0) -> Place:
    """Return a place of zeros. lines: of the parameters and statistics, two where the best are kept."""
    state = np.zeros((records.MEMORY_2 + lines, network.size), np.float32)
    return Place(state, np.zeros((lines, network.statistics), np.float32), np.full((epochs, 4), np.nan), np.zeros(8))


def _evaluate(
    network: Network, loss: str, inputs: np.ndarray, targets: np.ndarray, place: Place, out: np.ndarray
) -> float:
    ready()
    settings, nothing = Settings(records.LOSSES[loss], 0, 0.0, 0, 0), np.zeros(0, np.float32)
    rows = Rows(inputs[:0], targets[:0], nothing), Rows(inputs, targets, nothing)
    return _run(network.layers, settings, 0, rows, place, -1, out)


def _run(
    layers: Layers, settings: Settings, seed: int, rows: tuple[Rows, Rows], place: Place, until: int, out: np.ndarray
) -> float:
    """Call the compiled function with the types that it is compiled for, and no others. rows: and validation rows."""
    numbers = Settings(*(kind(value) for kind, value in zip(Settings.__annotations__.values(), settings, strict=True)))
    learned, held_out = (Rows(*(np.require(part, np.float32, ["C", "A", "W"]) for part in table)) for table in rows)
    room = _room(layers, settings.batch, learned, held_out, place.state.shape[1])
    with np.errstate(all="ignore"):  # where this runs as plain Python, and diverges
        return float(training.run(layers, numbers, int(seed), learned, held_out, place, int(until), room, out))


def _room(layers: Layers, batch: int, rows: Rows, validation: Rows, size: int) -> Room:
    """Return room for a batch, or for a chunk of the validation rows where that is larger."""
    count, held_out, depth, outputs = len(rows.inputs), len(validation.inputs), len(layers.kind), rows.targets.shape[1]
    units = int(max([outputs, *layers.inputs, *layers.outputs]))
    width = math.ceil(max(min(batch or count, count), min(training.CHUNK, held_out)) / records.FILL) * records.FILL
    shapes = [(depth + 1, units, width), (depth + 1, units, width), (depth, units, width), (depth, units)]
    shapes += [(width, units), (outputs, width), (5, width), (max(width, size),)]
    rooms = [_aligned(shape, np.float32) for shape in shapes] + [_aligned((max(width, count) + 3,), np.uint32)]
    return Room._make([*rooms, np.arange(count), np.arange(held_out)])


def _aligned(shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    """Return zeros that begin where a line of the CPU's cache does: loops over them are up to a tenth faster."""
    room = np.zeros(math.prod(shape) + 16, kind)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + math.prod(shape)].reshape(shape)


@cache
def ready_to_draw() -> None:
    """Compile what draws random numbers, or load what another process compiled."""
    line, order, words = np.zeros(1, np.float32), np.zeros(1, np.int64), np.zeros(4, np.uint32)
    with one_at_a_time("shuffle"):
        draws.draw(0, 0, 0, 1.0, 0.0, line, words)
        draws.shuffle(0, 0, order, words)


@cache
def ready() -> None:
    """Compile, or load what another process compiled. The first call of anything else does it, too."""
    if config.DISABLE_JIT:
        print("NUMBA_DISABLE_JIT is set: trainings run as plain Python, some 2,000 times slower", file=sys.stderr)
    ready_to_draw()
    settings, rows = Settings(0, 0, 0.1, 0, 1), Rows(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(0))
    one = network([LayerSpec(kind="linear", width=1)], 1)
    with one_at_a_time("run"):
        _run(one.layers, settings, 0, (rows, rows), _place(one, epochs=1), 1, NO_OUTPUTS)
