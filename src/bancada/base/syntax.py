"""What a module means: a hash of its syntax tree, and the modules that it imports. Only the standard library is used.

Comments, docstrings, line ends and formatting are no part of the hash, and it is the same under every Python:
`ast.dump` is not, because each version adds fields; this walk leaves out every field that is None or empty.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Functions that import a module by its name, or run a file.
BY_NAME = ("import_module", "__import__", "run_module", "run_path", "spec_from_file_location")
NO_DATA = (".py", ".pyi", ".so", ".pyd", ".md", ".typed")
INSTALLED = Path(__file__).resolve().parents[2]  # the folder with the package that this module belongs to
FOLLOWED = BY_NAME[:2]  # in a call that names the module alone, and in full


class Place(NamedTuple):
    """A line of a file."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Module(NamedTuple):
    """A module of the folder: its hash, and the names that it imports, each with a place where it does so.

    Foreign names may be of functions or classes. A folder without `__init__.py` and data files has no hash.
    """

    digest: str
    imports: dict[str, Place]


class Folder:
    """A folder of modules, each of which is parsed once. `declared`: those that may import by a computed name.

    `hides`: whether a file is of no use to any module. `own`: the names at the top of its modules, by default all.
    Where `own` has bancada and the folder has not, as in a user's project, it is the one that runs this.
    """

    def __init__(
        self,
        path: Path,
        declared: frozenset[str] = frozenset(),
        hides: Callable[[Path], bool] = lambda path: False,
        own: Iterable[str] = (),
    ) -> None:
        self.path, self.declared, self.hides = path, declared, hides
        self.own = set(own) or {inside.name.partition(".")[0] for inside in path.iterdir()}
        self.known: dict[str, Module] = {}

    def closure(self, entries: Iterable[str]) -> tuple[dict[str, str], dict[str, Place]]:
        """Return all modules that `entries` import, directly or not: the folder's own with hashes, the foreign ones.

        A foreign module is given with a place that imports it. An import counts wherever it stands: in a function,
        below `if` or `try`. The packages around a module count, too, with the data files in their folders. So do those
        in folders without `__init__.py`. Raise ValueError, with one line, for a file that cannot be parsed, for a
        missing module, and for one imported by a computed name, unless `declared` holds the module that does so.
        """
        found, foreign = dict[str, str](), dict[str, Place]()
        todo, seen = [(name, Place(self.path, 0)) for name in entries], set[str]()
        while todo:
            name, place = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name.partition(".")[0] not in self.own:
                foreign[name] = place
                continue
            if (path := self.path_of(name)) is None:
                raise ValueError(f"{place}: there is no module {name}{self.near(name)}")
            if name not in self.known:
                self.known[name] = self.read(name, path)
            digest, imports = self.known[name]
            found |= {name: digest} if digest else {}
            above = name.rpartition(".")[0]
            todo += [(above, place)] if above else []
            todo += reversed(imports.items())  # the first of its imports comes next
        return dict(sorted(found.items())), foreign

    def path_of(self, name: str) -> Path | None:
        """Return the file of a module, or a folder of that name; None for what is no module of this folder."""
        base = self.home(name).joinpath(*name.split("."))
        candidates = (base / "__init__.py", base.parent / f"{base.name}.py")
        return next((path for path in candidates if path.is_file()), base if base.is_dir() else None)

    def home(self, name: str) -> Path:
        """Return the folder in which a module is looked for."""
        return INSTALLED if name.partition(".")[0] == "bancada" and not (self.path / "bancada").is_dir() else self.path

    def near(self, name: str) -> str:
        """Return a question that suggests the module beside a missing one whose name is most similar, if one is."""
        above, _, last = name.rpartition(".")
        beside = sorted(self.home(name).joinpath(*above.split(".")).glob("*.py"))
        close = get_close_matches(last, [path.stem for path in beside], n=1)
        return f"; did you mean '{above}.{close[0]}'?" if close else ""

    def read(self, name: str, path: Path) -> Module:
        """Parse one file; of data files in a package's folder, all bytes count."""
        if not path.resolve().is_relative_to(self.home(name).resolve().parent):
            raise ValueError(f"{path}: a link out of the repository, to {path.resolve()}; put the file itself there")
        folder = path if path.is_dir() else path.parent if path.name == "__init__.py" else None
        data = [f"{file.name} {_hash(file.read_bytes())}" for file in self.data(folder)] if folder else []
        if path.is_dir():
            return Module(_hash("\n".join(data).encode()) if data else "", {})
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:  # ValueError: a null byte
            line = f"{error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
            raise ValueError(f"{path}:{line} {getattr(error, 'msg', error)}") from None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        names, plain = dict[str, Place](), set[ast.AST]()
        for node in ast.walk(tree):  # a call comes before the name that it calls
            place = Place(path, getattr(node, "lineno", 0))
            if isinstance(node, ast.ImportFrom) and node.level > package.count(".") + 1:
                raise ValueError(f"{place}: {'.' * node.level} leads out of {package}; write the module's whole name")
            for imported in self.imports(node, package, plain):
                if imported is not None:
                    names.setdefault(imported.strip("."), place)
                elif name not in self.declared:
                    raise ValueError(f"{place}: imports a module by a computed name or a star; write the name out")
        names.pop("", None)
        return Module(_hash("\n".join([*_walk(tree), *data]).encode()), names)

    def data(self, folder: Path) -> Iterator[Path]:
        """Yield the data files of a package, and those in folders inside it that are no packages: it may read them."""
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name == "__pycache__" or self.hides(path):
                continue
            if path.is_dir() and not (path / "__init__.py").exists():
                yield from self.data(path)
            elif path.is_file() and path.suffix not in NO_DATA:
                yield path

    def imports(self, node: ast.AST, package: str, plain: set[ast.AST]) -> Iterator[str | None]:
        """Yield the names that a node imports; None for one that is computed.

        `plain` gets the names of functions in calls that can be followed: `import_module("a.b")`.
        """
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")
            source = ".".join(around[: len(around) - node.level + 1] if node.level else [])
            source = ".".join(filter(None, (source, node.module)))
            yield source
            path = self.path_of(source)
            for alias in node.names:
                if alias.name == "*":  # a package's `__all__` may name any of its modules: it is refused
                    yield from [None] if path and path.name == "__init__.py" else []
                elif alias.name in BY_NAME and alias.asname:
                    yield None
                elif self.path_of(f"{source}.{alias.name}") or not (path and path.is_file()):
                    yield f"{source}.{alias.name}"  # no function or class in a module of this folder
        elif isinstance(node, ast.Call) and _name(node.func) in FOLLOWED:
            match node.args, node.keywords:
                case [ast.Constant(value=str(written))], [] if not written.startswith("."):
                    plain.add(node.func)
                    yield written
        elif _name(node) in BY_NAME and node not in plain:
            yield None


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _walk(node: object) -> Iterator[str]:
    """Yield a text for each node and value of a tree, in order, without docstrings and empty fields."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if isinstance(node, WITH_DOCSTRING) and name == "body" and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty texts
                value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
            if value is not None and value != []:
                yield name
                yield from _walk(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _walk(item)
        yield "]"
    else:
        yield f"{type(node).__name__} {node!a}"  # 1, 1.0 and True differ; `repr` of a text depends on the Python


def _hash(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
