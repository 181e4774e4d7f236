"""Every stage of params.yaml, and more kinds of training, on emulated CPUs: each must leave the native CPU's bytes.

    python tests/cpus.py             all stages on this CPU, an emulated Intel Haswell and AMD EPYC, and an ARM64
    python tests/cpus.py STAGE...    those alone, with what they need: train@moons_adam evaluate@wine
    python tests/cpus.py --arm64     on ARM64 alone, where Debian's Python runs (helpers/arm64.py installs it)

On x86-64, `example@cnn` and others are trainings of the networks in tests/examples/models, by the torch engine. On
ARM64 nothing uses torch: the compiled engine trains all layers of params.yaml, and nothing is drawn.

Epochs and rows are cut down: under qemu (Debian's qemu-user) a program runs some twenty times slower. One process does
all stages of a CPU, because torch takes half a minute to load there.
"""

import argparse
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:  # the pins come first
    from bancada.base.params_file import ParamsFile

ROOT = Path(__file__).resolve().parents[1]
EMULATOR = "qemu-x86_64"
CPUS = {"Haswell": "haswell", "EPYC": "znver1"}  # qemu's name of a CPU, and LLVM's
ARM64 = "ARM64"
SEEDS = 3
UPDATES = 20  # at most, for each seed of a variant; at least one epoch

# What params.yaml has none of: momentum, weight decay, a gradient that is cut, rates by epoch, early stopping, weights
# of classes, a training that diverges, words and empty cells, layers so wide that MKL and OpenBLAS have other code for
# them, sizes that are no multiple of anything. Digits are not split by class: with whole numbers of many kinds numpy's
# argsort, which scikit-learn calls, goes wrong in the emulator of x86-64, and only there.
MORE = """
studies:
  pixels:
    source: {kind: sklearn, name: digits}
    split: {train: 0.5, validation: 0.2, test: 0.3, seed: 1}
    metric: error_rate_percent
    train: {loss: cross_entropy, optimizer: {name: adam, weight_decay: 0.01}, lr: 0.003, batch_size: 100, epochs: 1}
  diabetes:
    source: {kind: sklearn, name: diabetes}
    split: {train: 301, validation: 40, test: 101, seed: 1}
    metric: r2
    train: {loss: half_mse, optimizer: {name: sgd, momentum: 0.9, weight_decay: 0.001}, lr: 0.001, batch_size: 37,
            epochs: 5, standardize: true, schedule: {name: inverse_time, decay: 0.1, every: epoch}}
  iris:
    source: {kind: sklearn, name: iris}
    split: {train: 0.7, test: 0.3, seed: 1}
    metric: loss
    train: {loss: mse, optimizer: sgd, lr: 0.5, batch_size: 32, epochs: 10}
  fruit:
    source: {kind: csv, path: data/sources/orchard.csv, task: regression, targets: [apples, oranges], words: [humidity],
             missing: ["67"]}
    split: {train: 0.8, test: 0.2, seed: 1}
    metric: mae
    train:
      {loss: mse, optimizer: sgd, lr: 0.01, batch_size: 5, epochs: 20, standardize: true,
       prepare: {numbers: {impute: mean, indicator: true}, words: {encode: one_hot, unknown: ignore, standardize: true},
                 targets: {standardize: true}}}
variants:
  fruit_prepared: {study: fruit, layers: [5, tanh, 2]}
  diabetes_prepared: {study: diabetes, layers: [3, tanh, 1], train: {prepare: {targets: {standardize: true}}}}
  pixels_wide: {study: pixels, layers: [300, relu, 48, tanh, 10]}
  pixels_clipped: {study: pixels, layers: [32, batch_norm, relu, {dropout: 0.3}, 10], train: {clip_norm: 0.5}}
  pixels_momentum:
    study: pixels
    layers: [64, sigmoid, 10]
    train: {optimizer: {name: sgd, momentum: 0.9}, lr: 0.05, init: xavier_normal, batch_size: full}
  diabetes_deep: {study: diabetes, layers: [7, tanh, 7, relu, 1]}
  diabetes_clipped: {study: diabetes, layers: [7, sigmoid, 1], train: {clip_norm: 1.0, loss: l1}}
  diabetes_adamw:
    study: diabetes
    layers: [7, sigmoid, 1]
    train: {optimizer: {name: adamw, weight_decay: 0.1}, schedule: {name: cosine, every: update},
            batch_size: full, early_stopping: {patience: 1, min_delta: 1.0e+9}}
  diabetes_diverges: {study: diabetes, layers: [7, relu, 1], train: {lr: 1.0e+9}}
  diabetes_scratch:
    study: diabetes
    scratch: true
    layers: [1]
    train: {loss: mse, optimizer: sgd, clip_norm: 10, batch_order: fixed, standardize: false}
  iris_softmax: {study: iris, layers: [5, softmax, 3, softmax]}
  iris_balanced:
    study: iris
    layers: [5, relu, 3, sigmoid]
    train: {class_weight: balanced, batch_order: fixed, optimizer: {name: sgd, momentum: 0.9, nesterov: true},
            schedule: {name: step, step_size: 2, gamma: 0.3}}
  iris_normal: {study: iris, layers: [5, tanh, 3, sigmoid], train: {init: {name: normal, std: 0.3}}}
"""


# --- the stages, in one process on one CPU --------------------------------------------------------------------------


def wanted_params(torch: bool = True) -> dict[str, Any]:
    """params.yaml with MORE, and few seeds and updates; without torch, the compiled engine trains all of it."""
    yaml = YAML(typ="safe", pure=True)
    raw, more = yaml.load(ROOT / "params.yaml"), yaml.load(MORE)
    raw["studies"] |= more["studies"]
    raw["variants"] |= more["variants"]
    raw["studies"]["digits"]["split"]["stratify"] = False
    raw["num_seeds"] = SEEDS
    if not torch:
        raw["engine"] = "compiled"
        raw["variants"] = {name: variant for name, variant in raw["variants"].items() if "module" not in variant}
        for variant in raw["variants"].values():
            variant.pop("scratch", None)
    return dict(raw)


def shorten(raw: dict[str, Any]) -> None:
    """Few epochs for every variant."""
    from bancada.pipeline.params import Params

    params = Params.model_validate(raw)
    for name, variant in raw["variants"].items():
        train = params.recipe(name).train
        key = f"studies.{variant['study']}.source"
        table = params.source(variant["study"]).table(key)
        rows = params.studies[variant["study"]].split.counts(len(table))[0]
        updates = 1 if train.batch_size == "full" else -(-rows // train.batch_size)
        variant["train"] = {**variant.get("train", {}), "epochs": min(train.epochs, max(1, UPDATES // updates))}


def all_stages(raw: dict[str, Any]) -> list[str]:
    kinds = {"generate": "studies", "split": "studies", "train": "variants", "evaluate": "studies"}
    stages = [f"{kind}@{name}" for kind, of in kinds.items() for name in raw[of]]
    if raw["engine"] == "compiled":
        return stages
    from examples import EXAMPLES

    return [*stages, *(f"example@{name}" for name in EXAMPLES)]


def run_stages(stages: Sequence[str], torch: bool) -> None:
    """A line for each file that they leave: the stage, the file, and a hash of it."""
    raw = wanted_params(torch)
    shorten(raw)
    if torch:
        stay_in_the_emulator()
    else:
        from bancada.evaluation import plots

        plots.PLOTS.clear()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("data/sources", "src/models"):
            shutil.copytree(ROOT / name, Path(folder, name))
        os.chdir(folder)
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(raw, file)
        from bancada.base import params_file

        params = params_file.read()
        for stage in needed(stages, raw):
            began, left = time.monotonic(), run_stage(params, *stage.split("@"))
            for file in filter(Path.is_file, sorted(left.rglob("*")) if left.is_dir() else [left]):
                if file.name == "reference.csv" and not torch:
                    continue  # scikit-learn's linear models promise no bits on ARM64
                print("=", stage, file, hashlib.sha256(file.read_bytes()).hexdigest())
            print(f"{stage}: {time.monotonic() - began:.1f} s", flush=True)


def stay_in_the_emulator() -> None:
    """Let processes be forks of this one: a program that it starts would run on the native CPU.

    They do without the thread that watches their parent: the emulator cannot begin one in a fork.
    """
    from bancada.training import processes

    context = multiprocessing.get_context
    processes.threading = SimpleNamespace(Thread=lambda **given: SimpleNamespace(start=lambda: None))

    def forking(method: str | None = None) -> Any:
        import torch._dynamo  # noqa: F401  (each fork would load it anew)

        from bancada.training import torch_engine  # noqa: F401  (each fork would load it anew)

        return context("fork")

    multiprocessing.get_context = forking


def needed(stages: Iterable[str], raw: dict[str, Any]) -> list[str]:
    """`stages` and all before them, in the pipeline's order."""
    found = set(stages)
    for stage in stages:
        kind, name = stage.split("@")
        study = raw["variants"][name]["study"] if kind == "train" else name
        found |= {f"generate@{study}", f"split@{study}"} if kind not in ("generate", "example") else set()
        if kind == "evaluate":
            found |= {f"train@{variant}" for variant, of in raw["variants"].items() if of["study"] == study}
    return [stage for stage in all_stages(raw) if stage in found]


def run_stage(params: "ParamsFile", kind: str, name: str) -> Path:
    """Run it. Return the file, or the folder, that it leaves."""
    from bancada.base import files

    if kind == "example":
        return train_example(name)
    if kind == "generate":
        from bancada.data import generate

        generate.main(params, name)
        return files.raw(name)
    if kind == "split":
        from bancada.data import split

        split.main(params, name)
        return files.split(name)
    if kind == "train":
        from bancada.training import train

        train.main(params, name)
        return files.model(params.value(f"variants.{name}.study"), name)
    from bancada.evaluation import evaluate
    from bancada.training import index

    index.main(params, name)
    evaluate.main(params, name)
    return files.evaluation(name)


def train_example(name: str) -> Path:
    from examples import Bench

    from bancada.base import files, params_file
    from bancada.training import train

    bench, here = Bench(Path("examples", name).absolute()), Path.cwd()
    bench.write([name], epochs=2)
    os.chdir(bench.root)
    train.main(params_file.read(), name)
    os.chdir(here)
    return bench.root.relative_to(here) / files.model(f"of_{name}", name)


# --- one process for each CPU ---------------------------------------------------------------------------------------


def hashes(cpu: str | None, stages: Sequence[str], torch: bool) -> dict[tuple[str, str], str]:
    """What the stages leave on this CPU (None: the one that is there), by stage and file."""
    from bancada.pins import PINS

    command, own = [*([EMULATOR, "-cpu", cpu] if cpu else []), sys.executable], dict[str, str]()
    if cpu == ARM64:
        import arm64

        command, own = arm64.python()
    paths = [str(ROOT / "src"), str(ROOT / "tests/helpers"), own.get("PYTHONPATH", "")]
    own |= {"BANCADA_TRACKING": "off", "BANCADA_REPLICAS": "off", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    kept = {name: value for name, value in os.environ.items() if name not in PINS}
    if cpu in CPUS:  # compiled here for that CPU: the same machine code as compiled there, in a tenth of the time
        own |= {"NUMBA_CPU_NAME": CPUS[cpu], "NUMBA_CPU_FEATURES": ""}
        ready = "from bancada.networks import kernel; kernel.ready()"
        subprocess.run([sys.executable, "-P", "-c", ready], env=kept | own, check=True)
    options = ["--here", *([] if torch else ["--arm64"])]
    done = subprocess.run([*command, "-P", __file__, *options, *stages], env=kept | own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"on {cpu or 'this CPU'}: {done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("= ")]
    return {(stage, file): digest for _, stage, file, digest in lines}


def differing(stages: Sequence[str], cpus: Collection[str] = tuple(CPUS)) -> tuple[set[str], dict[str, list[str]]]:
    """Return all stages that were run, and the files that are others on each emulated CPU than on this one.

    ARM64 goes alone: without torch, this CPU trains other variants.
    """
    torch = ARM64 not in cpus
    known = all_stages(wanted_params(torch))
    stages = [stage for stage in stages if stage in known]
    with ThreadPoolExecutor() as pool:
        here, *there = pool.map(lambda cpu: hashes(cpu, stages, torch), (None, *cpus))
    other = {
        cpu: [" ".join(key) for key in sorted(here | found) if found.get(key) != here.get(key)]
        for cpu, found in zip(cpus, there, strict=True)
    }
    return {stage for stage, _ in here}, other


def main() -> None:
    sys.path.append(str(ROOT / "tests/helpers"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--here", action="store_true", help="on this CPU alone: print the hashes, and seconds")
    parser.add_argument("--arm64", action="store_true", help="on ARM64 alone, without torch")
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    asked = parser.parse_args()
    import bancada  # noqa: F401  (its pins, before numpy and torch load)

    if asked.here:
        run_stages(asked.stages, not asked.arm64)
        return
    every = all_stages(wanted_params())
    if unknown := set(asked.stages) - set(every):
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(every)}")
    groups = [[ARM64]] if asked.arm64 else [CPUS, [ARM64]]
    try:
        sys.exit(max([told(asked.stages or every, cpus) for cpus in groups]))
    except RuntimeError as error:
        sys.exit(str(error))


def told(stages: Sequence[str], cpus: Collection[str]) -> int:
    """Say which files differ on these CPUs. Return the exit status: 1 if any does."""
    began = time.monotonic()
    ran, other = differing(stages, cpus)
    for cpu, differ in other.items():
        print(f"{cpu}: {len(differ)} files of {len(ran)} stages are others than on this CPU")
        print(*(f"  {file}\n" for file in differ), sep="", end="")
    print(f"in {time.monotonic() - began:.0f} s")
    return int(any(other.values()))


if __name__ == "__main__":
    main()
