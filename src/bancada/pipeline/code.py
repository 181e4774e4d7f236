"""Stage code: which code and which packages the result of each other stage depends on -> data/code/STAGE/NAME.json.

DVC does not follow imports, so each stage depends on its file here: the modules that it imports, directly or not, each
with a hash of its syntax tree, and the versions in requirements.lock of the packages that those modules import. The
stage report, of which there is one, has data/code/report.json.
A comment reruns this stage alone. A new plot reruns evaluations alone.

The process that records results in MLflow runs beside a stage. It is no import, so it is no part of these files.
"""

import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from bancada.base import BadInput, files, lockfile, syntax, user_code
from bancada.base.stage import told_errors
from bancada.data import sources, vary
from bancada.networks import saved
from bancada.pipeline import params as all_params
from bancada.pipeline import requirements
from bancada.pipeline.params import Params
from bancada.training import replica, train

STAGES = {  # of each study, and, for `train`, of each variant
    "generate": "bancada.data.generate",
    "split": "bancada.data.split",
    "index": "bancada.training.index",
    "evaluate": "bancada.evaluation.evaluate",
    "train": "bancada.training.train",
}
# These import sources, engines, searches and the user's files by a computed name: the entries name those modules.
DECLARED = frozenset({module.__name__ for module in (sources, vary, replica, saved, user_code, train)} | {train.SEARCH})
OWN = ("bancada", *user_code.FOLDERS)
REPORT = "bancada.evaluation.report"  # of all studies


def main() -> None:
    """Write data/code, whole. Raise BadInput where params.yaml, or a module, cannot be used."""
    wanted = contents(all_params.load(), Path())
    with files.whole(files.CODE) as folder:
        for path, text in wanted.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")


def contents(params: Params, root: Path) -> dict[str, str]:
    """Return the text of each file below data/code, by its path there, for the code in `root`."""
    versions = requirements.pinned(root / requirements.LOCK)
    folder = syntax.Folder(root / "src", DECLARED, lockfile.hidden_from_dvc(root), OWN)
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    found = {}
    every = [(stage, name) for stage in STAGES for name in (params.variants if stage == "train" else params.studies)]
    for stage, name in every:
        entries = (STAGES[stage], *_by_name(stage, name, params, folder.path))
        if entries not in known:
            known[entries] = _depends_on(entries, folder, versions)
        # The metric chooses, and dvc.yaml, which is the same for all variants, does not name it for a training.
        searches = stage == "train" and params.training(name).search()
        chosen_by = {"metric": params.studies[params.variants[name].study].metric} if searches else {}
        found[f"{stage}/{name}.json"] = json.dumps(known[entries] | chosen_by, indent=1) + "\n"
    found["report.json"] = json.dumps(_depends_on((REPORT,), folder, versions), indent=1) + "\n"
    return found


def _by_name(stage: str, name: str, params: Params, src: Path) -> list[str]:
    """Return the modules that a stage imports because params.yaml names them."""
    source = params.source(params.variants[name].study if stage == "train" else name)
    own = [user_code.locate(src, file, "sources")] if (file := getattr(source, "file", None)) else []
    made = [sources.module_of(source.kind), *own]
    if stage == "generate":
        return made
    draws = [vary.DRAWS, *made] if "data" in source.vary and stage in ("train", "evaluate") else []
    variants = {"train": [name], "evaluate": params.variants_of(name)}.get(stage, [])
    recipes = [params.recipe(variant) for variant in variants]
    engines = [replica.ENGINES[recipe.engine] for recipe in recipes] if stage == "train" else []
    searches = stage == "train" and params.training(name).search() is not None
    evaluated = [saved.evaluated_by(recipe.engine) for recipe in recipes if stage == "evaluate" or searches]
    modules = [user_code.locate(src, recipe.module.file) for recipe in recipes if recipe.module]
    return sorted({*engines, *evaluated, *modules, *draws, *([train.SEARCH] if searches else [])})


def _depends_on(entries: tuple[str, ...], folder: syntax.Folder, versions: Mapping[str, str]) -> dict[str, Any]:
    try:
        modules, foreign = folder.closure(entries)
    except ValueError as error:
        raise BadInput(str(error)) from None
    packages = {}
    for name in sorted(foreign):
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        package = _package_of(name)
        if package not in versions:
            raise BadInput(f"{foreign[name]}: {_way_out(name, foreign[name].path, folder.path)}")
        packages[package] = versions[package]
    return {"modules": modules, "packages": dict(sorted(packages.items()))}


def _way_out(name: str, importer: Path, src: Path) -> str:
    """Return what to do about an import that no package in requirements.lock satisfies."""
    top = name.partition(".")[0]
    if line := user_code.as_written(name, importer, src):
        return line
    if (src / top).is_dir() or (src / f"{top}.py").exists():
        return f"imports {top}, which may come from another checkout; move it from src to {importer.parent}"
    lock = requirements.LOCK
    return f"imports {top}, which {lock} lacks; add its package to dependencies in pyproject.toml, then `make lock`"


@cache
def _package_of(module: str) -> str:
    """Return the name of the package that a module belongs to: ruamel.yaml is ruamel-yaml's, sklearn scikit-learn's.

    Of several packages with one name at the top, such as google's, it is the one that has the module's file.
    """
    parts = module.split(".")
    names = sorted(set(_distributions().get(parts[0], parts[:1])))
    if len(names) > 1:
        starts = tuple("/".join(parts[:2]) + end for end in ("/", "."))
        names.sort(key=lambda name: not any(str(file).startswith(starts) for file in distribution(name).files or ()))
    return str(canonicalize_name(names[0]))


_distributions = cache(packages_distributions)  # it reads the files of every package


if __name__ == "__main__":
    with told_errors():
        main()
