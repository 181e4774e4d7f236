"""`bancada compare`: the results of DVC experiments beside those of the commit that each of them began at.

For each study there is a table with a row for each experiment and variant whose results differ. Everything
comes from git: params.yaml, and the tables in data/evaluation. The verdict on a difference is the leaderboard's, with
the same variant of the commit in place of the baseline; Holm's correction counts the variants of the experiment.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bancada.base import BadInput, files, git, params_file
from bancada.base.refusals import PARAMS_FILE, did_you_mean
from bancada.evaluation import words
from bancada.evaluation.entry import SPLITS, Entry, Terms
from bancada.evaluation.leaderboard import COLUMNS, compared
from bancada.evaluation.statistics import summary
from bancada.networks.metrics import HIGHER_IS_BETTER
from bancada.tracking.surroundings import experiments
from bancada.training import asked

WORKSPACE, HEAD = "workspace", "HEAD"
NONE = "there are no experiments, and the workspace has HEAD's results; `dvc exp run -S lr=0.01` makes an experiment"
ASKED_WIDTH = 60  # letters of what was asked; the table folds them
EXPLANATION = (
    "against a commit: paired by seed with the same variant there, exact signed-rank test, Holm's correction for the "
    "variants of the experiment. board: the verdict of its own leaderboard, against the baseline. Of many experiments, "
    "one looks better by chance: confirm it with fresh seeds (-S seed=1000)."
)


class Values(NamedTuple):
    """What is compared of a variant."""

    model: str  # hashes of its files
    row: words.Texts  # of the leaderboard
    seeds: dict[str, dict[int, float]]  # split -> seed -> the study's metric, NaN where there is none

    def differ(self, other: "Values | None") -> bool:
        """Return whether the other ones are of another model, or have other numbers; a NaN is like a NaN."""
        return other is None or self.model != other.model or repr(self.seeds) != repr(other.seeds)


@dataclass(frozen=True)
class State:
    """The settings and results of a commit, or of the workspace."""

    name: str
    commit: str  # empty: the workspace

    def text(self, path: Path) -> str:
        """Return the text of a file; empty where there is none."""
        if self.commit:
            return git.file_at(Path(), self.commit, path.as_posix())
        return path.read_text("utf-8") if path.exists() else ""

    @cached_property
    def params(self) -> params_file.ParamsFile:
        """The content of params.yaml."""
        return params_file.parse(self.text(Path(PARAMS_FILE)), PARAMS_FILE)

    @cached_property
    def studies(self) -> list[str]:
        """The names of its studies, in the order of params.yaml."""
        return list(self.params.value("studies"))

    @cached_property
    def results(self) -> dict[str, dict[str, Values]]:
        """The results of each study's variants, the best first. Raise KeyError for the tables of another version."""
        return {study: self._read(study) for study in self.studies}

    def _read(self, study: str) -> dict[str, Values]:
        board, per_seed = (
            list(csv.DictReader(io.StringIO(self.text(files.evaluation(study) / f"{table}.csv"))))
            for table in ("leaderboard", "per_seed")
        )
        models = json.loads(self.text(files.index(study)) or "{}")
        rows = [{column: row[column] for column in COLUMNS} for row in board]
        found = {row["variant"]: Values(json.dumps(models.get(row["variant"])), row, {}) for row in rows}
        for cell in per_seed:
            of = found.get(cell["variant"])
            if of and cell["metric"] == of.row["metric"]:
                of.seeds.setdefault(cell["split"], {})[int(cell["seed"])] = float(cell["value"] or "nan")
        return found

    def settings(self, study: str, variant: str) -> asked.Settings:
        """Return the settings of a variant's training, and of its data."""
        of_study = self.params.raw.get("studies", {}).get(study, {})
        data = {key: of_study.get(key, {}) for key in ("source", "split")}
        return asked.of_variant(self.params, variant) | asked.as_texts(dict(asked.flat(data)))


@dataclass(frozen=True)
class Pair:
    """A variant of an experiment, and the same of the commit that it began at; one of them may be missing."""

    variant: str
    state: State
    before: State
    now: Values | None
    then: Values | None
    asked: asked.Settings

    @property
    def incomparable(self) -> str:
        """Why the two cannot be compared seed by seed; empty if they can."""
        if not self.now or not self.then:
            return "gone" if self.then else "new"
        split, metric = self.now.row["split"], self.now.row["metric"]
        if (split, metric) != (self.then.row["split"], self.then.row["metric"]):
            return "other metric"
        if any(key.startswith(("source.", "split.")) for key in self.asked):
            return "other data"
        if self.now.seeds[split].keys() != self.then.seeds[split].keys():
            return "other seeds"
        return "other splits" if self.now.row["over"] == SPLITS else ""


def compare(names: Sequence[str]) -> None:
    """Print the tables. Without names: the workspace and all experiments, or that there is nothing to compare.

    Raise BadInput for names of no experiment and no commit.
    """
    if not (commit := git.commit_of(Path())):
        raise BadInput("HEAD: there is no commit to compare with; `git commit` makes one")
    head = State(HEAD, commit)
    chosen = _named(names, head) if names else [(State(WORKSPACE, ""), head), *_experiments(head)]
    chosen = [pair for pair in chosen if _readable(*pair)]
    if not names and chosen and (twin := _twin(chosen)):
        print(f"workspace: the settings and results of {twin}\n")
        del chosen[0]
    found = {study: pairs for study in _studies(chosen) if (pairs := list(_pairs(study, chosen)))}
    for study, pairs in found.items():
        print(f"{_table(study, pairs)}\n")
    different = {pair.state for pairs in found.values() for pair in pairs}
    same = [f"{state.name}: the results of {before.name}" for state, before in chosen if state not in different]
    alone = not names and not found and len(chosen) == 1
    explained = [words.printed([EXPLANATION], words.terminal_width())] * bool(found)
    print("\n".join(explained + ([NONE] if alone else same)))


def _experiments(head: State) -> list[tuple[State, State]]:
    """Return all experiments, each with the commit that it began at."""
    before = {head.commit: head}
    return [
        (State(each.name, each.commit), before.setdefault(each.baseline, State(each.baseline[:7], each.baseline)))
        for each in experiments()
    ]


def _named(names: Sequence[str], head: State) -> list[tuple[State, State]]:
    """Return the experiments of these names; of a commit, a branch or the workspace, HEAD is what it is compared with.

    Raise BadInput, which names all that are none of these.
    """
    known, found, wrong = _experiments(head), list[tuple[State, State]](), list[str]()
    for name in dict.fromkeys(names):
        of_name = [pair for pair in known if pair[0].name == name]
        if name == WORKSPACE:
            found.append((State(WORKSPACE, ""), head))
        elif of_name:
            found += of_name
        elif commit := git.commit_of(Path(), name):
            found.append((State(name, commit), head))
        else:
            wrong.append(f"{name}{did_you_mean(name, [state.name for state, _ in known])}")
    if wrong:
        raise BadInput(f"no experiment or commit: {', '.join(wrong)}; `dvc exp list --all-commits` prints all")
    return found


def _twin(chosen: Sequence[tuple[State, State]]) -> str:
    """Return the name of an experiment that the workspace holds, as `dvc exp run` and `dvc exp apply` leave it."""
    (workspace, head), *others = chosen
    if workspace.name != WORKSPACE or _same(workspace, head):
        return ""
    return next((state.name for state, _ in others if _same(state, workspace)), "")


def _same(first: State, second: State) -> bool:
    """Return whether two states have the same settings and results."""
    return first.params.raw == second.params.raw and not any(
        list(_pairs(study, [(first, second)])) for study in {*first.studies, *second.studies}
    )


def _readable(state: State, before: State) -> bool:
    """Return whether both can be read; if not, say why."""
    try:
        _ = state.results, before.results
    except (BadInput, KeyError, ValueError) as error:
        why = error if isinstance(error, BadInput) else f"its results are of another version of bancada: {error}"
        print(f"{state.name}: left out, because it cannot be compared with {before.name}: {why}", file=sys.stderr)
        return False
    return True


def _studies(chosen: Sequence[tuple[State, State]]) -> list[str]:
    """Return the names of all studies, in the order of params.yaml."""
    return list(dict.fromkeys(study for pair in chosen for state in reversed(pair) for study in state.studies))


def _pairs(study: str, chosen: Sequence[tuple[State, State]]) -> Iterator[Pair]:
    """Yield what differs, variant by variant."""
    for variant in dict.fromkeys(
        name for pair in chosen for state in reversed(pair) for name in state.results.get(study, {})
    ):
        for state, before in chosen:
            now, then = (of.results.get(study, {}).get(variant) for of in (state, before))
            if now.differ(then) if now else then:
                changed = asked.changes(state.settings(study, variant), before.settings(study, variant))
                yield Pair(variant, state, before, now, then, changed)


def _verdicts(study: str, pairs: Sequence[Pair]) -> list[str]:
    """Return the verdict on each pair, or why there is none."""
    told = [pair.incomparable for pair in pairs]
    for state in {pair.state for pair in pairs}:
        places = [i for i, pair in enumerate(pairs) if pair.state is state and not told[i]]
        if not places:
            continue
        first = pairs[places[0]].now
        assert first  # or it could not be compared
        row, seeds = first.row, sorted(first.seeds[first.row["split"]])
        least = state.params.value(f"studies.{study}").get("min_difference", 0.0)
        terms = Terms(row["metric"], row["split"], seeds, min_difference=least)
        rows = compared([(_entry(pairs[i].now, seeds), _entry(pairs[i].then, seeds)) for i in places], terms)
        for i, verdict in zip(places, rows, strict=True):
            told[i] = str(verdict["verdict"])
    return told


def _entry(values: Values | None, seeds: Sequence[int]) -> Entry:
    """Return a row as the leaderboard compares it."""
    assert values  # or it could not be compared
    row = values.row
    of_seeds = np.array([values.seeds[row["split"]][seed] for seed in seeds])
    diverged, missing = int(row["diverged_seeds"]), int(np.isnan(of_seeds).sum())
    return Entry(
        *(row["variant"], row["engine"], int(row["parameters"]), of_seeds),
        validation=np.full(len(seeds), np.nan),
        finished=range(len(seeds) - diverged),
        epochs_to_converge=np.nan,
        infinite_seeds=missing - diverged if row["rank"] else 0,
    )


def _table(study: str, pairs: Sequence[Pair]) -> str:
    """Return the table of a study: for each variant the commit's row, then the experiments'."""
    row = next(of.row for pair in pairs for of in (pair.now, pair.then) if of)
    commits = {pair.before.name for pair in pairs}
    against = f"against {commits.pop() if len(commits) == 1 else 'its commit'}"
    cells = [["variant", "experiment", "asked", "validation", row["split"], "95 %", against, "board"]]
    shown = set[tuple[str, str]]()
    for pair, verdict in zip(pairs, _verdicts(study, pairs), strict=True):
        if pair.then and (pair.variant, pair.before.name) not in shown:
            cells.append([pair.variant, pair.before.name, "", *_cells(pair.then, "")])
            shown.add((pair.variant, pair.before.name))
        told = asked.in_words(pair.asked, ASKED_WIDTH)
        cells.append([pair.variant, pair.state.name, told, *_cells(pair.now, verdict)])
    width = words.terminal_width()
    table = words.as_table(cells, width, words=("experiment", "asked", against, "board"))
    measured = f"({words.better(row['metric'])}) {words.measured_on(row['metric'], row['split'])}"
    return words.printed([f"{study}: {row['metric']} {measured}, medians over seeds", table], width)


def _cells(values: Values | None, verdict: str) -> list[str]:
    """Return the cells of results."""
    if not values:
        return ["", "", "", verdict, ""]
    row = values.row
    validation = list(values.seeds.get("validation", {}).values())
    median = summary(np.array(validation), row["metric"] in HIGHER_IS_BETTER).median if validation else np.nan
    return [
        "" if np.isnan(median) else words.short(f"{median:.9g}"),
        words.short(row["median"]) or "n. d.",
        words.interval(row, "median"),
        *(verdict, row["verdict"]),
    ]
