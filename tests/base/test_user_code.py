"""The user's own files: whose code runs, and the line in which each mistake is told."""

import py_compile
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bancada.base import BadInput, user_code
from bancada.base.settings import checked
from bancada.networks.settings import Module

FILE = "src/models/net.py"
NET = "class Net:\n    def __init__(self, width, depth=2):\n        self.units = width * depth\n"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    user_code.forget()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files below src/models of a project, and returns its src."""

    def written(files: dict[str, Any], project: str = "project") -> Path:
        for name, content in files.items():
            path = tmp_path / project / "src/models" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / project / "src"

    return written


# --- whose code runs ------------------------------------------------------------------------------------------------


def test_helpers_come_in_by_either_form_from_folders_with_and_without_init(write: Write) -> None:
    src = write(
        {
            "net.py": "from .blocks import A\nfrom models.blocks import A as B\nfrom .deep.inner import C\n"
            "from .flat import D\nimport models.deep.inner as inner\ndef make(): return [A, B, C, D, inner.C]\n",
            "blocks.py": "A = 1",
            "deep/inner.py": "from ..blocks import A\nC = A + 1\ndef make(): return C\n",
            "flat/__init__.py": "from .one import D\ndef make(): return D\n",
            "flat/one.py": "D = 3",
        }
    )
    assert user_code.load(src, FILE, "make")() == [1, 1, 2, 3, 2]
    assert user_code.load(src, "src/models/deep/inner.py", "make")() == 2
    assert user_code.load(src, "src/models/flat/__init__.py", "make")() == 3


def test_two_folders_in_one_process_give_each_its_own_code_in_either_order(write: Write) -> None:
    """Their helpers have one name, too. Afterwards, what Python has imported and where it looks are as before."""
    files = {"x.py": "from .bloques import V\ndef make(): return V\n"}
    values = {write(files | {"bloques.py": f"V = {value}"}, f"of {value}"): value for value in (1.0, 2.0)}
    before = dict(sys.modules), list(sys.meta_path), list(sys.path)
    for order in (list(values), list(values)[::-1]):
        made = {src: user_code.load(src, "src/models/x.py", "make") for src in order}
        assert {src: one() for src, one in made.items()} == values
        user_code.forget()
        assert (dict(sys.modules), list(sys.meta_path), list(sys.path)) == before


def test_the_code_of_the_given_folder_runs_whatever_is_on_the_path_or_was_imported(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone, or the folder of a DVC experiment, in an environment where the main checkout is installed."""
    main = write({"__init__.py": "", "net.py": "def make(): return 'main'", "only_main.py": ""}, "main")
    temporary = write(
        {"net.py": "def make(): return 'own'", "old.py": "from . import only_main"}, "main/.dvc/tmp/exps/x"
    )
    monkeypatch.syspath_prepend(main)
    import models.net  # type: ignore[import-not-found]  # it is written by this test

    assert models.net.make() == "main"
    assert user_code.load(temporary, FILE, "make")() == "own"
    with pytest.raises(BadInput, match=r"^src/models/old\.py:1: ImportError: cannot import name 'only_main'"):
        user_code.load(temporary, "src/models/old.py", "make")
    user_code.forget()
    assert sys.modules["models.net"] is models.net
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        del sys.modules[name]


def test_bytecode_is_neither_read_nor_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    src = write({"net.py": "from .blocks import A\ndef make(): return A", "blocks.py": "A = 1"})
    user_code.load(src, FILE, "make")
    assert sorted(path.name for path in (src / "models").iterdir()) == ["blocks.py", "net.py"]
    py_compile.compile(f"{src}/models/blocks.py", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    write({"blocks.py": "A = 2"})
    user_code.forget()
    assert user_code.load(src, FILE, "make")() == 2


def test_a_file_called_like_a_package_hides_nothing(write: Write) -> None:
    text = "import mlflow, random\ndef make(): return [mlflow.__version__, random.Random(1).random()]\n"
    src = write({"mlflow.py": text, "random.py": text, "net.py": text})
    program = (
        "import sys; from pathlib import Path; from bancada.base import user_code; import mlflow\n"
        "for name in ('mlflow', 'random', 'net'):\n"
        "    version, drawn = user_code.load(Path('src'), f'src/models/{name}.py', 'make')()\n"
        "    assert version == mlflow.__version__ and 0 < drawn < 1, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=src.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_source_is_loaded_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "src/sources").mkdir(parents=True)
    (tmp_path / "src/sources/waves.py").write_text("def make(rows): return rows")
    made = user_code.load(tmp_path / "src", "src/sources/waves.py", "make", "sources")
    assert user_code.call(made, {"rows": 3}, "src/sources/waves.py") == 3
    with pytest.raises(BadInput, match="must be a Python file below src/models, such as"):
        user_code.load(tmp_path / "src", "src/sources/waves.py", "make")


# --- mistakes -------------------------------------------------------------------------------------------------------

OUTSIDE = "must be a Python file below src/models, such as src/models/mine.py"
NO_NAME = "cannot be imported, because '{}' is no Python name; use letters, digits and _"
FILES = {
    "src/models/nett.py": "no such file; did you mean 'src/models/net.py'?",
    "src/models/deep/net.py": "no such file; did you mean 'src/models/net.py'?",
    "src/models/folder.py": "is a folder, not a file",
    "models/net.py": OUTSIDE,
    "src/net.py": OUTSIDE,
    "src/models": OUTSIDE,
    "src/models/net": OUTSIDE,
    "src/models/../net.py": OUTSIDE,
    "/src/models/net.py": OUTSIDE,
    "": OUTSIDE,
    "src/models/my-net.py": NO_NAME.format("my-net"),
    "src/models/2d/net.py": NO_NAME.format("2d"),
    "src/models/class.py": NO_NAME.format("class"),
}


@pytest.mark.parametrize("file", FILES)
def test_a_path_that_names_no_file_of_the_users_is_refused(write: Write, file: str) -> None:
    src = write({"net.py": NET, "folder.py/x": ""})
    with pytest.raises(BadInput) as refused:
        user_code.load(src, file, "Net")
    assert str(refused.value) == f"{file}: {FILES[file]}"


def test_a_link_out_of_the_repository_is_refused_and_one_inside_is_followed(write: Write, tmp_path: Path) -> None:
    src = write({"net.py": NET})
    (tmp_path / "elsewhere.py").write_text(NET)
    (src / "models/out.py").symlink_to(tmp_path / "elsewhere.py")
    (src / "models/inside.py").symlink_to("net.py")
    assert user_code.load(src, "src/models/inside.py", "Net").__name__ == "Net"
    with pytest.raises(BadInput) as refused:
        user_code.load(src, "src/models/out.py", "Net")
    where = tmp_path / "elsewhere.py"
    assert str(refused.value) == (
        f"src/models/out.py: a link out of the repository, to {where}; put the file itself there"
    )


INIT = "class Net:\n    def __init__(self, width):\n        "
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "syntax error": ({"net.py": "x = 1\n\ndef (:\n"}, "net.py:3: invalid syntax"),
    "syntax error in a helper": ({"net.py": "from . import b", "b.py": "x = 1\n  y = 2"}, "b.py:2: unexpected indent"),
    "syntax error in a text": ({"net.py": "\neval('1 +')"}, "net.py:2: SyntaxError: invalid syntax (<string>, line 1)"),
    "not UTF-8": (
        {"net.py": b"x = 1\ny = '\xe9'\n"},
        "net.py:2: (unicode error) 'utf-8' codec can't decode byte 0xe9 in position 0: unexpected end of data;"
        " save the file as UTF-8",
    ),
    "null byte": ({"net.py": b"x = 1\x00"}, "net.py: source code string cannot contain null bytes"),
    "missing package": (
        {"net.py": "import os\nimport no_existe\n"},
        "net.py:2: ModuleNotFoundError: No module named 'no_existe'",
    ),
    "missing package in a helper": (
        {"net.py": "import models.a.b\n", "a/b.py": "\n\nfrom no.existe import x\n"},
        "a/b.py:3: ModuleNotFoundError: No module named 'no'",
    ),
    "bare import of a helper": (
        {"net.py": "import os\nfrom blocks import A", "blocks.py": "A = 1"},
        "net.py:2: ModuleNotFoundError: No module named 'blocks'; write \"from .blocks import ...\"",
    ),
    "bare import of a helper one folder up": (
        {"net.py": "from .deep import inner", "deep/inner.py": "import blocks", "blocks/a.py": "A = 1"},
        "deep/inner.py:1: ModuleNotFoundError: No module named 'blocks'; write \"from ..blocks import ...\"",
    ),
    "missing helper": (
        {"net.py": "from .blokcs import A", "blocks.py": ""},
        "net.py:1: ModuleNotFoundError: No module named 'models.blokcs'",
    ),
    "missing name in a helper": (
        {"net.py": "from .blocks import B", "blocks.py": "A = 1"},
        "net.py:1: ImportError: cannot import name 'B' from 'models.blocks' (src/models/blocks.py)",
    ),
    "a file beside the folder": (
        {"../models.py": "", "net.py": NET},
        "net.py: ModuleNotFoundError: No module named 'models.net'; 'models' is not a package",
    ),
    "error at the top": ({"net.py": "\n1 / 0"}, "net.py:2: ZeroDivisionError: division by zero"),
    "exit": ({"net.py": "import sys\nsys.exit(3)"}, "net.py:2: SystemExit: 3"),
    "error in a decorator": (
        {"net.py": "from .a import d\n@d\ndef Net(width): pass", "a.py": "def d(f):\n    raise ValueError('no')\n"},
        "a.py:2: in d: ValueError: no",
    ),
    "missing name": (
        {"net.py": "def Nett(): pass"},
        "net.py: there is no class or function Net in it; did you mean 'Nett'?",
    ),
    "missing name, none is near": (
        {"net.py": "from os import getcwd\nclass A: pass\ndef b(): pass\nc = 1"},
        "net.py: there is no class or function Net in it",
    ),
    "no class": ({"net.py": "Net = 3"}, "net.py: there is no class or function Net in it"),
    "error in the constructor": (
        {"net.py": f"{INIT}self.half(width)\n    def half(self, width):\n        range(width / 2)\n"},
        "net.py:5: in Net.half: TypeError: 'float' object cannot be interpreted as an integer",
    ),
    "error without a text": (
        {"net.py": f"class Odd(Exception):\n    def __str__(self): return {{}}['x']\n{INIT}raise Odd"},
        "net.py:5: in Net.__init__: Odd: its text cannot be shown: KeyError",
    ),
    "long text of many lines": (
        {"net.py": f"{INIT}raise ValueError('one\\n   two ' + 10**6 * 'x')"},
        f"net.py:3: in Net.__init__: ValueError: one two {292 * 'x'}",
    ),
    "error in a package": (
        {"net.py": f"import json\n{INIT}json.loads('{{')"},
        "net.py:4: in Net.__init__: JSONDecodeError: Expecting property name enclosed in double quotes:"
        " line 1 column 2 (char 1)",
    ),
    "unknown argument": (
        {"net.py": "\nclass Net:\n    def __init__(self, widht=1, depth=1): pass\n"},
        "net.py: Net: got an unexpected keyword argument 'width'; it takes widht, depth; did you mean 'widht'?",
    ),
    "missing argument": (
        {"net.py": "def Net(width, depth): pass\n"},
        "net.py: Net: missing a required argument: 'depth'; it takes width, depth",
    ),
    "class of a helper": (
        {"net.py": "from .a import Net", "a.py": "class Net:\n    def __init__(self): pass"},
        "net.py: Net: got an unexpected keyword argument 'width'; it takes no arguments",
    ),
    "class without a constructor": (
        {"net.py": "class Net: pass"},
        "net.py: Net: got an unexpected keyword argument 'width'; it takes no arguments",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_with_the_users_file_and_line(write: Write, mistake: str) -> None:
    files, said = MISTAKES[mistake]
    src = write(files)
    with pytest.raises(BadInput) as refused:
        user_code.call(user_code.load(src, FILE, "Net"), {"width": 3}, FILE)
    assert str(refused.value) == f"src/models/{said}"


def test_an_endless_recursion_is_told_like_any_other_error(write: Write) -> None:
    made = user_code.load(write({"net.py": f"{INIT}Net(width)"}), FILE, "Net")
    with pytest.raises(BadInput, match=f"^{FILE}:3: in Net.__init__: RecursionError: maximum recursion depth exceeded"):
        user_code.call(made, {"width": 3}, FILE)


def test_what_is_not_the_users_fault_is_left_to_the_caller(write: Write) -> None:
    src = write({"net.py": "def make(error): raise error"})
    make = user_code.load(src, FILE, "make")
    with pytest.raises(KeyboardInterrupt):
        user_code.call(make, {"error": KeyboardInterrupt()}, FILE)
    for error in (OSError("the disk is full"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), user_code.told(src, FILE):
            raise error
    with pytest.raises(BadInput, match=f"^{FILE}:1: in make: OSError: no$"):
        user_code.call(make, {"error": OSError("no")}, FILE)
    assert user_code.explained(ValueError("no\nline"), src) == "ValueError: no line"


def test_params_yaml_is_refused_by_the_key_that_is_wrong() -> None:
    good = {"file": FILE, "name": "Net", "args": {"width": 3}}
    assert checked(Module, {"file": FILE, "name": "Net"}, "variants.x.module").args == {}
    wrong = {
        "file": ("src/nets/net.py", f" = src/nets/net.py: {OUTSIDE}"),
        "name": ("", ": must have at least 1 character"),
        "args": ([3], ": must be a mapping"),
        "arg": ({}, ": unknown key; did you mean 'args'?"),
    }
    for key, (value, said) in wrong.items():
        with pytest.raises(BadInput) as refused:
            checked(Module, {**good, key: value}, "variants.x.module")
        assert str(refused.value) == f"params.yaml: variants.x.module.{key}{said}"
