"""Stage train@VARIANT: data/split/STUDY -> data/models/STUDY/VARIANT, one trained network for each seed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from bancada.base import BadInput, files, notify, params_file, stage, tables
from bancada.networks.encoding import encoding, input_scaling, scaled
from bancada.networks.saved import LR_NULL, TrainingResult, description, save
from bancada.networks.start import start
from bancada.training import engine, fit, live, scratch
from bancada.training.settings import Recipe, training_keys

PLAIN_LINES = 5  # lines of progress if there is no terminal


def main(params: params_file.ParamsFile, variant: str) -> None:
    """Train the variant with every seed and write its folder. Raise BadInput if it does not fit the data."""
    keys = training_keys(params, variant)
    recipe = keys.recipe()
    paths = [files.split(recipe.study) / f"{part}.parquet" for part in files.PARTS[:2]]
    rows, validation = map(tables.read, paths)
    check_device(recipe.device)
    fit.refuse_misfit_of_rows(keys, rows)
    for sentence in keys.overrides():
        print(f"{variant}: {sentence}")
    if overruled := keys.overruled():
        print(f"{variant}: {overruled}; {LR_NULL}", file=sys.stderr)
    scaling = input_scaling(rows.features, recipe.train.standardize)
    learned, held_out = (encoded(recipe, part, scaling) for part in (rows, validation))
    for path, part, numbers in zip(paths, (rows, validation), (learned, held_out), strict=True):
        fit.refuse_too_large(path, part, torch.cat([numbers.features, numbers.targets]).numpy())
    described = description(recipe.model_dump(mode="json", exclude_none=True), rows, keys.overruled())
    folder = files.model(recipe.study, variant)
    with notify.recorded(f"train@{variant}", folder):
        with progress_shown(variant, recipe.train.epochs) as print_progress, live.shown(described) as write_progress:

            def progress(history: engine.History) -> None:
                print_progress(history)
                write_progress(history)

            result = train(recipe, learned, held_out, progress)
        save(folder, described, result, scaling)
    for i, epoch in result.diverged.items():
        print(f"{variant}: seed {recipe.seeds[i]} diverged in epoch {epoch + 1}")


def check_device(device: str) -> None:
    """Raise BadInput if torch cannot use the device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: device = cuda: torch finds no GPU that it can use; cpu works everywhere")


def encoded(recipe: Recipe, rows: tables.Table, scaling: dict[str, np.ndarray]) -> engine.EncodedRows:
    """Return the rows as inputs and encoded targets of the variant's network."""
    targets = encoding(recipe.layers, recipe.train.loss, len(rows.classes)).encode(rows.targets)
    return engine.EncodedRows(torch.from_numpy(scaled(rows.features, scaling)), torch.from_numpy(targets))


def train(
    recipe: Recipe, rows: engine.EncodedRows, validation: engine.EncodedRows, progress: engine.Progress
) -> TrainingResult:
    """Train the variant. Each seed has three generators of its own: for its start, its batches and its dropout."""
    starts, orders, dropouts = ([stream(seed, purpose) for seed in recipe.seeds] for purpose in range(3))
    order = shuffles(recipe, len(rows), orders)
    begin = [start(recipe.layers, len(rows.features), recipe.train.init, generator) for generator in starts]
    if recipe.scratch:
        return scratch.train_lines(recipe.train, rows, validation, begin, order, progress)
    return engine.train_stack(
        recipe.layers, recipe.train, rows, validation, begin, order, dropouts, recipe.device, progress
    )


def stream(seed: int, purpose: int) -> torch.Generator:
    """Return a generator for a seed and a purpose: 0 the start, 1 the order of the rows, 2 dropout.

    Two variants therefore see the same batches, however many numbers their starts or dropouts draw.
    """
    drawn = np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


def shuffles(recipe: Recipe, rows: int, generators: list[torch.Generator]) -> engine.Order:
    """Return the order of the rows: shuffled in every epoch or, batch_order: fixed, once; not for full batches."""

    def drawn() -> Int64[Tensor, "seed row"]:
        return torch.stack([torch.randperm(rows, generator=generator) for generator in generators])

    if recipe.train.batch_size == "full":
        once = torch.arange(rows).expand(len(generators), -1)
    elif recipe.train.batch_order == "fixed":
        once = drawn()
    else:
        return lambda epoch: drawn()
    return lambda epoch: once


@contextmanager
def progress_shown(variant: str, epochs: int) -> Iterator[engine.Progress]:
    """Yield a function to call after every epoch: it moves a bar on a terminal, elsewhere it prints a few lines."""
    with tqdm(total=epochs, desc=variant, unit="epoch", disable=not sys.stderr.isatty(), mininterval=0.2) as bar:

        def show(history: engine.History) -> None:
            done, loss = history.epochs, history.mean_loss()
            if not bar.disable:
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                bar.update(done - bar.n)
            elif done * PLAIN_LINES // epochs > (done - 1) * PLAIN_LINES // epochs:
                print(f"{variant}: epoch {done} of {epochs}, loss {loss:.6g}", flush=True)

        yield show


if __name__ == "__main__":
    stage.run(main, of="variants")
