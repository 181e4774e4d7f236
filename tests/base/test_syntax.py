"""Which modules a module imports, and the hash of what it means: on small trees made for the purpose."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bancada.base.syntax import Folder

SOURCE = Path(__file__).parents[2] / "src"
# This Python, and every other one that is here: on PATH, or where pyenv keeps them.
FOLDERS = [*os.environ["PATH"].split(os.pathsep), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
FOUND = (shutil.which(f"python3.{minor}", path=os.pathsep.join(FOLDERS[::-1])) for minor in (11, 12, 13, 14))
PYTHONS = [sys.executable, *filter(None, FOUND)]

# One of nearly everything that Python's grammar has, with empty fields that newer versions added. The digest was
# computed under Python 3.11.
EXAMPLE = '''\
"""A docstring."""
from __future__ import annotations
import os.path as p
from . import a as b
X: int = 1_000; Y = 1.5e3, "ä\\u2028\\N{GREEK SMALL LETTER ALPHA}", b"\\x00", 2j, ..., None, True
@decorated(1, *X, key=2, **Y)
class C(Base, metaclass=Meta):
    """Another."""
    async def f(self, a, /, b=1, *c, d: int = 2, **e) -> str:
        async with x as y, z: pass
        return f"{a!r:>{b}} {c=}" "tail" f'{d}'
def g():
    global h
    h = [i async for i in k if i] + [lambda: (yield)] if not X else {**Y, 1: 2}
    try: del h[1:2, ::3]
    except* (A, B) as error: raise C from error
    match X:
        case {"k": [1, *_], **rest} | C(x=1) if rest: pass
        case _: assert (n := 2) @ 3 << 4, "no"
    while X: break
    else: yield from Y
'''
DIGEST = "4ebf96bbb7a61aae3899d62b3d36eb2e"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def digest(folder: Path, text: str) -> str:
    write(folder, {"one.py": text})
    return Folder(folder).closure(["one"])[0]["one"]


@pytest.mark.parametrize("python", PYTHONS)
def test_a_file_has_the_same_hash_under_every_python(tmp_path: Path, python: str) -> None:
    write(tmp_path, {"one.py": EXAMPLE})
    program = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
    program += "from syntax import Folder\nprint(Folder(Path('.')).closure(['one'])[0]['one'])"
    done = subprocess.run(
        [python, "-c", program, str(SOURCE / "bancada/base")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"{DIGEST}\n", done.stderr


@pytest.mark.parametrize(
    "other",
    [
        "# a comment\nx = 1\n\n\ndef f(a):\n    return (a)\n",
        'x = 1\ndef f(a):\n    """A docstring."""\n    return a\n',
        '"""Of the module."""\nx = 1\r\ndef f(a): return a\r\n',
        "\ufeffx = 1\ndef f(a): return a\n",
    ],
)
def test_comments_docstrings_line_ends_and_formatting_change_nothing(tmp_path: Path, other: str) -> None:
    assert digest(tmp_path, other) == digest(tmp_path, "x = 1\ndef f(a): return a\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("def f(a=1): pass", "def f(a=2): pass"),
        ("@a\ndef f(): pass", "@b\ndef f(): pass"),
        ("def f(): pass", "async def f(): pass"),
        ("def f(): pass\ndef g(): pass", "def g(): pass\ndef f(): pass"),
        ("x = [1, 2]", "x = [2, 1]"),
        ("f(a, b)", "f(a, *b)"),
        ("x = 'text'", "'text'\nx = 'text'\nx = ''"),
        ("import a.b", "import a"),
    ],
)
def test_what_means_something_else_has_another_hash(tmp_path: Path, one: str, other: str) -> None:
    assert digest(tmp_path, one) != digest(tmp_path, other)


def test_every_way_to_import_is_followed_and_so_are_the_packages_around_a_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "entry.py": "import nets.wide\ndef f():\n    from tools import add\nif f:\n    import late\n"
            "try:\n    import maybe\nexcept ImportError:\n    pass\nfrom typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import typed\n"
            "import importlib\nimportlib.import_module('by.name')\n__import__('by_underscores')\n",
            "nets/__init__.py": "from . import extra\nfrom .deep.inner import x\n",
            "nets/wide.py": "from nets.deep import starred\nfrom nets.extra import *\nimport numpy.linalg",
            "nets/extra.py": "",
            "nets/deep/__init__.py": "",
            "nets/deep/inner.py": "from ..extra import z",
            "nets/deep/starred.py": "import entry",  # a cycle
            "tools/add.py": "",  # a folder without __init__.py
            "late.py": "import rows.data",
            "maybe.py": "import nets.data",
            "rows/data.py": "",
            "nets/data.py": "",  # of the same name as the one above
            "typed.py": "",
            "by/name.py": "",
            "by_underscores.py": "",
            "unused.py": "import torch",
        },
    )
    found, foreign = Folder(tmp_path).closure(["entry"])
    assert " ".join(found) == (
        "by.name by_underscores entry late maybe nets nets.data nets.deep nets.deep.inner nets.deep.starred"
        " nets.extra nets.wide rows.data tools.add typed"
    )
    assert foreign.keys() - {"importlib", "typing", "typing.TYPE_CHECKING"} == {"numpy.linalg"}
    assert str(foreign["numpy.linalg"]) == f"{tmp_path}/nets/wide.py:3"


@pytest.mark.parametrize(
    "changed", ["entry.py", "models/net.py", "util/__init__.py", "models/__init__.py", "models/extra.py"]
)
def test_a_change_in_any_file_of_the_closure_is_seen_and_one_outside_is_not(tmp_path: Path, changed: str) -> None:
    files = {
        "entry.py": "from models import net\nA = 1\n",
        "models/__init__.py": "import models.extra\nA = 1\n",
        "models/extra.py": "A = 1\n",
        "models/net.py": "from util import total\nA = 1\n",
        "util/__init__.py": "def total(): return 1\nA = 1\n",
        "outside.py": "A = 1\n",
    }
    write(tmp_path, files)
    before = Folder(tmp_path).closure(["entry"])
    write(tmp_path, {"outside.py": "A = 2\n", changed: files[changed] + "# A = 2\n"})
    assert Folder(tmp_path).closure(["entry"]) == before
    write(tmp_path, {changed: files[changed].replace("A = 1", "A = 2")})
    assert Folder(tmp_path).closure(["entry"]) != before


def test_a_computed_name_is_refused_unless_it_is_declared(tmp_path: Path) -> None:
    write(tmp_path, {"one.py": "from importlib import import_module\n\nimport_module('kinds.' + name)\n"})
    with pytest.raises(
        ValueError, match=r"one\.py:3: imports a module by a computed name or a star; write the name out$"
    ):
        Folder(tmp_path).closure(["one"])
    assert list(Folder(tmp_path, frozenset({"one"})).closure(["one"])[0]) == ["one"]


@pytest.mark.parametrize(
    "text",
    [
        "from importlib import import_module as load\nload('a')",
        "import importlib\nload = importlib.import_module",
        "import importlib\nmap(importlib.import_module, names)",
        "import importlib\nimportlib.import_module(name='a')",
        "import importlib\nimportlib.import_module('.a', package='b')",
        "__import__('p', fromlist=['a'])",
        "import runpy\nrunpy.run_path('a.py')",
        "from importlib.util import spec_from_file_location\nspec_from_file_location('a', path)",
    ],
)
def test_an_import_that_cannot_be_followed_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"one\.py:\d+: imports a module by a computed name"):
        digest(tmp_path, text)


def test_a_star_that_may_import_every_module_of_a_package_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"one.py": "from p import *", "p/__init__.py": "", "p/a.py": ""})
    with pytest.raises(
        ValueError, match=r"one\.py:1: imports a module by a computed name or a star; write the name out$"
    ):
        Folder(tmp_path).closure(["one"])


def test_a_data_file_in_a_package_counts_and_a_text_for_readers_does_not(tmp_path: Path) -> None:
    inside = ["p/limits.json", "p/tables/more.csv"]
    write(tmp_path, {"p/__init__.py": "", "p/q/__init__.py": "", **dict.fromkeys(inside, "1")})
    found = [Folder(tmp_path).closure(["p"])]
    for name in inside:
        write(tmp_path, {name: "2", "p/README.md": "a", "p/.hidden": "b", "p/q/other.json": name})
        found.append(Folder(tmp_path).closure(["p"]))
    assert found[0] != found[1] != found[2]
    write(tmp_path, {"p/README.md": "b", "p/.hidden": "c", "p/q/other.json": "d"})
    assert Folder(tmp_path).closure(["p"]) == found[2]


@pytest.mark.parametrize(("text", "said"), [("x = (\n", "one.py:1: "), ("x = 1\x00", "one.py: ")])
def test_a_file_that_cannot_be_parsed_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match="one") as refused:
        digest(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
