"""The torch engine in the process of the test: its own processes take seconds to start."""

from collections.abc import Mapping, Sequence

from bancada.training import probing, torch_engine
from bancada.training.replica import Data, Draws, Replica, Report, Trained


def train(replicas: Sequence[Replica], data: Draws, report: Report) -> list[Trained]:
    return [torch_engine.train(replica, data[replica.draw], lambda epoch, row: None) for replica in replicas]


def try_first_batch(replica: Replica, data: Data, where: Mapping[str, str]) -> None:
    probing.probe(replica, data, where)
