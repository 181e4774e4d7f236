"""A perceptron with sines: an example of a network of one's own. Any torch.nn.Module will do."""

from torch import Tensor, nn


class SineMLP(nn.Module):
    """Two hidden layers of `width` units; `features` inputs and `classes` outputs."""

    def __init__(self, width: int, features: int = 2, classes: int = 2) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the outputs [row, class] for inputs [row, feature]."""
        output: Tensor = self.last(self.second(self.first(rows).sin()).sin())
        return output
