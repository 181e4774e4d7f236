"""install_torch.py: which build of torch is installed, from where, and what is refused."""

import hashlib
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import install_torch

    monkeypatch.setattr(install_torch, "PATIENCE_S", 1.0)
    monkeypatch.setattr(install_torch, "gpu", lambda: False)
    return install_torch


class Server(ThreadingHTTPServer):
    """A package index on this machine; it notes what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Its folders `cpu` and `pypi` are indexes; pip is set up for the second, and for an extra index, `others`."""
    for index, version in (("cpu", "2.13.0+cpu"), ("pypi", "2.13.0"), ("others", "2.13.0+cpu")):
        digest = wheel(tmp_path / index / "torch", version, index)
        if index != "others":
            (tmp_path / f"torch-{index}.lock").write_text(f"torch=={version} --hash=sha256:{digest}\n")
    monkeypatch.chdir(tmp_path)
    with Server(tmp_path) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        for name, value in (("INDEX_URL", "/pypi"), ("EXTRA_INDEX_URL", "/others")):
            monkeypatch.setenv(f"PIP_{name}", server.url + value)
        monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
        yield server
        server.shutdown()


def wheel(folder: Path, version: str, text: str) -> str:
    """Make an index's page of torch, with one small file. Return the file's hash."""
    folder.mkdir(parents=True)
    path = folder / f"torch-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        about = f"torch-{version}.dist-info"
        file.writestr("torch/build.txt", text)
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>')
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, PyPI's builds need no CUDA packages")
@pytest.mark.parametrize(
    ("asked", "gpu", "answers", "installed"),
    [
        ("", False, True, [("torch-cpu.lock", "INDEX")]),
        ("cpu", True, True, [("torch-cpu.lock", "INDEX")]),
        ("", True, True, [("torch-pypi.lock",)]),
        ("cuda", False, True, [("torch-pypi.lock",)]),
        ("", False, False, [("torch-cpu.lock",), ("torch-pypi.lock",)]),
    ],
)
def test_the_build_is_for_cpus_unless_a_gpu_is_at_hand_or_cuda_is_asked_for(
    script, monkeypatch, capsys, asked, gpu, answers, installed
):
    calls = []

    def pip(*of: str) -> CompletedProcess[str]:
        calls.append(of)
        none = script.NOT_THERE if of == ("torch-cpu.lock",) else ""
        return CompletedProcess([], 1 if none else 0, stderr=none)

    for name, value in (("gpu", lambda: gpu), ("answers", lambda index: answers), ("pip", pip)):
        monkeypatch.setattr(script, name, value)
    assert script.main("INDEX", asked) == 0
    assert calls == installed
    assert "GB" in capsys.readouterr().out


def test_another_word_for_the_build_is_refused(script, capsys):
    assert script.main("INDEX", "gpu") == 2
    assert capsys.readouterr().err == "TORCH=gpu: must be cpu or cuda\n"


def test_a_gpu_is_at_hand_where_nvidias_program_lists_one(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    from install_torch import gpu

    monkeypatch.setenv("PATH", str(tmp_path))
    assert not gpu()
    program = tmp_path / "nvidia-smi"
    for said, found in (("No devices were found", False), ("GPU 0: NVIDIA H200 (UUID: GPU-1)", True)):
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        assert gpu() == found


def test_an_index_that_is_away_costs_seconds(script):
    """Nobody listens, or somebody does and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert not script.answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        port = silent.getsockname()[1]
    assert not script.answers(f"http://127.0.0.1:{port}")
    assert time.monotonic() - began < 5


def test_a_file_with_another_hash_is_refused_and_nothing_takes_its_place(script, server, tmp_path, capsys):
    lock = tmp_path / "torch-cpu.lock"
    lock.write_text(lock.read_text().replace(":", ":0")[:-2] + "\n")
    assert script.main(f"{server.url}/cpu") != 0
    assert "DO NOT MATCH THE HASHES" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.long
def test_pytorchs_index_is_the_only_one_that_is_asked(script, server, tmp_path):
    assert script.main(f"{server.url}/cpu") == 0
    assert (tmp_path / "site/torch/build.txt").read_text() == "cpu"
    assert {path.split("/")[1] for path in server.asked} == {"cpu"}


@pytest.mark.long
def test_pypi_has_the_build_where_pytorchs_index_is_away(script, server, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert script.main(f"http://127.0.0.1:{silent.getsockname()[1]}") == 0
    assert (tmp_path / "site/torch/build.txt").read_text() == "pypi"
    assert "PyPI with CUDA, about 6 GB" in capfd.readouterr().out
