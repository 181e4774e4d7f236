"""DVC does not follow imports: a module that a stage imports and does not name in `deps` would leave stale results."""

import ast
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]


def imported_by(module: Path) -> tuple[set[Path], set[str]]:
    """bancada's own modules, and the names of foreign packages, that a module imports: at once, or in a function."""
    own, foreign = {ROOT / "src/bancada/__init__.py"}, set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            if package != "bancada":
                foreign.add(package)
            elif rest and (ROOT / "src/bancada" / f"{rest[0]}.py").exists():
                own.add(ROOT / "src/bancada" / f"{rest[0]}.py")
    return own, foreign


def closure(stage: str) -> tuple[set[str], set[str]]:
    """All of bancada's modules that the stage may import, as dvc.yaml names them, and all foreign packages."""
    found, packages = set(), set[str]()
    todo = {ROOT / "src/bancada" / f"{stage}.py"}
    while todo:
        module = todo.pop()
        found.add(module)
        own, foreign = imported_by(module)
        todo |= own - found
        packages |= foreign
    return {module.relative_to(ROOT).as_posix() for module in found}, packages


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_stage_are_the_modules_that_it_imports(stage: str) -> None:
    deps = [dep for dep in STAGES[stage]["do"]["deps"] if dep.startswith("src/")]
    assert sorted(closure(stage)[0]) == deps


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_mlflow(stage: str) -> None:
    assert "mlflow" not in closure(stage)[1]
    assert "src/bancada/tracking.py" not in closure(stage)[0]


@pytest.mark.parametrize("stage", STAGES)
def test_training_alone_imports_torch_which_takes_seconds_to_load(stage: str) -> None:
    assert ("torch" in closure(stage)[1]) == (stage == "train")
