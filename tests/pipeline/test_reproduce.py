"""`bancada reproduce`: runs of a plain repro and of DVC's experiments, trained again from what MLflow holds."""

import os
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clones import run, succeeds
from committed import BANCADA
from safetensors.numpy import load_file, save_file

from bancada.base import BadInput
from bancada.base.lockfile import md5
from bancada.pipeline.reproduce import reproduce
from bancada.tracking.store import open_store

VARIANT = "moons_adam"
RUNS = """\
select run_uuid, (select value from params where run_uuid = runs.run_uuid and key = 'lr') from runs
where name = ? or name glob ? || ' lr=*'
"""


@dataclass(frozen=True)
class Bench:
    """A repository with a run of a plain repro and one of an experiment; their ids."""

    root: Path
    plain: str
    experiment: str

    def refused(self, run_id: str) -> str:
        with pytest.raises(BadInput) as raised:
            reproduce(run_id)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def artifact(self, run_id: str, name: str) -> Path:
        return self.root / "mlartifacts/moons" / run_id / "artifacts" / name

    def tag(self, run_id: str, key: str, value: str) -> None:
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database, database:
            changed = database.execute("update tags set value = ? where run_uuid = ? and key = ?", (value, run_id, key))
            assert changed.rowcount == 1


@pytest.fixture(scope="module")
def recorded(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Of the results that were committed, and of `-S lr=0.01` in the workspace. There is a file that git does not know
    and no stage reads, and the user likes differences in another form than git's own."""
    root = shutil.copytree(made, tmp_path_factory.mktemp("recorded") / "a copy", symlinks=True)
    (root / "notes of mine.txt").write_text("no matter\n")
    for key, value in {"diff.noprefix": "true", "diff.external": "false", "color.diff": "always"}.items():
        succeeds(root, "git", "config", key, value)
    succeeds(root, *BANCADA, "track")
    return Bench(root, runs_by_rate(root)["0.5"], run_of_an_experiment(root, "0.01"))


def run_of_an_experiment(root: Path, rate: str, *options: str) -> str:
    succeeds(root, "dvc", "exp", "run", "-q", *options, "-S", f"lr={rate}", f"train@{VARIANT}")
    if rate not in runs_by_rate(root):  # on a machine so busy that the recorder was given up
        succeeds(root, *BANCADA, "track", "--all-exps")
    return runs_by_rate(root)[rate]


def runs_by_rate(root: Path) -> dict[str, str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return {rate: run_id for run_id, rate in database.execute(RUNS, (VARIANT, VARIANT))}


@pytest.fixture
def plain_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_TRACKING", "BANCADA_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def bench(recorded: Bench, tmp_path: Path, plain_shell: None, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy of its own, the current folder."""
    root = shutil.copytree(recorded.root, tmp_path / "another copy", symlinks=True)
    monkeypatch.chdir(root)
    open_store(root)  # it follows
    return Bench(root, recorded.plain, recorded.experiment)


@pytest.mark.parametrize(
    "way", ["experiment", *(pytest.param(way, marks=pytest.mark.long) for way in ("plain", "temporary"))]
)
def test_a_run_comes_out_again_whatever_way_it_was_made(
    recorded: Bench,
    way: str,
    plain_shell: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(recorded.root)
    made = {"plain": recorded.plain, "experiment": recorded.experiment}
    run_id = made.get(way) or run_of_an_experiment(recorded.root, "0.02", "--temp")
    before = succeeds(recorded.root, "git", "status", "--porcelain")
    assert reproduce(run_id) == 0
    shown = capsys.readouterr().out
    weights = md5(recorded.artifact(run_id, "weights.safetensors"))
    assert f"recorded  {weights}\nmade      {weights}\n" in shown
    assert f"same bits: the weights of train@{VARIANT} of run {run_id}" in shown
    assert ("with what was not committed of params.yaml" in shown) == (way != "plain")
    assert succeeds(recorded.root, "git", "status", "--porcelain") == before


def change_weights(bench: Bench, factor: float) -> None:
    path = bench.artifact(bench.experiment, "weights.safetensors")
    weights = load_file(path)
    weights["0.bias"][1, 2] *= np.float32(factor)
    save_file(weights, path)
    bench.tag(bench.experiment, "bancada.weights_md5", md5(path))


@pytest.mark.long
def test_weights_a_rounding_apart_are_within_tolerance_with_the_number(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    change_weights(bench, 1 + 2**-20)
    assert reproduce(bench.experiment) == 3
    shown = capsys.readouterr().out
    found = re.search(r"^weights.safetensors: \S+, (\S+) relative at 0.bias\[1, 2\]", shown, re.MULTILINE)
    assert found
    assert float(found[1]) == pytest.approx(2**-20, rel=0.07)  # of a number in 24 bits
    assert "within tolerance: the weights of train@moons_adam" in shown


@pytest.mark.long
def test_other_weights_are_different_and_what_is_not_as_in_the_run_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run claims another Python; its code is another one than its commit's."""
    change_weights(bench, 2)
    bench.tag(bench.experiment, "bancada.python", "3.2.1")
    bench.tag(bench.experiment, "bancada.fingerprint", "another")
    assert reproduce(bench.experiment) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^weights.safetensors: .* relative at 0.bias", shown, re.MULTILINE)
    assert "why: the run was made with Python 3.2.1" in shown
    assert "whose fingerprint is another: the recipe, the rows, the code, or the version of a package" in shown
    assert "\ndifferent: the weights of" in shown


def test_a_run_that_cannot_be_brought_back_is_refused_in_one_line(bench: Bench) -> None:
    assert "there is no such run" in bench.refused("0" * 32)
    assert "there is no such run" in bench.refused("no id")
    diff = bench.artifact(bench.experiment, "git.diff")
    whole = diff.read_text()
    diff.write_text("# untracked: data/sources/mine.csv\n" + whole)
    assert (
        "may have read files that git did not know, so they cannot be brought back: data/sources/mine.csv"
        in bench.refused(bench.experiment)
    )
    diff.write_text(whole.replace("-lr: null", "-lr: 1"))
    assert "does not apply" in bench.refused(bench.experiment)
    diff.unlink()
    assert "its git.diff is not in the store" in bench.refused(bench.experiment)
    bench.tag(bench.plain, "git.commit", "0" * 40)
    assert "which this repository does not have" in bench.refused(bench.plain)
    (bench.root / "mlflow.db").unlink()
    assert "there is none, so no run" in bench.refused(bench.plain)
    assert not (bench.root / "mlflow.db").exists()


FROM_STORE = """\
diff --git a/src/bancada/__init__.py b/src/bancada/__init__.py
--- a/src/bancada/__init__.py
+++ b/src/bancada/__init__.py
@@ -1 +1,2 @@
+# a comment with a hidden \x1b[8mpart
 {first}
"""


def add_code(bench: Bench) -> None:
    """To what the experiment's run says was not committed."""
    first = (bench.root / "src/bancada/__init__.py").read_text().splitlines()[0]
    with bench.artifact(bench.experiment, "git.diff").open("a") as file:
        file.write(FROM_STORE.format(first=first))


def test_code_from_the_store_is_shown_and_does_not_run_unasked(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_code(bench)
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        refusal = bench.refused(bench.experiment)
    assert refusal.endswith(f"not run. To run this code, type: bancada reproduce {bench.experiment} --yes")
    shown = capsys.readouterr().out
    assert "+# a comment with a hidden \\x1b[8mpart\n" in shown
    assert "\x1b" not in shown
    assert "changes more than params.yaml:\nparams.yaml, src/bancada/__init__.py\n" in shown


@pytest.mark.long
def test_code_from_the_store_runs_once_the_user_has_agreed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    add_code(bench)
    assert reproduce(bench.experiment, yes=True) == 0
    assert "with what was not committed of params.yaml, src/bancada/__init__.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("dvc.stage", "--force"),
        ("dvc.stage", "evaluate@moons"),
        ("bancada.study", "../../elsewhere"),
        ("git.commit", "--output=x"),
        ("git.commit", "unknown"),
    ],
)
def test_tags_that_are_not_of_the_form_bancada_writes_are_refused(bench: Bench, tag: str, value: str) -> None:
    bench.tag(bench.experiment, tag, value)
    assert f"its tag {tag} is '{value}', so there is nothing to reproduce" in bench.refused(bench.experiment)


def test_bad_input_has_status_2_and_one_line(bench: Bench) -> None:
    done = run(bench.root, *BANCADA, "reproduce", "0" * 32)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"{'0' * 32}: there is no such run in sqlite:///{bench.root}/mlflow.db\n")


def test_a_run_without_weights_is_refused(bench: Bench) -> None:
    with closing(sqlite3.connect(bench.root / "mlflow.db")) as database, database:
        database.execute("delete from tags where key = 'bancada.weights_md5' and run_uuid = ?", (bench.plain,))
    assert "its tag bancada.weights_md5 is None, so there is nothing to reproduce" in bench.refused(bench.plain)
