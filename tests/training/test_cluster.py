"""Replicas on a real cluster of two nodes: the bytes of this machine, whatever dies, and what is told of it.

Expected: what the same stage gives without a cluster.
"""

import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from examples import ROOT, SEED, Bench, data_of
from ray_nodes import Nodes, wait_for
from ruamel.yaml import YAML

pytestmark = pytest.mark.ray
ENDLESS = 1_000_000  # epochs


def test_ray_is_installed() -> None:
    assert importlib.util.find_spec("ray"), "type: make ray"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head and two nodes of one CPU each, of which one has a shell that asks for other threads and kernels."""
    token = tmp_path_factory.mktemp("cluster") / "token"
    token.write_text("a7" * 32)
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    made = Nodes(Path("/tmp") / f"ray-{os.getpid()}", **known)  # the paths of Ray's sockets have to be short
    made.add("n1")
    made.add("n2", OMP_NUM_THREADS="6", MKL_NUM_THREADS="6", PYTHONHASHSEED="3", OPENBLAS_CORETYPE="Nehalem")
    yield made
    made.kill()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Nodes]:
    """A head alone, for what kills nodes."""
    made = Nodes(Path("/tmp") / f"ray-{os.getpid()}-{time.monotonic_ns()}")
    yield made
    made.kill()


def write_layers(own: Bench, num_seeds: int, **train: Any) -> None:
    """A variant of the compiled engine, with the images that the examples have."""
    own.write(["cnn"], num_seeds=num_seeds)
    asked = YAML(typ="safe").load(Path("params.yaml"))
    keys = {"loss": "cross_entropy", "lr": 0.1, "batch_size": 16, "epochs": 40} | train
    asked["studies"]["of_layers"] = {"source": {}, "split": {}, "train": keys}
    asked["variants"]["layers"] = {"study": "of_layers", "layers": [5, "tanh", 4]}
    own.write_rows("of_layers", data_of("cnn"))
    own.write_code("layers", "f0")
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(asked, file)


def here(own: Bench, name: str) -> dict[str, bytes]:
    """What the stage gives on this machine."""
    own.train(name, BANCADA_REPLICAS="off")
    return own.model(name)


def on(nodes: Nodes, own: Bench, name: str, **variables: str) -> tuple[int, str, str]:
    """Run the stage on the cluster to its end. Return its exit status and what it printed."""
    process = start(nodes, own, name, **variables)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def start(nodes: Nodes, own: Bench, name: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the stage on the cluster. It is told where the token is, as its user's shell may tell it."""
    path = {key: value for key, value in nodes.variables.items() if key == "RAY_AUTH_TOKEN_PATH"}
    return own.start(name, BANCADA_RAY=nodes.address, **path, **variables)


@pytest.mark.parametrize("name", ["layers", "cnn"])
def test_the_compiled_engine_and_a_users_module_give_the_bytes_of_this_machine(
    own: Bench, cluster: Nodes, name: str
) -> None:
    write_layers(own, num_seeds=5)
    wanted = here(own, name)
    status, out, err = on(cluster, own, name, BANCADA_REPLICAS="off")
    assert (status, err) == (0, "")
    assert f"{name}: trained on the Ray cluster: 2 nodes, 2 slots\n" in out
    assert own.model(name) == wanted


@pytest.mark.long
def test_data_of_each_seed_and_a_search_give_the_bytes_of_this_machine(own: Bench, cluster: Nodes) -> None:
    write_layers(own, num_seeds=3)
    asked = YAML(typ="safe").load(Path("params.yaml"))
    moons = {"kind": "half_moons", "rows": 120, "radius": 10, "distance": -4, "width": 6, "seed": 5}
    source = moons | {"vary": ["seed", "data"]}
    study = {
        "source": source,
        "split": {"train": 60, "validation": 30, "test": 30, "seed": 3},
        "metric": "error_rate_percent",
        "train": {
            "loss": "mse",
            "lr": 0.3,
            "batch_size": 20,
            "epochs": 15,
            "search": {"trials": 4, "seeds": 2, "space": {"lr": {"low": 0.01, "high": 1, "log": True}}},
        },
    }
    asked["studies"]["of_drawn"] = study
    asked["variants"]["drawn"] = {"study": "of_drawn", "layers": [5, "tanh", 1]}
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(asked, file)
    for stage in ("generate", "split"):
        command = [sys.executable, "-m", f"bancada.data.{stage}", "of_drawn"]
        subprocess.run(command, check=True, env=own.environment())
    own.write_code("drawn", "f0")
    wanted = here(own, "drawn")
    assert on(cluster, own, "drawn", BANCADA_REPLICAS="off")[0] == 0
    assert own.model("drawn") == wanted
    assert "search.parquet" in wanted


@pytest.mark.long
def test_a_file_that_is_edited_between_two_runs_is_read_anew(own: Bench, cluster: Nodes) -> None:
    write_layers(own, num_seeds=2)
    assert on(cluster, own, "cnn")[0] == 0
    before = own.model("cnn")
    path = own.root / "src/models/cnn.py"
    path.write_text(path.read_text().replace("return ", "return 2.0 * ", 1))
    own.write_code("cnn", "f1")
    assert on(cluster, own, "cnn")[0] == 0
    assert own.model("cnn") != before
    assert own.model("cnn") == here(own, "cnn")


@pytest.mark.long
def test_an_error_of_the_users_module_is_told_once_with_its_node_and_no_replica_is_tried_again(
    own: Bench, cluster: Nodes
) -> None:
    own.write(["residual"], num_seeds=4)
    path, tries = own.root / "src/models/residual.py", own.root / "tries"
    late = (
        "        UPDATES.append(self.training)\n        if sum(UPDATES) == 7:\n"
        f"            open({str(tries)!r}, 'a').write('tried ')\n            raise ValueError('late')\n"
    )
    path.write_text(
        path.read_text().replace("        return self.layers", late + "        return self.layers") + "UPDATES = []\n"
    )
    own.start("residual").communicate(timeout=120)
    assert tries.read_text() == "tried " * 4
    status, _, err = on(cluster, own, "residual")
    assert status == 2
    assert err.count("ValueError: late") == err.count("\n") == 1
    assert err.startswith(f"variants.residual: seed {SEED}, epoch 2: src/models/residual.py:")
    assert " (on " in err
    assert err.endswith("(4 of 4 seeds failed)\n")
    assert tries.read_text() == "tried " * 8
    assert not (own.root / "data/models").exists()


@pytest.mark.long
def test_a_node_that_is_killed_in_the_middle_changes_no_byte(own: Bench, lone: Nodes) -> None:
    lone.add("n1")
    lone.add("n2")
    own.write(["residual"], num_seeds=6, epochs=60)
    wanted = here(own, "residual")
    process = start(lone, own, "residual", BANCADA_REPLICAS="off")
    wait_for(lambda: lone.workers("n2"))
    time.sleep(2)
    lone.kill("n2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "it begins again\n" in err
    assert own.model("residual") == wanted


@pytest.mark.long
def test_a_worker_that_is_killed_is_told_with_its_seed_and_its_replica_begins_again(own: Bench, cluster: Nodes) -> None:
    own.write(["residual"], num_seeds=3, epochs=60)
    wanted = here(own, "residual")
    process = start(cluster, own, "residual", BANCADA_REPLICAS="off")
    wait_for(cluster.workers)
    time.sleep(2)
    cluster.workers()[0].kill()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("it begins again\n") == 1
    assert err.startswith("residual: seed 11")
    assert own.model("residual") == wanted


@pytest.mark.long
def test_ctrl_c_ends_what_runs_on_the_nodes_and_leaves_nothing_behind(own: Bench, cluster: Nodes) -> None:
    own.write(["residual"], num_seeds=3, epochs=ENDLESS)
    process = start(cluster, own, "residual")
    wait_for(lambda: len(cluster.workers()) == 2)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert (process.returncode, err) == (130, "interrupted; what was finished is kept\n")
    wait_for(lambda: not cluster.workers() and not servers(cluster), 10)
    assert not (own.root / "data/models/of_residual").exists()


def servers(nodes: Nodes) -> list[psutil.Process]:
    """The processes that torch's replicas are forked from, and the replicas."""
    return [one for one in nodes.processes() if "forkserver" in " ".join(one.cmdline())]


@pytest.mark.long
def test_where_the_driver_is_killed_its_finished_replicas_are_kept_and_its_nodes_work_no_more(
    own: Bench, cluster: Nodes
) -> None:
    own.write(["residual"], num_seeds=8, epochs=60)
    wanted = here(own, "residual")
    process = start(cluster, own, "residual")
    wait_for(lambda: ".trained" in own.entries())
    process.kill()
    process.communicate()
    wait_for(lambda: not cluster.workers() and not servers(cluster), 20)
    status, out, err = on(cluster, own, "residual")
    assert (status, err) == (0, "")
    assert "of 8 seeds from the store\n" in out
    assert own.model("residual") == wanted


@pytest.mark.long
def test_where_the_head_is_killed_the_stage_ends_with_one_line_and_the_next_run_goes_on(
    own: Bench, lone: Nodes
) -> None:
    lone.add("n1")
    own.write(["residual"], num_seeds=20, epochs=60)  # nodes go on without a head, for longer than it may be silent
    process = start(lone, own, "residual")
    wait_for(lambda: ".trained" in own.entries())
    lone.kill("head")
    began = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode == 1
    port = lone.address.rpartition(":")[2]  # Ray has found another address of this machine
    assert re.fullmatch(rf"Ray's head at \S+:{port}: has not answered for 30 s; .*", err.splitlines()[-1])
    assert "Traceback" not in err
    assert not (own.root / "data/models/of_residual").exists()
    assert "of 20 seeds from the store\n" in own.train("residual")


@pytest.mark.long
def test_a_node_that_computes_something_else_is_found_and_both_nodes_replicas_leave_the_store(
    own: Bench, lone: Nodes
) -> None:
    lone.add("n1")
    lone.add("n2", TAMPERED="1")
    path = own.root / "src/models/cnn.py"
    other = "return (1 + int(os.environ.get('TAMPERED', 0))) * self.head"
    path.write_text("import os\n" + path.read_text().replace("return self.head", other))
    own.write(["cnn"], num_seeds=4)
    status, _, err = on(lone, own, "cnn")
    assert status == 1
    assert err.startswith(f"cnn: seed {SEED}: ")
    assert err.count("(node ") == 2
    assert "gave different bytes; nothing is written, and what both trained has left the store\n" in err
    assert not (own.root / "data/models/of_cnn").exists()
    assert ".trained" not in own.entries()


@pytest.mark.long
def test_a_node_with_another_version_is_refused_by_name_before_work_starts(
    own: Bench, lone: Nodes, tmp_path: Path
) -> None:
    info = tmp_path / "other" / "numba-9.9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 9.9.9\n")
    lone.add("n1", PYTHONPATH=str(info.parent))
    own.write(["cnn"])
    status, _, err = on(lone, own, "cnn")
    assert status == 2
    assert err.startswith("Ray's node ")
    assert f": numba 9.9.9 instead of {importlib.metadata.version('numba')}\n" in err
    assert own.entries() == set()


@pytest.mark.long
def test_a_worker_that_takes_too_much_memory_is_told_and_its_replica_begins_again_elsewhere(
    own: Bench, lone: Nodes
) -> None:
    """The first process of a seed takes 3 GB, which Ray's limit does not allow; the next one does not."""
    total = psutil.virtual_memory()
    limit = (total.total - total.available + 2 * 2**30) / total.total
    for name in ("n1", "n2"):
        lone.add(name, RAY_memory_usage_threshold=f"{limit:.3f}", RAY_memory_monitor_refresh_ms="100")
    own.write(["residual"], num_seeds=3)
    wanted = here(own, "residual")
    path, taken = own.root / "src/models/residual.py", own.root / "taken"
    greedy = (
        "        UPDATES.append(self.training)\n"
        f"        if sum(UPDATES) == 7 and not os.path.exists({str(taken)!r}):\n"
        f"            open({str(taken)!r}, 'w').close()\n"
        "            held = [bytearray(b'x' * 2**30) for _ in range(3)]\n"
        "            time.sleep(30)\n"
        "            raise AssertionError(len(held))\n"
    )
    text = path.read_text().replace("        return self.layers", greedy + "        return self.layers")
    path.write_text(f"import os\nimport time\n{text}UPDATES = []\n")
    status, _, err = on(lone, own, "residual", BANCADA_REPLICAS="off")
    assert status == 0, err
    assert "it begins again\n" in err
    assert "memory" in err
    assert own.model("residual") == wanted


@pytest.mark.long
def test_rows_that_are_larger_than_rays_store_end_or_are_trained_within_a_minute(own: Bench, lone: Nodes) -> None:
    """300 MB of rows, where the store of each node takes 100 MB."""
    lone.add("n1", cpus=2)
    write_layers(own, num_seeds=2, epochs=1, batch_size="full")
    own.write_rows("of_layers", data_of("cnn", train=1_200_000))
    began = time.monotonic()
    status, _, err = on(lone, own, "layers")
    assert time.monotonic() - began < 120
    assert (status, "Traceback" in err) == (0, False), err


@pytest.mark.long
def test_the_losses_of_a_training_on_the_cluster_are_seen_while_it_runs(own: Bench, cluster: Nodes) -> None:
    own.write(["residual"], num_seeds=2, epochs=ENDLESS)
    process = start(cluster, own, "residual", BANCADA_TRACKING="shared")
    shown = own.root / ".dvc/tmp/bancada/residual.jsonl"
    wait_for(lambda: shown.exists() and '"train_loss"' in shown.read_text())
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.long
def test_the_pipeline_trains_on_the_cluster_and_refuses_one_that_is_not_there(lone: Nodes, tmp_path: Path) -> None:
    """A clone of this project, one variant."""
    lone.add("n1", cpus=2)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    command = [sys.executable, "-m", "bancada", "repro", "-q", "train@digits_cnn"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("BANCADA_")} | {
        "BANCADA_TRACKING": "off"
    }
    env["PYTHONPATH"] = str(clone / "src")
    nowhere = subprocess.run([*command, "--ray", "127.0.0.1:1"], cwd=clone, env=env, capture_output=True, text=True)
    assert nowhere.returncode == 2
    lines = ["127.0.0.1:1: no Ray cluster answers", "the Ray cluster at 127.0.0.1:1 cannot be used, so nothing was run"]
    assert nowhere.stderr.splitlines()[-2:] == lines
    assert not (clone / "data/models").exists()
    done = subprocess.run([*command, "--ray", lone.address], cwd=clone, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "digits_cnn: trained on the Ray cluster: 1 node, 2 slots\n" in done.stdout
    changed = subprocess.run(["git", "-C", clone, "diff", "--stat", "dvc.lock"], capture_output=True, text=True)
    assert changed.stdout == ""  # the committed bytes
