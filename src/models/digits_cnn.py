"""A small convolutional network for pictures of one digit, [row, channel, 8, 8]."""

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Two convolutions with batch norm, each followed by max pooling, then dropout and one linear layer.

    `channels`: of the first convolution; the second has twice as many.
    """

    def __init__(self, channels: int = 8, classes: int = 10, dropout: float = 0.25) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            self.block(1, channels),  # [row, channels, 4, 4]
            self.block(channels, 2 * channels),  # [row, 2 * channels, 2, 2]
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8 * channels, classes),
        )

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        """Return a convolution with batch norm that halves height and width."""
        convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one output for each class, [row, class]."""
        outputs: Tensor = self.layers(pictures)
        return outputs
