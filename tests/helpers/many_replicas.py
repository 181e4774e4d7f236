"""Train 10,000 replicas of a lesson's variant, for a few epochs: here, then on the cluster whose address is given.

Run in the repository's root; it prints one line of JSON: a hash of all bytes of both, and the memory of this process in
bytes, after a fifth of the results and at the end.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import bancada  # noqa: F401  (its pins must be set before numpy loads)

# isort: split
import psutil

from bancada.data.split import parts_of
from bancada.pipeline import params
from bancada.training import replica
from bancada.training.cluster.recheck import digest
from bancada.training.replica import Replica, Report
from bancada.training.train import Learned

COUNT, EPOCHS = 10_000, 5


def all_of(replicas: dict[int, Replica], data: Any) -> Iterator[tuple[str, int]]:
    """Yield a hash of each replica's result, in their order, and the memory of this process when it came."""
    found = dict[int, tuple[str, int]]()
    for place, trained in replica.train(replicas, {0: data}, Report()):
        memory = psutil.Process().memory_info().rss if len(found) in (COUNT // 5, COUNT - 1) else 0
        found[place] = digest(trained), memory
    for place in replicas:
        yield found[place]


def main(address: str, variant: str = "houses_mse") -> None:
    """Print what both gave."""
    asked = params.load()
    keys, study = asked.training(variant), asked.variants[variant].study
    table = asked.source(study).table(f"studies.{study}.source")
    data = Learned.of(keys, parts_of(table, asked.studies[study].split, f"studies.{study}.split")).data
    recipe = keys.recipe()
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": EPOCHS})})
    replicas = {seed: Replica(recipe, seed) for seed in range(COUNT)}
    told: dict[str, Any] = {}
    for where, at in (("here", ""), ("cluster", address)):
        os.environ["BANCADA_RAY"] = at
        digests, memory = zip(*all_of(replicas, data), strict=True)
        told[where] = hashlib.sha256("".join(digests).encode()).hexdigest()
        told["memory"] = sorted(filter(None, memory))
    told["different"] = len({*digests})
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
