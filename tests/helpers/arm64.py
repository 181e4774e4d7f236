"""A Python for ARM64, to run under qemu: Debian's packages and the wheels of requirements.lock, in the user's cache.

apt and pip take both from where their own settings say. On the machine itself nothing is installed, and nobody has to
be root.
"""

import getpass
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bancada.base import files
from bancada.base.locks import locked

LOCK = Path(__file__).parents[2] / "requirements.lock"
EMULATOR = "qemu-aarch64"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"  # with the same one, pip compiles the wheels' modules
DEBIAN = (f"python{VERSION}-minimal", f"libpython{VERSION}-stdlib", "libstdc++6")
# What the stages from generate to evaluate import, but torch: its wheel is large, and nothing promises its bits here.
WHEELS = """
annotated-types cloudpickle contourpy cycler filelock fonttools jaxtyping joblib kiwisolver llvmlite matplotlib narwhals
numba numpy packaging pandas pillow psutil pyarrow pydantic pydantic-core pyparsing python-dateutil ruamel-yaml
safetensors scikit-learn scipy six threadpoolctl tqdm typing-extensions typing-inspection wadler-lindig
"""
TAGS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def python() -> tuple[list[str], dict[str, str]]:
    """Return the command that starts it, and its environment variables; install it if need be.

    Raise RuntimeError, with one line, if that is impossible.
    """
    for program, package in {EMULATOR: "qemu-user", "apt-get": "apt", "dpkg-deb": "dpkg"}.items():
        if not shutil.which(program):
            raise RuntimeError(f"{program} is missing; on Debian, `apt-get install {package}` installs it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder, wanted = cache / "bancada" / "arm64", wheels()
    with locked(folder.with_name("arm64.lock")):
        if not (said := folder / "wheels.txt").exists() or said.read_text() != wanted:
            with files.whole(folder) as unfinished:
                unfinished.mkdir()
                (unfinished / said.name).write_text(wanted)
                install(unfinished)
    command = [EMULATOR, "-L", str(folder / "debian"), str(folder / f"debian/usr/bin/python{VERSION}")]
    return command, {"PYTHONHOME": str(folder / "debian/usr"), "PYTHONPATH": str(folder / "wheels")}


def wheels() -> str:
    """Return the part of requirements.lock that is about WHEELS, with its hashes."""
    found = {block[1]: block[0] for block in re.finditer(r"^([\w-]+)==.*\n(?:    .*\n)*", LOCK.read_text(), re.M)}
    return "".join(found[name] for name in sorted(WHEELS.split()))


def install(folder: Path) -> None:
    """Unpack the packages into `debian`, and the wheels that `wheels.txt` names into `wheels`."""
    with tempfile.TemporaryDirectory() as temporary:
        apt = Path(temporary)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (apt / name).mkdir(parents=True)
        (apt / "status").touch()  # nothing is installed, so that apt takes all that the packages depend on
        own = {"Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache"}
        settings = [f"{key}={apt / name}" for key, name in own.items()]
        settings += ["APT::Architecture=arm64", "APT::Architectures=arm64", f"APT::Sandbox::User={getpass.getuser()}"]
        options = [word for setting in settings for word in ("-o", setting)]
        run("apt-get", *options, "update")
        run("apt-get", *options, "install", "--download-only", "--no-install-recommends", "-y", *DEBIAN)
        for package in sorted((apt / "cache/archives").glob("*.deb")):
            run("dpkg-deb", "-x", str(package), str(folder / "debian"))
    platforms = [f"--platform={tag}" for tag in TAGS]
    where = ("--target", str(folder / "wheels"), "-r", str(folder / "wheels.txt"))
    plain = ("--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={VERSION}")
    run(sys.executable, "-m", "pip", "install", "-q", *plain, *platforms, *where)


def run(*command: str) -> None:
    """Run it. Raise RuntimeError, with the last line that it said, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise RuntimeError(f"{' '.join(command[:4])} ...: {said}")
