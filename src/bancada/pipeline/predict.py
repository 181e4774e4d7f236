"""Predictions of a trained variant for new rows, without MLflow: `bancada predict`, and `bancada.load` in notebooks."""

import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float64

from bancada.base import BadInput, cells, files, index, lockfile, params_file, tables, user_code
from bancada.base.refusals import did_you_mean
from bancada.data import columns, sources, texts
from bancada.data.reading import Reading
from bancada.networks import saved
from bancada.networks.preparation import Unprepared
from bancada.networks.unknown import told_unknown
from bancada.tracking import evaluations

if TYPE_CHECKING:
    import pandas as pd

Seeds = Literal["best", "all"]
SWITCHES = "bancada.networks.portable"  # loads torch, which the small vocabulary does without


@dataclass(frozen=True)
class Trained:
    """A trained variant. `best_seed` is that of leaderboard.csv, as for its model in MLflow."""

    root: Path  # of the repository
    variant: str
    best_seed: int
    networks: saved.SavedVariant

    def predict(self, rows: "pd.DataFrame | np.ndarray", seeds: Seeds = "best") -> "pd.DataFrame":
        """Return predictions for rows of raw features: a data frame, by name, or an array [row, feature].

        `best`: a column for each target, of numbers or names of classes. `all`: mean and standard deviation over the
        seeds, or the share of the seeds that decide for each class. Raise BadInput for a feature that is missing,
        and for a cell that the variant's preparation has no number for.
        """
        import pandas as pd

        names = self.networks.feature_names
        if seeds not in (known := get_args(Seeds)):
            hint = did_you_mean(seeds, known)
            raise BadInput(f"{self.variant}: seeds = {seeds!r}: must be {' or '.join(known)}{hint}")
        if not len(rows):
            raise BadInput(f"{self.variant}: there are no rows to predict from")
        if not isinstance(rows, pd.DataFrame):
            array = np.asarray(rows, None if isinstance(rows, np.ndarray) else object).reshape(len(rows), -1)
            if array.shape[1] != len(names):
                raise BadInput(f"{self.variant}: rows of {array.shape[1]} features, not {len(names)}")
            rows = pd.DataFrame(array, columns=names)
        for name in names:
            if (count := list(rows.columns).count(name)) != 1:
                raise BadInput(f"{self.variant}: the data frame has {count or 'no'} column{'s' * (count > 1)} '{name}'")
        try:
            of_words = self.networks.preparation.word_columns()
            features, words = cells.of_frame(rows, names, of_words, self.networks.missing)
            return pd.DataFrame(self.of_features(features, words, seeds), index=rows.index)
        except (Unprepared, cells.WrongCell) as error:
            raise BadInput(f"{self.variant}: {error}") from None

    def of_features(
        self, features: Float64[np.ndarray, "row feature"], words: Mapping[str, list[str]], seeds: Seeds
    ) -> dict[str, np.ndarray]:
        """Return the columns of the predictions by name, for the features of a Table. Raise BadInput, Unprepared."""
        networks, targets = self.networks, np.empty((len(features), 0))
        rows = tables.Table(
            features, targets, networks.feature_names, networks.target_names, networks.classes, words=words
        )
        finished = [seed for seed in networks.seeds if seed not in networks.diverged]
        used = finished if seeds == "all" else [self.best_seed]
        outputs, places = self._outputs(rows), [networks.seeds.index(seed) for seed in used]
        for _, row, _ in np.argwhere(~np.isfinite(outputs[places]))[:1]:
            raise BadInput(f"{self.variant}: row {row + 1}: the network gives no finite output")
        decided = networks.decide(outputs)[places]
        if networks.classes and seeds == "all":
            return {str(name): (decided[..., 0] == i).mean(0) for i, name in enumerate(networks.classes)}
        if networks.classes:
            return {networks.target_names[0]: np.array(networks.classes)[decided[0, :, 0]]}
        if seeds == "best":
            return dict(zip(networks.target_names, decided[0].T, strict=True))
        spread = decided.std(0, ddof=1) if len(used) > 1 else np.full_like(decided[0], np.nan)
        return {
            f"{name}_{statistic}": values[:, i]
            for i, name in enumerate(networks.target_names)
            for statistic, values in (("mean", decided.mean(0)), ("std", spread))
        }

    def _outputs(self, rows: tables.Table) -> Float64[np.ndarray, "seed row output"]:
        networks = self.networks
        if networks.engine == "compiled":
            return networks.outputs(rows)
        with chdir(self.root), import_module(SWITCHES).settled(self.networks.network.bits):
            try:
                return networks.outputs(rows)
            finally:
                user_code.forget()  # a notebook may have modules of the same names


def load(variant: str) -> Trained:
    """Return the trained variant of the repository that the current folder belongs to. Raise BadInput."""
    root = files.root()
    with chdir(root):
        study: str = params_file.read().value(f"variants.{variant}.study")
        if index.of_models(study, [variant])[variant] != index.read(study).get(variant):
            raise BadInput(f"{files.model(study, variant)}: not evaluated yet; `dvc repro evaluate@{study}` does it")
        best, networks = evaluations.read(study).best_seeds.get(variant), saved.load(files.model(study, variant))
        if len(networks.diverged) == len(networks.seeds):
            raise BadInput(f"{variant}: every seed diverged, so there is no network to predict with; try a smaller lr")
        if best is None:
            problem = f"no best seed of {variant}; `dvc repro evaluate@{study}` writes them"
            raise BadInput(f"{files.evaluation(study) / 'leaderboard.csv'}: {problem}")
        if networks.network.module and not lockfile.here().agrees("code", Path("src")):
            raise BadInput(
                f"{variant}: src has changed since its training; `dvc repro evaluate@{study}` brings both up"
            )
        return Trained(root, variant, best, networks)


def predict(variant: str, table: Path, out: Path | None, seeds: Seeds) -> None:
    """Write the predictions for the rows of a file, whose columns are found by name, to `out` or to stdout."""
    import pandas as pd

    if out and out.exists() and not out.is_file():  # it would be replaced
        raise BadInput(f"{out}: is a {'folder' if out.is_dir() else 'device'}, not a file")
    trained = load(variant)
    names, preparation = trained.networks.feature_names, trained.networks.preparation
    of_words, study = preparation.word_columns(), trained.networks.study
    reading = _reading(trained, table, study)
    try:
        found = texts.read(table, reading)
        made = columns.cells(found, reading, {name: "words" if name in of_words else "numbers" for name in names})
    except BadInput as error:  # what it says to add would change the study's own table
        problem = str(error).partition("; add ")[0]
        todo = f"; the file needs a first line of names, and cells as params.yaml: studies.{study}.source says"
        raise BadInput(problem if ": no column " in problem else problem + todo) from None
    if extra := [name for name in found.header if name not in names]:
        print(f"{table}: not used by {variant}: {', '.join(extra)}", file=sys.stderr)
    features = np.column_stack([made[name].values for name in names])
    words = {name: made[name].words or [] for name in of_words}
    try:
        predicted = pd.DataFrame(trained.of_features(features, words, seeds))
    except Unprepared as error:
        where = f"{table}: {found.unit} {found.lines[error.row]}, column '{error.column}'"
        raise BadInput(f"{where}: {error.problem}") from None
    empty = dict(zip(names, np.isnan(features).sum(0).tolist(), strict=True))
    filled = [name for group in preparation.groups if group.fill for name in group.columns if empty[name]]
    told = [f"column '{name}': empty cells imputed: {empty[name]}" for name in filled]
    told += filter(None, [told_unknown(preparation.unknown(features, names, words))])
    if told:
        print(f"{table}: {'; '.join(told)}", file=sys.stderr)
    left_out = len(trained.networks.diverged)
    if seeds == "all" and left_out:
        print(f"{variant}: without {left_out} of {len(trained.networks.seeds)} seeds, which diverged", file=sys.stderr)
    if out:
        with files.whole(out) as unfinished:
            predicted.to_csv(unfinished, index=False, lineterminator="\n")
    else:
        print(predicted.to_csv(index=False, lineterminator="\n"), end="")


def _reading(trained: Trained, table: Path, study: str) -> Reading:
    """Return how the file is written: as the study's source says, but for names in its first line, or as parquet."""
    with chdir(trained.root):
        source = sources.of_study(params_file.read(), study)
    reading = source if isinstance(source, Reading) else Reading()
    return reading.model_copy(update=dict.fromkeys(texts.OF_TEXT if table.suffix == ".parquet" else ["header"]))
