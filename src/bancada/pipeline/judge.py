"""What a run in a clone made, compared with what the commit says: dvc.lock, and the files that git keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bancada.base import BadInput, files, lockfile
from bancada.base.lockfile import Lock
from bancada.pipeline.check import Finding, audit
from bancada.pipeline.dvc_internals import opened, planned, runs
from bancada.pipeline.tolerance import SAME, Difference, Verdict, compare, different, worst

Fetch = Callable[[Path, Path, str], str]  # (path, where to, hash) -> why that is impossible, or nothing


@dataclass(frozen=True)
class Committed:
    """What the commit says of the stages that are to run, before they do."""

    upstream: Mapping[str, set[str]]  # of each stage, in the pipeline's order
    lock: Lock
    findings: Sequence[Finding]  # what of the committed files is not as dvc.lock says
    kept: Path  # a folder with the outs that git keeps


@dataclass(frozen=True)
class Out:
    """An out. `lock` and `made` are DVC's hashes: of dvc.lock, and of what this run made."""

    path: str
    lock: str
    made: str
    difference: Difference  # of what was made from what is committed


@dataclass(frozen=True)
class Stage:
    """A stage that ran. `upstream`: the stages right before it. `findings`: where the commit contradicts itself."""

    name: str
    upstream: set[str]
    outs: Sequence[Out]
    findings: Sequence[Finding] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of its outs; `different` where the commit is wrong."""
        return Verdict.DIFFERENT if self.findings else worst(out.difference for out in self.outs).verdict


def committed(root: Path, targets: Sequence[str], kept: Path) -> Committed:
    """Read the clone at `root`, where nothing has run yet, and take the results away, which none may be mistaken for.

    Raise BadInput for unknown or frozen stages.
    """
    with opened(root) as repo:
        stages, upstream = planned(repo, targets)
        stages = {name: stage for name, stage in stages.items() if runs(stage)}
    for name, stage in stages.items():
        if stage.frozen:
            raise BadInput(f"dvc.yaml: {name}: is frozen, so it would not run, and nothing could be said of it")
    if not stages:
        raise BadInput(f"--stages {', '.join(targets)}: no stage that runs")
    lock, findings = lockfile.here(root), audit(root)
    for path in [out.def_path for stage in stages.values() for out in stage.outs]:
        if (root / path).exists():
            (kept / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).rename(kept / path)
    for folder in files.MADE:
        files.remove(root / folder)
    return Committed({name: upstream[name] for name in stages}, lock, findings, kept)


def judge(expected: Committed, root: Path, fetch: Fetch) -> list[Stage]:
    """Compare every stage that ran in the clone at `root`."""
    stages, after = [], lockfile.here(root)
    for name, upstream in expected.upstream.items():
        before, outs = expected.lock.hashes(name, "outs"), []
        for path, made in after.hashes(name, "outs").items():
            lock = before.get(path, "")
            same = made == lock
            outs.append(Out(path, lock, made, SAME if same else _difference(path, lock, expected.kept, root, fetch)))
        findings = [finding for finding in expected.findings if name in finding.stages]
        stages.append(Stage(name, upstream, outs, findings))
    return stages


def _difference(path: str, lock: str, kept: Path, root: Path, fetch: Fetch) -> Difference:
    if not lock:
        return different("dvc.lock does not name it")
    missing = "" if (kept / path).exists() else fetch(Path(path), kept / path, lock)
    problem = f"not compared number by number: the committed one is {missing}"
    return different(problem) if missing else compare(kept / path, root / path)


def starts(stages: Sequence[Stage]) -> list[str]:
    """Return the stages at which a difference begins: those after them may differ because of them alone."""
    touched: set[str] = set()
    first = []
    for stage in stages:  # in the pipeline's order
        after_another = bool(stage.upstream & touched)
        if stage.verdict and (stage.findings or not after_another):
            first.append(stage.name)
        if after_another or any(out.made != out.lock for out in stage.outs):
            touched.add(stage.name)
    return first
