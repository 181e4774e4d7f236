"""What a module means: a hash of its syntax tree, and the modules that it imports. Only the standard library is used.

Comments, docstrings, line ends and formatting are no part of the hash, and it is the same under every Python:
`ast.dump` is not, because each version adds fields; this walk leaves out every field that is None or empty.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Functions that import a module by its name, or run a file.
BY_NAME = ("import_module", "__import__", "run_module", "run_path", "spec_from_file_location")
NO_DATA = (".py", ".pyi", ".so", ".pyd", ".md")
FOLLOWED = BY_NAME[:2]  # in a call that names the module alone, and in full


@dataclass(frozen=True)
class Module:
    """A module of the folder: its hash, and the names that it imports (some are functions or classes, not modules)."""

    digest: str
    imports: frozenset[str]


class Folder:
    """A folder of modules, each of which is parsed once. `hides`: whether a file is of no use to any module."""

    def __init__(
        self, path: Path, declared: frozenset[str] = frozenset(), hides: Callable[[Path], bool] = lambda path: False
    ) -> None:
        self.path, self.declared, self.hides = path, declared, hides
        self.known: dict[str, Module] = {}

    def closure(self, entries: Iterable[str]) -> tuple[dict[str, str], set[str]]:
        """Return all modules of the folder that `entries` import, directly or not, and the names of foreign modules.

        An import counts wherever it stands: in a function, below `if` or `try`. The packages around a module count,
        too, with the data files in their folders. The modules are given with their hashes. Raise ValueError, with one
        line, for a file that cannot be parsed, and for a module that is imported by a computed name, unless `declared`
        holds the module that does so.
        """
        found: dict[str, str] = {}
        foreign: set[str] = set()
        todo, seen = list(entries), set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            top, parent = name.partition(".")[0], name.rpartition(".")[0]
            if self.file_of(top) is None and not (self.path / top).is_dir():
                foreign.add(name)
                continue
            todo += [parent] if parent else []
            path = self.file_of(name)
            if path:  # else a function or a class, or a folder without `__init__.py`
                if name not in self.known:
                    self.known[name] = self.read(name, path)
                found[name] = self.known[name].digest
                todo += self.known[name].imports
        return dict(sorted(found.items())), foreign

    def file_of(self, name: str) -> Path | None:
        """Return the file of a module; None for a folder without `__init__.py`, and for what lies elsewhere."""
        base = self.path.joinpath(*name.split("."))
        candidates = [base / "__init__.py", base.with_name(f"{base.name}.py")]
        candidates += [base.with_name(base.name + suffix) for suffix in EXTENSION_SUFFIXES]
        return next((path for path in candidates if path.is_file()), None)

    def read(self, name: str, path: Path) -> Module:
        """Parse one file; of a compiled module, and of a package's data files, all bytes count."""
        if path.suffix != ".py":
            return Module(_hash(path.read_bytes()), frozenset())
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:  # ValueError: a null byte
            line = f" line {error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
            raise ValueError(f"{path}:{line} {getattr(error, 'msg', error)}") from None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        names, plain = set[str](), set[ast.AST]()
        for node in ast.walk(tree):  # a call comes before the name that it calls
            for imported in self.imports(node, package, plain):
                if imported is not None:
                    names.add(imported.strip("."))
                elif name not in self.declared:
                    raise ValueError(
                        f"{path}: line {vars(node)['lineno']}: imports a module by a computed name; write the name out"
                    )
        inside = self.data(path.parent) if path.name == "__init__.py" else ()
        data = [f"{file.name} {_hash(file.read_bytes())}" for file in inside]
        return Module(_hash("\n".join([*_walk(tree), *data]).encode()), frozenset(names - {""}))

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
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            for alias in node.names:
                if alias.name != "*":
                    yield None if alias.name in BY_NAME and alias.asname else f"{source}.{alias.name}"
                else:  # a package's `__all__` may name any of its modules
                    inside = self.path.joinpath(*source.split("."))
                    found = {path.name.partition(".")[0] for path in inside.glob("*")}
                    yield from sorted(f"{source}.{name}" for name in found if not name.startswith("__"))
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
