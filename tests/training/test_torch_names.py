"""Every class of torch in params.yaml either trains as a plain PyTorch loop does, or is refused by name."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch_by_hand import COMMON, TRAIN, WHERE, by_hand, classes, numbers, replica, same, trained

from bancada.base import BadInput, tables
from bancada.networks.encoding import OF_CLASS_INDEX, OF_NUMBERS, OF_TWO_CLASSES
from bancada.pipeline.beforehand import refuse_bad_data
from bancada.pipeline.params import load
from bancada.training import torch_names
from bancada.training.replica import try_first_batch
from bancada.training.settings import TrainingKeys, Variant


def classes_of(module: Any, base: type) -> list[str]:
    return sorted(name for name, made in vars(module).items() if isinstance(made, type) and issubclass(made, base))


def refusal(layers: list[Any] | None = None, data: Any = None, **train: Any) -> str:
    with pytest.raises(BadInput) as error:
        trained(replica(layers, **train), data or numbers())
    assert "\n" not in str(error.value)
    return str(error.value)


# --- all of torch.optim, lr_scheduler and the losses of torch.nn -----------------------------------------------------

REFUSED_OPTIMIZERS = {"LBFGS": "closure", "SparseAdam": "dense", "Muon": "2D", "Optimizer": "no such class"}


@pytest.mark.parametrize("name", classes_of(torch.optim, torch.optim.Optimizer))
def test_each_optimizer_of_torch_trains_as_a_plain_loop_or_is_refused_by_name(name: str) -> None:
    if name in REFUSED_OPTIMIZERS:
        line = refusal(optimizer=name)
        assert line.startswith(f"params.yaml: variants.mine.train.optimizer = {name}: ")
        assert REFUSED_OPTIMIZERS[name] in line
        return
    asked, made = replica(optimizer=name), getattr(torch.optim, name)
    same(trained(asked, numbers()), by_hand(asked, numbers(), nn.MSELoss(), lambda values: made(values, lr=0.01)))


SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.5},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 2},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 0.9},
    "CyclicLR": {"max_lr": 0.1, "step_size_up": 2},
    "OneCycleLR": {"max_lr": 0.1},
}
GIVEN = {"CyclicLR": {"base_lr": 0.01}, "OneCycleLR": {"total_steps": 9}}  # 3 epochs of 3 updates


@pytest.mark.parametrize("name", classes_of(lr_scheduler, lr_scheduler.LRScheduler))
def test_each_schedule_of_torch_trains_as_a_plain_loop_or_is_refused_by_name(name: str) -> None:
    if name not in SCHEDULES:
        with pytest.raises(BadInput, match=rf"^params.yaml: variants.mine.train.schedule( = {name}: |.\w+: missing$)"):
            trained(replica(schedule=name), numbers())
        return
    args, sgd = SCHEDULES[name], lambda values: torch.optim.SGD(values, lr=0.01, momentum=0.9)
    asked = replica(optimizer={"name": "SGD", "momentum": 0.9}, schedule={"name": name, **args}, epochs=3)
    expected = by_hand(
        asked,
        numbers(),
        nn.MSELoss(),
        sgd,
        lambda optimizer: getattr(lr_scheduler, name)(optimizer, **args, **GIVEN.get(name, {})),
        "update" if name in GIVEN else "epoch",
    )
    same(trained(asked, numbers()), expected)
    assert (len({lr for _, _, lr in expected[1]}) == 1) == (name == "ConstantLR")  # which begins to change later


LAST: dict[str, list[Any]] = {"NLLLoss": [2, {"LogSoftmax": {"dim": 1}}], "BCELoss": [1, "Sigmoid"]}


@pytest.mark.parametrize("name", [name for name in classes_of(nn, nn.Module) if "Loss" in name])
def test_each_loss_of_torch_trains_as_a_plain_loop_or_is_refused_by_name(name: str) -> None:
    if name not in OF_NUMBERS + OF_CLASS_INDEX + OF_TWO_CLASSES:
        line = refusal(loss=name)
        assert line.startswith(f"params.yaml: variants.mine.train.loss = {name}: ")
        assert "CrossEntropyLoss" in line  # and all others that are known
        return
    data = numbers() if name in OF_NUMBERS else classes()
    asked = replica([3, "tanh", *LAST.get(name, [2 if name in OF_CLASS_INDEX else 1])], loss=name)
    targets = {
        True: lambda y: torch.from_numpy(y).float(),
        name in OF_CLASS_INDEX: lambda y: torch.from_numpy(y)[:, 0],
        name == "SoftMarginLoss": lambda y: torch.from_numpy(y).float() * 2 - 1,
    }[True]
    expected = by_hand(
        asked, data, getattr(nn, name)(), lambda values: torch.optim.SGD(values, lr=0.01), targets=targets
    )
    same(trained(asked, data), expected)


# Values for the arguments that classes of torch.nn need, for rows of 8 channels with 6, 6 x 6 or 6 x 6 x 6 numbers.
NEEDED: dict[str, Any] = {
    **dict.fromkeys(["num_features", "in_channels", "out_channels", "num_channels", "embed_dim"], 8),
    **dict.fromkeys(["kernel_size", "output_size", "padding", "num_groups", "groups", "nhead", "num_heads"], 2),
    **dict.fromkeys(["upscale_factor", "downscale_factor", "size", "norm_type", "threshold", "value"], 2),
    **dict.fromkeys(["in_features", "normalized_shape", "input_size", "in1_features", "in2_features", "d_model"], 6),
    **dict.fromkeys(["hidden_size", "out_features", "num_embeddings", "embedding_dim", "num_layers"], 6),
    **{"dim": 1, "unflattened_size": [4, 2], "mode": "RNN_TANH", "n_classes": 3, "cutoffs": [1]},
}
CHOSEN = {
    **{name: {"scale_factor": 2} for name in ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d")},
    **{name: {"dim": 1} for name in ("Softmax", "Softmin", "LogSoftmax")},
    **{name: {"output_size": 3} for name in ("FractionalMaxPool2d", "FractionalMaxPool3d")},
}
REFUSED_LAYERS = {
    "no such class": "Module",
    "missing": "GRU LSTM RNN RNNCellBase DataParallel TransformerDecoder TransformerEncoder",  # a Python object
    "for rows of shape": "Bilinear Container CosineSimilarity MaxUnpool1d MaxUnpool2d MaxUnpool3d ModuleDict ModuleList"
    " MultiheadAttention PairwiseDistance ParameterDict ParameterList RNNBase Transformer"
    " TransformerDecoderLayer Embedding EmbeddingBag Fold LSTMCell",  # several inputs, whole numbers, other sizes
}


@pytest.mark.parametrize("name", [name for name in classes_of(nn, nn.Module) if "Loss" not in name])
def test_each_layer_of_torch_takes_rows_of_some_shape_or_is_refused_by_name(name: str) -> None:
    parameters = inspect.signature(getattr(nn, name)).parameters.values()
    args = {p.name: NEEDED[p.name] for p in parameters if p.default is p.empty and p.name in NEEDED}
    recipe = replica([{name: args | CHOSEN.get(name, {})}, "Flatten", 1]).recipe
    refused = list[str]()
    for shape in ((6,), (8, 6), (8, 6, 6), (8, 6, 6, 6)):
        try:
            torch_names.refuse_misfit(recipe, WHERE, 10, *shape)
        except BadInput as error:
            assert str(error).startswith("params.yaml: variants.mine.layers[0]"), error
            assert "\n" not in str(error)
            refused.append(str(error))
    reason = next((reason for reason, names in REFUSED_LAYERS.items() if name in names.split()), None)
    assert len(refused) == 4 if reason else len(refused) < 4, refused
    assert reason is None or all(reason in line for line in refused), refused


PARAMS = """
seed: 1
num_seeds: 2
lr: null
engine: null
device: cpu
studies:
  line: &study
    source: {kind: linear, rows: 100, weights: [2, -3.4], bias: 4.2, noise_std: 0.01, seed: 5}
    split: {train: 80, validation: 20}
    metric: mse
    train: {loss: mse, lr: 0.01, batch_size: 32, epochs: 4}
  other: {<<: *study}
variants:
  small: {study: other, layers: [1]}
  wrong: {study: line, layers: [GELU, 1], train: {optimizer: {name: AdamW, weigth_decay: 0.1}}}
"""


# --- one line, with the key as the user wrote it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"optimizer": {"name": "SGD", "fused": "no"}}, "optimizer.fused = no: must be true or false"),
        (
            {"optimizer": {"name": "Adagrat"}},
            "optimizer = Adagrat: torch.optim has no such class; did you mean 'Adagrad'?",
        ),
        ({"optimizer": "ADAMW"}, "optimizer = ADAMW: torch.optim has no such class; did you mean 'AdamW'?"),
        (
            {"optimizer": {"name": "AdamW", "weigth_decay": 0.1}},
            "optimizer.weigth_decay: unknown key; did you mean 'weight_decay'?",
        ),
        (
            {"optimizer": {"name": "AdamW", "lr": 0.1}},
            "optimizer.lr = 0.1: is not written here: it stands beside loss and epochs, as lr",
        ),
        ({"optimizer": {"name": "SGD", "momentum": "x"}}, "optimizer.momentum = x: must be a number"),
        (
            {"schedule": {"name": "MultiStepLR", "milestones": ["3"]}},
            "schedule.milestones: must be a number or several",
        ),
        ({"optimizer": {"name": "SGD", "momentum": True}}, "optimizer.momentum = True: must be a number"),
        ({"optimizer": {"name": "SGD", "momentum": float("nan")}}, "optimizer.momentum = nan: must be a finite number"),
        ({"optimizer": {"name": "SGD", "nesterov": "no"}}, "optimizer.nesterov = no: must be true or false"),
        (
            {"optimizer": {"name": "SGD", "foreach": True}},
            "optimizer.foreach = True: is not written here: bancada choo",
        ),
        (
            {"optimizer": {"name": "Adam", "eps": -1.0}},
            "optimizer = Adam: Adam(eps=-1.0): ValueError: Invalid epsilon value: -1.0",
        ),
        (
            {"optimizer": {"name": "Adam", "betas": [0.9, 0.99, 0.9]}},
            "optimizer = Adam: Adam(betas=[0.9, 0.99, 0.9]): ValueError: too many values to unpack",
        ),
        ({"schedule": {"name": "CosineAnnealingLR", "T_max": "50"}}, "schedule.T_max = 50: must be a number"),
        ({"schedule": {"name": "CosineAnnealingLR", "T_max": 0}}, "schedule = CosineAnnealingLR: "),
        ({"schedule": {"name": "StepLR"}}, "schedule.step_size: missing"),
        ({"schedule": {"name": "StepLR", "step_size": 1.5}}, "schedule.step_size = 1.5: must be a whole number"),
        ({"schedule": {"name": "ExponentialLR", "gamma": -1.0}}, "schedule = ExponentialLR: gives the learning rate -"),
        (
            {"schedule": {"name": "LambdaLR", "lr_lambda": "f"}},
            "schedule = LambdaLR: LambdaLR(lr_lambda='f'): TypeError: 'str' object is not callable",
        ),
        (
            {"schedule": {"name": "LambdaLR"}},
            "schedule.lr_lambda: missing",
        ),
        ({"schedule": {"name": "OneCycleLR", "total_steps": 5}}, "schedule = OneCycleLR: ends after 5 of the 6 st"),
        ({"schedule": {"name": "ReduceLROnPlateau", "mode": "max"}}, "schedule.mode = max: it watches the validation"),
        (
            {"schedule": {"name": "ReduceLROnPlateau", "every": "update"}},
            "schedule.every = update: the validation loss",
        ),
        ({"loss": {"name": "HuberLoss", "delta": -1.0}}, "loss = HuberLoss: "),
        (
            {"loss": {"name": "MSELoss", "reduction": "sum"}},
            "loss.reduction = sum: is not written here: a loss is the m",
        ),
        (
            {"loss": "PoissonNLLLoss"},
            "loss = PoissonNLLLoss: has no rule here for decisions and predictions; one of MS",
        ),
        ({"loss": "MSELos"}, "loss = MSELos: torch.nn has no such class; did you mean 'MSELoss'?"),
    ],
)
def test_a_wrong_name_or_argument_is_told_in_one_line_with_its_key(train: dict[str, Any], line: str) -> None:
    assert refusal(**train).startswith(f"params.yaml: variants.mine.train.{line}")


def test_weights_of_classes_are_not_an_argument_of_a_loss() -> None:
    line = refusal([2], classes(), loss={"name": "CrossEntropyLoss", "weight": [1.0, 2.0]})
    assert line.startswith("params.yaml: variants.mine.train.loss.weight: is not written here: class_weight: balanced")


@pytest.mark.parametrize(
    ("layers", "shape", "line"),
    [
        (["GELUU", 1], (2,), "[0] = GELUU: torch.nn has no such class; did you mean 'GELU'?"),
        ([3, {"ReLU": {"inplac": True}}, 1], (2,), "[1].ReLU.inplac: unknown key; did you mean 'inplace'?"),
        (
            [3, {"Dropout": {"p": 1.5}}, 1],
            (2,),
            "[1]: Dropout for rows of shape [3]: dropout probability has to be bet",
        ),
        ([{"Conv1d": {"in_channels": 1, "kernel_size": 3}}], (1, 9), "[0].Conv1d.out_channels: missing"),
        (
            [
                "Flatten",
                {"Unflatten": {"dim": 1, "unflattened_size": [2, 9]}},
                {"Linear": {"in_features": 8, "out_features": 1}},
            ],
            (18,),
            "[2]: Linear(in_features=8, out_features=1, bias=True) for rows of shape [2, 9]: mat1 and mat2 shapes",
        ),
        (["Softmax"], (2,), "[0]: Softmax(dim=None) for rows of shape [2]: Implicit dimension choice"),
        (
            [{"Flatten": {"start_dim": 0}}, 1],
            (2,),
            "[0]: Flatten(start_dim=0, end_dim=-1) for rows of shape [2]: gives [4]",
        ),
        (
            [{"Conv2d": {"in_channels": 1, "out_channels": 4, "kernel_size": 3}}, "batch_norm", "Flatten", 1],
            (1, 8, 8),
            "[1]: batch_norm for rows of shape [4, 6, 6]: write {BatchNorm2d: {num_features: 4}}",
        ),
        (
            ["Identity", "softmax", "Flatten", 1],
            (50, 3),
            "[1]: softmax for rows of shape [50, 3]: write {Softmax: {dim",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_told_by_its_place(layers: list[Any], shape: tuple[int, ...], line: str) -> None:
    found = refusal(layers, numbers(shape=shape))
    assert found.startswith(f"params.yaml: variants.mine.layers{line}"), found


@pytest.mark.parametrize(
    ("layers", "shape", "sizes"),
    [
        (
            [{"Conv2d": {"in_channels": 1, "out_channels": 4, "kernel_size": 3}}, "Flatten", 10, "relu", 1],
            (1, 8, 8),
            144,
        ),
        (["Flatten", 10, "relu", 1], (50, 3), 150),
        (
            [{"Conv1d": {"in_channels": 8, "out_channels": 4, "kernel_size": 3}}, "batch_norm", "Flatten", 1],
            (8, 62),
            240,
        ),
        ([{"AdaptiveAvgPool2d": {"output_size": [2, None]}}, "Flatten", 1], (1, 8, 8), 16),
    ],
)
def test_short_forms_after_layers_of_torch_get_their_sizes(
    layers: list[Any], shape: tuple[int, ...], sizes: int
) -> None:
    assert sizes in {
        weight.shape[-1] for weight in trained(replica(layers), numbers(shape=shape)).weights.values() if weight.ndim
    }


def test_a_key_of_the_study_is_named_where_it_stands() -> None:
    asked = TrainingKeys(
        "mine", Variant(study="toy", layers=[1], train={}), TRAIN | {"loss": "HingeEmbeddingLoss"}, COMMON
    )
    with pytest.raises(BadInput, match=r"^params.yaml: studies.toy.train.loss = HingeEmbeddingLoss: "):
        try_first_batch(asked, numbers())  # in a process of its own, as the stage does


def test_torch_is_asked_before_any_stage_runs_and_only_for_the_studies_that_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    params = load()
    refuse_bad_data(params, {"other"}, set())
    assert capsys.readouterr().out == ""
    line = r"^params.yaml: variants.wrong.train.optimizer.weigth_decay: unknown key; did you mean 'weight_decay'\?$"
    with pytest.raises(BadInput, match=line):
        refuse_bad_data(params, {"line", "other"}, set())
    assert capsys.readouterr().out == "trying a first batch with torch: wrong\n"


@pytest.mark.long
def test_a_stage_refuses_with_exit_status_2_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    x = np.arange(160.0).reshape(80, 2)
    rows = tables.Table(x, x[:, :1], ["x1", "x2"], ["y"], [])
    for part, chosen in {"train": np.arange(80), "validation": np.arange(0)}.items():
        tables.write(rows.take(chosen), tmp_path / "data/split/line" / f"{part}.parquet")
    stage = [sys.executable, "-m", "bancada.training.train", "wrong"]
    done = subprocess.run(stage, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    line = "params.yaml: variants.wrong.train.optimizer.weigth_decay: unknown key; did you mean 'weight_decay'?"
    assert done.stderr.strip().endswith(line)
    assert not (tmp_path / "data/models").exists()
