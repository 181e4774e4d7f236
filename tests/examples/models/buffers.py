"""A network with buffers of its own: a mask drawn at the start, a count, and a mean that moves while it learns.

It draws from all generators that there are: torch's, numpy's and Python's.
"""

import random

import numpy as np
import torch
from torch import Tensor, nn


class Buffers(nn.Module):
    def __init__(self, features: int, width: int = 12, outputs: int = 4) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(features, width), nn.Linear(width, outputs)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("mask", torch.rand(width) > 0.3)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.flatten(1)
        if self.training:
            self.batches += 1
            self.mean += (rows.mean(0) - self.mean) / self.batches
            rows = rows + 0.01 * random.random() + 0.01 * float(np.random.rand()) * torch.randn_like(rows)
        return self.head(self.dropout(torch.tanh(self.hidden(rows - self.mean)) * self.mask))
