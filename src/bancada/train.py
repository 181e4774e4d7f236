"""Stage train@VARIANT: one network per seed, from the split's training rows to data/models/STUDY/VARIANT."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from bancada import engine, files, scratch, tables
from bancada.config import overrides, recipe
from bancada.encoding import SCALING, check_data, encoding, scaled
from bancada.network import start
from bancada.recording import recorded
from bancada.refusals import BadInput
from bancada.saving import save, versions
from bancada.schema import Params, Recipe
from bancada.stage import run
from bancada.tables import Table

PLAIN_LINES = 5  # of progress where there is no terminal


def main(params: Params, variant: str) -> None:
    wanted = recipe(params, variant)
    rows, validation = (tables.read(files.split(wanted.study) / f"{part}.parquet") for part in files.PARTS[:2])
    check_device(wanted.device)
    check_data(params, wanted, rows)
    for sentence in overrides(params, variant):
        print(f"{variant}: {sentence}")
    scaling = input_scaling(rows) if wanted.train.standardize else {}
    learned, held_out = (as_engine_takes(wanted, part, scaling) for part in (rows, validation))
    with recorded("train", variant):
        with Bar(variant, wanted.train.epochs) as progress:
            training = train(wanted, learned, held_out, progress)
        save(files.model(wanted.study, variant), wanted, training, rows, scaling, fingerprint(wanted))
    for place, epoch in training.diverged.items():
        print(f"{variant}: seed {wanted.seeds[place]} diverged in epoch {epoch + 1}")


def check_device(device: str) -> None:
    """BadInput where torch does not find the device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: there is no GPU that this torch can use; cpu works everywhere")


def input_scaling(rows: Table) -> dict[str, np.ndarray]:
    """Mean and standard deviation of each feature over the training rows; 1 for a feature that does not vary."""
    varies = np.ptp(rows.features, axis=0) > 0  # rounded, the sd of a constant 0.1 is 4e-17
    values = (rows.features.mean(axis=0), np.where(varies, rows.features.std(axis=0), 1.0))
    return dict(zip(SCALING, values, strict=True))


def as_engine_takes(recipe: Recipe, rows: Table, scaling: dict[str, np.ndarray]) -> engine.Rows:
    targets = encoding(recipe.layers, recipe.train.loss, len(rows.classes)).encode(rows.targets)
    return engine.Rows(torch.from_numpy(scaled(rows.features, scaling)), torch.from_numpy(targets))


def train(recipe: Recipe, rows: engine.Rows, validation: engine.Rows, progress: engine.Progress) -> engine.Training:
    """From each seed's own streams: one for its start, one for its order of batches, one for its dropout."""
    starts, orders, dropouts = ([stream(seed, purpose) for seed in recipe.seeds] for purpose in range(3))
    order = shuffles(recipe, len(rows), orders)
    begin = [start(recipe.layers, len(rows.features), recipe.train.init, generator) for generator in starts]
    if recipe.scratch:
        return scratch.train(recipe.train, rows, validation, begin, order, progress)
    return engine.train(recipe.layers, recipe.train, rows, validation, begin, order, dropouts, recipe.device, progress)


def stream(seed: int, purpose: int) -> torch.Generator:
    """A generator of its own for each seed and purpose, so that variants which start or drop out differently still see
    the same batches."""
    drawn = np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


def shuffles(recipe: Recipe, rows: int, generators: list[torch.Generator]) -> engine.Order:
    """Every epoch anew, or (batch_order: fixed) once; full batches keep the order of the rows."""

    def drawn() -> Int64[Tensor, "seed row"]:
        return torch.stack([torch.randperm(rows, generator=generator) for generator in generators])

    if recipe.train.batch_size == "full":
        once = torch.arange(rows).expand(len(generators), -1)
    elif recipe.train.batch_order == "fixed":
        once = drawn()
    else:
        return lambda epoch: drawn()
    return lambda epoch: once


def fingerprint(recipe: Recipe) -> str:
    """A hash of all that the result follows from: what was asked, the split, the code that trains, and the versions."""
    digest = hashlib.sha256(json.dumps([recipe.model_dump(mode="json"), versions()], sort_keys=True).encode())
    split = sorted(files.split(recipe.study).glob("*.parquet"))
    for path in [*split, *code_that_trains()]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def code_that_trains() -> list[Path]:
    """The modules of bancada that this process has loaded: what main imports, and nothing else."""
    loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "bancada"]
    return sorted({Path(path) for path in [*loaded, __file__] if path})


class Bar:
    """Progress: a bar on a terminal (epoch, loss, time left), a few plain lines elsewhere."""

    def __init__(self, variant: str, epochs: int) -> None:
        self.variant, self.epochs = variant, epochs
        self.bar = tqdm(total=epochs, desc=variant, unit="epoch", disable=not sys.stderr.isatty(), mininterval=0.2)

    def __enter__(self) -> "Bar":
        return self

    def __call__(self, epochs: int, loss: float) -> None:
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update(epochs - self.bar.n)
        elif epochs * PLAIN_LINES // self.epochs > (epochs - 1) * PLAIN_LINES // self.epochs:
            print(f"{self.variant}: epoch {epochs} of {self.epochs}, loss {loss:.6g}", flush=True)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


if __name__ == "__main__":
    run(main, of="variants")
