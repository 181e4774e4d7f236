"""The usual ways to train a network, and the process in which a benchmark runs them.

Run as a program, this trains what it is told on its standard input, a line of JSON each, and answers with seconds of
processor time. It does not import bancada, whose pins would slow torch, but with the argument `pinned` it does.

A task is a file of torch.save: model, inputs [row, feature], targets [row, output], loss, optimizer, lr, schedule and
batch, and for the engine of an older commit `recipe` and `data`.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__" and "pinned" in sys.argv:
    import bancada  # noqa: F401  (its pins must be set before numpy and torch load)

# isort: split
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

Task = dict[str, Any]
Run = Callable[[int], object]  # trains for so many epochs
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
LOSSES = {
    "mse": nn.MSELoss,
    "half_mse": nn.MSELoss,  # half of it costs the same
    "l1": nn.L1Loss,
    "bce": nn.BCELoss,
    "cross_entropy": nn.CrossEntropyLoss,
}


class Parts(NamedTuple):
    """What a loop in PyTorch needs."""

    model: nn.Module
    loss_of: nn.Module
    optimizer: torch.optim.Optimizer
    after: dict[str, Callable[[], None]]  # "update", "epoch" -> steps of the schedule
    inputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, task: Task) -> "Parts":
        targets = task["targets"].argmax(1) if task["loss"] == "cross_entropy" else task["targets"]
        optimizer = OPTIMIZERS[task["optimizer"]](task["model"].parameters(), lr=task["lr"])
        after: dict[str, Callable[[], None]] = {"update": lambda: None, "epoch": lambda: None}
        asked = task["schedule"]
        if asked["name"] == "step":
            after[asked["every"]] = StepLR(optimizer, asked["step_size"], asked["gamma"]).step
        elif asked["name"] == "inverse_time":
            after[asked["every"]] = LambdaLR(optimizer, lambda k: 1 / (1 + asked["decay"] * k)).step
        return cls(task["model"].train(), LOSSES[task["loss"]](), optimizer, after, task["inputs"], targets)


def lesson(task: Task, seeds: int) -> Run:
    """The notebook's way: a DataLoader over a list of pairs, `.item()` after every batch."""
    model, loss_of, optimizer, after, inputs, targets = Parts.of(task)
    pairs = list(zip(inputs, targets, strict=True))
    loader = torch.utils.data.DataLoader(pairs, batch_size=task["batch"] or len(inputs), shuffle=True)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for x, y in loader:
                model.train()
                model.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                optimizer.step()
                after["update"]()
                loss.item()
            after["epoch"]()

    return run


def plain(task: Task, seeds: int) -> Run:
    """Without the DataLoader: batches by index from one tensor; nothing to index where a batch has all rows."""
    model, loss_of, optimizer, after, inputs, targets = Parts.of(task)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(task["batch"]) if task["batch"] else (slice(None),):
                optimizer.zero_grad()
                loss_of(model(inputs[rows]), targets[rows]).backward()
                optimizer.step()
                after["update"]()
            after["epoch"]()

    return run


def scikit_learn(task: Task, seeds: int) -> Run:
    """The hidden layers of the base network of moons. The output is linear: it has no tanh there."""
    from sklearn.neural_network import MLPRegressor

    widths = [module.out_features for module in task["model"] if isinstance(module, nn.Linear)]
    settings = {"activation": "tanh", "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.01, "tol": 0}
    settings |= {"hidden_layer_sizes": widths[:-1], "batch_size": task["batch"]}
    x, y = task["inputs"].numpy().astype(np.float64), task["targets"][:, 0].numpy().astype(np.float64)

    def run(epochs: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not converged": it was not meant to
            MLPRegressor(max_iter=epochs, n_iter_no_change=epochs, **settings).fit(x, y)

    return run


def jax(task: Task, seeds: int) -> Run:
    """A network of linear layers, each with a tanh, by SGD: an epoch is one compiled function, over all seeds."""
    import jax
    from jax import numpy as jnp

    linear = [module for module in task["model"] if isinstance(module, nn.Linear)]
    one = [(module.weight.detach().numpy(), module.bias.detach().numpy()) for module in linear]
    state = [tuple(jnp.stack([part] * seeds) for part in layer) for layer in one]
    x, y, batch = jnp.array(task["inputs"].numpy()), jnp.array(task["targets"].numpy()), task["batch"]

    def loss(parameters: Any, rows: Any) -> Any:
        h = x[rows]
        for weight, bias in parameters:
            h = jnp.tanh(h @ weight.T + bias)
        return ((h - y[rows]) ** 2).mean()

    def update(parameters: Any, rows: Any) -> tuple[Any, None]:
        gradients = jax.grad(loss)(parameters, rows)
        return jax.tree.map(lambda value, gradient: value - task["lr"] * gradient, parameters, gradients), None

    def epoch(parameters: Any, key: Any) -> Any:
        return jax.lax.scan(update, parameters, jax.random.permutation(key, len(x)).reshape(-1, batch))[0]

    together = jax.jit(jax.vmap(epoch))

    def run(epochs: int) -> None:
        nonlocal state
        for i in range(epochs):
            state = together(state, jax.random.split(jax.random.key(i), seeds))
        jax.block_until_ready(state)

    return run


def stacked(task: Task, seeds: int) -> Run:
    """The engine of commit f365db0, which trained all seeds in one stack of tensors. This process has its code."""
    from bancada.training import replica
    from bancada.training.settings import Recipe

    recipe, (train, validation) = Recipe(**task["recipe"], engine="stacked"), task["data"]
    data = replica.Data(replica.Rows(*train), replica.Rows(*validation), task["classes"])

    def run(epochs: int) -> None:
        asked = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})
        replica.train([replica.Replica(asked, seed) for seed in range(seeds)], data, replica.Silent())

    return run


WAYS = {"lesson": lesson, "plain": plain, "scikit_learn": scikit_learn, "jax": jax, "stacked": stacked}


class Process:
    """Another process that trains, with the code of bancada in `src` or, without, with none and no pins."""

    def __init__(self, src: Path | None = None) -> None:
        pins = ("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "MKL_CBWR")
        free = {name: value for name, value in os.environ.items() if name not in pins}
        own = {"PYTHONPATH": str(src)} if src else {}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *(["pinned"] if src else [])],
            env=free | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | own,
            cwd=src,  # import bancada takes the code of the repository that a process runs in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, way: str, task: Path, seeds: int, epochs: int) -> float:
        assert self.process.stdin and self.process.stdout
        print(json.dumps([way, str(task), seeds, epochs]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{way} of {task.stem}: the process that trains ended with status {self.process.wait()}")
        return float(answer)

    def way(self, way: str, task: Path, seeds: int = 1) -> Callable[[int], float]:
        return lambda epochs: self.seconds(way, task, seeds, epochs)

    def end(self) -> None:
        self.process.communicate()


def answers() -> Iterator[float]:
    runs: dict[tuple[str, str, int], Run] = {}
    for line in sys.stdin:
        way, path, seeds, epochs = json.loads(line)
        if (way, path, seeds) not in runs:
            runs[way, path, seeds] = WAYS[way](torch.load(path, weights_only=False), seeds)
        began = time.process_time()
        runs[way, path, seeds](epochs)
        yield time.process_time() - began


if __name__ == "__main__":
    torch.set_num_threads(1)
    for took in answers():
        print(took, flush=True)
