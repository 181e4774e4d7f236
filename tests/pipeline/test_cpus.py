"""The same bytes on an emulated Intel Haswell and an emulated AMD EPYC as here; `make test-cpus` runs all stages."""

import cpus
import pytest
from examples import EXAMPLES

RAW = cpus.wanted_params()
# Wide layers take minutes in the emulator, and so do most of the plots.
STAGES = [f"train@{name}" for name, variant in RAW["variants"].items() if variant["study"] != "pixels"]


def test_a_training_with_adam_and_one_with_batch_norm_end_in_the_same_bytes_on_a_haswell() -> None:
    ran, other = cpus.differing(["train@moons_adam", "train@moons_batch_norm"], ["Haswell"])
    assert len(ran) == 4  # with the rows and their split
    assert not any(other.values()), other


@pytest.mark.long
def test_every_kind_of_training_ends_in_the_same_bytes_on_other_cpus() -> None:
    ran, other = cpus.differing([*STAGES, "evaluate@iris", "evaluate@houses"])
    print(f"{len(ran)} stages on {len(cpus.CPUS)} emulated CPUs")
    assert len(ran) >= len(RAW["variants"])
    assert not any(other.values()), other


@pytest.mark.long
def test_networks_of_a_users_own_end_in_the_same_bytes_on_other_cpus() -> None:
    ran, other = cpus.differing([f"example@{name}" for name in EXAMPLES])
    assert len(ran) == len(EXAMPLES)
    assert not any(other.values()), other
