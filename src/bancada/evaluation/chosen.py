"""Which seed and which variant are taken for use: by the validation rows alone, never by the test rows.

The scores on the test rows of what is chosen on them would be better there than on new rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bancada.base.tables import as_written
from bancada.evaluation.entry import Entry, Terms
from bancada.evaluation.statistics import median


class Choice(NamedTuple):
    """The best seed of each variant, the champion of the study, and how they were chosen, in words."""

    seeds: dict[str, int | None]  # None where every seed diverged
    champion: str | None
    how: str


def choose(entries: Sequence[Entry], terms: Terms) -> Choice:
    """Choose by the metric on the validation rows.

    The champion is the first in the order of the leaderboard on these rows: by median, mean and standard deviation over
    seeds, all of which must have a value. Where validation rows cannot choose, the best seed is the first that did not
    diverge, and the champion is the baseline, or without one the first variant by name.
    """
    costs = {entry.variant: terms.costs(entry.validation) for entry in entries}
    why_not = terms.no_validation
    if not why_not and not any(np.isfinite(of_seeds).any() for of_seeds in costs.values()):
        why_not = f"{terms.metric} has no value on the validation rows"
    if why_not:
        first = {entry.variant: next((terms.seeds[i] for i in entry.finished), None) for entry in entries}
        champion = terms.baseline or min(first)
        return Choice(first, champion if first.get(champion) is not None else None, f"the first: {why_not}")
    best = {name: terms.seeds[int(of.argmin())] if np.isfinite(of).any() else None for name, of in costs.items()}
    complete = [
        (median(of), as_written(float(of.mean())), as_written(float(of.std())), name)
        for name, of in costs.items()
        if np.isfinite(of).all()
    ]
    return Choice(best, min(complete)[-1] if complete else None, "the best on the validation rows")
