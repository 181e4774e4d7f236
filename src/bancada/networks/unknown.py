"""Cells that no training row prepared a network for, in words: told, or refused."""

from collections.abc import Mapping

from bancada.base import BadInput
from bancada.base.tables import Table
from bancada.networks.preparation import MOST_WORDS, Preparation

WAY_OUT = "`unknown: ignore` takes words of no training row"


def refuse_unknown(where: str, rows: Table, preparation: Preparation) -> None:
    """Raise BadInput, which begins with `where` and names all columns, for cells that cannot be prepared."""
    found = preparation.unknown(rows.features, rows.feature_names, rows.words)
    taken = {name for group in preparation.groups if group.unknown == "ignore" for name in group.columns}
    if refused := {name: counts for name, counts in found.items() if name not in taken}:
        ways = {
            "`impute` fills empty cells" if word == "" else WAY_OUT for counts in refused.values() for word in counts
        }
        raise BadInput(f"{where}: {told_unknown(refused)}; {', '.join(sorted(ways))}")


def ignored(parts: Mapping[str, Table], preparation: Preparation) -> list[str]:
    """Return one sentence, or none, about the words of no training row in rows that `refuse_unknown` has passed."""
    found = {part: preparation.unknown(rows.features, rows.feature_names, rows.words) for part, rows in parts.items()}
    told = [f"{part}: {told_unknown(counts)}" for part, counts in found.items() if counts]
    return [f"ignores unknown words: {'; '.join(told)}"] if told else []


def told_unknown(found: Mapping[str, Mapping[str, int]]) -> str:
    """Return how many cells of which columns have words of no training row, or are empty, and some of the words."""
    texts = list[str]()
    for name, counts in found.items():
        words = [word for word in counts if word]
        if words:
            some = ", ".join(words[:MOST_WORDS]) + f", {len(words) - MOST_WORDS} more" * (len(words) > MOST_WORDS)
            what = f"{'words' if len(words) > 1 else 'a word'} of no training row ({some})"
            texts.append(f"column '{name}' has {counted(sum(counts[word] for word in words), 'cell')} with {what}")
        if "" in counts:
            texts.append(f"column '{name}' has {counted(counts[''], 'empty cell')}")
    return "; ".join(texts)


def counted(count: int, what: str) -> str:
    """Return `1 cell` or `2 cells`."""
    return f"{count} {what}{'s' * (count != 1)}"
