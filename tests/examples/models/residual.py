"""A multilayer perceptron of residual blocks, which come from the file beside this one."""

from torch import Tensor, nn

from .blocks import Residual


class ResidualMLP(nn.Module):
    def __init__(self, features: int, width: int = 16, depth: int = 2, dropout: float = 0.1, outputs: int = 4) -> None:
        super().__init__()
        blocks = [Residual(width, dropout) for _ in range(depth)]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(features, width), *blocks, nn.Linear(width, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)
