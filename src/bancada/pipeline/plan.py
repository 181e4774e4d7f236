"""DVC's view of the repository: its stages in the order in which they run, with what each depends on."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from dvc.dependency import param
from dvc.dvcfile import PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.stage import PipelineStage

from bancada.base.refusals import BadInput


def quiet() -> None:
    """Let DVC say nothing, for its errors are exceptions, and read params.yaml once."""
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    if not hasattr(param.load_path, "reads_once"):
        param.load_path = _read_once(param.load_path)


def _read_once(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load`, reading a file anew only where it changed: DVC reads the whole of params.yaml seven times for a stage."""
    known: dict[str, tuple[int, int, Any]] = {}

    def read(path: str, fs: Any = None, **options: Any) -> Any:
        now = Path(path).stat()
        if known.get(path, ())[:2] != (now.st_mtime_ns, now.st_size):
            known[path] = (now.st_mtime_ns, now.st_size, load(path, fs, **options))
        return deepcopy(known[path][2])  # shared objects would become aliases in dvc.lock

    read.reads_once = True  # type: ignore[attr-defined]  # a mark: functions have no such
    return read


def planned(repo: Any, targets: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """The stages that `dvc repro TARGETS` would bring up, in its order, and for each the names of those right before
    it. DvcException where DVC cannot read its files or knows no such target."""
    graph = get_active_graph(repo.index.graph)
    stages = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE]))
    upstream = {stage.addressing: {dep.addressing for dep in graph.successors(stage)} for stage in stages}
    return {stage.addressing: stage for stage in stages}, upstream


def runs(stage: Any) -> bool:
    """Whether it is one of a dvc.yaml, with a command; else it keeps files for `dvc add` or `dvc import`."""
    return isinstance(stage, PipelineStage) and bool(stage.cmd)


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """The repository at `root`, which is the current folder meanwhile, only to look. DVC's errors become BadInput."""
    quiet()
    with chdir(root):
        try:
            repo = Repo(str(root))
            try:
                yield repo
            finally:
                repo.close()
        except DvcException as error:
            raise BadInput(" ".join(str(error).split())) from None
