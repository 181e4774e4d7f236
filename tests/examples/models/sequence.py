"""A sequence [row, step, feature] -> one number, with an LSTM or with attention."""

from torch import Tensor, nn


class SequenceLSTM(nn.Module):
    def __init__(self, features: int = 2, hidden: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, steps: Tensor) -> Tensor:
        states, _ = self.lstm(steps)
        return self.head(states[:, -1])


class SequenceAttention(nn.Module):
    def __init__(self, features: int = 2, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.encoder = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(width, 1)

    def forward(self, steps: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(steps)).mean(1))
