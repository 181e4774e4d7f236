"""Stage train@VARIANT: one network per seed, from the split's training rows to data/models/STUDY/VARIANT."""

import sys

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from bancada.base import files, stage, tables
from bancada.base.notify import recorded
from bancada.base.params_file import ParamsFile
from bancada.base.refusals import BadInput
from bancada.base.tables import Table
from bancada.networks.encoding import SCALING, encoding, scaled
from bancada.networks.saved import TrainingResult, description, save
from bancada.networks.start import start
from bancada.training import engine, live, scratch
from bancada.training.fit import refuse_misfit_of_rows
from bancada.training.settings import Recipe, training_keys

PLAIN_LINES = 5  # of progress where there is no terminal


def main(params: ParamsFile, variant: str) -> None:
    """Train the variant from every seed and write its folder."""
    keys = training_keys(params, variant)
    recipe = keys.recipe()
    rows, validation = (tables.read(files.split(recipe.study) / f"{part}.parquet") for part in files.PARTS[:2])
    check_device(recipe.device)
    refuse_misfit_of_rows(keys, rows)
    for sentence in keys.overrides():
        print(f"{variant}: {sentence}")
    scaling = input_scaling(rows) if recipe.train.standardize else {}
    learned, held_out = (encoded(recipe, part, scaling) for part in (rows, validation))
    described = description(recipe.model_dump(mode="json", exclude_none=True), rows)
    folder = files.model(recipe.study, variant)
    with recorded(f"train@{variant}", folder):
        with Bar(variant, recipe.train.epochs) as bar, live.shown(described) as show:

            def progress(history: engine.History) -> None:
                bar(history)
                show(history)

            result = train(recipe, learned, held_out, progress)
        save(folder, described, result, scaling)
    for place, epoch in result.diverged.items():
        print(f"{variant}: seed {recipe.seeds[place]} diverged in epoch {epoch + 1}")


def check_device(device: str) -> None:
    """BadInput where torch does not find the device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: there is no GPU that this torch can use; cpu works everywhere")


def input_scaling(rows: Table) -> dict[str, np.ndarray]:
    """Mean and standard deviation of each feature over the training rows; 1 for a feature that does not vary."""
    varies = np.ptp(rows.features, axis=0) > 0  # rounded, the sd of a constant 0.1 is 4e-17
    values = (rows.features.mean(axis=0), np.where(varies, rows.features.std(axis=0), 1.0))
    return dict(zip(SCALING, values, strict=True))


def encoded(recipe: Recipe, rows: Table, scaling: dict[str, np.ndarray]) -> engine.EncodedRows:
    targets = encoding(recipe.layers, recipe.train.loss, len(rows.classes)).encode(rows.targets)
    return engine.EncodedRows(torch.from_numpy(scaled(rows.features, scaling)), torch.from_numpy(targets))


def train(
    recipe: Recipe, rows: engine.EncodedRows, validation: engine.EncodedRows, progress: engine.Progress
) -> TrainingResult:
    """From each seed's own streams: one for its start, one for its order of batches, one for its dropout."""
    starts, orders, dropouts = ([stream(seed, purpose) for seed in recipe.seeds] for purpose in range(3))
    order = shuffles(recipe, len(rows), orders)
    begin = [start(recipe.layers, len(rows.features), recipe.train.init, generator) for generator in starts]
    if recipe.scratch:
        return scratch.train_lines(recipe.train, rows, validation, begin, order, progress)
    return engine.train_stack(
        recipe.layers, recipe.train, rows, validation, begin, order, dropouts, recipe.device, progress
    )


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


class Bar:
    """Progress: a bar on a terminal (epoch, loss, time left), a few plain lines elsewhere."""

    def __init__(self, variant: str, epochs: int) -> None:
        self.variant, self.epochs = variant, epochs
        self.bar = tqdm(total=epochs, desc=variant, unit="epoch", disable=not sys.stderr.isatty(), mininterval=0.2)

    def __enter__(self) -> "Bar":
        return self

    def __call__(self, history: engine.History) -> None:
        epochs, loss = history.epochs, history.mean_loss()
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update(epochs - self.bar.n)
        elif epochs * PLAIN_LINES // self.epochs > (epochs - 1) * PLAIN_LINES // self.epochs:
            print(f"{self.variant}: epoch {epochs} of {self.epochs}, loss {loss:.6g}", flush=True)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


if __name__ == "__main__":
    stage.run(main, of="variants")
