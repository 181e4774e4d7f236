"""The keys of `train.prepare`: how raw features become inputs, and how targets are learned."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from bancada.base.refusals import wrong_key
from bancada.base.settings import Finite, Settings


class ConstantNumber(Settings):
    """An empty cell counts as this number."""

    constant: Finite


class ConstantWord(Settings):
    """An empty cell counts as this word."""

    constant: Annotated[str, Field(min_length=1)]


class Numbers(Settings):
    """How columns of numbers are prepared. `standardize` null: as `train.standardize` says."""

    # what an empty cell counts as; null: it is refused
    impute: Literal["median", "mean"] | ConstantNumber | None = None
    # with `impute`: one more input, 1 where the cell is empty, for each column with such a training row
    indicator: bool = False
    standardize: bool | None = None  # null: as `train.standardize` says

    @model_validator(mode="after")
    def _indicator_of_filled_cells(self) -> Self:
        if self.indicator and not self.impute:
            raise wrong_key("indicator", "needs impute, which says what the empty cells count as")
        return self


class Words(Settings):
    """How columns of words are prepared. Without `impute`, empty cells are refused in training, unknown elsewhere."""

    # `one_hot`: an input for each word; `ordinal`: one input, the word's place in the sorted list, from 0
    encode: Literal["one_hot", "ordinal"]
    # the most frequent word, or this one; null: an empty cell is refused in training rows, and unknown elsewhere
    impute: Literal["most_frequent"] | ConstantWord | None = None
    # a word that no training row has: `ignore` gives 0 in all inputs of its column, or the place -1
    unknown: Literal["refuse", "ignore"] = "refuse"
    standardize: bool = False  # the inputs that words become are standardized, too


class Targets(Settings):
    """How targets that are numbers are prepared: the network learns them with mean 0 and sd 1."""

    standardize: bool = False  # of numbers, not of classes; scores stay in the targets' own units


def _kind(raw: Any) -> str:
    if not isinstance(raw, Mapping):
        return "words" if isinstance(raw, Words) else "numbers"
    impute = raw.get("impute")
    constant = impute.get("constant") if isinstance(impute, Mapping) else None
    of_words = raw.keys() & {"encode", "unknown"} or impute == "most_frequent" or isinstance(constant, str)
    return "words" if of_words else "numbers"


Kind = Annotated[Annotated[Numbers, Tag("numbers")] | Annotated[Words, Tag("words")], Discriminator(_kind)]


class Prepare(Settings):
    """How raw features become inputs. `columns`: by name, where a column differs from the others of its kind."""

    numbers: Numbers = Numbers()  # columns of numbers
    words: Words | None = None  # columns of words; null: they are refused
    targets: Targets = Targets()  # what the network learns
    columns: dict[str, Kind] = {}  # single columns, in place of all that is said of their kind

    def kind_of(self, column: str, words: bool, standardize: bool) -> Numbers | Words | None:
        """Return how a column of words, or of numbers, is prepared; None for words that nothing is said of."""
        kind = self.columns.get(column, self.words if words else self.numbers)
        if isinstance(kind, Numbers) and kind.standardize is None:
            return kind.model_copy(update={"standardize": standardize})
        return kind
