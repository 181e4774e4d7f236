"""The benchmarks run: every way to train, for a moment, on what it would be measured with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOR_A_MOMENT = """
import sys
import tempfile
from pathlib import Path
sys.path.insert(0, "tests/benchmarks")
import training

training.ROUNDS, training.SAMPLE_S, training.WIDER = 1, 1e-4, {training.BESIDE_STACKED: 32}
free = training.Process()
with tempfile.TemporaryDirectory() as folder:
    tables = [training.base_network(free, Path(folder))]
    for part in (training.lessons_variants, training.wider_networks):
        tables += [took for _, took in part(free, Path(folder))]
free.end()
assert len(tables) == len(training.LESSONS) + 1, len(tables)
missing = {found for took in tables for found in took.values() if not isinstance(found, float)}
assert missing <= {"not installed", "no cc"}, missing
assert all(found > 0 for took in tables for found in took.values() if isinstance(found, float)), tables
"""


@pytest.mark.long
def test_every_way_to_train_can_be_measured() -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith("BANCADA_")}
    ran = subprocess.run(
        [sys.executable, "-c", FOR_A_MOMENT], cwd=ROOT, env=own, capture_output=True, text=True, timeout=500
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
