"""The keys of `train.prepare`, and what a preparation learns from the training rows.

scikit-learn learns it; only `standardize: true` alone does without, because scikit-learn takes more than a second to
load.
"""

from importlib import import_module
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from bancada.base import tables
from bancada.base.refusals import bad, did_you_mean
from bancada.base.settings import Finite, Settings
from bancada.networks.preparation import SCALING, TARGET_SCALING, Group, Preparation

BY_SCIKIT_LEARN = "bancada.training.column_transformer"
MOST_WORDS = 10_000  # of all columns together


class ConstantNumber(Settings):
    """An empty cell counts as this number."""

    constant: Finite


class ConstantWord(Settings):
    """An empty cell counts as this word."""

    constant: Annotated[str, Field(min_length=1)]


class Numbers(Settings):
    """How columns of numbers are prepared. `standardize` null: as `train.standardize` says."""

    impute: Literal["median", "mean"] | ConstantNumber | None = None  # null: an empty cell is refused
    indicator: bool = False  # with impute: one more input, 1 where the cell is empty, if a training row has such a cell
    standardize: bool | None = None


class Words(Settings):
    """How columns of words are prepared. An empty cell that is not imputed counts as a word that is not known."""

    encode: Literal["one_hot", "ordinal"]
    impute: Literal["most_frequent"] | ConstantWord | None = None
    unknown: Literal["refuse", "ignore"] = "refuse"  # a word that no training row has
    standardize: bool = False


class Targets(Settings):
    """How targets that are numbers are prepared: the network learns them with mean 0 and sd 1."""

    standardize: bool = False


class Prepare(Settings):
    """How raw features become inputs. `columns`: by name, where a column differs from the others of its kind."""

    numbers: Numbers = Numbers()
    words: Words | None = None
    targets: Targets = Targets()
    columns: dict[str, Numbers | Words] = {}

    def kind_of(self, column: str, words: bool, standardize: bool) -> Numbers | Words | None:
        """Return how a column of words, or of numbers, is prepared; None for words that nothing is said of."""
        kind = self.columns.get(column, self.words if words else self.numbers)
        if isinstance(kind, Numbers) and kind.standardize is None:
            return kind.model_copy(update={"standardize": standardize})
        return kind


def refuse_uncovered(rows: tables.Table, prepare: Prepare | None, standardize: bool, key: str) -> None:
    """Raise BadInput, which names all columns at once, if words or empty cells of the training rows have no number.

    `key`: where `prepare` stands, or would stand, in params.yaml.
    """
    wanted = prepare or Prepare()
    for name in wanted.columns:
        if name not in rows.feature_names:
            raise bad(f"{key}.columns.{name}", None, "no feature" + did_you_mean(name, rows.feature_names))
    found, ways = list[str](), dict[str, str]()
    for i, name in enumerate(rows.feature_names):
        kind, words = wanted.kind_of(name, name in rows.words, standardize), rows.words.get(name)
        empty = np.flatnonzero(np.isnan(rows.features[:, i]))
        if (words is not None) != isinstance(kind, Words) and kind:
            what = "words, but is prepared as numbers" if words else "numbers; source.words keeps them as words"
            raise bad(f"{key}.columns.{name}", None, f"the column holds {what}")
        if len(empty) == len(rows):
            raise bad(key, None, f"column '{name}' is empty in every training row; put it into source.ignore")
        if words and not kind:
            found.append(f"column '{name}' holds words ({', '.join(words[:3])}{', ...' if len(words) > 3 else ''})")
            ways["words"] = "words: {encode: one_hot, unknown: ignore}"
        if len(empty) and not (kind and kind.impute):
            where = f"the first in row {empty[0] + 1}"
            found.append(f"column '{name}' has {len(empty)} empty cells in {len(rows)} rows, {where}")
            impute = "words: {encode: one_hot, impute: most_frequent, unknown: ignore}", "numbers: {impute: median}"
            ways["words" if words else "numbers"] = impute[not words]
    if found:
        add = "say" if prepare else "add"
        raise bad(key, None, f"{'; '.join(found)}; {add} prepare: {{{', '.join(ways.values())}}}")
    size = sum(len(words) for words in rows.words.values())
    if size > MOST_WORDS:
        largest = max(rows.words, key=lambda name: len(rows.words[name]))
        problem = f"column '{largest}' alone has {len(rows.words[largest])} words; put it into source.ignore"
        raise bad(key, None, f"{size} words would make too many inputs; {problem}")


class Learner(Protocol):
    """The module BY_SCIKIT_LEARN."""

    def learned(self, rows: tables.Table, prepare: Prepare, standardize: bool) -> tuple[list[Group], np.ndarray]:
        """Return groups of columns, and mean and sd of their inputs, [2, input]."""


def learned(rows: tables.Table, prepare: Prepare | None, standardize: bool) -> Preparation:
    """Return the preparation that these training rows show, for `train.prepare` and `train.standardize`.

    The rows have been checked: `refuse_uncovered` found nothing.
    """
    scaling, groups = dict[str, np.ndarray](), list[Group]()
    if prepare:
        learner: Learner = import_module(BY_SCIKIT_LEARN)
        groups, both = learner.learned(rows, prepare, standardize)
        scaling |= dict(zip(SCALING, both, strict=True))
        if prepare.targets.standardize:
            scaling |= dict(zip(TARGET_SCALING, _mean_and_sd(rows.targets), strict=True))
    elif standardize:
        scaling |= dict(zip(SCALING, _mean_and_sd(rows.features), strict=True))
    return Preparation(groups, scaling)


def _mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column; sd 1 for a constant one."""
    varies = np.ptp(values, axis=0) > 0  # by rounding errors, the sd of a constant 0.1 is 4e-17
    return values.mean(axis=0), np.where(varies, values.std(axis=0), 1.0)
