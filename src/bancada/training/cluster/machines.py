"""The machines of a cluster: whether each has what this one has, so that a replica gives the same bytes there."""

import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from bancada.base import BadInput, files
from bancada.base.stage import told_errors
from bancada.training.cluster import worker
from bancada.training.cluster.connection import join, nodes
from bancada.training.cluster.worker import Machine
from bancada.training.settings import Recipe

ALWAYS = ("numba", "numpy", "torch")
ANSWER_S = 60.0  # within which a node has to say what it has: its first worker may have to be started


def packages_of(recipe: Recipe) -> dict[str, str]:
    """Return the versions of all packages that a result depends on, as data/code names them."""
    path = files.code("train", recipe.variant)
    named = json.loads(path.read_text("utf-8"))["packages"] if path.exists() else {}
    return versions({*ALWAYS, *named})


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages that this machine has, without the build."""
    return {name: version(name).partition("+")[0] for name in sorted(packages)}


def look(packages: Mapping[str, str], needs: str) -> dict[str, Machine]:
    """Ask every node what it is and has, and return the machines by Ray's number of the node.

    A node that does not answer, as one that has died a moment ago, is told and left out. `needs`: CPU or GPU. Raise
    BadInput, with a line for each, where one cannot give this machine's bytes.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    asked = ray.remote(worker.machine)
    answers = {
        node["NodeManagerAddress"] + " " + node["NodeID"][:6]: asked.options(
            num_cpus=0, max_retries=0, scheduling_strategy=On(node["NodeID"], soft=False)
        ).remote([*packages])
        for node in nodes(needs)
    }
    found = list[Machine]()
    for name, answer in answers.items():
        try:
            found.append(ray.get(answer, timeout=ANSWER_S))
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            raise BadInput(f"Ray's node {name} cannot run bancada: {' '.join(str(error).split())[-300:]}") from None
        except ray.exceptions.RayError:
            print(f"Ray's node {name} does not answer, and is left out", file=sys.stderr)
    if not found:
        raise BadInput(f"the Ray cluster has no node with a {needs} that answers")
    refuse_others(found, packages)
    return {machine.node: machine for machine in found}


def refuse_others(machines: Iterable[Machine], packages: Mapping[str, str]) -> None:
    """Raise BadInput, with a line for each, for machines that cannot give this one's bytes."""
    lines = [f"Ray's node {one}: {'; '.join(found)}" for one in machines if (found := [*differences(one, packages)])]
    if lines:
        way = "install this project's requirements.lock and ray.lock there, or take the node out of the cluster"
        raise BadInput("\n".join([*lines, way]))


def differences(machine: Machine, packages: Mapping[str, str]) -> Iterator[str]:
    """Yield in words what a machine lacks or has another version of."""
    if machine.python != platform.python_version():
        yield f"Python {machine.python} instead of {platform.python_version()}"
    for name, wanted in packages.items():
        if machine.packages.get(name) != wanted:
            yield f"{name} {machine.packages.get(name) or 'missing'} instead of {wanted}"
    if not machine.avx2:
        yield f"a CPU without AVX2 ({machine.cpu})"
    if machine.own_code:
        yield f"it imports bancada from {machine.own_code}, not from what this run sent"


def alike(one: Machine, other: Machine, recipe: Recipe) -> bool:
    """Return whether both have to give the same bytes: what a CPU or GPU computes as it likes depends on its model."""
    if recipe.device != "cpu":
        return one.gpu == other.gpu
    return recipe.train.bits == "portable" or one.cpu == other.cpu


if __name__ == "__main__":  # before anything runs: can this cluster be used?
    with told_errors():
        join(Path("src"))
        look(versions(ALWAYS), sys.argv[1])
