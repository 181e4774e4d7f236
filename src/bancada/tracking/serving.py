"""A trained network as `mlflow.pyfunc` loads it: raw features in, predictions out.

models.py puts this file into every MLflow model as it is, beside network.json, weights.safetensors, the files of
networks/ that it runs and the user's files (below `src`). So it needs mlflow, torch, pandas and safetensors, and
nothing else of bancada.

MLflow itself refuses missing columns, and words where numbers belong, before it calls this.
"""

import json
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from torch import Tensor, nn

MOST_NAMED = 5  # cells or rows in a message
CHUNK_ROWS = 1024  # rows that pass through a network at once, as in evaluations
LOCK = RLock()  # a server may answer in threads, and names of modules and torch's switches belong to the process
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}
PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {  # of classes, from outputs
    "softmax": lambda outputs: outputs.softmax(1),
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "outputs": lambda outputs: outputs,
}


class ServedModel:
    """One seed's network, which takes raw features and answers with numbers or the names of classes.

    The network computes by torch in float32, with the switches of portable.py. What the torch engine trained gives the
    outputs of its evaluation; what the compiled engine trained differs from them by rounding.
    """

    def __init__(self, network: dict[str, Any], weights: dict[str, Tensor], folder: Path = Path()) -> None:
        self.features, self.targets = network["feature_names"], network["target_names"]
        self.classes, self.threshold = network["classes"], network["threshold"]
        self.shape, self.outputs = network["shape"], network["outputs"]
        self.probabilities = PROBABILITIES.get(network.get("probabilities", ""))
        prepared = runpy.run_path(str(folder / "preparation.py"))
        scalings = {*prepared["SCALING"], *prepared["TARGET_SCALING"]} & weights.keys()
        scaling = {name: weights.pop(name).numpy() for name in scalings}
        self.preparation = prepared["Preparation"].stored(network.get("preparation", []), scaling)
        self.cells, self.missing = runpy.run_path(str(folder / "cells.py")), network.get("missing", ())
        self.refused: tuple[type[ValueError], ...] = prepared["Unprepared"], self.cells["WrongCell"]
        module, self.bits = network.get("module"), network["bits"]
        self.settled = runpy.run_path(str(folder / "portable.py"))["settled"]
        self.code: AbstractContextManager[Any] = UserCode(folder / "src") if module else nullcontext()
        with LOCK, self.code, torch.random.fork_rng(devices=[]), self.settled(self.bits):
            made = _users(module) if module else _sequential(network["layers"], weights)  # weights are drawn in vain
            made.load_state_dict(weights)
            self.network: Any = made.eval()
        self.small = not module and all("kind" in layer for layer in network["layers"])

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a column for each target, of numbers or of names of classes. `rows` holds raw features by name.

        `params`: with `probabilities`, if the model's signature has it, return a column for each class instead.
        Raise MlflowException, which a server answers with status 400, for a cell that the network cannot take.
        """
        outputs = self._wide(torch.from_numpy(self._inputs(rows)))
        lost = (~outputs.isfinite().all(1)).nonzero().flatten().tolist()
        refuse([f"row {i + 1}" for i in lost[:MOST_NAMED]], len(lost), "the network gives no finite output")
        if not self.classes:
            found = self.preparation.in_own_units(outputs.numpy())
            return pd.DataFrame(found, columns=self.targets, index=rows.index)
        if self.probabilities and params and params.get("probabilities"):
            of_classes = self.probabilities(outputs)
            of_classes = torch.cat([1 - of_classes, of_classes], 1) if of_classes.shape[1] == 1 else of_classes
            return pd.DataFrame(of_classes.numpy(), columns=[str(name) for name in self.classes], index=rows.index)
        chosen = outputs.argmax(1) if self.threshold is None else (outputs[:, 0] > self.threshold).long()
        return pd.DataFrame({self.targets[0]: [self.classes[i] for i in chosen.tolist()]}, index=rows.index)

    def _inputs(self, rows: pd.DataFrame) -> np.ndarray:
        """Return what the network takes for the rows [row, input]. Raise MlflowException."""
        rows = rows.copy()
        for group in self.preparation.groups:
            for name, known in zip(group.columns if group.categories else (), group.categories or (), strict=True):
                rows[name] = [_as_sent(cell, known) for cell in rows[name]]
        try:
            of_words = self.preparation.word_columns()
            features, words = self.cells["of_frame"](rows, self.features, of_words, self.missing)
            inputs: np.ndarray = self.preparation.inputs(features, self.features, words)
        except self.refused as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        names, wrong = self.preparation.input_names(self.features), np.argwhere(~np.isfinite(inputs))
        cells = [f"row {row + 1}, column '{names[i]}'" for row, i in wrong[:MOST_NAMED]]
        refuse(cells, len(wrong), "too large for float32 once it is standardized")
        return inputs

    def _wide(self, inputs: Tensor) -> Tensor:
        """Return the outputs. A module of the user's may not take an empty batch."""
        with LOCK, self.code, self.settled(self.bits), torch.no_grad():
            rows = inputs.reshape(len(inputs), *self.shape).split(CHUNK_ROWS) if len(inputs) else ()
            return torch.cat([torch.zeros(0, self.outputs), *(self._outputs(chunk) for chunk in rows)]).double()

    def _outputs(self, h: Tensor) -> Tensor:
        """Return the outputs; NaN where a number inside layers of the small vocabulary overflows, which tanh hides."""
        if not self.small:
            outputs: Tensor = self.network(h)
            return outputs
        for layer in self.network:
            h = torch.where(h.isfinite().all(1, keepdim=True), layer(h), torch.nan)
        return h


def _as_sent(cell: Any, known: Sequence[str]) -> Any:
    """Return a cell of words as it was sent: of `inputs` and `instances`, MLflow makes texts, also of null."""
    return None if cell == "None" and cell not in known else cell


def refuse(places: list[str], count: int, problem: str) -> None:
    """Raise MlflowException that names the places and the number of all of them, if there are any."""
    if count:
        more = f" and {count - len(places)} more" if count > len(places) else ""
        raise MlflowException.invalid_parameter_value(f"{'; '.join(places)}{more}: {problem}")


def _sequential(layers: Sequence[Mapping[str, Any]], weights: dict[str, Tensor]) -> nn.Module:
    return nn.Sequential(*[_module(layer, weights, i) for i, layer in enumerate(layers)])


def _module(layer: Mapping[str, Any], weights: dict[str, Tensor], i: int) -> nn.Module:
    """Return a layer of the size that its weights have, or a class of torch.nn."""
    if "name" in layer:
        made: nn.Module = getattr(nn, layer["name"])(**layer["args"])
        return made
    if layer["kind"] == "linear":
        units, inputs = weights[f"{i}.weight"].shape
        return nn.Linear(inputs, units, bias=f"{i}.bias" in weights)
    if layer["kind"] == "batch_norm":
        weights[f"{i}.num_batches_tracked"] = torch.tensor(0)  # not always stored: predictions do not use it
        return nn.BatchNorm1d(len(weights[f"{i}.weight"]))
    if layer["kind"] == "softmax":
        return nn.Softmax(dim=1)
    return nn.Identity() if layer["kind"] == "dropout" else ACTIVATIONS[layer["kind"]]()


# --- the user's own files -------------------------------------------------------------------------------------------


def _users(module: Mapping[str, Any]) -> nn.Module:
    """Return the network of the user's file: `src/models/residual.py` is imported as `models.residual`."""
    names = Path(module["file"]).with_suffix("").parts[1:]
    made: nn.Module = getattr(import_module(".".join(names)), module["name"])(**module["args"])
    return made


class _Source(SourceFileLoader):
    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("bytecode is neither read nor written")


LOADERS = ((_Source, [".py"]), (ExtensionFileLoader, EXTENSION_SUFFIXES))
FOLDERS = ("models", "sources")  # of the user's files


class UserCode(MetaPathFinder):
    """The user's files beside the weights. In a `with` block, `models` and `sources` are imported from there alone.

    Outside of the blocks these names mean what they meant before, because another model may have other files of the
    same names. The network's own calls are in such a block too: a function may import when it is called.
    """

    def __init__(self, src: Path) -> None:
        self.src, self.own, self.hidden = src, dict[str, ModuleType](), dict[str, ModuleType]()

    def __enter__(self) -> None:
        self.hidden = _take_modules()
        sys.modules.update(self.own)
        sys.meta_path.insert(0, self)

    def __exit__(self, *error: object) -> None:
        sys.meta_path.remove(self)
        self.own = _take_modules()
        sys.modules.update(self.hidden)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of the user's; leave all others to the next finder."""
        if name.partition(".")[0] not in FOLDERS:
            return None
        spec = FileFinder(str(self.src.joinpath(*name.split(".")[:-1])), *LOADERS).find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in FOLDERS]
    return {name: sys.modules.pop(name) for name in names}


def _load_pyfunc(folder: str) -> ServedModel:
    """Load the model; mlflow calls this."""
    # MLflow has put the folder of this file before all others, for the one import that is over.
    sys.path[:] = [entry for entry in sys.path if not Path(entry, f"{__name__}.py").is_file()]
    network = json.loads(Path(folder, "network.json").read_text())
    return ServedModel(network, load_file(Path(folder, "weights.safetensors")), Path(folder))
