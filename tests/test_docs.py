"""The commands on the pages of docs do what the pages say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands(page: str) -> str:
    """Return all blocks of bash on a page, as one script that ends at the first error."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return "\n".join(["set -eu -o pipefail", *blocks])


def run(page: str, bench: Path) -> str:
    """Run the commands of a page in a clone. Return what they printed."""
    subprocess.run(["git", "clone", "-q", ROOT, bench], check=True)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "BANCADA_"))}
    variables |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for role in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@example.org"}
    done = subprocess.run(["bash", "-c", commands(page)], cwd=bench, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_from_your_own_network_to_a_leaderboard(tmp_path: Path) -> None:
    printed = run("networks.md", tmp_path / "bench")
    boards = (tmp_path / "bench/data/evaluation/wine/leaderboard.csv").read_text()
    assert re.search(r"^\d+,wine_residual,torch,1363,test,error_rate_percent,", boards, re.MULTILINE)
    assert "train@wine_residual: finished" in printed
    assert printed.count("train@wine_logits: finished") == 1  # it is not trained again after the edit


@pytest.mark.long
def test_data_of_your_own(tmp_path: Path) -> None:
    assert "evaluate@waves: finished" in run("sources.md", tmp_path / "bench")
    (board,) = (tmp_path / "bench/data/evaluation/waves/leaderboard.csv").read_text().splitlines()[1:]
    # 3 * 8 * 9 + 8 of the convolution, 8 * 2 + 2 of the linear layer
    assert re.match(r"1,waves_conv,torch,242,test,error_rate_percent,", board)


@pytest.mark.long
def test_from_your_own_table_to_a_leaderboard(tmp_path: Path) -> None:
    printed = run("tables.md", tmp_path / "bench")
    assert printed.count("status 2") == 2  # the semicolons, then the words and empty cells
    boards = [line.split()[1:5] for line in printed.splitlines() if " birds_mlp " in line and "compiled" in line]
    assert boards == [["birds_mlp", "compiled", "1411", "0"], ["birds_mlp", "compiled", "131", "26.9"]]
    # two numbers, two words of sex, none of the nests: (4 * 16 + 16) + (16 * 3 + 3)
    board = (tmp_path / "bench/data/evaluation/birds/leaderboard.csv").read_text()
    assert re.search(r"^1,birds_mlp,compiled,131,test,error_rate_percent,26.875,", board, re.MULTILINE)
    assert printed.splitlines()[-1].count(",") == 2
