"""The stage train@X of the torch engine, killed at random moments, edited, and forced: it goes on, or begins anew."""

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import clones
import pytest
from examples import EXAMPLES, MODELS, ROOT, SEED, Bench
from once import once

from bancada.base import user_code
from bancada.pipeline import code
from bancada.pipeline.params import load

DRAW = int(os.environ.get("KILL_SEED") or time.time_ns())  # each run tries other moments; a test prints its own
EPOCHS = 100
REPLICAS = ".dvc/tmp/bancada/replicas"


@pytest.fixture(autouse=True)
def _in_the_bench(own: Bench) -> Iterator[None]:
    yield
    user_code.forget()


def kill(own: Bench, name: str, after_s: float, everything: bool) -> bool:
    """Return whether the stage was killed, that long after it had kept a state or a replica; else it ended."""
    folder = own.root / REPLICAS
    began = time.time()
    process = own.start(name, BANCADA_CHECKPOINT_S="0.2")
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if any(path.stat().st_mtime > began for path in folder.glob("[!.]*")):
            break
        time.sleep(0.01)
    time.sleep(after_s)
    killed = process.poll() is None
    if killed and everything:
        os.killpg(process.pid, signal.SIGKILL)
    elif killed:
        process.kill()
    process.communicate(timeout=60)
    return killed


def resumed_after(out: str) -> dict[int, int]:
    """The epoch after which each seed went on."""
    return {int(seed): int(epoch) for seed, epoch in re.findall(r"^seed (\d+) goes on after epoch (\d+)$", out, re.M)}


@pytest.mark.long
@pytest.mark.parametrize("name", EXAMPLES)
def test_killed_at_ten_random_moments_it_ends_in_the_bytes_of_an_undisturbed_run(name: str, own: Bench) -> None:
    own.write([name], num_seeds=3, epochs=EPOCHS, early_stopping={"patience": EPOCHS})
    own.train(name, BANCADA_REPLICAS="off")
    whole = own.model(name)
    shutil.rmtree(own.root / "data/models")
    draw, kills = random.Random(f"{DRAW} {name}"), 0
    while kills < 10:
        if not kill(own, name, draw.uniform(0, 0.5), everything=kills % 2 == 0):
            shutil.rmtree(own.root / REPLICAS)  # it was through: once more from the beginning
            shutil.rmtree(own.root / "data/models")
        kills += 1
        assert not list(own.root.glob(f"data/models/*/{name}")) or own.model(name) == whole
    print(f"KILL_SEED={DRAW}: {name} killed {kills} times")
    while not kill(own, name, 0.05, everything=True):  # so that there is something to go on with
        shutil.rmtree(own.root / REPLICAS)
    shutil.rmtree(own.root / "data/models", ignore_errors=True)  # it may not be there
    finished = len(list((own.root / REPLICAS).glob("*.trained")))
    out = own.train(name, BANCADA_CHECKPOINT_S="0.2")
    assert own.model(name) == whole
    trained_again = sum(EPOCHS - epoch for epoch in resumed_after(out).values())
    trained_again += (3 - finished - len(resumed_after(out))) * EPOCHS
    print(out, trained_again)
    assert trained_again < 3 * EPOCHS
    assert [path for path in (own.root / REPLICAS).iterdir() if path.suffix != ".done"] == []


@pytest.mark.long
def test_killed_once_it_goes_on_and_trains_fewer_than_all_epochs(own: Bench) -> None:
    epochs = 10 * EPOCHS  # seconds, also on a fast machine
    own.write(["residual"], num_seeds=1, epochs=epochs)
    own.train("residual", BANCADA_REPLICAS="off")
    whole = own.model("residual")
    shutil.rmtree(own.root / "data/models")
    assert kill(own, "residual", 0.1, everything=True)
    out = own.train("residual")
    assert own.model("residual") == whole
    assert 0 < resumed_after(out)[SEED] < epochs


# --- with the code stage, and with dvc.lock -------------------------------------------------------------------------


STUDY = """\
seed: 111
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  wine:
    source: {kind: sklearn, name: wine}
    split: {train: 0.6, validation: 0.2, test: 0.2, seed: 1}
    metric: error_rate_percent
    baseline: wine_own
    train: {loss: CrossEntropyLoss, optimizer: AdamW, lr: 0.01, batch_size: 32, epochs: 4, standardize: true}
variants:
  wine_own:
    study: wine
    module: {file: src/models/residual.py, name: ResidualMLP, args: {features: 13, width: 8, outputs: 3}}
"""
TRAIN = "train@wine_own"
MODEL = "data/models/wine/wine_own"
FROM_THE_STORE = "wine_own: {} of {} seeds from the store\n"


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one variant is a network of the user's own, with all results."""

    def make(folder: Path) -> None:
        root = clones.clone_to(folder / "a clone")
        shutil.rmtree(root / "src/models", ignore_errors=True)  # it may not be there
        shutil.copytree(MODELS, root / "src/models", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "params.yaml").write_text(STUDY)
        clones.succeeds(root, "dvc", "repro", "-q", TRAIN, BANCADA_TRACKING="off")

    return once(tmp_path_factory, "wine", make) / "a clone"


def repro(root: Path, *options: str, **variables: str) -> str:
    return clones.succeeds(root, "dvc", "repro", *options, TRAIN, BANCADA_TRACKING="off", **variables)


def of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / MODEL).iterdir()}


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.long
def test_what_dvc_asks_for_anew_takes_from_the_store_what_is_the_same_and_nothing_else(
    wine: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(wine, tmp_path / "a clone", symlinks=True)
    first = of(root)
    edit(root / "params.yaml", "num_seeds: 2", "num_seeds: 3")
    assert FROM_THE_STORE.format(2, 3) in repro(root)
    edit(root / "src/models/blocks.py", "nn.GELU()", "nn.Tanh()")
    assert "from the store" not in repro(root, "--no-run-cache")
    other = of(root)
    edit(root / "src/models/blocks.py", "nn.Tanh()", "nn.GELU()")
    assert FROM_THE_STORE.format(3, 3) in repro(root, "--no-run-cache")
    edit(root / "params.yaml", "num_seeds: 3", "num_seeds: 2")
    assert FROM_THE_STORE.format(2, 2) in repro(root, "--no-run-cache")
    assert of(root) == first != other
    edit(root / "params.yaml", "lr: 0.01", "lr: 0.02")
    assert "from the store" not in repro(root, "--no-run-cache")


@pytest.mark.long
def test_forcing_a_stage_trains_anew_and_takes_only_what_a_killed_one_left(wine: Path, tmp_path: Path) -> None:
    root = shutil.copytree(wine, tmp_path / "a clone", symlinks=True)
    first, store = of(root), root / REPLICAS
    assert {path.suffix for path in store.iterdir()} == {".done"}
    assert "from the store" not in repro(root, "--force", "--single-item")
    assert of(root) == first
    shutil.rmtree(root / MODEL)
    shutil.rmtree(root / ".dvc/cache")  # an out that was lost
    assert "from the store" not in repro(root, "--single-item")
    left = sorted(store.iterdir())[0]
    left.rename(left.with_suffix(".trained"))  # as a stage leaves it that was killed later
    assert FROM_THE_STORE.format(1, 2) in repro(root, "--force", "--single-item")
    assert of(root) == first
    assert "from the store" not in repro(root, "--force", "--single-item", BANCADA_REPLICAS="off")


@pytest.mark.long
def test_the_code_stage_tells_a_helper_that_was_edited(own: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of a network names its helpers, so the store looks for another name."""
    shutil.copytree(ROOT / "src/bancada", own.root / "src/bancada", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", ".dvcignore"):
        shutil.copy(ROOT / name, own.root / name)
    (own.root / "params.yaml").write_text(STUDY)
    before = code.contents(load(), Path())["train/wine_own.json"]
    edit(own.root / "src/models/blocks.py", "nn.GELU()", "nn.Tanh()")
    assert code.contents(load(), Path())["train/wine_own.json"] != before
