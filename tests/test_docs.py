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


@pytest.mark.long
def test_from_your_own_network_to_a_leaderboard(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "bench"], check=True)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "BANCADA_"))}
    variables |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for role in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@example.org"}
    done = subprocess.run(
        ["bash", "-c", commands("networks.md")], cwd=tmp_path / "bench", env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation = tmp_path / "bench/data/evaluation/wine"
    boards = (evaluation / "leaderboard.csv").read_text()
    assert re.search(r"^\d+,wine_residual,torch,1363,test,error_rate_percent,", boards, re.MULTILINE)
    assert "train@wine_residual: finished" in done.stdout
    assert done.stdout.count("train@wine_logits: finished") == 1  # it is not trained again after the edit
