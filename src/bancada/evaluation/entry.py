"""What a leaderboard is made of: the terms of the study, and an entry for each variant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from bancada.evaluation.statistics import worst
from bancada.networks.metrics import HIGHER_IS_BETTER, Values

ONE_DATA_SET, DATA_SETS, SPLITS = "seeds on one data set", "data sets and seeds", "splits of one table and seeds"


@dataclass(frozen=True)
class Replicas:
    """What differs from one replica of a variant to the next."""

    over: str = ONE_DATA_SET  # in words, for titles and tables
    resplit: tuple[int, int] | None = None  # training and test rows, where each has another split of one table


@dataclass(frozen=True)
class Terms:
    """What the variants of a study are compared by, and on."""

    metric: str
    split: str  # the main split: its rows decide
    seeds: list[int]
    baseline: str | None = None
    min_difference: float = 0.0
    fails_beyond: float | None = None  # a seed that is worse than this has failed
    reference: Sequence[float] = (math.nan,)  # the metric's value of the majority class or mean; of all data, or each
    no_validation: str = ""  # why no validation rows can choose seeds and variants; empty if they can
    replicas: Replicas = Replicas()

    @property
    def higher_is_better(self) -> bool:
        """Whether higher values of the metric are better."""
        return self.metric in HIGHER_IS_BETTER

    def costs(self, values: Values) -> Values:
        """Return the values so that lower is better; a missing one costs infinity."""
        return np.where(np.isfinite(values), -values if self.higher_is_better else values, math.inf)

    def as_ranked(self, values: Values) -> Values:
        """Return the values with the worst in place of missing ones."""
        return np.where(np.isfinite(values), values, worst(self.higher_is_better))


@dataclass(frozen=True)
class Entry:
    """A variant in the leaderboard, with the values of the study's metric, one for each seed."""

    variant: str
    engine: str
    parameters: int  # of one network
    values: Values  # on the main split
    validation: Values  # on the validation rows; NaN where there are none
    finished: Sequence[int]  # the positions of the seeds that did not diverge
    epochs_to_converge: float  # median over seeds; NaN if it is unknown
    infinite_seeds: int = 0  # those that did not diverge, but gave outputs or a value that are not finite
    overruled: str = ""  # which key of params.yaml replaced another one, in words
    searched: str = ""  # which values of a search lie at the edge of what was searched, in words

    @property
    def diverged_seeds(self) -> int:
        """The number of seeds that diverged."""
        return len(self.values) - len(self.finished)

    @property
    def undefined_seeds(self) -> int:
        """The number of seeds for which the metric is not defined."""
        return int(np.count_nonzero(~np.isfinite(self.values))) - self.diverged_seeds - self.infinite_seeds

    def missing(self) -> dict[str, str]:
        """Return why seeds have no value, such as {"diverged": "2 of 10"}; empty if all have one."""
        counted = {
            "diverged": self.diverged_seeds,
            "not finite": self.infinite_seeds,
            "not defined": self.undefined_seeds,
        }
        return {why: f"{count} of {len(self.values)}" for why, count in counted.items() if count}

    def failed(self, terms: Terms) -> Bool[np.ndarray, " seed"]:
        """Return which seeds diverged, are not better than the reference, or are beyond the limit of the study."""
        costs = terms.costs(self.values)
        limit = math.nan if terms.fails_beyond is None else terms.fails_beyond
        simple, worst_allowed = terms.costs(np.array(terms.reference)), terms.costs(np.array([limit]))
        failed: Bool[np.ndarray, " seed"] = (costs >= simple) | (costs > worst_allowed)  # infinite where there is none
        return failed
