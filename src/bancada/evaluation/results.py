"""What the plots of a study show, and in words why a seed has nothing to show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from bancada.base.tables import Table
from bancada.evaluation.candidates import Candidate
from bancada.evaluation.leaderboard import Row
from bancada.evaluation.trials import Searched
from bancada.evaluation.words import over_replicas


@dataclass(frozen=True)
class Results:
    """What the plots of a study show. `board` and `candidates` are in the order of the leaderboard."""

    study: str
    board: Sequence[Row]
    candidates: Sequence[Candidate]
    region: list[list[float]] | None  # [[x low, x high], [y low, y high]] for the decision regions
    of_first: bool = False  # of seeds that each have data of their own, only the first is shown
    searches: Sequence[Searched] = ()  # of the variants that searched

    @property
    def over(self) -> str:
        """What the replicas differ in, in words, such as "10 seeds on one data set"."""
        seeds = len(self.candidates[0].trained.seeds)
        return "the first seed and its data alone" if self.of_first else over_replicas(seeds, self.board[0]["over"])

    def first(self) -> "Results":
        """Return the results of the first seed, where each has data of its own: rows of one data set can be drawn."""
        if not self.candidates[0].draws:
            return self
        return replace(self, candidates=[candidate.alone(0) for candidate in self.candidates], of_first=True)

    @property
    def split(self) -> str:
        """The main split."""
        return self.candidates[0].main_split

    @property
    def rows(self) -> Table:
        """The rows of the main split."""
        return self.candidates[0].parts[self.split]

    @property
    def train(self) -> Table:
        """The training rows."""
        return self.candidates[0].parts["train"]


def missing(candidate: Candidate, metric: str) -> list[str]:
    """Return why seeds have no value of the metric, such as ["2 of 10 diverged"]."""
    return [f"{count} {why}" for why, count in candidate.entry(metric).missing().items()]


def write_why_empty(ax: Axes, candidate: Candidate, metric: str) -> None:
    """Write into an empty panel why no seed has a value of the metric."""
    ax.text(0.5, 0.5, "\n".join(missing(candidate, metric)), ha="center", va="center", transform=ax.transAxes)
