"""Data drawn anew: with `vary: [seed, data]` in a study's source, replica i of every variant has draw i of the data.

A source with a seed makes draw i by its seed + i; a table is split by the split's seed + i. Draw 0 is what the stages
generate and split have written. Conclusions then are about new data too, and not about one data set alone (Bouthillier
et al. 2021, "Accounting for variance in machine learning benchmarks").
"""

from collections.abc import Sequence

from bancada.base import files, refusals, settings, tables
from bancada.base.params_file import ParamsFile
from bancada.data import sources
from bancada.data.settings import Source, Split
from bancada.data.split import divide

Parts = dict[str, tables.Table]  # train, validation and test


def of_study(params: ParamsFile, study: str, numbers: Sequence[int]) -> list[Parts]:
    """Return the draws with these numbers. Raise BadInput, which names the draw, where one is impossible."""
    key, source = f"studies.{study}", sources.of_study(params, study)
    split = settings.checked(Split, params.value(f"{key}.split"), f"{key}.split")
    table = None if source.has_seed else tables.read(files.raw(study))
    found = [draw(source, split, table, number, key) for number in numbers]
    if len(found) > 1 and source.has_seed and found[0]["train"].digests() == found[1]["train"].digests():
        problem = f"draws {numbers[0]} and {numbers[1]} have the same rows, so the source does not use its seed"
        raise refusals.bad(f"{key}.source.vary", source.vary, problem)
    return found


def draw(source: Source, split: Split, table: tables.Table | None, number: int, key: str) -> Parts:
    """Return the parts of a draw. `table`: the rows of a source without a seed, which are split in another way."""
    if table is None:
        table = source.model_copy(update={"seed": source.seed + number}).table(f"{key}.source")  # type: ignore[attr-defined]  # it has one
    else:
        split = split.model_copy(update={"seed": split.seed + number})
    try:
        return divide(table, split)
    except ValueError as error:
        raise refusals.bad(f"{key}.split", None, f"draw {number}: {error}") from None
