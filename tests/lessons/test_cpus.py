"""The same bytes as here on an emulated Intel Haswell, AMD EPYC and ARM64; `make test-cpus` runs all stages."""

from pathlib import Path

import arm64
import cpus
import pytest
from examples import EXAMPLES

RAW = cpus.wanted_params()
# Wide layers take minutes in the emulator, and so do most of the plots.
STAGES = [f"train@{name}" for name, variant in RAW["variants"].items() if variant["study"] != "pixels"]


@pytest.mark.long
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
def test_all_that_needs_no_torch_ends_in_the_same_bytes_on_arm64() -> None:
    stages = cpus.all_stages(cpus.wanted_params(torch=False))
    ran, other = cpus.differing(stages, [cpus.ARM64])
    assert ran == set(stages)
    assert not any(other.values()), other


@pytest.mark.long
def test_networks_of_a_users_own_end_in_the_same_bytes_on_other_cpus() -> None:
    ran, other = cpus.differing([f"example@{name}" for name in EXAMPLES])
    assert len(ran) == len(EXAMPLES)
    assert not any(other.values()), other


def test_a_missing_emulator_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError) as raised:
        arm64.python()
    assert str(raised.value) == "qemu-aarch64 is missing; on Debian, `apt-get install qemu-user` installs it"
