"""The kernel's functions against mpmath, its Philox against Random123's known answers, and what is drawn with it."""

import itertools
import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from numba import njit
from pydantic import TypeAdapter
from scipy import stats
from torch import nn

from bancada.networks import kernel
from bancada.networks.kernel import compiled, draws, functions
from bancada.networks.settings import Layers, NormalInit, TorchInit, XavierNormal

exp, log, tanh, sigmoid, cos_pi, philox = (
    *(functions.exp, functions.log, functions.tanh, functions.sigmoid, functions.cos_pi),
    draws.philox,
)


@njit(**compiled.OPTIONS)
def compute(x, y, cosines, counters, words):
    """Write y [exp, log, tanh or sigmoid, number] of x, the cos_pi of cosines, and the words [counter, 4] of philox."""
    for i in range(x.size):
        y[0, i], y[1, i], y[2, i], y[3, i] = exp(x[i]), log(x[i]), tanh(x[i]), sigmoid(x[i])
    for i in range(cosines.size):
        cosines[i] = cos_pi(cosines[i])
    for i in range(len(counters)):
        c = counters[i]
        words[i, 0], words[i, 1], words[i, 2], words[i, 3] = philox(c[0], c[1], c[2], c[3], c[4], c[5])


NAMES = ("exp", "log", "tanh", "sigmoid")
NOTHING, NO_NUMBERS, NO_COUNTERS = np.empty(0, np.float32), np.empty(0), np.empty((0, 6), np.uint64)


def of_kernel(name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty((len(NAMES), len(x)), np.float32)
    compute(x, y, NO_NUMBERS, NO_COUNTERS, NO_COUNTERS)
    return y[NAMES.index(name)]


# The largest error in units of the last place, and where. exp ends at 0 and e^88.
FUNCTIONS: dict[str, tuple[Callable[[mpmath.mpf], mpmath.mpf], float, list[tuple[float, float]]]] = {
    "exp": (mpmath.exp, 1.0, [(-1e-30, -110), (1e-30, 88)]),
    "log": (mpmath.log, 0.9, [(2.0**-149, 3.4e38)]),
    "tanh": (mpmath.tanh, 6.0, [(-1e-30, -20), (1e-30, 20)]),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), 2.5, [(-1e-30, -110), (1e-30, 87)]),
}


def every(step: int, name: str) -> np.ndarray:
    """Every `step`-th float32 of a function's domain."""
    spans = [np.float32(span).view(np.uint32) for span in FUNCTIONS[name][2]]
    return np.concatenate([np.arange(first, last + 1, step, np.uint32) for first, last in spans]).view(np.float32)


def ulps_by_mpmath(name: str, x: np.ndarray) -> np.ndarray:
    found, errors = of_kernel(name, x), []
    with mpmath.workdps(40):
        for number, value in zip(x.tolist(), found.tolist(), strict=True):
            exact = FUNCTIONS[name][0](mpmath.mpf(number))
            last_place = max(math.frexp(exact)[1] - 24, -149)
            errors.append(float(mpmath.ldexp(abs(exact - value), -last_place)))
    return np.array(errors)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_some_units_of_the_last_place(name: str) -> None:
    x = every(500_009, name)
    assert len(x) > 2000
    assert ulps_by_mpmath(name, x).max() < FUNCTIONS[name][1]


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_every_101st_number_the_worst_is_within_these_units(name: str) -> None:
    """The worst of each thousand by float64, then by mpmath."""
    exact = {"exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[name]
    x = every(101, name)
    want = exact(x.astype(np.float64))
    units = np.ldexp(np.abs(want - of_kernel(name, x)), -np.maximum(np.frexp(want)[1] - 24, -149))
    worst = [piece[units[piece].argmax()] for piece in np.array_split(np.arange(len(x)), 1000)]
    assert 0.5 < ulps_by_mpmath(name, x[worst]).max() < FUNCTIONS[name][1]


def test_the_cosine_of_schedules_is_exact_to_two_units_of_one() -> None:
    x = np.linspace(0, 1, 2001)
    found = x.copy()
    compute(NOTHING, NOTHING[None], found, NO_COUNTERS, NO_COUNTERS)
    with mpmath.workdps(40):
        errors = [abs(mpmath.cos(mpmath.pi * mpmath.mpf(a)) - b) for a, b in zip(x, found, strict=True)]
    assert max(errors) < 2 * 2.0**-52
    assert (found[0], found[-1]) == (1, -1)


def test_functions_pass_nan_on_and_end_where_they_should() -> None:
    """A NaN that turned into a number would hide a training that diverged."""
    ends = np.float32([np.nan, np.inf, -np.inf, 0, -1, 1e30, -1e30])
    found = {name: of_kernel(name, ends) for name in FUNCTIONS}
    for name, values in found.items():
        assert np.isnan(values[0]), name
    np.testing.assert_array_equal(found["log"][1:5], [np.inf, np.nan, -np.inf, np.nan])
    np.testing.assert_allclose(found["exp"][[1, 5, 2, 6, 3]], [np.exp(88), np.exp(88), 0, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(found["tanh"][[1, 5, 2, 6, 3]], [1, 1, -1, -1, 0], rtol=1e-6)
    np.testing.assert_allclose(found["sigmoid"][[1, 5, 2, 6, 3]], [1, 1, 0, 0, 0.5], rtol=1e-6)
    near_the_end = np.float32([7.9, 7.95, 8.1, 8.3, 8.6, 9.0, 9.02])
    np.testing.assert_array_equal(
        of_kernel("tanh", near_the_end)[1:], np.tanh(near_the_end.astype(np.float64)).astype(np.float32)[1:]
    )


KNOWN_ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, answer
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def test_philox_gives_the_known_answers_of_random123() -> None:
    counters = np.array([[int(word, 16) for word in f"{c} {k}".split()] for c, k, _ in KNOWN_ANSWERS], np.uint64)
    words = np.zeros((3, 4), np.uint64)
    compute(NOTHING, NOTHING[None], NO_NUMBERS, counters, words)
    assert [" ".join(f"{word:08x}" for word in line) for line in words] == [answer for _, _, answer in KNOWN_ANSWERS]


def plausible(counts: np.ndarray, freedom: int | None = None) -> bool:
    """Whether cells that should be equally full differ as chance has it: neither too much nor too little."""
    p = stats.chi2.sf(stats.chisquare(counts, axis=None).statistic, freedom or counts.size - 1)
    return bool(1e-4 < p < 1 - 1e-4)


# --- the order of batches ---

ORDERS = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
SEEDS = 20_000


def orders(seeds: range, epochs: range) -> np.ndarray:
    """Which of the 24 orders of four rows comes, for each seed and epoch."""
    return np.array([ORDERS[tuple(kernel.order_of_rows(s, e, 4).tolist())] for s in seeds for e in epochs])


@pytest.mark.parametrize("rows", [1, 2, 3, 31, 1000, 9984])
def test_an_order_has_every_row_once(rows: int) -> None:
    assert np.array_equal(np.sort(kernel.order_of_rows(111, 3, rows)), np.arange(rows))


def test_all_orders_of_four_rows_come_equally_often_and_neighbours_know_nothing_of_each_other() -> None:
    by_seed, by_epoch = orders(range(SEEDS), range(1)), orders(range(111, 112), range(SEEDS))
    for drawn in (by_seed, by_epoch):
        assert plausible(np.bincount(drawn, minlength=24))
        assert plausible(np.bincount(24 * drawn[:-1] + drawn[1:], minlength=24 * 24))


def test_a_row_comes_to_each_place_of_a_longer_order_equally_often() -> None:
    """The counts of a table of permutations of n rows are n / (n - 1) times chi-square with (n - 1)^2 of freedom."""
    n, drawn = 40, np.array([kernel.order_of_rows(seed, 7, 40) for seed in range(4000)])
    table = np.zeros((n, n))
    np.add.at(table, (np.arange(n), drawn), 1)
    p = stats.chi2.sf(stats.chisquare(table, axis=None).statistic * (n - 1) / n, (n - 1) ** 2)
    assert 1e-4 < p < 1 - 1e-4


# --- the start ---

TORCH, XAVIER, NORMAL = TorchInit(name="torch"), XavierNormal(name="xavier_normal"), NormalInit(name="normal", std=0.3)
BY_TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "torch": lambda weight: weight,
    "xavier_normal": nn.init.xavier_normal_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.3),
}


@pytest.mark.parametrize("init", [TORCH, XAVIER, NORMAL], ids=lambda init: init.name)
def test_weights_are_distributed_as_torchs(init: TorchInit | XavierNormal | NormalInit) -> None:
    own, biases = kernel.linear_start(0, 150, 200, True, init, 111)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = nn.Linear(150, 200)
        BY_TORCH[init.name](other.weight.detach())
    assert own.shape == other.weight.shape
    assert stats.ks_2samp(own.ravel(), other.weight.detach().numpy().ravel()).pvalue > 0.01
    assert np.std(own, dtype=np.float64) == pytest.approx(other.weight.double().std().item(), rel=0.01)
    if init.name == "torch":
        assert stats.ks_2samp(biases, other.bias.detach().numpy()).pvalue > 0.01
    else:
        assert not biases.any()


@pytest.mark.parametrize("fan_in", [1, 3, 64])
def test_torchs_start_is_uniform_up_to_one_by_the_root_of_fan_in(fan_in: int) -> None:
    """torch.nn.Linear's documentation: U(-sqrt(k), sqrt(k)) with k = 1 / in_features, weights and biases."""
    bound = fan_in**-0.5
    for part in kernel.linear_start(2, fan_in, 20_000, True, TORCH, 5):
        assert stats.kstest(part.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
        assert 0.999 * bound < np.abs(part).max() <= np.float32(bound)


def test_normal_weights_have_the_normal_distribution_and_its_first_four_moments() -> None:
    weights = kernel.linear_start(1, 400, 500, False, NormalInit(name="normal", std=1.0), 3)[0].ravel().astype(float)
    assert stats.kstest(weights, "norm").pvalue > 0.01
    n = len(weights)
    for moment, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E z^2k - (E z^k)^2
        assert np.mean(weights**moment) == pytest.approx(expected, abs=4 * math.sqrt(variance / n)), moment


def test_starts_of_neighbouring_seeds_layers_and_parts_know_nothing_of_each_other() -> None:
    def starts(seed: int, layer: int) -> list[np.ndarray]:
        """Sixteenths of the range in which the 50 weights and 50 biases lie."""
        parts = kernel.linear_start(layer, 1, 50, True, TORCH, seed)
        return [np.minimum((part.ravel() + 1) * 8, 15).astype(int) for part in parts]

    pairs: dict[str, list[np.ndarray]] = {"seed": [], "layer": [], "part": [], "place": []}
    for seed in range(1000):
        weights, biases = starts(seed, 0)
        others = {"seed": starts(seed + 1, 0)[0], "layer": starts(seed, 1)[0], "part": biases}
        for name, other in (others | {"place": np.roll(weights, 1)}).items():
            pairs[name].append(16 * weights + other)
    for name, cells in pairs.items():
        assert plausible(np.bincount(np.concatenate(cells), minlength=256)), name


# --- masks of dropout ---

RATE, WIDTH = 0.3, 64


def mask(seed: int, layer: int = 0, epoch: int = 0, batch: int = 0) -> np.ndarray:
    """Which units [row, unit] of a batch dropout keeps, as seen from outside.

    The inputs are 1, the weights 0, and output i has an error in row i alone, so that after one update its weights are
    those of row i that were kept. Before, no row has an error.
    """
    stack = TypeAdapter(Layers).validate_python(
        [*["relu"] * layer, {"dropout": RATE}, {"linear": WIDTH, "bias": False}]
    )
    network = kernel.network(stack, WIDTH)
    settings = kernel.Settings(
        loss=kernel.LOSSES["mse"],
        optimizer=kernel.OPTIMIZERS["sgd"],
        rate=1.0,
        batch=WIDTH,
        epochs=epoch + 1,
        order=kernel.ORDERS["fixed"],
    )
    place = kernel.start(network, TORCH, seed, settings)
    place.state[:] = 0
    rows, own = (batch + 1) * WIDTH, kernel.order_of_rows(seed, 0, (batch + 1) * WIDTH)[batch * WIDTH :]
    nothing, targets = np.zeros((rows, WIDTH), np.float32), np.zeros((rows, WIDTH), np.float32)
    targets[own, np.arange(WIDTH)] = 1
    none, no_rows = np.empty(0, np.float32), np.empty((0, WIDTH), np.float32)
    validation = kernel.Rows(no_rows, no_rows, none)
    for until, wanted in ((epoch, nothing), (epoch + 1, targets)):
        kernel.train(network, settings, seed, kernel.Rows(nothing + 1, wanted, none), validation, place, until)
    weights = kernel.named(network, place)[f"{layer + 1}.weight"]
    kept = weights != 0
    np.testing.assert_allclose(weights[kept], 2 / WIDTH**2 / (1 - RATE), rtol=1e-6)
    return kept


def test_dropout_zeroes_its_share_and_masks_know_nothing_of_each_other() -> None:
    share, bits = 1 - RATE, WIDTH * WIDTH
    for seed in range(20):
        first = mask(seed)
        neighbours = [mask(seed + 1), mask(seed, layer=1), mask(seed, epoch=1), mask(seed, batch=1)]
        neighbours += [np.roll(first, 1, axis) for axis in (0, 1)]
        for other, expected in ((first, share), *((first & other, share**2) for other in neighbours)):
            sd = math.sqrt(expected * (1 - expected) / bits)
            assert other.mean() == pytest.approx(expected, abs=4.5 * sd)
