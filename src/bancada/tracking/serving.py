"""A trained network as `mlflow.pyfunc` loads it: raw features in, predictions out.

models.py puts this file into every MLflow model as it is, beside network.json and weights.safetensors. So it needs
mlflow, torch, pandas and safetensors, and nothing else of bancada.

MLflow itself refuses missing columns and words before it calls this. It turns null into NaN, which is refused here.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from torch import Tensor, nn

MOST_NAMED = 5  # cells or rows in a message
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class ServedModel:
    """One seed's network, which takes raw features and answers with numbers or the names of classes."""

    def __init__(self, network: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.features, self.targets = network["feature_names"], network["target_names"]
        self.classes = network["classes"]
        self.threshold = network["threshold"]
        plain = torch.zeros(len(self.features), dtype=torch.float64)
        self.mean, self.std = weights.pop("input_mean", plain), weights.pop("input_std", plain + 1)
        self.layers = nn.Sequential(*[_module(layer, weights, i) for i, layer in enumerate(network["layers"])])
        self.layers.load_state_dict(weights)
        self.layers.eval().double()

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a column for each target, of numbers or of names of classes. `rows` holds raw features by name.

        Raise MlflowException, which a server answers with status 400, if a number is missing or is not finite.
        """
        features = torch.tensor(rows[self.features].to_numpy("float64"))
        scaled = ((features - self.mean) / self.std).float()  # as the network was trained
        wrong = (~(features.float().isfinite() & scaled.isfinite())).nonzero().tolist()
        cells = [f"row {i + 1}, column '{self.features[j]}' = {features[i, j]:g}" for i, j in wrong[:MOST_NAMED]]
        refuse(cells, len(wrong), "must be a finite number that float32 can hold, also once it is standardized")
        outputs, finite = scaled.double(), torch.ones(len(rows), dtype=torch.bool)
        with torch.no_grad():
            for layer in self.layers:
                outputs = layer(outputs)
                finite &= outputs.isfinite().all(1)  # after each, because tanh makes an infinity finite again
        lost = (~finite).nonzero().flatten().tolist()
        refuse([f"row {i + 1}" for i in lost[:MOST_NAMED]], len(lost), "the network gives no finite output")
        if not self.classes:
            return pd.DataFrame(outputs.numpy(), columns=self.targets, index=rows.index)
        chosen = outputs.argmax(1) if self.threshold is None else (outputs[:, 0] > self.threshold).long()
        return pd.DataFrame({self.targets[0]: [self.classes[i] for i in chosen.tolist()]}, index=rows.index)


def refuse(places: list[str], count: int, problem: str) -> None:
    """Raise MlflowException that names the places and the number of all of them, if there are any."""
    if count:
        more = f" and {count - len(places)} more" if count > len(places) else ""
        raise MlflowException.invalid_parameter_value(f"{'; '.join(places)}{more}: {problem}")


def _module(layer: dict[str, Any], weights: dict[str, Tensor], i: int) -> nn.Module:
    """Return a layer in evaluation mode, of the size that its weights have."""
    if layer["kind"] == "linear":
        units, inputs = weights[f"{i}.weight"].shape
        return nn.Linear(inputs, units, bias=f"{i}.bias" in weights)
    if layer["kind"] == "batch_norm":
        weights[f"{i}.num_batches_tracked"] = torch.tensor(0)  # not stored, because predictions do not use it
        return nn.BatchNorm1d(len(weights[f"{i}.weight"]))
    if layer["kind"] == "softmax":
        return nn.Softmax(dim=1)
    return nn.Identity() if layer["kind"] == "dropout" else ACTIVATIONS[layer["kind"]]()


def _load_pyfunc(folder: str) -> ServedModel:
    """Load the model; mlflow calls this."""
    network = json.loads(Path(folder, "network.json").read_text())
    return ServedModel(network, load_file(Path(folder, "weights.safetensors")))
