"""Images of 8 x 8: two convolutions with batch norm, dropout and a linear layer."""

from models.blocks import convolution
from torch import Tensor, nn


class CNN(nn.Module):
    def __init__(self, channels: int = 4, dropout: float = 0.25, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(1, channels), *convolution(channels, 2 * channels), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * channels * 4 * 4, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))
