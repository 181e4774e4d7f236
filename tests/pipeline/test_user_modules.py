"""The stage code and the user's own files: which results depend on which of them, and the mistakes that it tells."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import PARAMS
from committed import edit

from bancada.base import BadInput
from bancada.networks.settings import Module
from bancada.pipeline import code
from bancada.pipeline.params import load

ROOT = Path(__file__).parents[2]
WINE = """\
  wine:
    source: {kind: sklearn, name: wine}
    split: {train: 1.0}
    metric: error_rate_percent
    train: {loss: mse, lr: 0.5, batch_size: full, epochs: 1}
variants:
  wine_layers: {study: wine, layers: [3]}
  wine_own: {study: wine, layers: [3]}
"""
USED = {"wine_own": "x.py", "moons_tanh": "y.py"}  # variants, and the files of their networks
FILES = {
    "x.py": "import torch\nfrom .bloques import act\nclass Net(torch.nn.Module): pass\n",
    "bloques.py": "import scipy.special\ndef act(x): return x.relu()\n",
    "y.py": "from models.deep.inner import Inner\nclass Net: pass\n",
    "deep/inner.py": "class Inner: pass\n",
    "nobody.py": "import what.nobody.has\n",
}
OF_X = {"train/wine_own.json", "evaluate/wine.json"}
OF_Y = {"train/moons_tanh.json", "evaluate/moons.json"}
Written = Callable[[], dict[str, str]]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """A project with two networks of the user's, as the current folder; called, it gives the text of each file."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src/bancada", tmp_path / "src/bancada", ignore=ignored)
    for name in ("requirements.lock", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text(PARAMS.replace("variants:\n", WINE))
    monkeypatch.chdir(tmp_path)
    write(FILES)

    def contents() -> dict[str, str]:
        params = load()
        for variant, file in USED.items():
            module = Module(file=f"src/models/{file}", name="Net")
            object.__setattr__(params.variants[variant], "module", module)
        return code.contents(params, Path())

    return contents


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path("src/models") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def test_a_variant_and_its_study_name_the_users_files_that_they_import_and_no_others_do(written: Written) -> None:
    found = {name: json.loads(text) for name, text in written().items()}
    named = {
        name: {module for module in entry["modules"] if module.startswith("models")} for name, entry in found.items()
    }
    of_x, of_y = {"models.x", "models.bloques"}, {"models.y", "models.deep.inner"}
    assert {name for name, modules in named.items() if modules} == OF_X | OF_Y
    assert all(named[name] == of_x for name in OF_X) and all(named[name] == of_y for name in OF_Y)
    assert {"torch", "scipy"} <= found["evaluate/wine.json"]["packages"].keys()


def test_what_is_edited_retrains_the_variants_that_import_it_and_nothing_else(written: Written) -> None:
    before = written()
    edit(Path("src/models/bloques.py"), "relu", "tanh")
    assert changed(before, written()) == OF_X
    edit(Path("src/models/bloques.py"), "tanh", "relu")
    edit(Path("src/models/bloques.py"), "def act", "# a comment\ndef act")
    write({"nobody.py": "import something.else_", "new.py": "", "README.md": "For readers."})
    assert changed(before, written()) == set()
    edit(Path("src/models/deep/inner.py"), "pass", "size = 2")
    assert changed(before, written()) == OF_Y


def test_a_data_file_counts_for_the_networks_in_its_folder_with_and_without_init(written: Written) -> None:
    before = written()
    write({"deep/table.json": "[1]", "private/__init__.py": "", "private/table.json": "[1]"})
    in_deep = written()
    assert changed(before, in_deep) == OF_X | OF_Y  # a folder without `__init__.py` belongs to the one around it, too
    write({"private/table.json": "[2]", "table.json.swp": "what .dvcignore hides"})
    assert changed(in_deep, written()) == set()
    write({"table.csv": "1"})
    assert changed(in_deep, written()) == OF_X | OF_Y


LACKS = "which requirements.lock lacks; add its package to dependencies in pyproject.toml, then `make lock`"
MISTAKES = {
    "bare import of a helper": ("import os\n\nfrom bloques import act", 'x.py:3: write "from .bloques import ..."'),
    "import by the path": ("from src.models.bloques import act", 'x.py:1: write "from models.bloques import ..."'),
    "missing package": ("import os\nimport no_existe.deep", f"x.py:2: imports no_existe, {LACKS}"),
    "missing helper": (
        "from .blokes import act",
        "x.py:1: there is no module models.blokes; did you mean 'models.bloques'?",
    ),
    "missing helper of the folder": ("\nfrom . import else_", "x.py:2: there is no module models.else_"),
    "missing helper by its whole name": ("import models.deep.no.way", "x.py:1: there is no module models.deep.no.way"),
    "no sources": ("from sources.waves import make", "x.py:1: there is no module sources.waves"),
    "computed name": (
        "import importlib\nname = 'bloques'\nimportlib.import_module('models.' + name)",
        "x.py:3: imports a module by a computed name or a star; write the name out",
    ),
    "syntax error": ("x = 1\ndef (:", "x.py:2: invalid syntax"),
    "too many dots": ("from ..sources import x", "x.py:1: .. leads out of models; write the module's whole name"),
    "another folder of src": (
        "def f():\n    from helpers.a import x",
        "x.py:2: imports helpers, which may come from another checkout; move it from src to src/models",
    ),
    "not UTF-8": (
        "y = '\udce9'",
        "x.py:1: (unicode error) 'utf-8' codec can't decode byte 0xe9 in position 0: unexpected end of data",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_the_users_file_and_line(written: Written, mistake: str) -> None:
    text, said = MISTAKES[mistake]
    write({"../helpers/a.py": "x = 1"})
    Path("src/models/x.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as refused:
        written()
    assert str(refused.value) == f"src/models/{said}"


def test_a_mistake_in_a_helper_names_the_helper(written: Written) -> None:
    write({"deep/inner.py": "import bloques\n"})
    with pytest.raises(BadInput, match=r'^src/models/deep/inner\.py:1: write "from \.\.bloques import \.\.\."$'):
        written()


def test_a_file_called_like_a_package_is_not_what_import_finds(written: Written) -> None:
    """Nor is one in src itself: Python takes its own and the installed ones first."""
    before = json.loads(written()["train/wine_own.json"])
    write({"torch.py": "1", "random.py": "1", "../random.py": "1", "../torch.py": "1"})
    edit(Path("src/models/x.py"), "import torch", "import torch, random")
    now = json.loads(written()["train/wine_own.json"])
    assert (now["modules"].keys(), now["packages"]) == (before["modules"].keys(), before["packages"])


def test_a_source_of_ones_own_makes_its_rows_anew_with_the_modules_that_it_imports(written: Written) -> None:
    source = "{kind: python, file: src/sources/waves.py, name: make, task: classification}"
    edit(Path("params.yaml"), "{kind: sklearn, name: wine}", source)
    write({"../sources/waves.py": "from .noise import add\ndef make(seed): pass\n"})
    write({"../sources/noise.py": "import scipy.stats\ndef add(x): return x + 1\n", "../sources/other.py": "x = 1\n"})
    before = written()
    found = json.loads(before["generate/wine.json"])
    own = {"sources.noise", "sources.waves", "bancada.data.sources.python"}
    assert {name for name in found["modules"] if name.startswith("sources") or name.endswith(".python")} == own
    assert {"scipy", "pandas"} <= found["packages"].keys()
    write(
        {
            "../sources/other.py": "x = 2\n",
            "../sources/waves.py": "# no\nfrom .noise import add\ndef make(seed): pass\n",
        }
    )
    assert changed(before, written()) == set()
    edit(Path("src/sources/noise.py"), "x + 1", "x + 2")
    assert changed(before, written()) == {"generate/wine.json"}
    edit(Path("src/sources/waves.py"), "from .noise", "from .noisy")
    with pytest.raises(BadInput, match=r"^src/sources/waves\.py:2: there is no module sources\.noisy"):
        written()
    edit(Path("params.yaml"), "sources/waves.py", "sources/wave.py")
    with pytest.raises(BadInput, match=r"^src/sources/wave\.py: no such file; did you mean 'src/sources/waves\.py'"):
        written()


def test_a_missing_file_and_a_link_out_of_the_repository_are_refused(
    written: Written, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "bloques.py"
    outside.write_text("def act(x): return x")
    helper = Path("src/models/bloques.py")
    helper.unlink()
    helper.symlink_to(outside)
    with pytest.raises(BadInput) as refused:
        written()
    assert str(refused.value) == f"{helper}: a link out of the repository, to {outside}; put the file itself there"
    Path("src/models/x.py").rename("src/models/xx.py")
    with pytest.raises(BadInput, match=r"^src/models/x\.py: no such file; did you mean 'src/models/xx\.py'\?$"):
        written()
