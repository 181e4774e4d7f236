"""What the lessons' stages depend on, and what an edit reruns of them."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
from committed import edit

from bancada.base import BadInput, lockfile
from bancada.pipeline import code
from bancada.pipeline.params import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """A copy of the code, as the current folder; called, it gives the text of each file that the stage would write."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("params.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return lambda: code.contents(load(), Path())


def changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def test_there_is_a_file_for_each_stage_and_it_is_the_committed_one(written: Callable[[], dict[str, str]]) -> None:
    now = written()
    params = load()
    assert len(now) == 4 * len(params.studies) + len(params.variants) + 1  # and the report
    assert {name: (ROOT / "data/code" / name).read_text() for name in now} == now


@pytest.mark.long
def test_what_is_edited_reruns_what_imports_it_and_nothing_else(written: Callable[[], dict[str, str]]) -> None:
    before, source = written(), Path("src/bancada")
    for path in source.rglob("*.py"):
        path.write_text(path.read_text() + "\n# a comment\n")
    assert changed(before, written()) == set()
    edit(source / "evaluation/plots.py", "MAX_POINTS = 400", "MAX_POINTS = 500")
    assert changed(before, written()) == {name for name in before if name.startswith("evaluate/")}
    before = written()
    edit(source / "data/sources/house_prices.py", "BIG_HOUSE = 6.5", "BIG_HOUSE = 6.6")
    assert changed(before, written()) == {"generate/houses.json"}
    before = written()
    edit(source / "networks/metrics.py", "METRICS = {", "METRICS = {**{}, ")
    searching = {f"train/tuned_{name}.json" for name in ("sgd", "momentum", "adam")}  # the metric chooses for them
    scored = {name for name in before if name.startswith("evaluate/")} | {"report.json"}
    assert changed(before, written()) == scored | searching
    before = written()
    edit(
        Path("params.yaml"),
        "    metric: error_rate_percent\n    baseline: tuned_sgd",
        "    metric: f1_macro\n    baseline: tuned_sgd",
    )
    edit(Path("params.yaml"), "    fails_above: 5\n", "")
    assert changed(before, written()) == searching
    before = written()
    edit(source / "base/files.py", "import os\n", "import os, math\n")
    assert changed(before, written()) == set(before)
    before = written()
    (source / "tracking/store.py").write_text("import what.nobody.has")
    assert changed(before, written()) == set()  # a process beside the stages writes to MLflow


def test_an_import_that_is_deleted_is_noticed(written: Callable[[], dict[str, str]]) -> None:
    before = written()
    edit(Path("src/bancada/training/scratch.py"), "from bancada.networks.encoding import loss_name\n", "")
    now = written()
    assert changed(before, now) == {"train/orchard5_scratch.json", "train/line_scratch.json"}
    kernel = Path("src/bancada/networks/kernel/training.py")
    edit(kernel, "from bancada.networks.kernel.losses import loss_and_gradient, weigh\n", "")
    without = written()
    assert "bancada.networks.kernel.losses" in json.loads(now["train/moons_tanh.json"])["modules"]
    assert "bancada.networks.kernel.losses" not in json.loads(without["train/moons_tanh.json"])["modules"]


def test_a_variant_of_the_compiled_engine_depends_on_no_version_of_torch(
    written: Callable[[], dict[str, str]],
) -> None:
    contents = {name: json.loads(text) for name, text in written().items()}
    torch_or_scratch = {"orchard5_scratch", "line_scratch", "orchard_linear", "line_sgd", "digits_cnn"}
    for name in load(Path("params.yaml")).variants:
        packages = contents[f"train/{name}.json"]["packages"]
        assert ("torch" in packages) == (name in torch_or_scratch), name
        assert "numba" in packages, name
    assert "torch" not in contents["evaluate/moons.json"]["packages"]


@pytest.mark.long
def test_a_package_of_another_version_makes_the_stages_stale_that_import_it(
    written: Callable[[], dict[str, str]],
) -> None:
    """torch is imported by the trainings and evaluations of two engines, numba by all; mlflow by no stage.

    scikit-learn is imported by splits, by sources that come with it, by metrics (evaluations and searches), and by
    trainings that split data of their own.
    """
    stale = {}
    for package in ("torch", "numba", "scikit-learn", "matplotlib", "numpy", "mlflow"):
        before = written()
        lock = Path("requirements.lock")
        lock.write_text(re.sub(rf"^{package}==", f"{package}==9.", lock.read_text(), flags=re.MULTILINE))
        stale[package] = changed(before, written())
    of_torch = {f"evaluate/{study}.json" for study in ("orchard5", "orchard", "line", "digits")}
    assert {name for name in stale["torch"] if name.startswith("evaluate")} == of_torch
    of_scikit = {name for name in stale["scikit-learn"] if name.startswith("train")}
    redrawn = {f"train/redrawn_{variant}.json" for variant in ("tanh", "tanh_small", "sigmoid")}
    assert of_scikit == redrawn | {f"train/tuned_{variant}.json" for variant in ("sgd", "momentum", "adam")}
    assert {package: {name.partition("/")[0] for name in names} for package, names in stale.items()} == {
        "torch": {"train", "evaluate"},
        "numba": {"train", "evaluate"},
        "scikit-learn": {"generate", "split", "train", "evaluate", "report.json"},
        "matplotlib": {"evaluate"},
        "numpy": {"generate", "split", "train", "evaluate", "report.json"},
        "mlflow": set(),
    }


def test_a_variant_that_is_removed_changes_its_own_file_alone(written: Callable[[], dict[str, str]]) -> None:
    before = written()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"^  houses_l1:\n(    .*\n)+", "", text, flags=re.MULTILINE))
    assert changed(before, written()) == {"train/houses_l1.json"}


def test_a_module_that_cannot_be_read_and_a_package_that_the_lock_lacks_are_refused(
    written: Callable[[], dict[str, str]],
) -> None:
    edit(Path("requirements.lock"), "tqdm==", "tqdmm==")
    lacks = r"^src/bancada/training/train.py:\d+: imports tqdm, which requirements.lock lacks; add its package to "
    with pytest.raises(BadInput, match=lacks):
        written()
    Path("src/bancada/base/files.py").write_text("def f(:\n")
    with pytest.raises(BadInput, match=r"^src/bancada/base/files.py:1: invalid syntax$"):
        written()


def test_the_lock_has_the_hash_of_the_files_in_git_whatever_else_lies_below_src(tmp_path: Path) -> None:
    """Else a clone would not be clean after `make repro`."""
    copy = tmp_path / "src"
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    for litter in ("bancada.egg-info/SOURCES.txt", "bancada/.mypy_cache/x.json", "bancada/__pycache__/x.pyc", "x.swp"):
        (copy / litter).parent.mkdir(parents=True, exist_ok=True)
        (copy / litter).write_text("litter")
    with chdir(tmp_path):
        here = lockfile.dvc_md5(Path("src"))
    assert lockfile.parse((ROOT / "dvc.lock").read_text()).hashes("code")["src"] == here
