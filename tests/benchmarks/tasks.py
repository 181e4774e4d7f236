"""What the benchmarks train: the lessons' variants with their studies' rows, and a file of each for ways.py.

Run as a program, this trains lesson 3's base network for as many epochs as its argument says, on the compiled engine,
and prints the most memory that it held, in MiB (Linux).
"""

import sys
from pathlib import Path
from typing import NamedTuple

from bancada.data.split import divide
from bancada.networks import kernel
from bancada.pipeline.params import load
from bancada.training import compiled_engine, fit
from bancada.training.replica import Data
from bancada.training.settings import Recipe
from bancada.training.train import prepared

ROOT = Path(__file__).parents[2]
PARAMS = load(ROOT / "params.yaml")
NO_LESSONS = {"moons_redrawn", "moons_tuned", "digits"}  # studies that no notebook has
LESSONS = [name for name, variant in PARAMS.variants.items() if variant.study not in NO_LESSONS]


class Task(NamedTuple):
    """A recipe and its data, and both as the compiled engine takes them."""

    recipe: Recipe
    data: Data
    compiled: compiled_engine.Task

    @classmethod
    def of(cls, recipe: Recipe, data: Data) -> "Task":
        return cls(recipe, data, compiled_engine.Task.of(recipe, data))

    def updates(self) -> int:
        """Those of an epoch."""
        rows = len(self.compiled.rows.inputs)
        return -(-rows // (self.compiled.settings.batch or rows))

    def train(self, epochs: int, seed: int = 1) -> None:
        """By the kernel, from the start, with validation rows as in a stage."""
        network, settings = self.compiled.network, self.compiled.settings._replace(epochs=epochs)
        place = kernel.start(network, self.recipe.train.init, seed, settings)
        kernel.train(network, settings, seed, self.compiled.rows, self.compiled.validation, place, epochs)

    def write(self, folder: Path) -> Path:
        """Write the file that ways.py takes. Return its path."""
        import torch  # for a second

        from bancada.networks.start import sequential

        rows, train = self.compiled.rows, self.recipe.train
        path = folder / f"{self.recipe.variant}-{len(rows.inputs)}.pt"
        task = {
            "model": sequential(self.recipe.network.small_layers, [rows.inputs.shape[1]]),
            "inputs": torch.from_numpy(rows.inputs),
            "targets": torch.from_numpy(rows.targets),
            "loss": train.loss,
            "optimizer": train.optimizer.name,
            "lr": train.lr,
            "schedule": train.schedule.model_dump(),
            "batch": self.compiled.settings.batch,
            "recipe": self.recipe.model_dump(mode="json", exclude_unset=True, exclude={"engine"}),
            "data": [(part.inputs, part.targets) for part in (self.data.train, self.data.validation)],
            "classes": self.data.classes,
        }
        torch.save(task, path)
        return path


def lesson(variant: str, rows: int | None = None) -> Task:
    """A variant of the lessons, with `engine: compiled`; with `rows`, as many training rows of half-moons."""
    recipe = PARAMS.recipe(variant).model_copy(update={"engine": "compiled", "scratch": False})
    source, split = PARAMS.source(recipe.study), PARAMS.studies[recipe.study].split
    if rows:
        source = source.model_copy(update={"rows": rows + 200})
        split = split.model_copy(update={"train": rows, "validation": 100, "test": 100})
    made = divide(source.table(f"studies.{recipe.study}.source"), split)
    preparation = fit.preparation(PARAMS.training(variant), made["train"])
    learn, watch = (prepared(Path(), made[part], preparation) for part in ("train", "validation"))
    return Task.of(recipe, Data(learn, watch, len(made["train"].classes)))


if __name__ == "__main__":
    lesson("moons_tanh").train(int(sys.argv[1]))
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage counts what was here before exec, too
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024)
