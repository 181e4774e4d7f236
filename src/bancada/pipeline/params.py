"""All of params.yaml, checked before anything runs: the parts of all packages together.

`load()` refuses the file with one line that names the key as the user wrote it.
"""

from pathlib import Path
from typing import Any

from bancada.base import params_file, settings
from bancada.base.refusals import PARAMS_FILE, bad, did_you_mean
from bancada.data import sources
from bancada.data.settings import DataShape, Source, Split
from bancada.evaluation.settings import Comparison, check_predict
from bancada.networks.encoding import OF_PROBABILITIES, loss_name
from bancada.networks.metrics import METRICS, OF_WEIGHTS
from bancada.training.fit import refuse_misfit, refuse_stopping_without_rows, refuse_unfit_for_scratch
from bancada.training.settings import Common, Recipe, TrainingKeys, Variant

SCORED_BY = f"probabilities of classes: one of {', '.join(OF_PROBABILITIES)}"
LONGEST_HISTORY = 2**27  # epochs times seeds; each takes some 50 bytes of memory


class Study(Comparison):
    """What makes variants comparable: one data set, one split, one leaderboard."""

    source: dict[str, Any]
    split: Split
    train: dict[str, Any]


class Params(Common):
    """The whole of params.yaml."""

    studies: dict[settings.Name, Study]
    variants: dict[settings.Name, Variant]

    def variants_of(self, study: str) -> list[str]:
        """Return the names of a study's variants, in the order of the file."""
        return [name for name, variant in self.variants.items() if variant.study == study]

    def source(self, study: str) -> Source:
        """Return the study's source, checked."""
        return sources.load(self.studies[study].source, f"studies.{study}.source")

    def shape(self, study: str) -> DataShape | None:
        """Return the shape of the study's rows once they are split, or None if it is known only then."""
        source, column = self.source(study), self.studies[study].split.column
        made = source.table_shape()
        return made._replace(features=made.features - 1) if made and column and not source.names_features else made

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
        _check_study(name, params)
    for name in params.variants:
        _check_variant(name, params)
    for name in params.studies:
        _check_same_loss(name, params)
    return params


def _check_study(name: str, params: Params) -> None:
    key, study, source = f"studies.{name}", params.studies[name], params.source(name)
    shape, members, split = params.shape(name), params.variants_of(name), study.split
    if not members:
        raise bad(key, None, "no variant belongs to it")
    if study.baseline is not None and study.baseline not in members:
        raise bad(f"{key}.baseline", study.baseline, "no variant of this study" + did_you_mean(study.baseline, members))
    if shape:
        source.refuse_misfit(shape.features, f"{key}.source")
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
        if split.order:
            problem = "rows in order are always split alike, so there is no other draw of this table"
            raise bad(f"{key}.source.vary", source.vary, problem)
        draws = len(params.recipe(members[0]).seeds)
        if split.seed + draws > 2**32:
            raise bad(f"{key}.split.seed", split.seed, f"too large for {draws} draws; 2**32 ends them")
    if not source.has_classes and split.stratify:
        raise bad(f"{key}.split.stratify", True, "only classes can be stratified; the study predicts numbers")
    features = source.feature_names()
    if features is not None:
        features = [one for one in features if source.names_features or one != split.column]
        check_predict(name, study.predict, features, features if source.may_have_words else [])
    if study.decision_region and shape and shape.features != 2:
        raise bad(f"{key}.decision_region", None, f"two features can be drawn, not {shape.features}")
    if shape and shape.rows:
        try:
            split.counts(shape.rows)
        except ValueError as error:
            raise bad(f"{key}.split", None, str(error)) from None


def _check_variant(name: str, params: Params) -> None:
    keys, study = params.training(name), params.variants[name].study
    search = keys.search()
    trainings = max(len(keys.recipe().seeds), search.trials * search.seeds if search else 0)
    _check_training(keys, params.studies[study], params.shape(study), trainings)
    refuse_search(keys, params.studies[study], params.source(study))
    keys.at_ends(lambda at: _check_training(at, params.studies[study], params.shape(study), trainings))


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


def _check_training(keys: TrainingKeys, study: Study, shape: DataShape | None, trainings: int) -> None:
    recipe = keys.recipe()
    if recipe.train.epochs * trainings > LONGEST_HISTORY:
        problem = f"too many for {trainings} seeds; epochs times seeds may be {LONGEST_HISTORY}"
        raise bad(keys.written_at("epochs"), recipe.train.epochs, problem)
    if recipe.scratch:
        refuse_unfit_for_scratch(keys)
    refuse_stopping_without_rows(keys, study.split.validation not in (0, "test"))
    if METRICS[study.metric].of_scores and loss_name(recipe.train.loss) not in OF_PROBABILITIES:
        raise bad(keys.written_at("loss"), loss_name(recipe.train.loss), f"{study.metric} needs {SCORED_BY}")
    if shape is None:
        return
    rows = study.split.counts(shape.rows)[0] if shape.rows and not study.split.grouped else 0
    refuse_misfit(keys, shape._replace(rows=rows, features=0 if recipe.train.prepare else shape.features))
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
