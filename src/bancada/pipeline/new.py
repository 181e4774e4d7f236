"""`bancada new`: a project of a user's own, with none of bancada's code: it depends on a wheel of it in vendor."""

import hashlib
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

from bancada.base import BadInput, files, git
from bancada.pipeline.requirements import LOCK
from bancada.pipeline.wheel import packed

# Each file of a project, and the one below TEMPLATE that it is made from. No name there begins with a dot, nor is one
# dvc.yaml: git and DVC would take such files for their own.
OF_BANCADA = {  # `bancada new --upgrade` renews them
    ".dvc/.gitignore": "dvc/gitignore",
    ".dvc/config": "dvc/config",
    ".dvc/plots/loss.json": "dvc/plots/loss.json",
    ".dvcignore": "dvcignore",
    ".gitattributes": "gitattributes",
    ".github/workflows/reproduce.yml": "github/reproduce.yml",
    ".gitignore": "gitignore",
    "Makefile": "Makefile",
    "dvc.yaml": "stages.yaml",
    "environment.mk": "environment.mk",
    "install_torch.py": "install_torch.py",
    "ray.lock": "ray.lock",
    "tests/test_reproduction.py": "tests/test_reproduction.py",
    "torch-cpu.lock": "torch-cpu.lock",
    "torch-pypi.lock": "torch-pypi.lock",
}
OF_THE_USER = {
    "README.md": "README.md",
    "data/published.csv": "published.csv",
    "data/sources/.gitkeep": "sources/empty",
    "params.yaml": "params.yaml",
    "pyproject.toml": "pyproject.toml",
    "src/models/sine.py": "models/sine.py",
    "src/sources/spirals.py": "sources/spirals.py",
}
TEMPLATE, VENDOR = "bancada/pipeline/template", Path("vendor")
# No shell's or user's hooks, templates and signatures take part in the first commit.
PLAIN = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
NOBODY = ("-c", "user.name=bancada", "-c", "user.email=bancada@localhost")


def new(folder: Path | None) -> None:
    """Make a project with one commit in a new folder, whole or not at all. Raise BadInput where it cannot be made."""
    if folder is None:
        raise BadInput("bancada new: name the folder to make, or say --upgrade")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir()) or folder.samefile(Path.cwd())):
        raise BadInput(f"{folder}: is here already, and nothing was changed; name a folder that is not")
    name, wheel = packed()
    content = _rendered(wheel, OF_BANCADA | OF_THE_USER)
    content["README.md"] = content["README.md"].replace(b"NAME", folder.resolve().name.encode(), 1)
    content[LOCK] = _locked(_rendered(wheel, {LOCK: LOCK})[LOCK].decode(), name, wheel)
    content[(VENDOR / name).as_posix()] = wheel
    with files.whole(folder.absolute()) as unfinished:
        for path, data in content.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_bytes(data)
        git.exact(unfinished, "init", "--quiet", "--template=")
        git.exact(unfinished, "add", "--all", "--force")  # whatever the user's own rules ignore
        known = git.run(unfinished, "var", "GIT_AUTHOR_IDENT").returncode == 0
        git.exact(unfinished, *PLAIN, *(() if known else NOBODY), "commit", "--quiet", "-m", f"A project of {name}")
    print(f"{folder}: a project of {name}, in a git repository of its own")
    print(f"Next: cd {shlex.quote(str(folder))} && make repro")


def upgrade(folder: Path | None) -> int:
    """Bring the project in the current folder to the bancada that runs, and commit nothing.

    What the user has changed in a file of bancada's is merged as git does it. The exit status is 1 where it cannot, and
    the file then shows both. Raise BadInput where this is no such project, or holds what is not committed.
    """
    if folder:
        raise BadInput(f"bancada new --upgrade: brings up the project around the current folder; leave out {folder}")
    here, (name, wheel) = Path.cwd(), packed()
    [old] = found if len(found := sorted(VENDOR.glob("bancada-*.whl"))) == 1 else [None]
    if not old:
        raise BadInput(f"{VENDOR}: holds no wheel of bancada, so this is no project that `bancada new` made")
    if old.read_bytes() == wheel:
        print(f"{old}: is the bancada that runs already; call `bancada new --upgrade` of another one")
        return 0
    if changed := git.asked(here, "status", "--porcelain", "--", *OF_BANCADA, LOCK, str(VENDOR)).splitlines():
        raise BadInput(f"{changed[0][3:]}: is not committed, so `git checkout .` could not go back to it; commit first")
    before, now = _rendered(old.read_bytes(), OF_BANCADA), _rendered(wheel, OF_BANCADA)
    merged = {path: _merged(Path(path), before.get(path), data) for path, data in now.items()}
    content = {path: both for path, (both, _) in merged.items() if both is not None}
    content[LOCK] = _locked(_rendered(wheel, {LOCK: LOCK})[LOCK].decode(), name, wheel, Path(LOCK).read_text("utf-8"))
    for path, data in content.items():
        with files.whole(Path(path)) as unfinished:
            unfinished.write_bytes(data)
    with files.whole(VENDOR) as unfinished:
        unfinished.mkdir()
        (unfinished / name).write_bytes(wheel)
    print(f"{old.name} -> {name}\nNext: git diff; make repro; make test; commit, or go back by: git checkout .")
    unclear = [path for path, (_, fits) in merged.items() if not fits]
    for path in unclear:
        print(f"{path}: you and bancada have changed the same lines: choose, between the marks of git", file=sys.stderr)
    return 1 if unclear else 0


def _rendered(wheel: bytes, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of each file of a project, by its path there, as a wheel's template has it."""
    with ZipFile(io.BytesIO(wheel)) as zipped:
        there = set(zipped.namelist())
        return {path: zipped.read(at) for path, name in names.items() if (at := f"{TEMPLATE}/{name}") in there}


def _locked(template: str, name: str, wheel: bytes, before: str = "") -> bytes:
    """Return requirements.lock with the wheel: the template's packages, and of `before` those that it does not have."""
    head, *packages = BY_PACKAGE.split(template)
    _, *others = BY_PACKAGE.split(before)
    _, version, *_ = name.split("-")
    packages.append(f"bancada=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n")
    known = {entry.partition("==")[0]: entry for entry in [*others, *packages]}
    return "".join([head, known.pop("torch"), *(known[package] for package in sorted(known))]).encode()


BY_PACKAGE = re.compile(r"^(?=[a-zA-Z])", re.MULTILINE)


def _merged(path: Path, before: bytes | None, now: bytes) -> tuple[bytes | None, bool]:
    """Return what an upgrade makes of a file, and whether it was clear. None: the user has deleted it."""
    if not path.exists():
        return (now if before is None else None), True
    mine = path.read_bytes()
    if mine in (before, now) or before is None:
        return now, True
    with tempfile.TemporaryDirectory() as folder:
        three = [Path(folder, name) for name in ("yours", "before", "bancada")]
        for file, content in zip(three, (mine, before, now), strict=True):
            file.write_bytes(content)
        done = git.run(Path(folder), "merge-file", "-p", *(file.name for file in three))
    return done.stdout, done.returncode == 0
