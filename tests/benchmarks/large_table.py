"""`make bench-table`: a table of 1,000,000 rows and 20 columns, with words and empty cells, through every stage.

Each stage is a process of its own, as DVC starts it. Prints seconds and the most memory that each held, which may be
3 GiB, and writes large_table.csv beside this file.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

HERE = Path(__file__).parent
ROWS = 1_000_000
MOST_GIB = 3.0
STAGES = {
    "generate": ("bancada.data.generate", "large"),
    "split": ("bancada.data.split", "large"),
    "train": ("bancada.training.train", "large_mlp"),
    "train by torch": ("bancada.training.train", "large_torch"),
    "index": ("bancada.training.index", "large"),
    "evaluate": ("bancada.evaluation.evaluate", "large"),
}
STUDY = {
    "source": {
        "kind": "csv",
        "path": "data/sources/large.csv",
        "task": "classification",
        "targets": ["bought"],
        "missing": [""],
    },
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "stratify": True, "seed": 1},
    "metric": "error_rate_percent",
    "train": {
        "loss": "cross_entropy",
        "optimizer": {"name": "adam"},
        "lr": 0.01,
        "batch_size": 1000,
        "epochs": 1,
        "standardize": True,
        "prepare": {
            "numbers": {"impute": "median"},
            "words": {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"},
        },
    },
}
VARIANTS = {
    "large_mlp": {"study": "large", "layers": [16, "relu", 2]},
    "large_torch": {"study": "large", "layers": [16, "relu", 2], "train": {"engine": "torch"}},
}


def write_table(path: Path) -> None:
    """Write 12 columns of numbers, 7 of words with 2 to 50 words each, and the target; 2 % of the cells are empty."""
    rng = np.random.default_rng(1)
    words = [[f"{'abcdefg'[i]}{j}" for j in range(count)] for i, count in enumerate((2, 3, 5, 8, 12, 20, 50))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(f"x{i}" for i in range(12)), *(f"w{i}" for i in range(len(words))), "bought"])
        for _ in range(0, ROWS, 10_000):
            numbers = rng.standard_normal((10_000, 12))
            chosen = [rng.choice(known, 10_000) for known in words]
            bought = np.where(numbers[:, 0] + (chosen[0] == "a1") + rng.standard_normal(10_000) > 0.5, "yes", "no")
            cells = np.column_stack([np.char.mod("%.5g", numbers), *chosen])
            cells[rng.random(cells.shape) < 0.02] = ""
            writer.writerows(np.column_stack([cells, bought]).tolist())


def run(module: str, name: str) -> tuple[float, float]:
    """Return the seconds and the GiB of a stage, with its processes: the largest at one time is counted."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, name], env={**os.environ, "BANCADA_TRACKING": "off"})
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{module} {name}: status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, used.ru_maxrss / 2**20


def main() -> None:
    """Run all stages in a temporary folder."""
    found = list[tuple[str, float, float]]()
    with tempfile.TemporaryDirectory(prefix="bancada-bench-") as folder:
        os.chdir(folder)
        Path("data/sources").mkdir(parents=True)
        Path(".dvc").mkdir()
        common = {"seed": 1, "num_seeds": 1, "lr": None, "engine": None, "device": "cpu"}
        Path("params.yaml").write_text(json.dumps(common | {"studies": {"large": STUDY}, "variants": VARIANTS}))
        write_table(Path("data/sources/large.csv"))
        print(f"large.csv: {Path('data/sources/large.csv').stat().st_size / 2**20:.0f} MiB")
        for stage, (module, name) in STAGES.items():
            found.append((stage, *run(module, name)))
    table = Printed("stage", "seconds", "GiB", title=f"{ROWS:,} rows x 20 columns")
    for stage, seconds, gib in found:
        table.add_row(stage, f"{seconds:.1f}", f"{gib:.2f}")
    Console().print(table)
    with (HERE / "large_table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["stage", "seconds", "peak_gib"])
        writer.writerows((stage, f"{seconds:.1f}", f"{gib:.2f}") for stage, seconds, gib in found)
    if max(gib for _, _, gib in found) > MOST_GIB:
        sys.exit(f"more than {MOST_GIB} GiB")


if __name__ == "__main__":
    main()
