"""What DVC, its libraries and the system refuse is one line with their own cause and a way out."""

import http.server
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clones import succeeds
from committed import MODEL, commit, hash_in_lock
from dvc.repo import Repo
from idle import bancada, environment, run, wait_for
from mounts import FILL, Mounted

from bancada.base import BadInput, lockfile
from bancada.pipeline import check, clone, leftovers
from bancada.pipeline.dvc_internals import opened
from bancada.pipeline.repro import repro

NOWHERE = "in neither DVC's cache nor a remote"
CONFLICT = """\
schema: '2.0'
stages:
<<<<<<< HEAD
  a: {cmd: one}
=======
  a: {cmd: other}
>>>>>>> theirs
"""


# --- a file that cannot be had ---------------------------------------------------------------------------------------


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A remote whose every answer is this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/store"
        server.shutdown()


def why_not_fetched(root: Path, remote: str, tmp_path: Path) -> set[str]:
    """What is said of a file and of a folder that are in the commit's dvc.lock, and no more in the cache."""
    if remote:
        succeeds(root, "dvc", "remote", "add", "-q", "-d", "far", remote)
        commit(root)
    shutil.rmtree(root / ".dvc/cache")
    here = clone.Clone(root, clone.head(root), tmp_path, root)
    said = set()
    for stage, path in (("generate@moons", "data/raw/moons.parquet"), ("train@moons_tanh", str(MODEL))):
        wanted = hash_in_lock(root, stage, "outs", path)
        said.add(clone.fetch(here, Path(path), tmp_path / "fetched" / path, wanted))
        assert not (tmp_path / "fetched" / path).exists()
    return said


@pytest.mark.parametrize(
    ("status", "expected"), [(403, "not to be had: ClientResponseError: 403, message='Forbidden'"), (404, NOWHERE)]
)
def test_the_answer_of_a_remote_is_said_and_only_404_is_missing(
    repository: Path, tmp_path: Path, status: int, expected: str
) -> None:
    with answering(status) as remote:
        said = why_not_fetched(repository, remote, tmp_path)
    assert {one.partition(", url")[0] for one in said} == {expected}


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("", NOWHERE),
        ("/nowhere/store", NOWHERE),
        ("s3://bucket/store", "dvc-s3"),
        ("http://127.0.0.1:9/store", "Connect call failed ('127.0.0.1', 9)"),
    ],
)
def test_a_remote_that_is_not_there_or_needs_a_plugin_is_said_to_be_so(
    repository: Path, tmp_path: Path, remote: str, expected: str
) -> None:
    said = why_not_fetched(repository, remote, tmp_path)
    assert all(expected in one for one in said), said
    assert all("\n" not in one for one in said)


def test_a_full_disk_is_the_reason_that_is_given(
    repository: Path, tmp_path: Path, mounted: Callable[..., Mounted]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    disk = mounted(FILL, tmp_path / "full", tmp_path / "empty", 0)
    program = (
        "import sys; from pathlib import Path; from bancada.pipeline import clone; root = Path.cwd();"
        f"here = clone.Clone(root, clone.head(root), root, root); print(clone.fetch(here, Path('{MODEL}'), "
        f"Path(r'{tmp_path / 'full/model'}'), 'x'))"
    )
    done = run(repository, *disk.command, sys.executable, "-c", program)
    assert done.stdout.startswith("not to be had: "), done.stderr
    assert done.stdout.endswith("No space left on device\n")


# --- files that DVC cannot read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml"])
def test_a_merge_conflict_is_one_line_with_both_sides_to_choose(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / name).write_text(CONFLICT)
    refused = bancada(project)
    said = f"no YAML, with a merge conflict: `git checkout --ours {name}` or `--theirs` chooses a side"
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith(f"{name}") and said in refused.stderr
    monkeypatch.chdir(project)
    with pytest.raises(BadInput, match="merge conflict"), opened(project) as repo:
        leftovers.find(repo, project)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.dvc", "outs: [\n", "x.dvc: line 2: no YAML"),
        ("dvc.yaml", "stages: {a: {cmd: b, deps: 3}}\n", "dvc.yaml: stages.a.deps: expected a list"),
        ("dvc.lock", "stages: 3\n", "dvc.lock: "),
        (".dvc/config", "broken [\n", ".dvc/config, .dvc/config.local or the user's own: config file error: "),
    ],
)
def test_a_file_of_dvc_that_cannot_be_read_is_named_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    (project / name).write_text(text)
    monkeypatch.chdir(project)
    with pytest.raises(BadInput) as refused, opened(project) as repo:
        leftovers.find(repo, project)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_repository_that_git_cannot_use_is_told_once_with_the_reason_of_git(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever opens DVC's repository asks git first: DVC itself would end in a traceback."""
    head = clone.head(repository)
    with (repository / ".git/config").open("a") as file:
        file.write("[broken\n")
    line = len((repository / ".git/config").read_text().splitlines())

    def look_at_the_commit() -> None:
        with lockfile.files_at(repository, head):
            pass

    for ask in (
        lambda: check.check(prune=False),
        lambda: check.check(prune=True),
        lambda: repro([]),
        look_at_the_commit,
    ):
        with pytest.raises(BadInput, match=f"^git rev-parse: bad config line {line} in file .git/config$"):
            ask()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", [CONFLICT, "stages: 3\n", "stages: {a: 3}\n", "- 1\n", "{"])
def test_a_dvc_lock_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(BadInput, match=r"^dvc\.lock: .*(no YAML|no mapping)"):
        lockfile.parse(text)


# --- locks ----------------------------------------------------------------------------------------------------------

WITHOUT = "#include <errno.h>\nint flock(int fd, int operation) { errno = %s; return -1; }\n"
HOLD = "import sys; from pathlib import Path; from bancada.base.locks import locked\n"
HOLD += "with locked(Path('held'), 0.1): print('mine', flush=True); sys.stdin.read()"


def without_flock(folder: Path, errno: str) -> str:
    """A library that takes flock away, as on some network file systems."""
    (folder / "no_flock.c").write_text(WITHOUT % errno)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "no_flock.so", "no_flock.c"], cwd=folder, check=True)
    return str(folder / "no_flock.so")


@pytest.mark.parametrize("errno", ["", "ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_lock_keeps_others_out_and_ends_with_its_process_also_without_flock(tmp_path: Path, errno: str) -> None:
    preload = {"LD_PRELOAD": without_flock(tmp_path, errno)} if errno else {}
    command, pipes = (sys.executable, "-c", HOLD), {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(**preload), **pipes) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"mine\n"
        refused = run(tmp_path, *command, **preload)
        assert "TimeoutError: another process has held held for 0.1 s" in refused.stderr
        holder.send_signal(signal.SIGKILL)
    assert run(tmp_path, *command, **preload).stdout == "mine\n"
    assert not (tmp_path / "held.held").exists()


@pytest.mark.long
def test_without_flock_the_way_out_is_named_and_works(project: Path, tmp_path: Path, plain_lock: bytes) -> None:
    preload = {"LD_PRELOAD": without_flock(tmp_path, "ENOLCK")}
    assert bancada(project, "generate@s").returncode == 0  # where there was flock, DVC left files of its locks
    old = ".dvc/tmp/lock .dvc/tmp/rwlock.lock"
    said = ".dvc/tmp: there are no locks by flock; {} lets DVC lock by hard links\n".format
    refused = bancada(project, **preload)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == said(f"`dvc config core.hardlink_lock true` and `rm {old}`")
    assert run(project, "dvc", "config", "core.hardlink_lock", "true").returncode == 0
    refused = bancada(project, **preload)
    assert (refused.returncode, refused.stderr) == (2, said(f"`rm {old}`"))
    for name in old.split():
        (project / name).unlink()
    done = bancada(project, **preload)
    assert (done.returncode, done.stderr) == (0, "")
    assert (project / "dvc.lock").read_bytes() == plain_lock
    assert "nothing to do" in bancada(project, **preload).stdout


def test_a_second_bancada_repro_waits_for_the_first(project: Path, plain_lock: bytes) -> None:
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "bancada", "repro"]
    with subprocess.Popen(command, cwd=project, env=environment(SLEEP="1"), **output) as first:
        wait_for(project / "a.started")
        second = bancada(project)
        assert first.wait(60) == 0
    assert (second.returncode, second.stderr) == (0, "waiting for another `bancada repro` to end\n")
    assert "nothing to do" in second.stdout
    assert (project / "dvc.lock").read_bytes() == plain_lock


@pytest.mark.long
def test_it_waits_for_a_running_dvc_repro_and_then_runs(project: Path, plain_lock: bytes) -> None:
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["dvc", "repro"], cwd=project, env=environment(SLEEP="2"), **output) as plain:
        wait_for(project / "a.started")
        done = bancada(project)
        assert plain.wait(60) == 0
    assert (done.returncode, done.stderr) == (0, "waiting for another DVC process to end\n")
    assert "nothing to do" in done.stdout
    assert (project / "dvc.lock").read_bytes() == plain_lock


@pytest.mark.long
@pytest.mark.parametrize("hardlink", ["false", "true"])
def test_it_waits_as_long_as_dvcs_lock_is_held(project: Path, plain_lock: bytes, hardlink: str) -> None:
    """Longer than DVC itself waits. A lock by hard links outlives a killed process: the line says which file it is."""
    assert run(project, "dvc", "config", "core.hardlink_lock", hardlink).returncode == 0
    command = [sys.executable, "-m", "bancada", "repro"]
    with Repo(str(project)).lock:
        waiting = subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True)
        assert waiting.stderr
        hint = "; if there is none, `rm .dvc/tmp/lock`" if hardlink == "true" else ""
        assert waiting.stderr.readline() == f"waiting for another DVC process to end{hint}\n"
        time.sleep(4)
        assert not (project / "data/raw/s").exists()
    assert waiting.communicate(timeout=60)[1] == ""
    assert (waiting.returncode, (project / "dvc.lock").read_bytes()) == (0, plain_lock)


@pytest.mark.long
def test_a_stage_that_ends_while_dvcs_lock_is_held_waits_and_is_kept(project: Path, plain_lock: bytes) -> None:
    command = [sys.executable, "-m", "bancada", "repro"]
    with subprocess.Popen(command, cwd=project, env=environment(SLEEP="1")) as ours:
        wait_for(project / "a.started")
        with Repo(str(project)).lock:
            time.sleep(5)
        assert ours.wait(60) == 0
    assert (project / "dvc.lock").read_bytes() == plain_lock
