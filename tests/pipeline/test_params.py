"""params.yaml at the door: what is refused, in which words, and who overrides whom."""

from pathlib import Path

import pytest

from bancada.base import BadInput
from bancada.pipeline.beforehand import refuse_bad_data
from bancada.pipeline.params import Params, load
from bancada.pipeline.repro import tell_overruled

SMALL = """
seed: 1
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  line:
    source: {kind: linear, rows: 100, weights: [2, -3.4], bias: 4.2, noise_std: 0.01, seed: 5}
    split: {train: 80, validation: 20}
    metric: mse
    baseline: plain
    predict: [{x1: 0.5, x2: 1}, [0.5, 1]]
    train: {loss: mse, lr: 0.01, batch_size: 32, epochs: 4}
  moons:
    source: {kind: half_moons, rows: 30, radius: 10, distance: -4, width: 6, seed: 1}
    split: {train: 0.8, test: 0.2, validation: test, stratify: true}
    metric: error_rate_percent
    train: {loss: mse, lr: 0.5, batch_size: full, epochs: 4}
  file:
    source: {kind: csv, path: data/sources/a.csv, task: regression, features: [a, b], targets: [c]}
    split: {train: 1.0}
    metric: mse
    train: {loss: mse, lr: 0.5, batch_size: full, epochs: 4}
variants:
  plain: {study: line, layers: [1]}
  own: {study: line, layers: [{linear: 3, bias: false}, batch_norm, tanh, {dropout: 0.1}, 1],
        train: {lr: 0.5, batch_size: 10}}
  moon: {study: moons, layers: [5, tanh, 1, tanh]}
  filed: {study: file, layers: [1]}
"""

# what the user writes instead of what -> the line that refuses it
REFUSED = {
    # unknown keys and words, with the nearest right one
    ("seed: 1\n", "sed: 1\n"): "sed: unknown key; did you mean 'seed'?",
    ("weights: [2", "weight: [2"): "studies.line.source.weight: unknown key; did you mean 'weights'?",
    ("epochs: 4}", "epochs: 4, momentun: 0}"): "studies.line.train.momentun: unknown key",
    ("{lr: 0.5,", "{lrr: 0.5,"): "variants.own.train.lrr: unknown key; did you mean 'lr'?",
    ("bias: false", "biass: false"): "variants.own.layers[0].biass: unknown key; did you mean 'bias'?",
    ("dropout: 0.1", "dropuot: 0.1"): "variants.own.layers[3].dropuot: unknown key; did you mean 'dropout'?",
    ("study: line, layers: [1]", "study: lines, layers: [1]"): (
        "variants.plain.study = lines: unknown study; did you mean 'line'?"
    ),
    ("baseline: plain", "baseline: plian"): (
        "studies.line.baseline = plian: no variant of this study; did you mean 'plain'?"
    ),
    (
        "kind: half_moons",
        "kind: halfmoons",
    ): "studies.moons.source.kind = halfmoons: must be one of classification, csv, half_moons,",
    ("[5, tanh,", "[5, than,"): "variants.moon.layers[1] = than: must be one of linear, tanh, relu, sigmoid, softmax,",
    ("{loss: mse, lr: 0.01", "{loss: msee, lr: 0.01"): "studies.line.train.loss = msee: must be one of mse, half_mse,",
    ("{lr: 0.5,", "{lr: 0.5, optimizer: adamm,"): (
        "variants.own.train.optimizer = adamm: must be one of sgd, adam, adamw, or a class of torch by its own name, "
        "such as AdamW; did you mean 'adam'?"
    ),
    ("[5, tanh, 1, tanh]", "[5, gelu, 1]"): (
        "variants.moon.layers[1] = gelu: must be one of linear, tanh, relu, sigmoid, softmax, dropout, batch_norm, or "
        "a class of torch by its own name, such as GELU"
    ),
    ("[5, tanh, 1, tanh]", "[5, {Dropout: 0.1}, 1]"): (
        "variants.moon.layers[1]: write {Dropout: {ARGUMENT: VALUE}}, with the names of torch's arguments"
    ),
    ("{loss: mse, lr: 0.01", "{loss: {HuberLoss: {delta: 2}}, lr: 0.01"): (
        "studies.line.train.loss: write {name: HuberLoss, ARGUMENT: VALUE}"
    ),
    # what JSON cannot keep
    ("[5, tanh, 1, tanh]", "[5, {Hardtanh: {max_val: .inf}}, 1]"): (
        "variants.moon.layers[1].max_val = inf: must be a finite number, a text, true, false or null, or a list"
    ),
    ("{lr: 0.5,", "{lr: 0.5, optimizer: {name: Adam, betas: [0.9, .nan]},"): (
        "variants.own.train.optimizer.betas = [0.9, nan]: must be a finite number"
    ),
    ("layers: [5, tanh, 1, tanh]", "module: {file: src/models/x.py, name: Net, args: {since: 2024-01-02}}"): (
        "variants.moon.module.args.since = 2024-01-02: must be a finite number"
    ),
    ("layers: [5, tanh, 1, tanh]", "module: {file: src/models/x.py, name: Net, args: {sizes: {1: 2}}}"): (
        "variants.moon.module.args.sizes = {1: 2}: must be a finite number, a text, true, false or null, or a list"
    ),
    ("{lr: 0.5,", "{lr: 0.5, optimizer: {name: adamm},"): "variants.own.train.optimizer.name = adamm: must be one of",
    ("{lr: 0.5,", "{lr: 0.5, optimizer: {momentum: 0},"): "variants.own.train.optimizer.name: missing",
    ("metric: mse", "metric: mze"): "studies.line.metric = mze: must be one of loss, error_rate_percent, mse,",
    ("device: cpu", "device: gpu"): "device = gpu: must be one of cpu, cuda; did you mean 'cpu'?",
    ("  plain: {", "  my plain: {"): "variants.my plain: a name is made of letters, digits, - and _",
    # types
    ("seed: 1\n", "seed: one\n"): "seed = one: must be a whole number",
    ("num_seeds: 2", "num_seeds: 2.5"): "num_seeds = 2.5: must be a whole number",
    ("lr: null", "lr: fast"): "lr = fast: must be a number",
    ("lr: null", "lr: '1e-05'"): "lr = 1e-05: must be a number",
    (
        "[5, tanh,",
        "[[5], tanh,",
    ): "variants.moon.layers[0]: must be a number of units, the name of a layer, or a mapping",
    ("{linear: 3,", "{linear: three,"): "variants.own.layers[0].linear = three: must be a whole number",
    ("bias: false", "bias: 0"): "variants.own.layers[0].bias = 0: must be true or false",
    ("[5, tanh, 1, tanh]", "5"): "variants.moon.layers = 5: must be a list",
    ("batch_size: 32", "batch_size: ful"): (
        "studies.line.train.batch_size = ful: must be a whole number or full; did you mean 'full'?"
    ),
    ("batch_size: 32", "batch_size: 2.5"): "studies.line.train.batch_size = 2.5: must be a whole number or full",
    ("validation: test", "validation: tset"): (
        "studies.moons.split.validation = tset: must be a number or test; did you mean 'test'?"
    ),
    ("train: {loss: mse, lr: 0.01", "train: 5 #"): "studies.line.train = 5: must be a mapping",
    (SMALL, "- a list"): "a mapping with seed, num_seeds, studies and variants is expected",
    # impossible numbers
    ("lr: null", "lr: -0.5"): "lr = -0.5: must be greater than 0",
    ("lr: null", "lr: 1.0e+39"): "lr = 1e+39: must be less than or equal to 3.40282e+38",
    ("lr: null", "lr: 2024-99-99"): "a value cannot be read: ",
    ("lr: null", "lr: .nan"): "lr = nan: must be a finite number",
    ("lr: null", "lr: .inf"): "lr = inf: must be a finite number",
    ("{lr: 0.5,", "{lr: -0.5,"): "variants.own.train.lr = -0.5: must be greater than 0",
    ("batch_size: 32", "batch_size: 0"): "studies.line.train.batch_size = 0: must be greater than 0",
    ("epochs: 4", "epochs: 0"): "studies.line.train.epochs = 0: must be greater than 0",
    ("num_seeds: 2", "num_seeds: 0"): "num_seeds = 0: must be greater than or equal to 1",
    ("{lr: 0.5,", "{lr: 0.5, num_seeds: 3,"): (
        "variants.own.train.num_seeds = 3: variants are compared seed by seed: set studies.line.train.num_seeds"
    ),
    ("rows: 100", "rows: -100"): "studies.line.source.rows = -100: must be greater than 0",
    ("dropout: 0.1", "dropout: 1"): "variants.own.layers[3].dropout = 1: must be less than 1",
    ("[5, tanh, 1", "[0, tanh, 1"): "variants.moon.layers[0] = 0: must be greater than 0",
    ("[5, tanh, 1, tanh]", "[]"): "variants.moon.layers: must have at least 1 item, not 0",
    ("validation: 20", "validation: -20"): ("studies.line.split.validation = -20: must be greater than or equal to 0"),
    ("num_seeds: 2", "num_seeds: 1001"): "num_seeds = 1001: must be less than or equal to 1000",
    (
        "rows: 100",
        "rows: 10000000000",
    ): "studies.line.source.rows = 10000000000: must be less than or equal to 100000000",
    ("[5, tanh, 1", "[50000, tanh, 1"): "variants.moon.layers[0] = 50000: must be less than or equal to 10000",
    ("epochs: 4", "epochs: 100000000"): "studies.line.train.epochs = 100000000: too many for 2 seeds",
    # keys that are not there
    ("lr: null\n", ""): "lr: missing",
    ("device: cpu\n", ""): "device: missing",
    ("    train: {loss: mse, lr: 0.01, batch_size: 32, epochs: 4}\n", ""): "studies.line.train: missing",
    ("epochs: 4}", "}"): "variants.plain.train.epochs: missing",
    ("rows: 100, ", ""): "studies.line.source.rows: missing",
    ("kind: linear, ", ""): "studies.line.source.kind: must be one of classification, csv,",
    ("study: line, layers: [1]", "layers: [1]"): "variants.plain.study: missing",
    # what does not fit together
    ("layers: [1]", "layers: [2]"): "variants.plain.layers: the output has 2 units, but there are 1 targets",
    ("[5, tanh, 1, tanh]", "[5, tanh, 3]"): "variants.moon.layers: the output has 3 units, but there are 2 classes",
    ("[5, tanh, 1, tanh]", "[tanh]"): "variants.moon.layers: at least one linear layer is needed",
    ("[5, tanh, 1, tanh]", "[5, tanh, 1, tanh], train: {loss: bce}"): (
        "variants.moon.layers: bce needs a sigmoid as the last layer, not tanh"
    ),
    ("[5, tanh, 1, tanh]", "[5, tanh, 1, sigmoid, batch_norm], train: {loss: bce}"): (
        "variants.moon.layers: bce needs a sigmoid as the last layer, not batch_norm"
    ),
    ("[5, tanh, 1, tanh]", "[5, tanh, 1, sigmoid, {dropout: 0.1}], train: {loss: bce}"): (
        "variants.moon.layers: dropout as the last layer would give zeros"
    ),
    ("[5, tanh, 1, tanh]", "[5, tanh, 1, tanh, {dropout: 0.1}]"): "variants.moon.layers: dropout as the last layer",
    ("{lr: 0.5,", "{init: {name: given, weights: [], biases: []},"): (
        "variants.own.train.init: 2 linear layers need as many weights and biases"
    ),
    ("line, layers: [1]", "line, layers: [1], train: {init: {name: given, weights: [[[2]]], biases: [[0]]}}"): (
        "variants.plain.train.init.weights[0]: must be 1 row of 2 numbers"
    ),
    ("line, layers: [1]", "line, layers: [1], train: {init: {name: given, weights: [[[2, 3]]], biases: [[]]}}"): (
        "variants.plain.train.init.biases[0]: must be 1 number"
    ),
    ("  filed: {study: file, layers: [1]}\n", ""): "studies.file: no variant belongs to it",
    ("{lr: 0.5,", "{loss: bce,"): "variants.own.train.loss = bce: needs classes, but the study predicts numbers",
    ("{loss: mse, lr: 0.01", "{loss: bce, lr: 0.01"): "studies.line.train.loss = bce: needs classes,",
    ("metric: error_rate_percent", "metric: roc_auc"): (
        "studies.moons.train.loss = mse: roc_auc needs probabilities of classes: one of cross_entropy,"
    ),
    ("metric: error_rate_percent", "metric: error_rate_percent\n    fails_below: 5"): (
        "studies.moons.fails_below: of error_rate_percent, lower is better: use fails_above"
    ),
    ("metric: error_rate_percent", "metric: mae"): "studies.moons.metric = mae: the study predicts classes",
    ("task: regression", "task: classification"): "studies.file.metric = mse: the study predicts classes",
    ("metric: mse\n    baseline", "metric: error_rate_percent\n    baseline"): (
        "studies.line.metric = error_rate_percent: the study predicts numbers"
    ),
    ("validation: 20", "validation: 20, stratify: true"): "studies.line.split.stratify = True: only classes can be",
    # splits
    ("train: 80", "train: 81"): "studies.line.split: the parts add up to 101, but the data have 100 rows",
    ("train: 80", "train: 0.8"): "studies.line.split: write all parts as rows or all as fractions",
    ("test: 0.2", "test: 0.3"): "studies.moons.split: the fractions add up to 1.1, not to 1",
    ("test: 0.2,", ""): "studies.moons.split: validation: test needs rows for test",
    ("validation: 20}", "validation: 20, groups: x1}"): (
        "studies.line.split: with groups, the parts are fractions of the groups, such as train: 0.8, test: 0.2"
    ),
    ("stratify: true", "stratify: true, copies: together"): "studies.moons.split: copies and stratify exclude each",
    ("{train: 1.0}", "{train: 1.0, copies: apart}"): "studies.file.split.copies = apart: must be one of together",
    ("targets: [c]}\n    split: {train: 1.0", "targets: [c], ignore: [d]}\n    split: {train: 1.0, order: d"): (
        "studies.file.split.order = d: is in source.ignore, so that data/raw lacks it; take it out of there"
    ),
    # the column that splits is no feature
    ("test, stratify: true}", "test, order: x}\n    decision_region: [[0, 1], [0, 1]]"): (
        "studies.moons.decision_region: two features can be drawn, not 1"
    ),
    # the number of training rows is known once the groups are
    ("train: 0.8, test: 0.2, validation: test, stratify: true", "train: 0.5, test: 0.5, copies: together"): None,
    ("batch_size: full, epochs: 4}\n  file", "batch_size: 29, epochs: 4}\n  file"): (
        "studies.moons.train.batch_size = 29: larger than the training set of 24 rows"
    ),
    # batches: the key where it is written
    ("batch_size: 32", "batch_size: 81"): (
        "studies.line.train.batch_size = 81: larger than the training set of 80 rows"
    ),
    ("batch_size: 10", "batch_size: 81"): (
        "variants.own.train.batch_size = 81: larger than the training set of 80 rows"
    ),
    ("batch_size: 10", "batch_size: 79"): (
        "variants.own.train.batch_size = 79: batch_norm of own cannot learn from a batch of one row"
    ),
    ("batch_size: 32", "batch_size: 79"): None,
    # new inputs
    ("[{x1: 0.5, x2: 1}", "[{x1: 0.5, y2: 1}"): "studies.line.predict[0].y2: unknown feature; did you mean 'x2'?",
    ("[{x1: 0.5, x2: 1}", "[{x1: 0.5}"): "studies.line.predict[0].x2: missing",
    ("[0.5, 1]", "[0.5]"): "studies.line.predict[1]: 1 values, but the features are 2: x1, x2",
    ("[0.5, 1]", "[0.5, big]"): "studies.line.predict[1][1] = big: must be a number",
    ("[{x1: 0.5, x2: 1}", "[{x1: big, x2: 1}"): "studies.line.predict[0].x1 = big: must be a number",
    # files
    ("data/sources/a.csv", "/tmp/a.csv"): "studies.file.source.path = /tmp/a.csv: must lie in data/sources",
    (
        "data/sources/a.csv",
        "data/sources/../a.csv",
    ): "studies.file.source.path = data/sources/../a.csv: must lie in data/sources",
    ("features: [a, b]", "features: [a, a]"): "studies.file.source.features: 'a' is named twice",
    ("features: [a, b]", "features: [a, c]"): "studies.file.source: 'c' is both a feature and a target",
    # YAML
    ("seed: 1\n", "seed: 1\nseed: 1\n"): 'line 3 found duplicate key "seed"',
    ("seed: 1\n", "seed: [1\n"): "line 3 expected ',' or ']'",
    ("seed: 1\n", "seed: \0\n"): "unacceptable character",
}


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Params from a text, by load() in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> Params:
        Path("params.yaml").write_text(text)
        return load()

    return written


@pytest.mark.parametrize(("edit", "said"), REFUSED.items(), ids=[f"{old}->{new}"[:60] for old, new in REFUSED])
def test_a_wrong_parameter_is_refused_with_one_line_that_names_it(loaded, edit, said):
    old, new = edit
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    if said is None:
        loaded(text)
        return
    with pytest.raises(BadInput) as refused:
        loaded(text)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"params.yaml: {said}")


def test_variants_are_not_ordered_by_losses_of_different_kinds(loaded):
    by_loss = SMALL.replace("metric: mse", "metric: loss", 1)
    loaded(by_loss)
    line = r"^params\.yaml: studies\.line\.metric = loss: the losses .* cannot be compared \(plain: mse, own: l1\)$"
    with pytest.raises(BadInput, match=line):
        loaded(by_loss.replace("{lr: 0.5,", "{loss: l1,"))


def test_a_missing_or_unreadable_file_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^params\.yaml: No such file or directory$"):
        load()
    Path("params.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(BadInput, match=r"^params\.yaml: not a text in UTF-8"):
        load()


@pytest.mark.parametrize("written", ["1e-05", "1E-5", "0.00001", "1.0e-5"])
def test_a_small_rate_is_a_number_however_it_is_written(loaded, written):
    assert loaded(SMALL.replace("lr: null", f"lr: {written}")).lr == 0.00001
    assert loaded(SMALL.replace("lr: 0.5, batch", f"lr: {written}, batch")).variants["own"].train["lr"] == 0.00001


def test_a_variant_overrides_its_study_key_by_key_and_the_top_level_lr_overrides_both(loaded):
    params = loaded(SMALL)
    plain, own = params.recipe("plain"), params.recipe("own")
    assert (plain.train.lr, plain.train.batch_size, plain.train.epochs) == (0.01, 32, 4)
    assert (own.train.lr, own.train.batch_size, own.train.epochs) == (0.5, 10, 4)
    assert plain.seeds == [1, 2]
    params = loaded(SMALL.replace("lr: null", "lr: 0.25"))
    assert [params.recipe(name).train.lr for name in params.variants] == [0.25, 0.25, 0.25, 0.25]


def test_every_replaced_key_is_named(loaded):
    params = loaded(SMALL)
    own = [
        "variants.own.train.lr = 0.5 replaces studies.line.train.lr = 0.01",
        "variants.own.train.batch_size = 10 replaces studies.line.train.batch_size = 32",
    ]
    assert params.training("plain").overrides() == []
    assert params.training("own").overrides() == own
    assert params.training("own").overruled() == ""
    same = loaded(SMALL.replace("lr: 0.5", "lr: 0.01"))
    assert same.training("own").overrides() == own[1:]
    params = loaded(SMALL.replace("lr: null", "lr: 0.25"))
    assert params.training("plain").overruled() == "lr = 0.25 replaces studies.line.train.lr = 0.01"
    assert params.training("own").overruled() == "lr = 0.25 replaces variants.own.train.lr = 0.5"
    params = loaded(SMALL.replace("lr: null", "lr: 0.01"))
    assert params.training("plain").overruled() == ""  # the same rate


def test_the_num_seeds_of_a_study_replaces_the_one_at_the_top(loaded):
    params = loaded(SMALL.replace("mse, lr: 0.01", "mse, num_seeds: 3, lr: 0.01"))
    assert {name: params.recipe(name).seeds for name in params.variants} == {
        **{"plain": [1, 2, 3], "own": [1, 2, 3]},
        **{"moon": [1, 2], "filed": [1, 2]},
    }
    told = "studies.line.train.num_seeds = 3 replaces num_seeds = 2"
    assert [params.training(name).overruled() for name in params.variants] == [told, told, "", ""]
    more = loaded(SMALL.replace("num_seeds: 2", "num_seeds: 3"))
    assert more.recipe("own") == params.recipe("own")  # so that finished seeds are not trained again
    same = loaded(SMALL.replace("mse, lr: 0.01", "mse, num_seeds: 2, lr: 0.01"))
    assert same.training("plain").overruled() == ""
    both = loaded(SMALL.replace("mse, lr: 0.01", "mse, num_seeds: 3, lr: 0.01").replace("lr: null", "lr: 0.25"))
    assert both.training("own").overruled() == f"lr = 0.25 replaces variants.own.train.lr = 0.5; {told}"


def test_a_new_input_that_float32_cannot_hold_once_it_is_standardized_is_refused_before_anything_runs(loaded):
    text = SMALL.replace("[0.5, 1]]", "[0.5, -3.402823e+38]]").replace("epochs: 4}", "epochs: 4, standardize: true}", 1)
    params = loaded(text.replace("noise_std: 0.01, seed: 5", "noise_std: 0.01, seed: 11"))  # x2 has an sd below 1
    message = (
        r"^params.yaml: studies.line.predict\[1\].x2 = -3.402823e\+38: too large for plain, which standardizes it$"
    )
    with pytest.raises(BadInput, match=message):
        refuse_bad_data(params, {"line"}, set())


def test_a_batch_larger_than_the_training_rows_of_some_groups_is_refused_once_these_are_known(loaded, capsys):
    """And the copies are told by the check before a run."""
    split = "split: {train: 0.5, test: 0.5}"
    table = "".join(f"{row // 25},{row % 2},{row}\n" for row in range(50))  # a group of 25 rows, and another one
    text = SMALL.replace("features: [a, b]", "features: [b]").replace("split: {train: 1.0}", split)
    Path("data/sources").mkdir(parents=True)
    Path("data/sources/a.csv").write_text(f"a,b,c\n{table}")
    whole = "batch_size: full, epochs: 4}\nvariants"
    grouped = text.replace(split, split.replace("}", ", groups: a}"))
    refuse_bad_data(loaded(grouped.replace(whole, whole.replace("full", "25"))), {"file"}, set())
    told = "25 of 25 test rows stand among the training rows, too (0 with the same target, 25 with another)"
    assert told in capsys.readouterr().out
    too_large = r"^params.yaml: studies.file.train.batch_size = 26: larger than the training set of 25 rows$"
    with pytest.raises(BadInput, match=too_large):
        refuse_bad_data(loaded(grouped.replace(whole, whole.replace("full", "26"))), {"file"}, set())


def test_the_rates_that_the_lr_at_the_top_replaces_are_told_once_at_the_end(loaded, capsys):
    tell_overruled(loaded(SMALL), ["own"])
    assert capsys.readouterr().err == ""
    params = loaded(SMALL.replace("lr: null", "lr: 0.25"))
    tell_overruled(params, [*params.variants])
    told = capsys.readouterr().err
    assert told.startswith(
        "\nparams.yaml: lr = 0.25 replaces studies.line.train.lr = 0.01, variants.own.train.lr = 0.5"
    )
    tell_overruled(params, ["own"])
    assert " replaces variants.own.train.lr = 0.5; " in capsys.readouterr().err
    assert told.endswith("`lr: null` at the top of params.yaml lets each have its own\n")


def test_a_recipe_can_be_read_back_from_its_dump(loaded):
    recipe = loaded(SMALL).recipe("own")
    assert type(recipe).model_validate(recipe.model_dump()) == recipe


def test_a_named_feature_stays_one_where_the_split_is_by_it(loaded):
    """So two features are left to be drawn."""
    source = "{kind: classification, class_counts: {0: 9, 1: 9}, features: [a, b], target: c, seed: 1}"
    moons = "{kind: half_moons, rows: 30, radius: 10, distance: -4, width: 6, seed: 1}"
    by_b = "split: {train: 0.8, test: 0.2, validation: test, order: b}\n    decision_region: [[0, 1], [0, 1]]"
    split = "split: {train: 0.8, test: 0.2, validation: test, stratify: true}"
    loaded(SMALL.replace(moons, source).replace(split, by_b))
