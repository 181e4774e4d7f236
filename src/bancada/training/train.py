"""Stage train@VARIANT: data/split/STUDY -> data/models/STUDY/VARIANT, one trained network for each seed."""

import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from bancada.base import files, notify, params_file, stage, tables, user_code
from bancada.base.refusals import bad
from bancada.data import vary
from bancada.networks.preparation import Preparation
from bancada.networks.saved import description, save, way_out
from bancada.networks.settings import Network
from bancada.networks.unknown import refuse_unknown
from bancada.training import fit, live, preparing, replica, store
from bancada.training.replica import Data, Replica, Report, Rows, Trained
from bancada.training.settings import Recipe, TrainingKeys, training_keys

SEARCH = "bancada.training.search"  # only where a variant searches: it knows the metrics, and others need not
PLAIN_LINES = 5  # lines of progress if there is no terminal


def main(params: params_file.ParamsFile, variant: str) -> None:
    """Train the variant with every seed and write its folder. Raise BadInput if it does not fit the data."""
    with stage.own_folder(f"code@{variant}") as folder:
        train_variant(params, variant, copied_code(folder))


def copied_code(to: Path) -> Path:
    """Copy the user's files, which may be edited while seeds begin to train. Return the `src` that holds the copies."""
    for folder in [Path("src") / name for name in user_code.FOLDERS]:
        if folder.is_dir():
            shutil.copytree(folder, to / folder, ignore_dangling_symlinks=True)
    return (to / "src").absolute()


def train_variant(params: params_file.ParamsFile, variant: str, src: Path) -> None:
    """Do what `main` does, with the user's files in `src`."""
    keys = training_keys(params, variant)
    recipe = keys.recipe()
    given = {part: tables.read(files.split(recipe.study) / f"{part}.parquet") for part in files.PARTS[:2]}
    drawn = vary.draws(params, recipe.study, range(len(recipe.seeds)))
    replica.check_device(recipe.device)
    learned = [Learned.of(keys, parts) for parts in (drawn or [given])]
    first, rows = learned[0], learned[0].rows
    refuse_other_inputs(keys, learned)
    fit.refuse_stopping_without_rows(keys, len(first.data.validation) > 0)
    for sentence in keys.overrides():
        print(f"{variant}: {sentence}")
    if overruled := keys.overruled():
        print(f"{variant}: {overruled}{way_out(overruled)}", file=sys.stderr)
    for sentence in [*fit.doubts(keys), *preparing.doubts(rows, recipe.train.prepare)]:
        print(f"{variant}: {sentence}", file=sys.stderr)
    print(f"{variant}: {' engine, because of '.join(keys.engine())}", flush=True)
    data = {number: one.data for number, one in enumerate(learned)}
    replica.try_first_batch(keys, first.data, src)
    found = None
    if search := keys.search():
        by: Any = import_module(SEARCH)
        metric = params.value(f"studies.{recipe.study}.metric")
        tuned = [Learned.of(keys, parts) for parts in vary.draws(params, recipe.study, search.tuning_draws())]
        refuse_other_inputs(keys, tuned)
        found = by.search(by.Asked(keys, search, metric, tuned or [first], src))
        recipe = found.keys.recipe()
        print(f"{variant}: {found.in_words()}", flush=True)
    shape, preparations = first.data.train.inputs.shape[1:], [one.preparation for one in learned]
    asked = recipe.model_dump(mode="json", exclude_none=True)
    described = description(asked, rows, shape, preparations, keys.overruled())
    described |= {"search": found.described} if found else {}
    folder = files.model(recipe.study, variant)
    with notify.recorded(f"train@{variant}", folder):
        draws = list(data) * (1 if drawn else len(recipe.seeds))
        replicas = [Replica(recipe, seed, src=src, draw=draw) for seed, draw in zip(recipe.seeds, draws, strict=True)]
        kept = store.Store(replicas, data)
        with progress_shown(recipe, described) as report:
            trained = store.train(kept, data, report)
        save(folder, described, replica.together(trained), preparations, found and found.trials)
        kept.end()
        if found:
            found.kept.end()
    for seed, one in zip(recipe.seeds, trained, strict=True):
        if one.diverged is not None:
            print(f"{variant}: seed {seed} diverged in epoch {one.diverged + 1}{one.note and f' ({one.note})'}")


@dataclass(frozen=True)
class Learned:
    """A draw of the data as a training takes it: what its training rows have taught, and the rows prepared by that."""

    rows: tables.Table  # for training, as they were given
    held_out: tables.Table  # for validation, likewise
    preparation: Preparation
    data: Data

    @classmethod
    def of(cls, keys: TrainingKeys, parts: Mapping[str, tables.Table]) -> "Learned":
        """Return the training and validation rows, prepared. Raise BadInput where the variant cannot take them."""
        recipe = keys.recipe()
        paths = {part: files.split(recipe.study) / f"{part}.parquet" for part in files.PARTS[:2]}
        rows, validation = (as_taken(parts[part], recipe.network) for part in paths)
        preparation = fit.preparation(keys, rows)
        refuse_unknown(f"{paths['validation']}: {keys.written_at('prepare')}", validation, preparation)
        learn, watch = (
            prepared(path, part, preparation) for path, part in zip(paths.values(), (rows, validation), strict=True)
        )
        return cls(rows, validation, preparation, Data(learn, watch, len(rows.classes)))


def refuse_other_inputs(keys: TrainingKeys, learned: Sequence[Learned]) -> None:
    """Raise BadInput where draws of the data have other inputs than the first: their networks would differ."""
    names = [one.preparation.input_names(one.rows.feature_names) for one in learned]
    for number, own in enumerate(names):
        if own != names[0]:
            other = sorted({*own} ^ {*names[0]})[0]
            problem = f"draw {number} of the data and draw 0 differ in the input '{other}'"
            way = "prepare that column in another way, or take data out of source.vary"
            raise bad(keys.written_at("prepare"), None, f"{problem}; {way}")


def as_taken(rows: tables.Table, network: Network) -> tables.Table:
    """Return the table with its rows as plain lists, whatever their shape, if the network takes them so."""
    return replace(rows, row_shape=None) if network.flat else rows


def prepared(path: Path, rows: tables.Table, preparation: Preparation) -> Rows:
    """Return the rows as engines get them. Raise BadInput, with the path, for a number that they cannot take."""
    inputs = preparation.inputs(rows.features, rows.feature_names, rows.words)
    targets = rows.targets if rows.classes else preparation.learned(rows.targets)
    names = [*preparation.input_names(rows.feature_names), *rows.target_names]
    fit.refuse_too_large(path, names, [inputs, targets])
    return Rows(inputs.reshape(len(rows), *(rows.row_shape or inputs.shape[1:])), targets)


class Progress(Report):
    """A report to the live file, and to a bar over all seeds: on a terminal; elsewhere a few lines are printed."""

    def __init__(self, variant: str, planned: int, curves: live.Curves, bar: "tqdm[NoReturn]") -> None:
        self.variant, self.planned, self.curves, self.bar, self.done = variant, planned, curves, bar, 0
        self.last: dict[int, float] = {}  # position of a seed -> its last loss

    def epochs(self, places: Sequence[int], first: int, losses: replica.Losses) -> None:
        """Show the epoch that the seeds have reached in the mean, and the mean of their last losses."""
        self.curves.epochs(places, first, losses)
        before, self.done = self.done, int(self.curves.mean_epochs())
        self.last.update(zip(places, losses["train_loss"][:, -1].tolist(), strict=True))
        finite = [loss for loss in self.last.values() if math.isfinite(loss)]
        loss = math.fsum(finite) / len(finite) if finite else math.nan
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update(self.done - before)
        elif self.done * PLAIN_LINES // self.planned > before * PLAIN_LINES // self.planned:
            print(f"{self.variant}: epoch {self.done} of {self.planned}, loss {loss:.6g}", flush=True)

    def ended(self, place: int, trained: Trained) -> None:
        """Pass it on."""
        self.curves.ended(place, trained)


@contextmanager
def progress_shown(recipe: Recipe, described: Mapping[str, Any]) -> Iterator[Progress]:
    """Yield who is told of the epochs: a bar, and the live file of the training that is described."""
    variant, planned = recipe.variant, recipe.train.epochs
    with (
        tqdm(total=planned, desc=variant, unit="epoch", disable=not sys.stderr.isatty(), mininterval=0.2) as bar,
        live.shown(described) as curves,
    ):
        yield Progress(variant, planned, curves, bar)


if __name__ == "__main__":
    stage.run(main, of="variants")
