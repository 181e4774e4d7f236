"""A network of the small vocabulary after its training by the compiled engine: the outputs and losses of all its seeds.

The same two functions as in torch_network.py. The arithmetic is that of the training, see `kernel`.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from bancada.networks import kernel
from bancada.networks.encoding import Encoding, loss_name
from bancada.networks.settings import Loss, Network


def outputs_of_seeds(
    described: Network, weights: Mapping[str, np.ndarray], inputs: Float32[np.ndarray, "row input"]
) -> Float64[np.ndarray, "seed row output"]:
    """Return the outputs of all seeds' networks; `weights` are [seed, ...].

    They are NaN where weights, or a number inside the network, are not finite.
    """
    network = kernel.network(described.small_layers, inputs.shape[1])
    of_seeds = [
        kernel.outputs(network, {name: value[seed] for name, value in weights.items()}, inputs)
        for seed in range(len(next(iter(weights.values()))))
    ]
    return np.stack(of_seeds).astype(np.float64)


def losses_of_seeds(
    loss: Loss,
    output: Float64[np.ndarray, "seed row output"],
    targets: Shaped[np.ndarray, "row target"],
    encoding: Encoding,
) -> Float64[np.ndarray, " seed"]:
    """Return the loss of each seed over these rows; NaN outputs give NaN."""
    observed = np.ascontiguousarray(encoding.encode(targets).T)
    return np.array([kernel.mean_loss(loss_name(loss), one.astype(np.float32), observed) for one in output])
