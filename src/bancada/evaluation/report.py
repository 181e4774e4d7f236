"""Stage report: what all studies asked and found, on one page that needs nothing but itself: data/report.html.

The page names no commit, because it is part of one: `bancada report FILE` writes a copy that does.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bancada.base import BadInput, files, index, notify, stage
from bancada.base.params_file import ParamsFile
from bancada.evaluation import page, words

PUBLISHED = files.DATA / "published.csv"  # what the lessons published, and where our values stand
ASKED = ("source", "split", "metric", "baseline", "min_difference", "fails_above", "fails_below", "train")
FIRST = ("leaderboard", "loss", "data")
COMMON = ("seed", "num_seeds", "lr")


def main(params: ParamsFile, _: str) -> None:
    """Write the page. Raise BadInput where an evaluation is missing."""
    with notify.recorded("report", files.REPORT):
        studies = [_study(params, name) for name in params.value("studies")]
        text = page.filled(
            studies=studies,
            found=[("study", "asked", "found"), *((one["name"], one["question"], one["sentence"]) for one in studies)],
            common=[(key, json.dumps(params.value(key))) for key in COMMON],
            published=_published([one["name"] for one in studies]),
        )
        with files.whole(files.REPORT) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def _study(params: ParamsFile, study: str) -> dict[str, Any]:
    """Return what the page says of a study."""
    rows = words.read(study, "leaderboard")
    if not rows:
        raise BadInput(f"{files.evaluation(study)}: no leaderboard; `dvc repro evaluate@{study}` makes it")
    asked, board = params.value(f"studies.{study}"), words.board(rows, study, words.read(study, "reference"))
    variants = params.value("variants")
    own = [(row["variant"], _own(variants[row["variant"]])) for row in rows]  # in the order of the board
    return {
        "name": study,
        "question": f"{len(rows)} variant{'s' * (len(rows) > 1)}: {board.title.partition(': ')[2]}",
        "sentence": words.sentence(rows),
        "asked": [("key", "value"), *_flat({key: asked[key] for key in ASKED if key in asked})],
        "variants": [("variant", "what it has of its own"), *own],
        "board": board,
        "plots": list(_plots(study, _by_seed(study, rows))),
        "hashes": [("file", "MD5"), *((path, _md5(path)) for path in (files.raw(study), files.index(study)))],
    }


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and their values as params.yaml could have them."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value, ensure_ascii=False)


def _own(variant: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in _flat(variant) if key != "study")


def _by_seed(study: str, board: Sequence[words.Texts]) -> words.Cells:
    """Return a table with a row for each seed and a column for each variant, in the order of the board."""
    variants, shown = [row["variant"] for row in board], (board[0]["split"], board[0]["metric"])
    found = [row for row in words.read(study, "per_seed") if (row["split"], row["metric"]) == shown]
    values = {(row["seed"], row["variant"]): words.short(row["value"], digits=4) for row in found}
    seeds = dict.fromkeys(row["seed"] for row in found)
    return [["seed", *variants], *([seed, *(values.get((seed, one), "") for one in variants)] for seed in seeds)]


def _plots(study: str, by_seed: words.Cells) -> Iterator[dict[str, Any]]:
    """Yield each plot that the evaluation drew, with its numbers: those of FIRST, then the others by name."""
    drawn = {path.stem: path for path in sorted(files.drawings(study).glob("*.svg"))}
    for name in sorted(drawn, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        with drawn[name].with_suffix(".csv").open(newline="", encoding="utf-8") as file:
            numbers = by_seed if name == FIRST[0] else list(csv.reader(file))
        yield {"name": name, "svg": drawn[name].read_text("utf-8"), "numbers": numbers}


def _published(studies: Sequence[str]) -> words.Cells:
    """Return what the lessons published of these studies beside what came out here."""
    if not PUBLISHED.exists():
        return []
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["study"] in studies]
    shown = [[*(row[key] for key in ("lesson", "variant", "quantity", "published")), _ours(row)] for row in rows]
    return [["lesson", "variant", "quantity", "published", "here"], *shown] if shown else []


def _ours(row: words.Texts) -> str:
    """Return the value that a row of published.csv leads to, with its standard deviation over seeds."""
    wanted = {"variant": row["variant"]} | dict(part.split("=") for part in row["where"].split())
    for found in words.read(row["study"], row["table"]):
        if wanted.items() <= found.items():
            value, spread = found[row["column"]], found.get(row["spread"])
            return words.short(value, digits=6) + (f" ± {words.short(spread, digits=2)}" if spread else "")
    return "not evaluated"


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, index.MD5).hexdigest()
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; `dvc checkout` or `dvc repro` brings it") from None


if __name__ == "__main__":
    stage.run(main, of="everything")
