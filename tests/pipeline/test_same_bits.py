"""The same bytes, whatever differs around the pipeline: the folder, the cores, the shell's settings, the user's home.

Many settings are changed at once, since all must be without effect; where they are not, the test tries each alone and
names those that change something. tests/pipeline/test_cpus.py does the same over CPUs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import clones
import matplotlib
import pytest
from fontTools.ttLib import TTFont

from bancada.pins import PINS

REPRO = (sys.executable, "-m", "bancada", "repro")
# Two studies, whose plots are of all kinds.
PARAMS = """\
seed: 111
num_seeds: 3
lr: null
engine: null
device: cpu
studies:
  moons:
    source: {kind: half_moons, rows: 120, radius: 10, distance: -4, width: 6, seed: 111}
    split: {train: 60, validation: 20, test: 40, stratify: true, seed: 111}
    metric: error_rate_percent
    baseline: moons_tanh
    predict: [[1, 2]]
    train: {loss: mse, optimizer: {name: sgd}, lr: 0.5, batch_size: 20, epochs: 20}
  houses:
    source: {kind: house_prices, rows: 80, outliers: 4, price_per_room: 9, price_at_zero: -40, noise_std: 2.5,
             outlier_price: 10, seed: 4}
    split: {train: 0.6, validation: 0.2, test: 0.2, seed: 4}
    metric: mae
    predict: [{rooms: 7}]
    train: {loss: l1, optimizer: {name: adam}, lr: 0.02, batch_size: full, epochs: 20, standardize: true}
variants:
  moons_tanh: {study: moons, layers: [3, tanh, 1, tanh]}
  moons_adam: {study: moons, layers: [3, batch_norm, tanh, {dropout: 0.1}, 1, tanh], train: {optimizer: adam}}
  houses_l1: {study: houses, layers: [4, relu, 1]}
"""
PLOTS = {
    "houses": {"loss", "leaderboard", "data", "predicted_vs_observed", "fit"},
    "moons": {"loss", "leaderboard", "data", "decision_regions", "confusion"},
}

# Read by every Python that has its folder on the path: the stages, DVC and bancada.
OTHER_ORDER = """\
import os
from contextlib import AbstractContextManager

listed, scanned = os.listdir, os.scandir


class Reversed(AbstractContextManager):
    def __init__(self, path="."):
        with scanned(path) as entries:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=REVERSED))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.entries = iter(())


os.listdir, os.scandir = lambda path=".": sorted(listed(path), reverse=REVERSED), Reversed
"""
MATPLOTLIBRC = """\
backend: svg
figure.dpi: 300
savefig.dpi: 50
font.family: serif
font.size: 20
lines.linewidth: 5
lines.antialiased: False
axes.facecolor: black
text.hinting: none
path.simplify: False
"""


@dataclass
class Surroundings:
    """Where and how one run is made; each setting changes something of it."""

    folder: str = "a"
    variables: dict[str, str] = field(default_factory=dict)  # environment
    before: tuple[str, ...] = ()  # commands that run the one behind them
    command: tuple[str, ...] = REPRO
    order: str = ""  # of the entries of a folder; empty: as the file system gives them
    matplotlibrc: bool = False
    home: str = ""
    compiled: str = ""  # a locale


def apply(setting: str, of: Surroundings) -> None:
    """Change what `setting` says: KEY=VALUE in the environment, or one of the names below."""
    if setting == "another folder":
        of.folder = "ein Ordner für alle, $HOME & 'so' weiter"
    elif setting == "umask 077":
        of.before += ("sh", "-c", 'umask 077; exec "$@"', "sh")
    elif setting == "one core":
        of.before += ("taskset", "-c", str(min(os.sched_getaffinity(0))))
    elif setting == "plain dvc repro":
        of.command = ("dvc", "repro", "-q")
    elif setting.startswith("file system order"):
        of.order = setting.split()[-1]
    elif setting == "a user's matplotlibrc":
        of.matplotlibrc = True
    elif setting in ("a home without caches", "a home with another DejaVu Sans"):
        of.home = setting
    elif setting.startswith("locale "):
        of.compiled = setting.removeprefix("locale ")
    else:
        key, _, value = setting.partition("=")
        of.variables[key] = value


def leaves(folder: Path, settings: Iterable[str]) -> tuple[dict[str, str], str]:
    """Run the small pipeline there. A hash of every file that it left, by path; and what it said on stderr."""
    of = Surroundings()
    for setting in settings:
        apply(setting, of)
    clone = clones.clone_to(folder / of.folder)
    (clone / "params.yaml").write_text(PARAMS)
    variables = dict.fromkeys(PINS, "") | {"BANCADA_TRACKING": "off", "PYTHONHASHSEED": "0"} | of.variables
    if of.order:
        (folder / "site").mkdir()
        (folder / "site/sitecustomize.py").write_text(f"REVERSED = {of.order == 'reversed'}\n{OTHER_ORDER}")
        variables["PYTHONPATH"] = str(folder / "site")
    if of.matplotlibrc:
        (folder / "matplotlibrc").write_text(MATPLOTLIBRC)
        variables["MATPLOTLIBRC"] = str(folder / "matplotlibrc")
    if of.home:
        variables["HOME"] = str(folder / "home")
        (folder / "home/.fonts").mkdir(parents=True)
        if "DejaVu" in of.home:
            another_dejavu_sans(folder / "home/.fonts/DejaVuSans.ttf")
    if of.compiled:
        compile_locale(of.compiled, folder / "locales")
        variables |= {"LOCPATH": str(folder / "locales"), "LC_ALL": of.compiled}
    unset = [word for name, value in variables.items() if value == "" for word in ("-u", name)]
    variables = {name: value for name, value in variables.items() if value}
    done = clones.run(clone, "env", *unset, *of.before, *of.command, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    made = [clone / "dvc.lock", *(path for path in (clone / "data").rglob("*") if path.is_file())]
    return {str(p.relative_to(clone)): hashlib.sha256(p.read_bytes()).hexdigest() for p in made}, done.stderr


def another_dejavu_sans(path: Path) -> None:
    """Another font by the name of the one that the plots are drawn with."""
    font = TTFont(Path(matplotlib.get_data_path(), "fonts/ttf/STIXGeneral.ttf"))
    for place, said in {1: "DejaVu Sans", 2: "Book", 4: "DejaVu Sans", 6: "DejaVuSans"}.items():
        for record in font["name"].names:
            if record.nameID == place:
                record.string = said
    font.save(path)


def compile_locale(name: str, folder: Path) -> None:
    """From Debian's sources of locales, for LOCPATH: this locale is installed on few machines."""
    folder.mkdir()
    language, _, charset = name.partition(".")
    subprocess.run(["localedef", "-i", language, "-f", charset, str(folder / name)], check=True, capture_output=True)


# A locale that knows ASCII alone; one with a comma in numbers, where the capital of i has a dot, and not in UTF-8.
ASCII = ("LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")
TURKISH = "locale tr_TR.ISO-8859-9"
HAS_LOCALES = shutil.which("localedef") and Path("/usr/share/i18n/locales/tr_TR").exists()
REFERENCE = ("one core", "file system order sorted", "LC_ALL=C.UTF-8", "TZ=UTC")
MANY_AT_ONCE = {
    "another machine": (
        "another folder",
        "umask 077",
        "PYTHONHASHSEED=random",
        "file system order reversed",
        "a user's matplotlibrc",
        "MPLBACKEND=pdf",
        "a home with another DejaVu Sans",
        *((TURKISH,) if HAS_LOCALES else ()),
        "TZ=Asia/Kathmandu",
        "OMP_NUM_THREADS=2",
        "MKL_NUM_THREADS=2",
        "OPENBLAS_NUM_THREADS=2",
        "MKL_DYNAMIC=FALSE",
        "ATEN_CPU_CAPABILITY=default",
        "MKL_CBWR=AUTO",
        "OPENBLAS_CORETYPE=Prescott",
        "NPY_DISABLE_CPU_FEATURES=X86_V3",
        "PYTHONOPTIMIZE=2",
    ),
    "a bare shell": (
        "plain dvc repro",
        "a home without caches",
        *ASCII,
        "PYTHONHASHSEED=1",
        "TZ=Pacific/Marquesas",
        "ATEN_CPU_CAPABILITY=avx512",
        "MKL_CBWR=AVX512",
        "MKL_ENABLE_INSTRUCTIONS=SSE4_2",
        "DNNL_MAX_CPU_ISA=SSE41",
        "NPY_ENABLE_CPU_FEATURES=AVX2",
        "SOURCE_DATE_EPOCH=0",
    ),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found, said = leaves(tmp_path_factory.mktemp("reference"), REFERENCE)
    assert said == ""
    for study, plots in PLOTS.items():
        drawn = {Path(name).stem for name in found if name.startswith(f"data/evaluation/{study}/plots/")}
        assert drawn == plots
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", MANY_AT_ONCE)
def test_nothing_around_the_pipeline_changes_a_byte(name: str, reference: dict[str, str], tmp_path: Path) -> None:
    settings = MANY_AT_ONCE[name]
    found, said = leaves(tmp_path / "all", settings)
    for setting in settings:
        assert setting in said or setting.partition("=")[0] not in PINS  # stderr says that ours wins
    print(f"{name}: {len(settings)} settings, {len(found)} files compared")
    if found != reference:
        alone = {setting: leaves(tmp_path / f"{i}", [setting])[0] for i, setting in enumerate(settings)}
        culprits = [setting for setting, left in alone.items() if left != reference]
        changed = [name for name in reference | found if reference.get(name) != found.get(name)]
        raise AssertionError(f"changed by {culprits or 'several settings together'}: {changed}")
