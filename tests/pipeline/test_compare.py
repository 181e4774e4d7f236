"""`bancada compare`: commits and experiments whose results are written by hand, in a real git repository."""

import csv
import json
import re
from pathlib import Path

import clones
import numpy as np
import pytest
from evaluated import given

from bancada.base import BadInput, files
from bancada.evaluation.entry import Entry, Terms
from bancada.evaluation.evaluate import write_csv
from bancada.evaluation.leaderboard import COLUMNS, leaderboard
from bancada.pipeline.compare import NONE, compare

SEEDS = list(range(10))
BEFORE = {"base": np.arange(10.0), "other": np.arange(10.0) + 5}


def write(values: dict[str, np.ndarray], seed: int = 0, **train: object) -> None:
    """Write params.yaml, and the results of a study whose variants have these errors; a variant is its own model."""
    params = given({"kind": "half_moons", "rows": 12}, [1], {"train": 4}, "mse", 10, tuple(values), **train).raw
    Path("params.yaml").write_text(json.dumps(params | {"seed": seed}))
    seeds = [seed + i for i in SEEDS]
    terms = Terms("mse", "test", seeds, "base", 0.1)
    entries = [Entry(name, "compiled", 3, of, of, SEEDS, 1.0) for name, of in values.items()]
    rows = [
        (name, split, "mse", one, value)
        for name, of in values.items()
        for split in ("validation", "test")
        for one, value in zip(seeds, of, strict=True)
    ]
    folder = files.evaluation("study")
    write_csv(folder / "leaderboard.csv", COLUMNS, [tuple(row.values()) for row in leaderboard(entries, terms)])
    write_csv(folder / "per_seed.csv", ("variant", "split", "metric", "seed", "value"), rows)
    files.index("study").parent.mkdir(parents=True, exist_ok=True)
    files.index("study").write_text(json.dumps({name: {"weights": str(of)} for name, of in values.items()}))


def commit(name: str) -> str:
    clones.succeeds(Path.cwd(), "git", "add", "-A")
    clones.succeeds(Path.cwd(), "git", "commit", "-q", "--allow-empty", "-m", name)
    return clones.succeeds(Path.cwd(), "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    clones.succeeds(tmp_path, "git", "init", "-q")
    clones.succeeds(tmp_path, "dvc", "init", "-q")
    write(BEFORE)
    commit("first")
    return tmp_path


def experiment(name: str, values: dict[str, np.ndarray], seed: int = 0, **train: object) -> None:
    """Leave an experiment as DVC does: a commit on HEAD, and a reference of its own."""
    head = clones.succeeds(Path.cwd(), "git", "rev-parse", "HEAD").strip()
    write(values, seed, **train)
    made = commit(name)
    clones.succeeds(Path.cwd(), "git", "reset", "-q", "--hard", head)
    clones.succeeds(Path.cwd(), "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made)


def rows_of(printed: str) -> list[list[str]]:
    """The cells of the rows; a cell has no two spaces in it."""
    lines = [line.strip() for line in printed.splitlines() if line.startswith((" base", " other"))]
    return [re.split(r"\s{2,}", line) for line in lines]


def test_an_experiment_is_compared_seed_by_seed_with_the_commit_that_it_began_at(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("fast", {"base": BEFORE["base"] - 1 - BEFORE["base"] / 100, "other": BEFORE["other"]}, lr=0.01)
    compare([])
    printed = capsys.readouterr().out
    assert rows_of(printed) == [
        ["base", "HEAD", "4.5", "4.5", "1 to 8", "baseline"],
        # ten differences of one sign: p = 2 / 2**10 (Wilcoxon's tables), and `other` has the same model
        ["base", "fast", "lr=0.01", "3.46", "3.46", "-0.01 to 6.92", "better", "baseline"],
    ]
    assert "workspace" not in printed.replace("workspace: the results of HEAD", "")


def test_other_seeds_and_other_data_are_not_paired_and_variants_come_and_go(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("fresh", {name: of + 1 for name, of in BEFORE.items()}, seed=1000)
    experiment("more", {"base": BEFORE["base"], "otherwise": BEFORE["other"]})
    compare(["fresh", "more"])
    told = {(row[0], row[1]): row[-2:] for row in rows_of(capsys.readouterr().out)}
    assert told["base", "fresh"] == ["other seeds", "baseline"]
    assert told["otherwise", "more"] == ["new", "worse"]
    assert told["other", "more"][-1] == "gone"
    write(BEFORE)
    params = json.loads(Path("params.yaml").read_text())
    params["studies"]["study"]["split"] = {"train": 8}
    Path("params.yaml").write_text(json.dumps(params))
    files.index("study").write_text("{}")
    compare(["workspace"])
    told = {(row[0], row[1]): row[2:] for row in rows_of(capsys.readouterr().out)}
    assert told["base", "workspace"][0] == "split.train=8"
    assert told["base", "workspace"][-2:] == ["other data", "baseline"]


def test_long_names_and_many_settings_stay_within_120_columns(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "other" + "_wide" * 18
    changed = {"base": BEFORE["base"] * 1e-9, name: BEFORE["other"]}
    experiment("a-name-of-" + "many-letters-" * 6, changed, lr=0.01, epochs=77, batch_size=3, loss="l1", clip_norm=0.5)
    compare([])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 120
    assert "".join(re.findall(r"^ (\S+)", printed, re.MULTILINE)).count("_wide") == 18


def test_nothing_to_compare_is_a_line_and_unknown_names_are_told_all_at_once(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare([])
    assert capsys.readouterr() == (f"{NONE}\n", "")
    experiment("brave-cat", BEFORE)
    with pytest.raises(BadInput, match=r"^no experiment or commit: brave-cta; did you mean 'brave-cat'\?, x; `dvc exp"):
        compare(["brave-cta", "HEAD", "x"])
    compare([])
    assert capsys.readouterr().out == "workspace: the results of HEAD\nbrave-cat: the results of HEAD\n"


def test_a_workspace_that_holds_an_experiment_is_shown_once(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"base": BEFORE["base"] + 1, "other": BEFORE["other"]}
    experiment("quick", found, lr=0.5)
    write(found, lr=0.5)
    compare([])
    printed = capsys.readouterr().out
    assert printed.startswith("workspace: the settings and results of quick\n")
    assert [row[1] for row in rows_of(printed)] == ["HEAD", "quick"]


def test_results_of_an_older_version_are_left_out_with_a_line(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files.evaluation("study") / "leaderboard.csv"
    old = path.read_text().replace("median_low", "ci95_low")
    experiment("good", {"base": BEFORE["base"] + 1, "other": BEFORE["other"]})
    path.write_text(old)
    commit("old")
    clones.succeeds(committed, "git", "branch", "old")
    clones.succeeds(committed, "git", "reset", "-q", "--hard", "HEAD~1")
    compare(["old", "good"])
    printed = capsys.readouterr()
    assert (
        printed.err
        == "old: left out, because it cannot be compared with HEAD: its results are of another version"
        + (" of bancada: 'median_low'\n")
    )
    assert [row[1] for row in rows_of(printed.out)] == ["HEAD", "good"]


@pytest.mark.long
def test_an_experiment_of_dvc_is_found_by_its_name(repository: Path) -> None:
    clones.succeeds(
        repository, "dvc", "exp", "run", "--temp", "-q", "-n", "slow", "-S", "lr=0.001", BANCADA_TRACKING="off"
    )
    printed = clones.succeeds(repository, "bancada", "compare")
    with (repository / "data/evaluation/moons/leaderboard.csv").open() as file:
        variants = {row["variant"] for row in csv.DictReader(file)}
    assert set(re.findall(r"^ (\S+) +slow +lr=0.001 ", printed, re.MULTILINE)) == variants
