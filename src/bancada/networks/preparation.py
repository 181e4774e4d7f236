"""From raw features to the inputs of a network, and back from its outputs to targets, by what training rows have shown.

This file is also part of every MLflow model, so it needs numpy and nothing else. What it uses was learned elsewhere
(training/preparing.py), and is kept as numbers and words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

SCALING = ("input_mean", "input_std")  # arrays [input]
TARGET_SCALING = ("target_mean", "target_std")  # arrays [target]
CHUNK_ROWS = 65536  # rows that are prepared at once, to limit the memory
MOST_WORDS = 8  # in a message

Words = Mapping[str, Sequence[str]]  # by column: what a cell of words is the place in; NaN is an empty cell


class Unprepared(ValueError):
    """A cell that this preparation has no number for. `row` counts from 0."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f"row {row + 1}, column '{column}': {problem}")
        self.row, self.column, self.problem = row, column, problem


@dataclass(frozen=True)
class Group:
    """Columns that are prepared alike: of numbers or, with `categories`, of words."""

    columns: list[str]
    fill: list[float] | list[str] | None = None  # what an empty cell counts as, by column; None: it is refused
    indicators: list[str] = field(default_factory=list)  # columns with one more input: 1 where the cell is empty
    categories: list[list[str]] | None = None  # the words of each column that the training rows have
    encode: Literal["one_hot", "ordinal"] = "one_hot"
    unknown: Literal["refuse", "ignore"] = "refuse"  # ignore: such a word is no category: zeros, or the number -1

    def input_names(self) -> list[str]:
        """Return what each input is."""
        if self.categories is None:
            return [*self.columns, *(f"{name} is empty" for name in self.indicators)]
        if self.encode == "ordinal":
            return self.columns
        pairs = zip(self.columns, self.categories, strict=True)
        return [f"{name} = {word}" for name, known in pairs for word in known]

    def inputs(self, cells: np.ndarray, words: Words) -> np.ndarray:
        """Return the numbers [row, input] for cells [row, column of the group]. Raise Unprepared."""
        if self.categories is not None:
            columns = zip(self.columns, cells.T, strict=True)
            return np.hstack([self._of_words(i, column, words[name]) for i, (name, column) in enumerate(columns)])
        empty = np.isnan(cells)
        if self.fill is None:
            for row, i in np.argwhere(empty):
                raise Unprepared(int(row), self.columns[i], "is empty")
            return cells
        places = [self.columns.index(name) for name in self.indicators]
        return np.hstack([np.where(empty, np.array(self.fill, dtype=np.float64), cells), empty[:, places]])

    def _of_words(self, i: int, cells: np.ndarray, words: Sequence[str]) -> np.ndarray:
        places, known = self.places(i, cells, words), (self.categories or [])[i]
        for row in np.flatnonzero(places < 0) if self.unknown == "refuse" else ():
            some = f"{', '.join(known[:MOST_WORDS])}{', ...' if len(known) > MOST_WORDS else ''}"
            word = self._word(i, cells[row], words)
            problem = f"the word '{word}' is in no training row, which have: {some}" if word else "is empty"
            raise Unprepared(int(row), self.columns[i], problem)
        if self.encode == "ordinal":
            return places[:, None].astype(np.float64)
        return np.asarray(places[:, None] == np.arange(len(known)), dtype=np.float64)

    def _word(self, i: int, cell: float, words: Sequence[str]) -> str:
        if not np.isnan(cell):
            return words[int(cell)]
        return f"{self.fill[i]}, as which empty cells count" if self.fill else ""

    def unknown_cells(self, i: int, cells: np.ndarray, words: Sequence[str]) -> dict[str, int]:
        """Return the words in column `i` that are none of its categories, each with its cells; '' for empty cells.

        Empty cells that count as such a word are said to. Of numbers, only those that nothing fills are counted.
        """
        if self.categories is None:
            empty = int(np.isnan(cells).sum()) if self.fill is None else 0
            return {"": empty} if empty else {}
        unknown = cells[self.places(i, cells, words) < 0]
        return dict(sorted(Counter(self._word(i, cell, words) for cell in unknown).items()))

    def places(self, i: int, cells: np.ndarray, words: Sequence[str]) -> np.ndarray:
        """Return the place of each cell's word among the categories of column `i`; -1 if it is none of them."""
        place = {word: at for at, word in enumerate((self.categories or [])[i])}
        of_empty = place.get(str(self.fill[i]), -1) if self.fill else -1
        known = np.array([*(place.get(word, -1) for word in words), of_empty])
        return np.asarray(known[np.where(np.isnan(cells), len(words), cells).astype(np.int64)])


@dataclass(frozen=True)
class Preparation:
    """Groups of columns, in the order of their inputs, then the scaling. Without groups, features are the inputs."""

    groups: Sequence[Group] = ()
    scaling: Mapping[str, np.ndarray] = field(default_factory=dict)  # by SCALING and TARGET_SCALING, where asked for

    @classmethod
    def stored(cls, groups: Iterable[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> "Preparation":
        """Return the preparation that was stored: its groups, and its scaling among the arrays of the weights' file."""
        scaling = {name: arrays[name] for name in (*SCALING, *TARGET_SCALING) if name in arrays}
        return cls([Group(**group) for group in groups], scaling)

    def word_columns(self) -> list[str]:
        """Return the names of the columns of words."""
        return [name for group in self.groups if group.categories is not None for name in group.columns]

    def groups_of(self, names: Sequence[str]) -> Sequence[Group]:
        """Return the groups; for features of these names, if nothing is prepared, one of numbers."""
        return self.groups or [Group(list(names))]

    def input_names(self, names: Sequence[str]) -> list[str]:
        """Return what each input is, for features of these names."""
        return [name for group in self.groups_of(names) for name in group.input_names()]

    def inputs(self, features: np.ndarray, names: Sequence[str], words: Words) -> np.ndarray:
        """Return the inputs [row, input] in float32, infinite where that cannot hold them. Raise Unprepared.

        `features`: [row, feature], with these names.
        """
        groups, chunks = self.groups_of(names), []
        columns = [[list(names).index(name) for name in group.columns] for group in groups]
        for at in range(0, max(1, len(features)), CHUNK_ROWS):
            cells = features[at : at + CHUNK_ROWS]
            try:
                parts = [group.inputs(cells[:, own], words) for group, own in zip(groups, columns, strict=True)]
            except Unprepared as error:
                raise Unprepared(at + error.row, error.column, error.problem) from None
            with np.errstate(over="ignore"):
                chunks.append(self._scaled(np.hstack(parts), SCALING).astype(np.float32))
        return np.concatenate(chunks)

    def unknown(self, features: np.ndarray, names: Sequence[str], words: Words) -> dict[str, dict[str, int]]:
        """Return the words that no training row has, by column, each with its cells; '' for cells that are empty."""
        found = {
            name: group.unknown_cells(i, features[:, list(names).index(name)], words.get(name, ()))
            for group in self.groups_of(names)
            for i, name in enumerate(group.columns)
        }
        return {name: counts for name, counts in found.items() if counts}

    def learned(self, targets: np.ndarray) -> np.ndarray:
        """Return the targets [row, target] as the network learns them: standardized, where that was asked for."""
        return self._scaled(targets, TARGET_SCALING)

    def _scaled(self, values: np.ndarray, by: tuple[str, str]) -> np.ndarray:
        if by[0] not in self.scaling:
            return values
        return np.asarray((values - self.scaling[by[0]]) / self.scaling[by[1]])

    def in_own_units(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs [..., target] of a network in the units of the targets."""
        if TARGET_SCALING[0] not in self.scaling:
            return outputs
        return np.asarray(outputs * self.scaling["target_std"] + self.scaling["target_mean"])
