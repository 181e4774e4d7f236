"""A trained network as `mlflow.pyfunc` loads it: raw features in, predictions out.

packing.py puts this file into every MLflow model as it is, beside network.json and weights.safetensors. So it stands
alone: it needs torch, pandas and safetensors, and nothing else of bancada.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class ServedModel:
    """One seed's network, with the scaling of its inputs before it and the meaning of its outputs behind it."""

    def __init__(self, said: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.features, self.targets, self.classes = said["feature_names"], said["target_names"], said["classes"]
        self.threshold = said["threshold"]
        plain = torch.zeros(len(self.features), dtype=torch.float64)
        self.mean, self.std = weights.pop("input_mean", plain), weights.pop("input_std", plain + 1)
        self.layers = nn.Sequential(*[_module(layer, weights, i) for i, layer in enumerate(said["layers"])])
        self.layers.load_state_dict(weights)
        self.layers.eval().double()

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A column for each target: numbers, or the names of classes. `rows`: raw features, by their names."""
        features = torch.tensor(rows[self.features].to_numpy("float64"))
        scaled = ((features - self.mean) / self.std).float()  # as the network was trained
        with torch.no_grad():
            outputs = self.layers(scaled.double())
        if not self.classes:
            return pd.DataFrame(outputs.numpy(), columns=self.targets, index=rows.index)
        chosen = outputs.argmax(1) if self.threshold is None else (outputs[:, 0] > self.threshold).long()
        return pd.DataFrame({self.targets[0]: [self.classes[i] for i in chosen.tolist()]}, index=rows.index)


def _module(layer: dict[str, Any], weights: dict[str, Tensor], i: int) -> nn.Module:
    """In evaluation mode; the sizes are those of the weights."""
    if layer["kind"] == "linear":
        units, inputs = weights[f"{i}.weight"].shape
        return nn.Linear(inputs, units, bias=f"{i}.bias" in weights)
    if layer["kind"] == "batch_norm":
        weights[f"{i}.num_batches_tracked"] = torch.tensor(0)  # not kept, for it has no part in a prediction
        return nn.BatchNorm1d(len(weights[f"{i}.weight"]))
    if layer["kind"] == "softmax":
        return nn.Softmax(dim=1)
    return nn.Identity() if layer["kind"] == "dropout" else ACTIVATIONS[layer["kind"]]()


def _load_pyfunc(folder: str) -> ServedModel:
    """What mlflow calls."""
    said = json.loads(Path(folder, "network.json").read_text())
    return ServedModel(said, load_file(Path(folder, "weights.safetensors")))
