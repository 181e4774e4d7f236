"""Ten thousand trainings of a lesson's variant on a cluster of two nodes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import Nodes

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes(Path("/tmp") / f"ray-{os.getpid()}-{time.monotonic_ns()}")
    for name in ("n1", "n2"):
        made.add(name)
    yield made
    made.kill()


def test_ten_thousand_replicas_give_the_bytes_of_this_machine_and_the_driver_stays_as_large(nodes: Nodes) -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith("BANCADA_")}
    command = [sys.executable, str(ROOT / "tests/helpers/many_replicas.py"), nodes.address]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["cluster"] == told["here"]
    assert told["different"] == 10_000  # each seed has weights of its own
    early, end = told["memory"]
    assert end - early < 30e6, told  # bytes; 8,000 results lie between both
