"""All of params.yaml, checked before anything runs: the parts of all packages together.

`load()` refuses the file with one line that names the key as the user wrote it.
"""

from pathlib import Path
from typing import Any

from bancada.base import params_file, settings
from bancada.base.refusals import PARAMS_FILE, bad, did_you_mean
from bancada.base.tables import Table
from bancada.data import sources
from bancada.data.settings import DataShape, Source, Split
from bancada.data.split import features_of, refuse_other_shape
from bancada.evaluation.settings import Comparison, check_predict
from bancada.networks.encoding import OF_PROBABILITIES, loss_name
from bancada.networks.metrics import METRICS, OF_WEIGHTS
from bancada.training.fit import refuse_misfit, refuse_stopping_without_rows, refuse_unfit_for_scratch
from bancada.training.settings import Common, Recipe, TrainingKeys, Variant

SCORED_BY = f"probabilities of classes: one of {', '.join(OF_PROBABILITIES)}"
LONGEST_HISTORY = 2**27  # epochs times seeds; each takes some 50 bytes of memory


class Study(Comparison):
    """What makes variants comparable: one data set, one split, one leaderboard."""

    source: dict[str, Any]  # where the rows come from: the keys of one kind, below
    split: Split
    train: dict[str, Any]  # keys of `train`, below, for all variants of the study


class Params(Common):
    """The whole of params.yaml: seeds and switches for all, then studies and variants by name."""

    studies: dict[settings.Name, Study]  # each is one data set, one split, one leaderboard
    variants: dict[settings.Name, Variant]  # each is a network that belongs to a study

    def variants_of(self, study: str) -> list[str]:
        """Return the names of a study's variants, in the order of the file."""
        return [name for name, variant in self.variants.items() if variant.study == study]

    def source(self, study: str) -> Source:
        """Return the study's source, checked."""
        return sources.load(self.studies[study].source, f"studies.{study}.source")

    def training(self, variant: str) -> TrainingKeys:
        """Return the keys that a variant's training depends on."""
        chosen = self.variants[variant]
        return TrainingKeys(variant, chosen, self.studies[chosen.study].train, self)

    def recipe(self, variant: str) -> Recipe:
        """Return what a variant's training obeys."""
        return self.training(variant).recipe()


def load(path: Path = Path(PARAMS_FILE)) -> Params:
    """Read and check the whole file. Raise BadInput, which names the first key that cannot be used."""
    params = settings.checked(Params, params_file.read(path).raw, "")
    for name, variant in params.variants.items():
        if variant.study not in params.studies:
            hint = did_you_mean(variant.study, params.studies)
            raise bad(f"variants.{name}.study", variant.study, "unknown study" + hint)
    for name in params.studies:
        rows = _check_study(name, params)
        for member in params.variants_of(name):
            _check_variant(member, params, rows)
        _check_same_loss(name, params)
    return params


def _check_study(name: str, params: Params) -> Table | None:
    """Return the study's rows where they are computed here in no time; a table is read, and checked, before a run."""
    key, study, source = f"studies.{name}", params.studies[name], params.source(name)
    members, split = params.variants_of(name), study.split
    if not members:
        raise bad(key, None, "no variant belongs to it")
    if study.baseline is not None and study.baseline not in members:
        raise bad(f"{key}.baseline", study.baseline, "no variant of this study" + did_you_mean(study.baseline, members))
    target = "classes" if source.has_classes else "numbers"
    if METRICS[study.metric].of in {"classes", "numbers"} - {target}:
        fitting = ", ".join(name for name, metric in METRICS.items() if metric.of in (target, "loss"))
        raise bad(f"{key}.metric", study.metric, f"the study predicts {target}: one of {fitting}")
    if study.metric in OF_WEIGHTS and source.kind != "linear":
        raise bad(f"{key}.metric", study.metric, "the true weights are known for source.kind = linear alone")
    if split.column in getattr(source, "ignore", ()):
        key = f"{key}.split.{'groups' if split.groups else 'order'}"
        raise bad(key, split.column, "is in source.ignore, so that data/raw lacks it; take it out of there")
    if "data" in source.vary and not source.has_seed:
        if split.order or split.test == split.validation == 0:
            always = "rows in order are always split alike" if split.order else "nothing is held out"
            raise bad(f"{key}.source.vary", source.vary, f"{always}, so there is no other draw of this table")
        draws = len(params.recipe(members[0]).seeds)
        if split.seed + draws > 2**32:
            raise bad(f"{key}.split.seed", split.seed, f"too large for {draws} draws; 2**32 ends them")
    if not source.has_classes and split.stratify:
        raise bad(f"{key}.split.stratify", True, "only classes can be stratified; the study predicts numbers")
    return _check_computed(name, params) if source.computed and source.has_seed else None


def _check_computed(name: str, params: Params) -> Table:
    key, study, source = f"studies.{name}", params.studies[name], params.source(name)
    try:
        rows = features_of(source.unrounded(f"{key}.source"), study.split)
        study.split.counts(len(rows))
    except ValueError as error:
        raise bad(f"{key}.split", None, str(error)) from None
    refuse_other_shape(rows, key)
    check_inputs(name, study, rows)
    return rows


def check_inputs(name: str, study: Study, rows: Table) -> None:
    """Raise BadInput if the study's new inputs, or the region to be drawn, are not of the features of its rows."""
    features = rows.feature_names
    check_predict(name, study.predict, features, rows.words)
    if study.decision_region and len(features) != 2:
        raise bad(f"studies.{name}.decision_region", None, f"two features can be drawn, not {len(features)}")


def _check_variant(name: str, params: Params, rows: Table | None) -> None:
    keys, variant = params.training(name), params.variants[name]
    study = params.studies[variant.study]
    search = keys.search()
    trainings = max(len(keys.recipe().seeds), search.trials * search.seeds if search else 0)
    _check_training(keys, study, rows, trainings)
    refuse_search(keys, study, params.source(variant.study))
    keys.at_ends(lambda at: _check_training(at, study, rows, trainings))


def refuse_search(keys: TrainingKeys, study: Study, source: Source) -> None:
    """Raise BadInput if the variant searches, but the study has no scores on validation rows that may choose."""
    search, where = keys.search(), keys.written_at("search")
    if search is None:
        return
    if keys.variant.scratch:
        raise bad(f"variants.{keys.name}.scratch", True, "training from scratch has no search; write search: null")
    if study.split.validation in (0, "test"):
        problem = "needs validation rows of its own, because test rows may not choose; see split.validation"
        raise bad(where, None, problem)
    if "data" in source.vary and not source.has_seed:
        problem = (
            "the study's source has vary: [seed, data], so validation rows of one split are training rows of others"
        )
        raise bad(where, None, f"{problem}; take data out of source.vary")
    if study.metric in OF_WEIGHTS:
        raise bad(where, None, f"the study's metric chooses, and {study.metric} is none of validation rows")
    if study.metric == "loss" and any(key.partition(".")[0] == "loss" for key in search.space):
        raise bad(f"{where}.space.loss", None, "the study's metric, its loss, would not be the same for all trials")


def _check_training(keys: TrainingKeys, study: Study, rows: Table | None, trainings: int) -> None:
    recipe = keys.recipe()
    if recipe.train.epochs * trainings > LONGEST_HISTORY:
        problem = f"too many for {trainings} seeds; epochs times seeds may be {LONGEST_HISTORY}"
        raise bad(keys.written_at("epochs"), recipe.train.epochs, problem)
    if recipe.scratch:
        refuse_unfit_for_scratch(keys)
    refuse_stopping_without_rows(keys, study.split.validation not in (0, "test"))
    if METRICS[study.metric].of_scores and loss_name(recipe.train.loss) not in OF_PROBABILITIES:
        raise bad(keys.written_at("loss"), loss_name(recipe.train.loss), f"{study.metric} needs {SCORED_BY}")
    if rows is None:
        return
    count = 0 if study.split.grouped else study.split.counts(len(rows))[0]
    features = 0 if recipe.train.prepare else len(rows.feature_names)
    refuse_misfit(keys, DataShape(features, len(rows.target_names), len(rows.classes), count, rows.classes))
    if study.metric in OF_WEIGHTS and not recipe.network.one_linear:
        raise bad(f"variants.{keys.name}.layers", None, f"{study.metric} is known for a single linear layer alone")


def _check_same_loss(study: str, params: Params) -> None:
    trains = {name: params.recipe(name).train for name in params.variants_of(study)}
    losses = {
        name: (train.loss, bool(train.prepare and train.prepare.targets.standardize)) for name, train in trains.items()
    }
    first = next(iter(losses.values()))
    if params.studies[study].metric == "loss" and any(loss != first for loss in losses.values()):
        of = {False: "", True: " of standardized targets"}
        each = ", ".join(f"{name}: {loss_name(loss)}{of[scaled]}" for name, (loss, scaled) in losses.items())
        raise bad(f"studies.{study}.metric", "loss", f"the losses of its variants cannot be compared ({each})")
