"""The torch engine in the process of the test: its own processes take seconds to start."""

from collections.abc import Mapping

from bancada.training import probing, torch_engine
from bancada.training.replica import Data, Draws, Outcomes, Replica, Report


def train(replicas: Mapping[int, Replica], data: Draws, report: Report) -> Outcomes:
    for place, replica in replicas.items():
        yield place, torch_engine.train(replica, data[replica.draw], lambda epoch, row: None)


def try_first_batch(replica: Replica, data: Data, where: Mapping[str, str]) -> None:
    probing.probe(replica, data, where)
