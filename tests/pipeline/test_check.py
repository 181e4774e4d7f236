"""`bancada check`: dvc.lock against what it speaks of, on a small repository; and the pre-commit hook that asks it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from clones import PARAMS, run, succeeds
from committed import BANCADA, METRICS, MODEL, commit, edit, edit_lock
from dvc.rwlock import rwlock
from idle import environment

from bancada.base import BadInput
from bancada.pipeline import dvc_internals as dvc
from bancada.pipeline import leftovers
from bancada.pipeline.check import Finding, add_code, audit, changed, check

OTHER = "0123456789abcdef0123456789abcdef"
OTHER_HOOKS = "ruff-check,ruff-format,mypy"  # they take half a minute, and `make lint types` runs them
ALL = ("generate@moons", "split@moons", "evaluate@moons", "train@moons_tanh", "train@moons_adam")


def the_only(root: Path, kind: str, subject: str, *stages: str) -> Finding:
    """The one thing that is found wrong."""
    [finding] = audit(root)
    assert (finding.kind, finding.subject, finding.stages) == (kind, subject, stages), finding
    return finding


def test_results_that_dvc_lock_speaks_of_are_fine(repository: Path) -> None:
    assert audit(repository) == []
    done = run(repository / "src", *BANCADA, "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "all that is here is as dvc.lock says\n", "")


def test_a_fresh_clone_without_data_is_fine(repository: Path, tmp_path: Path) -> None:
    succeeds(tmp_path, "git", "clone", "-q", str(repository), "fresh")
    assert audit(tmp_path / "fresh") == []


def test_code_that_changed_without_a_rerun_is_named_once_with_its_stages(repository: Path) -> None:
    edit(repository / "src/bancada/base/tables.py", "import json", "import json as json")
    done = run(repository, *BANCADA, "check")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1), done.stdout
    assert done.stdout == (
        "generate@moons, split@moons, evaluate@moons and 3 more: module bancada.base.tables: changed since dvc.lock was"
        " made; `bancada repro`\n"
    )


def test_a_comment_a_docstring_and_formatting_are_no_change(repository: Path) -> None:
    path = repository / "src/bancada/base/tables.py"
    edit(path, '"""', '"""Another docstring. ', 1)
    edit(path, "import json\n", "import json  # a comment\n\n\n", 1)
    done = run(repository, *BANCADA, "check")
    assert (done.returncode, done.stdout) == (0, "all that is here is as dvc.lock says\n")


def test_a_package_of_another_version_is_named_with_the_stages_that_import_it(repository: Path) -> None:
    """tqdm is imported by trainings alone, matplotlib by evaluations alone; pip-tools by none."""
    edit(repository / "requirements.lock", "tqdm==", "tqdm==9.", 1)
    edit(repository / "requirements.lock", "matplotlib==", "matplotlib==9.", 1)
    edit(repository / "requirements.lock", "ruff==", "ruff==9.", 1)
    done = run(repository, *BANCADA, "check")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "evaluate@moons: package matplotlib: changed since dvc.lock was made; `bancada repro`",
        "train@moons_tanh, train@moons_adam: package tqdm: changed since dvc.lock was made; `bancada repro`",
    ]
    assert "packages other than requirements.lock's: matplotlib 3" in done.stderr
    assert ", tqdm 4" in done.stderr


def test_a_parameter_that_changed_is_named_to_its_innermost_key(repository: Path) -> None:
    edit(repository / "params.yaml", "optimizer: {name: adam}", "optimizer: {name: adam, eps: 0.1}")
    subject = "params.yaml: variants.moons_adam.train.optimizer.eps"
    the_only(repository, "stale", subject, "train@moons_adam", "index@moons", "report")


def test_the_innermost_keys_that_differ_are_found() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0}
    now = {"a": 1.0, "b": {"c": [1, 3], "d": None}, "new": 0}
    assert list(changed("k", before, now)) == ["k.b.c", "k.gone", "k.new"]


def test_a_changed_command_and_a_dependency_that_is_new_are_found(repository: Path) -> None:
    edit(repository / "dvc.yaml", "python -m bancada.data.split", "python -W error -m bancada.data.split")
    edit(
        repository / "dvc.yaml",
        '        - data/raw/${key}.parquet\n        - "data/code',
        '        - README.md\n        - data/raw/${key}.parquet\n        - "data/code',
    )
    assert [(found.subject, found.problem, found.stages) for found in audit(repository)] == [
        ("dvc.yaml", "its cmd changed since dvc.lock was made", ("split@moons",)),
        ("README.md", "dvc.yaml names it, dvc.lock does not", ("split@moons",)),
    ]


def test_a_stage_that_never_ran_is_found(repository: Path) -> None:
    (repository / "params.yaml").write_text(PARAMS + "  moons_new: {study: moons, layers: [1, tanh]}\n")
    found = {(finding.subject, finding.stages) for finding in audit(repository)}
    assert ("dvc.lock", ("train@moons_new",)) in found
    assert run(repository, *BANCADA, "check").returncode == 1


@pytest.mark.parametrize("with_data", [True, False])
def test_an_edited_hash_in_dvc_lock_breaks_the_chain_from_stage_to_stage(repository: Path, with_data: bool) -> None:
    """Also in a fresh clone, where nothing but dvc.lock can be asked."""
    edit_lock(repository, "train@moons_tanh", "deps", "data/split/moons", OTHER + ".dir")
    if not with_data:
        for folder in ("data/models", "data/split", "data/raw", ".dvc/cache"):
            shutil.rmtree(repository / folder)
    finding = the_only(repository, "lock", "data/split/moons", "train@moons_tanh")
    assert finding.problem == "dvc.lock says that another one was read than split@moons made"


def test_what_is_left_over_has_no_part_in_dvc_lock_and_a_hash_with_it_is_found(repository: Path) -> None:
    """Stages index and report depend on whole folders; what is left over in these is in no clone."""
    clean = (repository / "dvc.lock").read_text()
    gone, odd = repository / "data/models/moons/moons_gone", repository / "data/evaluation/mine [1].csv"
    shutil.copytree(repository / MODEL, gone)
    odd.write_text("a\n")
    entry = clean[clean.index("  train@moons_tanh:") : clean.index("  train@moons_adam:")]
    (repository / "dvc.lock").write_text(clean + entry.replace("moons_tanh", "moons_gone"))
    named = ["dvc.lock", "data/models/moons/moons_gone", "data/evaluation/mine [1].csv"]
    assert [finding.subject for finding in audit(repository)] == named
    assert succeeds(repository, "dvc", "repro", "-q", BANCADA_TRACKING="off") == ""  # DVC alone takes them for results
    stale = ["data/models/moons", "data/evaluation"]
    assert [finding.subject for finding in audit(repository)] == [*stale, *named]
    succeeds(repository, *BANCADA, "repro", BANCADA_TRACKING="off")
    assert [finding.subject for finding in audit(repository)] == named
    assert list(leftovers.prune(repository)) == [
        "removed: data/models/moons/moons_gone",
        "taken out of dvc.lock: train@moons_gone",
    ]
    odd.unlink()
    assert (audit(repository), (repository / "dvc.lock").read_text()) == ([], clean)


def test_a_pattern_in_dvcignore_is_obeyed(repository: Path) -> None:
    """A file that DVC does not see is no change, wherever it lies."""
    with (repository / ".dvcignore").open("a") as file:
        file.write("*.draft\n")
    for folder in (MODEL, MODEL.parent, Path("data/sources"), Path("data/evaluation/moons/plots")):
        (repository / folder / "x.draft").write_text("an editor's")
    assert audit(repository) == []


def test_an_edited_hash_of_an_out_is_found(repository: Path) -> None:
    edit_lock(repository, "train@moons_tanh", "outs", str(MODEL), OTHER + ".dir")
    the_only(repository, "file", str(MODEL), "train@moons_tanh")


def test_a_result_that_was_edited_by_hand_is_named_with_two_ways_back(repository: Path) -> None:
    edit(repository / METRICS, "median", "meddian", 1)
    finding = the_only(repository, "file", str(METRICS.parent), "evaluate@moons")
    assert str(finding) == (
        "evaluate@moons: data/evaluation/moons/metrics: is not the one that dvc.lock names; `git checkout --"
        " data/evaluation/moons/metrics` restores that one, `bancada repro` makes it again"
    )
    succeeds(repository, *["git", "checkout", "--", "data/evaluation/moons/metrics"])
    with (repository / MODEL / "weights.safetensors").open("ab") as file:
        file.write(b" ")
    assert (
        "`dvc checkout data/models/moons/moons_tanh`"
        in the_only(repository, "file", str(MODEL), "train@moons_tanh").remedy
    )


def test_a_missing_result_that_git_keeps_is_found(repository: Path) -> None:
    (repository / "data/evaluation/moons/scores.csv").unlink()
    the_only(repository, "file", "data/evaluation/moons/scores.csv", "evaluate@moons")


def test_what_a_removed_variant_leaves_is_named_until_it_is_pruned_and_nothing_else_is(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its entry in dvc.lock and its model; a file of the user's stays, and is named every time."""
    (repository / "params.yaml").write_text(PARAMS[: PARAMS.index("  moons_adam")])
    (repository / "data/evaluation/x.csv").write_text("a\n")
    left = "data/models/moons/moons_adam"
    gone = [
        "train@moons_adam: dvc.lock: an entry of a stage that dvc.yaml does not have; `bancada check --prune` takes it"
        " out",
        f"{left}: left over, for dvc.yaml has no stage that makes it; `bancada check --prune` removes it",
    ]
    stray = "data/evaluation/x.csv: no stage makes it; delete it, or make it an out in dvc.yaml"
    (repository / "data/raw/by_hand").mkdir()
    (repository / "data/raw/by_hand/read.csv").write_text("a\n")
    own = "stages:\n  own: {cmd: 'true', deps: [data/raw/by_hand/read.csv]}\n"
    edit(repository / "dvc.yaml", "stages:\n", own, 1)

    def found(prune: bool) -> list[str]:
        return [str(finding) for finding in check(prune) if finding.kind == "gone"]

    assert found(prune=False) == [*gone, stray]
    assert found(prune=True) == [stray]
    assert capsys.readouterr().out.splitlines() == [f"removed: {left}", "taken out of dvc.lock: train@moons_adam"]
    assert found(prune=False) == [stray]
    assert not (repository / left).exists()
    assert "train@moons_adam" not in (repository / "dvc.lock").read_text()


def test_what_a_removed_study_leaves_is_pruned_and_comments_in_dvc_lock_stay(repository: Path) -> None:
    for folder in ("data/models", "data/split", "data/evaluation"):
        shutil.copytree(repository / folder / "moons", repository / folder / "old")
    shutil.copy(repository / "data/raw/moons.parquet", repository / "data/raw/old.parquet")
    shutil.copy(repository / "data/index/moons.json", repository / "data/index/old.json")
    (repository / "data/models/notes").mkdir()
    (repository / "data/models/notes/mine.md").write_text("written by hand\n")
    lock = repository / "dvc.lock"
    lock.write_text("# mine\n" + lock.read_text())
    before = lock.read_text()
    entries = before[before.index("  generate@moons:") : before.index("  report:")]
    lock.write_text(before + entries.replace("/moons", "/old").replace("@moons", "@old"))
    pruned = run(repository, *BANCADA, "check", "--prune")
    gone = ("index/old.json", "evaluation/old", "raw/old.parquet", "split/old", "models/old")
    stages = ("generate@old", "split@old", "train@old_tanh", "train@old_adam", "index@old", "evaluate@old")
    assert pruned.stdout.splitlines()[:-1] == [
        *(f"removed: data/{name}" for name in gone),
        f"taken out of dvc.lock: {', '.join(stages)}",
    ]
    assert not any((repository / "data" / name).exists() for name in gone)
    assert lock.read_text() == before
    assert pruned.stdout.splitlines()[-1].startswith("data/models/notes: no stage makes it")
    assert (repository / "data/models/notes/mine.md").exists()


def test_what_cannot_be_read_is_one_line(repository: Path) -> None:
    edit(repository / "params.yaml", "epochs: 3", "epochs: none")
    refused = run(repository, *BANCADA, "check")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("params.yaml: studies.moons.train.epochs = none")
    edit(repository / "params.yaml", "epochs: none", "epochs: 3")
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: 3\n")
    refused = run(repository, *BANCADA, "check")
    assert refused.returncode == 2
    assert "dvc.lock" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.long
def test_the_hook_refuses_a_commit_until_the_pipeline_ran(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pre-commit, on a real commit. What is not staged is no matter."""
    monkeypatch.setenv("SKIP", OTHER_HOOKS)
    succeeds(repository, "pre-commit", "install")
    edit(repository / "params.yaml", "optimizer: {name: adam}", "optimizer: {name: adam, eps: 0.1}")
    (repository / "README.md").write_text("not staged\n")
    refused = run(repository, "git", "commit", "-q", "-m", "unmade", "params.yaml")
    assert refused.returncode == 1
    assert (
        "train@moons_adam, index@moons, report: params.yaml: variants.moons_adam.train.optimizer.eps: changed"
        in refused.stderr
    )
    assert (repository / "README.md").read_text() == "not staged\n"
    succeeds(repository, *BANCADA, "repro", "-q", BANCADA_TRACKING="off")
    commit(repository, "params.yaml", "dvc.lock", "data/index", "data/evaluation")
    assert succeeds(repository, "git", "log", "-1", "--format=%s") == "results\n"


@pytest.mark.long
def test_the_hook_adds_what_follows_from_a_comment_and_a_clone_of_the_commit_stays_clean(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP", OTHER_HOOKS)
    succeeds(repository, "pre-commit", "install")
    edit(repository / "src/bancada/base/tables.py", "import json\n", "import json  # a comment\n", 1)
    named = run(repository, "git", "commit", "-q", "-m", "a comment", "src/bancada/base/tables.py")
    assert named.returncode == 1
    assert (
        "dvc.lock: follows from this commit and is not in it; `git add dvc.lock data/code`, and commit without"
        in named.stderr
    )
    succeeds(repository, "git", "commit", "-q", "-am", "a comment")
    assert succeeds(repository, "git", "status", "--porcelain") == ""
    assert succeeds(repository, "git", "show", "--format=", "--name-only") == "dvc.lock\nsrc/bancada/base/tables.py\n"
    succeeds(tmp_path, "git", "clone", "-q", str(repository), "fresh")
    succeeds(tmp_path / "fresh", *BANCADA, "repro", "-q", BANCADA_TRACKING="off")
    assert succeeds(tmp_path / "fresh", "git", "status", "--porcelain") == ""


def test_the_hook_waits_for_a_dvc_process_that_uses_the_same_files(repository: Path) -> None:
    edit(repository / "src/bancada/base/tables.py", "import json\n", "import json  # a comment\n", 1)
    with dvc.opened(repository) as repo:
        [code] = [stage for stage in repo.index.stages if stage.addressing == "code"]
        with rwlock(repo.tmp_dir, repo.fs, "dvc repro", [], [out.fs_path for out in code.outs], False):
            hook = subprocess.Popen(
                [*BANCADA, "check", "--hook"],
                env=environment(),
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert hook.stderr
            assert hook.stderr.readline() == "waiting for another DVC process to end\n"
    output, errors = hook.communicate(timeout=60)
    assert (hook.returncode, output, errors) == (0, "all that is here is as dvc.lock says\n", "")
    assert succeeds(repository, "git", "diff", "--cached", "--name-only") == "dvc.lock\n"


def test_an_error_of_the_hook_is_whole_and_names_a_way_out(repository: Path) -> None:
    with (repository / "dvc.lock").open("a") as file:
        file.write("<<<<<<< HEAD\n  a: 1\n=======\n  a: 2\n>>>>>>> theirs\n")
    with pytest.raises(
        BadInput, match=r"with a merge conflict: `git checkout --ours dvc.lock` or `--theirs` chooses a"
    ):
        add_code()


@pytest.mark.long
def test_a_source_that_git_does_not_know_is_named(repository: Path) -> None:
    """A commit would leave it out, and dvc.lock was made with it."""
    (repository / "data/sources/mine.csv").write_text("a,b\n1,2\n")
    succeeds(repository, *BANCADA, "repro", BANCADA_TRACKING="off")
    done = run(repository, *BANCADA, "check")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("data/sources/mine.csv: git does not know it")
    succeeds(repository, "git", "add", "data/sources/mine.csv")
    succeeds(repository, *BANCADA, "check")
