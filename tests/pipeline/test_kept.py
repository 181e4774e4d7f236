"""Files that DVC hashes and git does not keep as they are: litter, ignored files, submodules, other line ends."""

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from clones import run, succeeds
from committed import BANCADA, MODEL, commit, hash_in_lock
from ruamel.yaml import YAML

from bancada.base import BadInput
from bancada.base.lockfile import dvc_md5
from bancada.pipeline import check
from bancada.pipeline.dvc_internals import opened

LITTER = (
    *("~$table.xlsx", ".~lock.table.csv#", "Thumbs.db", "table.csv:Zone.Identifier", ".DS_Store", "desktop.ini"),
    *("table.csv~", ".table.csv.swp", "#table.csv#", ".#table.csv", "table.csv.bak", "table.csv.orig", "._table.csv"),
    *("table.csv.part", "table.csv.crdownload", ".goutputstream-ABC123"),
)
FINE = "all that is here is as dvc.lock says\n"


def checked(root: Path) -> tuple[int, str]:
    done = run(root, *BANCADA, "check")
    return done.returncode, done.stdout + done.stderr


def unknown(root: Path) -> list[str]:
    with opened(root) as repo:
        return [name for found in check.unknown_to_git(repo, root) for name in found.subject.split(", ")]


def test_what_systems_and_editors_leave_beside_files_is_no_change_to_git_dvc_or_bancada(repository: Path) -> None:
    folders = [
        "data/sources",
        MODEL,
        "data/models",
        "data/evaluation/moons/plots",
        "data/evaluation",
        "src/bancada/data",
    ]
    for folder in folders:
        for name in LITTER:
            (repository / folder / name).write_text("left behind")
    assert checked(repository) == (0, FINE)
    assert succeeds(repository, "git", "status", "--porcelain") == ""
    assert run(repository, "dvc", "status", "-q").returncode == 0


def test_a_file_that_git_ignores_and_dvc_does_not_is_named_until_both_ignore_it(repository: Path) -> None:
    """Of data/sources; what git ignores among the code counts where a module imports it."""
    with (repository / ".git/info/exclude").open("a") as file:
        file.write("*.mine\n")
    for folder in ("src", "data/sources", "data/evaluation/moons/plots"):
        (repository / folder / "x.mine").write_text("mine")
    assert unknown(repository) == ["data/evaluation/moons/plots/x.mine", "data/sources/x.mine"]
    with (repository / ".dvcignore").open("a") as file:
        file.write("*.mine\n")
    assert unknown(repository) == []


def test_the_files_of_a_submodule_are_known_to_git(repository: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "table.csv").write_text("x,y\n1,2\n")
    for line in ("git init -q", "git add -A", "git commit -q -m tables"):
        succeeds(tables, *line.split())
    allowed = ("-c", "protocol.file.allow=always")
    succeeds(repository, "git", *allowed, "submodule", "--quiet", "add", str(tables), "data/sources/tables")
    assert unknown(repository) == []
    commit(repository)
    assert "submodule" not in checked(repository)[1]
    (repository / "data/sources/tables/new.csv").write_text("x,y\n")
    todo = (
        "a submodule with what is not committed, so a clone lacks it; commit there, then `git add data/sources/tables`"
    )
    assert f"data/sources/tables: {todo}\n" in checked(repository)[1]


def test_what_dvc_add_keeps_is_no_matter_of_git(repository: Path) -> None:
    (repository / "data/sources/large.csv").write_text("x,y\n1,2\n")
    succeeds(repository, "dvc", "add", "-q", "data/sources/large.csv")
    assert unknown(repository) == ["data/sources/.gitignore", "data/sources/large.csv.dvc"]


def test_a_file_of_dvc_add_that_is_not_here_is_named_with_dvc_pull(repository: Path) -> None:
    """`check` is fine with it, for a clone has no data at first; a run needs it."""
    (repository / "data/sources/large.csv").write_text("x,y\n1,2\n")
    succeeds(repository, "dvc", "add", "-q", "data/sources/large.csv")
    (repository / "data/sources/large.csv").unlink()
    missing = "data/sources/large.csv: kept by DVC, and missing here; "
    with opened(repository) as repo:
        tell = io.StringIO()
        with redirect_stderr(tell):
            check.tell_missing_sources(repo, repository)
        assert tell.getvalue() == f"{missing}before a run, `dvc pull data/sources/large.csv` fetches it\n"
    name = "data/sources/large.csv.dvc"
    failed = run(repository, *BANCADA, "repro", name, BANCADA_TRACKING="off")
    todo = "`dvc pull data/sources/large.csv` fetches it"
    assert (failed.returncode, failed.stderr) == (1, f"\n{name} failed: {missing}{todo}\n")


def test_a_dvcignore_in_a_folder_that_dvc_hashes_is_named(repository: Path) -> None:
    for folder in ("data/sources", "data/sources/deep"):
        inside = repository / folder / ".dvcignore"
        inside.parent.mkdir(exist_ok=True)
        inside.write_text("*.x\n")
        with pytest.raises(BadInput) as refused:
            check.audit(repository)
        where = repository / folder
        assert str(refused.value) == f".dvcignore file should not be in collected dir path: '{where}'"
        inside.unlink()


def test_git_add_needs_no_force_for_a_file_that_is_only_new(repository: Path) -> None:
    (repository / "data/sources/new.csv").write_text("x\n")
    assert "; `git add data/sources/new.csv`, or a line" in checked(repository)[1]


def test_many_files_are_one_line(repository: Path) -> None:
    with (repository / ".git/info/exclude").open("a") as file:
        file.write("*.mine\n")
    for i in range(5):
        (repository / f"data/sources/{i}.csv").write_text("x\n")
        (repository / f"data/sources/{i}.mine").write_text("x\n")
    *_, found = checked(repository)[1].splitlines()
    subject = "data/sources/0.csv, data/sources/0.mine, data/sources/1.csv and 7 more: git does not know it"
    todo = (
        "`git add -f data/sources/0.csv data/sources/0.mine data/sources/1.csv`, or a line in .dvcignore and .gitignore"
    )
    assert found.startswith(f"{subject}, and a clone would not have it; {todo}")


def test_a_table_that_dvcignore_hides_is_refused_because_its_changes_would_rerun_nothing(repository: Path) -> None:
    source = "{kind: csv, path: data/sources/t.csv, task: regression, targets: [y]}"
    study = f"  t:\n    source: {source}\n    split: {{train: 1.0}}\n    metric: mse\n"
    train = "    train: {loss: mse, optimizer: {name: sgd}, lr: 0.1, batch_size: full, epochs: 1}\n"
    (repository / "data/sources/t.csv").write_text("x,y\n1,2\n2,3\n")
    params = (repository / "params.yaml").read_text().replace("variants:\n", f"{study}{train}variants:\n", 1)
    (repository / "params.yaml").write_text(params + "  t_line: {study: t, layers: [1]}\n")
    (repository / ".dvcignore").write_text("/data/sources/t.csv\n")
    said = "data/sources/t.csv: hidden from DVC by a line in .dvcignore, so a change of it would rerun nothing\n"
    assert checked(repository) == (2, said)
    refused = run(repository, *BANCADA, "repro")
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", said)


def test_without_the_folder_of_tables_nothing_begins(repository: Path) -> None:
    shutil.rmtree(repository / "data/sources")
    todo = "`mkdir data/sources` makes it, and an empty file .gitkeep in it lets git keep it"
    said = f"data/sources: missing, and stages depend on it; {todo}\n"
    assert checked(repository) == (2, said)
    refused = run(repository, *BANCADA, "repro")
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", said)


# --- line ends ------------------------------------------------------------------------------------------------------


def test_a_clone_with_core_autocrlf_has_the_bytes_that_dvc_lock_names(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "a clone"
    succeeds(tmp_path, "git", "clone", "-q", "-c", "core.autocrlf=true", str(repository), str(clone))
    monkeypatch.chdir(clone)
    stages = YAML(typ="safe").load((clone / "dvc.lock").read_text())["stages"]
    hashed = [
        (name, kind, item["path"]) for name, of in stages.items() for kind in ("deps", "outs") for item in of[kind]
    ]
    of_git = [one for one in hashed if (clone / one[2]).exists() and one[2] != "data/evaluation"]  # DVC keeps its svg
    assert {"src", "requirements.lock", "data/code", "data/sources"} <= {path for *_, path in of_git}
    assert {path: dvc_md5(Path(path)) for *_, path in of_git} == {
        path: hash_in_lock(clone, name, kind, path) for name, kind, path in of_git
    }
    assert checked(clone) == (0, FINE)
