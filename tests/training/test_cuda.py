"""device: cuda. These need a GPU; where there is none, they are skipped, and `device: cuda` is refused (test_repro)."""

from collections.abc import Iterator

import pytest
import torch
from examples import EXAMPLES, SEED, Bench, all_trained, data_of, differences, recipe_of

from bancada.base import user_code
from bancada.training import processes, store
from bancada.training.replica import Data, Replica

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    own.write_code("x", "f0")
    yield
    user_code.forget()


def replicas(name: str, device: str) -> list[Replica]:
    asked = recipe_of(name).model_copy(update={"device": device})
    return [Replica(asked, SEED), Replica(asked, SEED + 1)]


@needs_gpu
@pytest.mark.parametrize("name", EXAMPLES)
def test_three_trainings_on_a_gpu_end_in_the_same_bytes(name: str) -> None:
    rows: Data = data_of(name)
    first, *others = (all_trained(processes, replicas(name, "cuda"), rows) for _ in range(3))
    for other in others:
        for place in range(2):
            assert differences(first[place], other[place]) == []


def test_what_a_gpu_gave_is_never_taken_for_what_a_cpu_gives() -> None:
    rows: Data = data_of("cnn")
    names = [set(store.Store(replicas("cnn", device), {0: rows}).names) for device in ("cpu", "cuda")]
    assert len(names[0]) == len(names[1]) == 2
    assert not names[0] & names[1]
