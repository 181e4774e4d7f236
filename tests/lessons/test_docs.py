"""Every block of the pages runs or is checked, every link leads somewhere, what is made is up to date."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml

from bancada.base.settings import checked
from bancada.evaluation.words import report
from bancada.pipeline.params import load
from bancada.training.settings import Train

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, *sorted((ROOT / "src/bancada").glob("*/README.md"))]
# Blocks that nothing runs or checks, by their first line, with the reason.
NOT_RUN = {
    "make repro ": "makes .venv; test_environment.py tries it, and the blocks below it run `bancada repro`",
    "same bits: ": "what one `make verify` printed",
    "params.yaml: studies.moons.train.lr = -0.5": "a message; test_params.py expects it of a wrong value",
    "pip install 'dvc[s3]==3.67.1'": "needs a server of S3 or SSH; a folder as remote runs on the same page",
    "export MLFLOW_BACKEND_STORE_URI=": "needs PostgreSQL; test_server.py starts one with these commands",
    "sbatch ": "needs a cluster with SLURM; the page says that nobody has tried it",
    "#!/bin/bash": "the same",
    "make ray ": "needs several machines; test_cluster.py starts nodes with `ray start`, and trains on them",
    "dvc exp run --queue": "DVC's queue goes on after the commands; test_pipeline.py waits for one",
    "dvc config core.hardlink_lock": "for file systems without locks; test_dvc_errors.py expects these commands",
    "bancada verify ": "runs the whole pipeline; test_verify.py tries a small one",
    "MLFLOW_TRACKING_URI=": "a server that does not end; test_models.py serves models",
}
RESULTS = "moons_tuned: "  # how the blocks begin that show results


class Block(NamedTuple):
    """A block of a page: what it is written in, and its text."""

    page: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            yield Block(page.name, language, text)


def test_every_block_runs_or_is_checked_or_has_a_reason_why_not() -> None:
    kept = {
        block.text.partition("\n")[0]: block.language for block in blocks() if block.language not in ("bash", "yaml")
    }
    results = [line for line in kept if line.startswith("moons_tuned: ")]  # see below
    others = kept.keys() - results
    assert [line for line in others if not any(line.startswith(start) for start in NOT_RUN)] == []
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in others)] == []
    assert {block.page for block in blocks() if block.language == "bash"} == {*AFTER_REPRO, *OWN_TESTS}
    for page in PAGES:  # an indented block would be none of these
        assert re.findall(r"(?<=\n\n)    \S.*", prose(page)) == []


def test_boards_and_sentences_on_the_pages_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = [block.text for block in blocks() if block.text.startswith(RESULTS)]
    assert len(found) == 2
    assert [text for text in found if text not in report(["moons_tuned"], ["moons_tuned"]) + "\n"] == []


def test_scores_in_the_text_are_those_of_the_committed_results() -> None:
    boards = pd.concat([pd.read_csv(path) for path in sorted((ROOT / "data/evaluation").glob("*/leaderboard.csv"))])
    of = {row.variant: row for row in boards.itertuples()}
    tanh, adam, tuned = of["moons_tanh"], of["moons_adam"], of["tuned_adam"]
    for page, scores in {
        "results.md": [
            f"{tanh.mean:.1f} ± {tanh.sd:.1f} %, median {tanh.median:.3g} %, from {tanh.min:.3g} %",
            f"to {tanh.max:.3g} % |",
            f"{adam.mean:.1f} ± {adam.sd:.1f} %, from {adam.min:.3g} to {adam.max:.3g} %; `tuned_adam`",
            f"with a rate from a search, {tuned.mean:.1f} ± {tuned.sd:.1f} %",
            f"computed: {of['quality_mlp'].epochs_to_converge:.0f} epochs",
        ],
        "training.md": [
            f"{of[name].median:.3g} % ({of[name].median_low:.3g} to {of[name].median_high:.3g}) |"
            for name in ("tuned_sgd", "tuned_momentum", "tuned_adam")
        ],
    }.items():
        text = (ROOT / "docs" / page).read_text()
        assert [score for score in scores if score not in text] == []


def test_speed_in_the_text_is_that_of_the_last_benchmark() -> None:
    measured = pd.read_csv(ROOT / "tests/benchmarks/training.csv").set_index(["network", "way"])
    took = measured.loc["moons_tanh"].iloc[:8, 0]
    plain, lesson, ours = (took[way] for way in (*took.index[:2], "bancada, 1 seed"))
    table = (ROOT / "docs/speed.md").read_text()
    for way, value in took.items():
        assert f"| {way} | {value:.3g} | {plain / value:.3g} | {lesson / value:.3g} |" in table
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"takes {ours:.3g} µs on one core: plain PyTorch takes {plain / ours:.3g} times as long" in text
    assert f"the lesson's own loop {lesson / ours:.0f} times" in text


def test_yaml_on_the_pages_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    own = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block in blocks():
        if block.language == "yaml":
            said: dict[str, Any] = yaml.safe_load(block.text)
            if train := said.pop("train", None):
                checked(Train, train, f"{block.page}: train", partial=True)
            for key, parts in said.items():
                own[key] |= {name: own[key].get(name, {}) | part for name, part in parts.items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    added = load(tmp_path / "params.yaml").variants.keys() - load(ROOT / "params.yaml").variants.keys()
    assert added == {"moons_wide", "wine_gelu", "mine_mlp", "layers_of_our_own", "layers_of_torch"}


def test_links_and_anchors_lead_somewhere() -> None:
    anchor = runpy.run_path(str(ROOT / "docs/made/params.py"))["anchor"]
    broken = []
    for page in LINKED:
        for link in re.findall(r"\]\(((?!https://)[^)\s]+)\)", prose(page)):
            path, _, place = link.partition("#")
            target = page.parent / path if path else page
            headings = (
                [line.lstrip("# ") for line in prose(target).splitlines() if line.startswith("#")] if place else []
            )
            if not target.exists() or (place and place not in map(anchor, headings)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_every_page_is_linked_from_another_one() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [page.name for page in PAGES[1:] if f"{page.name})" not in text and f"{page.name}#" not in text] == []


def test_made_pages_and_pictures_are_what_make_docs_makes(tmp_path: Path) -> None:
    assert runpy.run_path(str(ROOT / "docs/made/params.py"))["page"]() == (ROOT / "docs/params.md").read_text()
    runpy.run_path(str(ROOT / "docs/made/pipeline.py"))["draw"](tmp_path / "pipeline.svg")
    assert (tmp_path / "pipeline.svg").read_bytes() == (ROOT / "docs/pipeline.svg").read_bytes()


# Pages of commands "after `make repro`", of which these variants are enough, and pages with tests of their own.
AFTER_REPRO = ["README.md", "experiments.md", "faq.md", "results.md", "team.md", "tracking.md"]
VARIANTS = ["houses_l1", "houses_mse", "moons_adam", "moons_tanh", "wine_logits", "wine_softmax"]
OWN_TESTS = ["comeco-rapido.md", "networks.md", "sources.md", "tables.md"]


@pytest.fixture(scope="module")
def after_repro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = tmp_path_factory.mktemp("docs") / "bench"
    bash(f"git clone -q {ROOT} bench", bench.parent)
    params = yaml.safe_load((bench / "params.yaml").read_text())
    params["variants"] = {name: params["variants"][name] for name in VARIANTS}
    of = {variant["study"] for variant in params["variants"].values()}
    params["studies"] = {name: params["studies"][name] for name in sorted(of)}
    (bench / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    script = "bancada repro --quiet; bancada check --prune; git add -A; git commit -q -m 'Three studies'"
    bash(f"{script}; bancada check", bench)
    return bench


@pytest.mark.long
@pytest.mark.parametrize("page", AFTER_REPRO)
def test_the_commands_of_a_page_run(page: str, after_repro: Path, tmp_path: Path) -> None:
    in_a_copy(page, after_repro, tmp_path)


def in_a_copy(page: str, of: Path, folder: Path) -> str:
    """Run the commands of a page in a copy of a clone. Return what they printed."""
    shutil.copytree(of, folder / "bench", symlinks=True)
    return bash(commands(page), folder / "bench")


def from_a_clone(page: str, folder: Path) -> str:
    """Run the commands of a page in a clone. Return what they printed."""
    bash(f"git clone -q {ROOT} bench", folder)
    return bash(commands(page), folder / "bench")


def commands(page: str) -> str:
    return "".join(block.text for block in blocks() if (block.page, block.language) == (page, "bash"))


def bash(script: str, folder: Path) -> str:
    """Run a script that ends at the first error, in this environment. Return what it printed."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "BANCADA_"))}
    variables |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for role in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@example.org"}
    script = "set -eu -o pipefail\n" + script.replace(". .venv/bin/activate\n", "")
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_from_your_own_network_to_a_leaderboard(tmp_path: Path) -> None:
    printed = from_a_clone("networks.md", tmp_path)
    boards = (tmp_path / "bench/data/evaluation/wine/leaderboard.csv").read_text()
    assert re.search(r"^\d+,wine_residual,torch,1363,test,error_rate_percent,", boards, re.MULTILINE)
    assert "train@wine_residual: finished" in printed
    assert printed.count("train@wine_logits: finished") == 1  # it is not trained again after the edit


@pytest.mark.long
def test_data_of_your_own(tmp_path: Path) -> None:
    assert "evaluate@waves: finished" in from_a_clone("sources.md", tmp_path)
    (board,) = (tmp_path / "bench/data/evaluation/waves/leaderboard.csv").read_text().splitlines()[1:]
    # 3 * 8 * 9 + 8 of the convolution, 8 * 2 + 2 of the linear layer
    assert re.match(r"1,waves_conv,torch,242,test,error_rate_percent,", board)


@pytest.mark.long
def test_from_your_own_table_to_a_leaderboard(tmp_path: Path) -> None:
    printed = from_a_clone("tables.md", tmp_path)
    assert printed.count("status 2") == 2  # the semicolons, then the words and empty cells
    boards = [line.split()[1:5] for line in printed.splitlines() if " birds_mlp " in line and "compiled" in line]
    assert boards == [["birds_mlp", "compiled", "1411", "0"], ["birds_mlp", "compiled", "131", "26.9"]]
    # two numbers, two words of sex, none of the nests: (4 * 16 + 16) + (16 * 3 + 3)
    board = (tmp_path / "bench/data/evaluation/birds/leaderboard.csv").read_text()
    assert re.search(r"^1,birds_mlp,compiled,131,test,error_rate_percent,26.875,", board, re.MULTILINE)
    assert printed.splitlines()[-1].count(",") == 2


@pytest.mark.long
def test_a_table_as_a_portuguese_spreadsheet_saves_it(after_repro: Path, tmp_path: Path) -> None:
    printed = in_a_copy("comeco-rapido.md", after_repro, tmp_path)
    # area, rooms and three words of bairro: 5 * 16 + 16 + 16 + 1, and 5 + 1 for the line
    boards = [line.split()[1:4] for line in printed.splitlines() if " casas_" in line and "compiled" in line]
    assert boards == [["casas_rede", "compiled", "113"], ["casas_reta", "compiled", "6"]]
    assert len(printed[printed.index("preço (mil R$)\n") :].splitlines()) == 3
