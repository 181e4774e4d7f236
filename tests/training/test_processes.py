"""The processes of the torch engine: Ctrl-C, kills, and messages, of a stage as DVC starts it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from examples import SEED, Bench, all_trained, data_of, differences, nobody, replica_of
from mounts import FILL, Mounted

from bancada.base import user_code
from bancada.training import checkpoint, processes, torch_engine
from bancada.training.replica import Replica

ENDLESS = 1_000_000  # epochs


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    yield
    user_code.forget()


class Started:
    """A stage that runs, and all processes that it began, which have its mark in their environment."""

    def __init__(self, bench: Bench, name: str, **variables: str) -> None:
        self.bench, self.mark = bench, uuid.uuid4().hex
        self.process = bench.start(name, BANCADA_TEST_MARK=self.mark, BANCADA_CHECKPOINT_S="0.1", **variables)

    def all(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended meanwhile
                if process.environ().get("BANCADA_TEST_MARK") == self.mark and process.status() != "zombie":
                    found.append(process)
        return found

    def none_left(self, within_s: float) -> bool:
        until = time.monotonic() + within_s
        while self.all() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.all()

    def workers(self) -> list[psutil.Process]:
        """Those that train: each has one thread that watches the stage, and was forked from the server."""
        [server] = [one for one in self.all() if "forkserver" in " ".join(one.cmdline()) and len(one.children())]
        return server.children()

    def states(self) -> set[Path]:
        return set((self.bench.root / ".dvc/tmp/bancada/replicas").glob("*.state"))

    def wait_for(self, there: Callable[[], object]) -> None:
        until = time.monotonic() + 120
        while not there():
            assert time.monotonic() < until
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


@pytest.fixture
def start(own: Bench) -> Iterator[Callable[..., Started]]:
    began = []

    def starting(name: str, **variables: str) -> Started:
        began.append(Started(own, name, **variables))
        return began[-1]

    yield starting
    for one in began:
        for process in one.all():
            process.kill()
        one.process.communicate()


Start = Callable[..., Started]


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*unfinished*"))


@pytest.mark.parametrize("moment", ["while it trains", pytest.param("while it loads", marks=pytest.mark.long)])
def test_ctrl_c_is_answered_within_a_second_and_leaves_no_process_and_nothing_half_written(
    own: Bench, start: Start, moment: str
) -> None:
    own.write(["residual"], num_seeds=3, epochs=ENDLESS)
    stage = start("residual", BANCADA_CORES="2")
    stage.wait_for(lambda: len(stage.states()) == 2 if moment == "while it trains" else len(stage.all()) > 1)
    began = time.monotonic()
    os.killpg(stage.process.pid, signal.SIGINT)
    stage.process.wait()
    assert time.monotonic() - began < 1
    status, _, err = stage.end()
    assert (status, err) == (130, "interrupted; what was finished is kept\n")
    assert stage.none_left(5)
    assert not (own.root / "data/models").exists()
    assert unfinished(own.root / "data") == []
    assert own_folders(own) == []


def own_folders(own: Bench) -> list[str]:
    """Those that a stage has for its rows and its copy of the user's files."""
    return sorted(path.name for path in (own.root / ".dvc/tmp/bancada").glob("*@*") if path.is_dir())


@pytest.mark.long
def test_a_file_that_is_edited_while_seeds_train_is_used_by_none_of_them(own: Bench, start: Start) -> None:
    own.write(["residual"], num_seeds=3, epochs=100)
    own.train("residual", BANCADA_REPLICAS="off")
    whole = own.model("residual")
    stage = start("residual", BANCADA_CORES="1")
    stage.wait_for(lambda: len(stage.states()) == 1)
    (own.root / "src/models/blocks.py").write_text("raise ValueError('edited')\n")
    assert stage.end()[0] == 0
    assert own.model("residual") == whole


def test_where_the_stage_is_killed_no_process_of_it_is_left(own: Bench, start: Start) -> None:
    own.write(["residual"], num_seeds=4, epochs=ENDLESS)
    stage = start("residual", BANCADA_CORES="4")
    stage.wait_for(lambda: len(stage.states()) == 4)
    stage.process.kill()
    stage.process.wait()
    assert stage.none_left(10)
    left = own_folders(own)
    assert left == ["code@residual", "rows@residual"]
    again = start("residual")
    again.wait_for(lambda: len(again.all()) > 4 and own_folders(own) == left)
    os.killpg(again.process.pid, signal.SIGINT)
    again.end()
    assert own_folders(own) == []


@pytest.mark.long
def test_where_the_process_of_a_seed_is_killed_the_others_finish_and_it_is_named(own: Bench, start: Start) -> None:
    own.write(["residual"], num_seeds=4, epochs=120)
    stage = start("residual", BANCADA_CORES="4")
    stage.wait_for(lambda: len(stage.states()) == 4)
    worker = max(stage.workers(), key=lambda one: one.pid)  # begun last, unless numbers began again
    worker.kill()
    status, _, err = stage.end()
    assert status == 1
    assert err == f"seed {SEED + 3}: its process ended with signal SIGKILL\n"
    assert own.entries() - {".unfinished"} == {".trained", ".state"}  # a kill while a state is written
    assert len(list((own.root / ".dvc/tmp/bancada/replicas").glob("*.trained"))) == 3
    out = own.train("residual")
    assert "residual: 3 of 4 seeds from the store\n" in out
    assert f"seed {SEED + 3} goes on after epoch " in out
    assert own.entries() == {".done"}  # of a stage that has ended


def test_an_error_in_a_later_epoch_is_told_in_one_line_with_its_seed_and_place(own: Bench) -> None:
    own.write(["residual"], num_seeds=3)
    path = own.root / "src/models/residual.py"
    late = (
        "        UPDATES.append(self.training)\n        if sum(UPDATES) == 7:\n            raise ValueError('late')\n"
    )
    path.write_text(
        path.read_text().replace("        return self.layers", late + "        return self.layers") + "UPDATES = []\n"
    )
    line = path.read_text().splitlines().index("            raise ValueError('late')") + 1
    status, _, err = Started(own, "residual").end()
    assert status == 2
    assert err == (
        f"variants.residual: seed {SEED}, epoch 2: src/models/residual.py:{line}: in ResidualMLP.forward:"
        " ValueError: late (3 of 3 seeds failed)\n"
    )
    assert not (own.root / "data/models").exists()


def test_replicas_have_the_same_bytes_whatever_threads_the_process_has_used_that_starts_them() -> None:
    torch.set_num_threads(2)
    torch.rand(300, 300) @ torch.rand(300, 300)
    assert importlib.util.find_spec(processes.PRELOADED)  # the server passes over what it cannot import
    rows, seeds = data_of("lstm"), range(4)
    found = all_trained(processes, [Replica(replica_of("lstm").recipe, seed) for seed in seeds], rows)
    wanted = [torch_engine.train(replica_of("lstm", seed), rows, nobody) for seed in seeds]
    assert [differences(*pair) for pair in zip(found, wanted, strict=True)] == [[]] * 4


def test_a_full_disk_ends_the_stage_with_the_path_and_the_state_before_stays(
    own: Bench, tmp_path: Path, mounted: Callable[..., Mounted]
) -> None:
    """There is room for the first states; they grow with the history."""
    own.write(["cnn"], num_seeds=1, epochs=ENDLESS)
    filled = mounted(FILL, own.root / ".dvc", shutil.copytree(own.root / ".dvc", tmp_path / "kept"), 160_000)
    done = subprocess.run(
        [*filled.command, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(own.root), *own.command("cnn")],
        env=own.environment(BANCADA_CHECKPOINT_S="0.1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    folder = filled.path(own.root / ".dvc") / "tmp/bancada/replicas"
    [state] = folder.iterdir()
    assert (done.returncode, done.stderr) == (1, f".dvc/tmp/bancada/replicas/{state.name}: No space left on device\n")
    found = checkpoint.read(state)
    assert found["at"].epoch > 1
    assert len(found["at"].history) == found["at"].epoch
