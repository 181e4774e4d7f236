"""What differs, where it starts, and how it is written down: on made-up results of stages that never ran."""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bancada.base.lockfile import Lock
from bancada.pipeline import causes
from bancada.pipeline.causes import Cause
from bancada.pipeline.check import Finding
from bancada.pipeline.judge import Committed, Out, Stage, judge, starts
from bancada.pipeline.tolerance import Difference, Verdict
from bancada.pipeline.verdict import MOST_SHOWN, as_markdown, as_report

ROWS, MODEL, SCORES = "data/raw/s.parquet", "data/models/s/v", "data/evaluation/s/scores.csv"
OTHER = "0123456789abcdef0123456789abcdef"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Made:
    """A clone in which three stages have run: `lock` is what dvc.lock said before, `after` what it says now."""

    def __init__(self, folder: Path) -> None:
        self.root, self.kept = folder / "clone", folder / "committed"
        self.files = {ROWS: "rows\n", f"{MODEL}/run.json": '{"loss": 0.5}\n', SCORES: "variant,mean\nv,0.25\n"}
        for root in (self.root, self.kept):
            for name, text in self.files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
        made = {"code": "data/code", "generate@s": ROWS, "train@v": MODEL, "evaluate@s": SCORES}
        self.lock: dict[str, Any] = {name: {"outs": [{"path": path, "md5": "aa"}]} for name, path in made.items()}
        self.after: dict[str, Any] = json.loads(json.dumps(self.lock))
        self.findings: list[Finding] = []
        self.missing = ""  # why the cache does not have a committed file

    def fetch(self, path: Path, to: Path, wanted: str) -> str:
        return self.missing

    def judged(self) -> dict[str, Stage]:
        with (self.root / "dvc.lock").open("w") as file:
            YAML().dump({"schema": "2.0", "stages": self.after}, file)
        upstream = {"code": set[str](), "generate@s": {"code"}, "train@v": {"generate@s"}, "evaluate@s": {"train@v"}}
        said = Committed(upstream, Lock(self.lock), self.findings, self.kept)
        return {stage.name: stage for stage in judge(said, self.root, self.fetch)}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def verdicts(stages: dict[str, Stage]) -> dict[str, str]:
    return {name: str(stage.verdict) for name, stage in stages.items()}


ALL_SAME = dict.fromkeys(["code", "generate@s", "train@v", "evaluate@s"], "same bits")


def test_the_committed_files_and_the_committed_lock_are_the_same_bits(made: Made) -> None:
    assert verdicts(made.judged()) == ALL_SAME


def test_what_contradicts_dvc_lock_before_the_run_is_different_whatever_the_run_made(made: Made) -> None:
    made.findings = [Finding("file", SCORES, "is not the one that dvc.lock names", "do it", ("evaluate@s",))]
    stages = made.judged()
    assert verdicts(stages) == ALL_SAME | {"evaluate@s": "different"}
    assert starts(list(stages.values())) == ["evaluate@s"]


def test_numbers_are_compared_where_the_committed_file_can_be_had(made: Made) -> None:
    """0.5 committed, 0.5000001 made: 2e-7 of it, by hand."""
    (made.root / MODEL / "run.json").write_text('{"loss": 0.5000001}\n')
    made.after["train@v"]["outs"][0]["md5"] = "bb"
    [out] = made.judged()["train@v"].outs
    assert (out.difference.verdict, out.difference.at) == (Verdict.WITHIN, "run.json: loss")
    assert out.difference.relative == pytest.approx(2e-7, rel=1e-6)
    shutil.rmtree(made.kept / MODEL)
    made.missing = "in neither DVC's cache nor a remote"
    [out] = made.judged()["train@v"].outs
    assert out.difference.verdict == Verdict.DIFFERENT
    assert out.difference.problem == f"not compared number by number: the committed one is {made.missing}"


def test_an_out_that_the_lock_does_not_name_is_different(made: Made) -> None:
    made.lock["train@v"]["outs"] = []
    assert made.judged()["train@v"].outs[0].difference.problem == "dvc.lock does not name it"


def test_a_difference_starts_where_no_stage_before_explains_it() -> None:
    def stage(name: str, before: str, made: str, *findings: Finding) -> Stage:
        difference = Difference(Verdict.SAME if made == "a" else Verdict.DIFFERENT)
        return Stage(name, {before} if before else set(), [Out(f"data/{name}", "a", made, difference)], findings)

    stages = [stage("g", "", "a"), stage("s", "g", "b"), stage("t", "s", "b"), stage("e", "t", "a")]
    assert starts(stages) == ["s"]
    assert starts([*stages[:3], stage("e", "t", "a", Finding("file", "data/e", "is another"))]) == ["s", "e"]


# --- causes ---------------------------------------------------------------------------------------------------------


def test_a_variant_with_the_bits_of_one_machine_is_named_where_it_differs(tmp_path: Path) -> None:
    for variant, bits in (("fast", "this_machine"), ("exact", "portable")):
        folder = tmp_path / "data/models/s" / variant
        folder.mkdir(parents=True)
        run = {"variant": variant, "recipe": {"train": {"bits": bits}}}
        (folder / "run.json").write_text(json.dumps(run))
    [cause] = causes.of_the_bits(tmp_path, ["fast", "exact", "s"])
    assert cause.text.startswith("fast: bits: this_machine promises the same bits on the machine that made them alone")
    assert causes.of_the_bits(tmp_path, ["exact"]) == []


def test_another_package_and_a_cpu_without_avx2_are_named(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("model name\t: An Old CPU\nflags\t\t: fpu sse2 avx\n")
    (tmp_path / "new").write_text("model name\t: A New CPU\nflags\t\t: fpu sse2 avx avx2\n")
    assert causes.of_the_environment(tmp_path, tmp_path / "new") == []
    (tmp_path / "requirements.lock").write_text("numpy==1.0\n")
    texts = [cause.text for cause in causes.of_the_environment(tmp_path, tmp_path / "old")]
    assert texts == [
        f"packages are not those of requirements.lock: numpy {version('numpy')} instead of 1.0",
        "the CPU is no x86-64 with AVX2: An Old CPU; the torch engine may round differently on it, the compiled engine "
        "does not",
    ]
    assert causes.cpu_model(tmp_path / "old") == "An Old CPU"


# --- the verdict in words -------------------------------------------------------------------------------------------


def report(stages: list[Stage], here: list[Finding], found: list[Cause]) -> dict[str, Any]:
    machine = {"cpu": "A CPU", "python": "3.11.2", "packages": "the packages of requirements.lock"}
    more = {"commit": "c0ffee", "uncommitted": ["README.md"], "machine": machine, "seconds": 12.3}
    made: dict[str, Any] = json.loads(json.dumps(as_report(stages, [], here, found, more)))
    return made


def test_the_verdict_is_a_sentence_a_page_and_a_json(made: Made) -> None:
    said = report(list(made.judged().values()), [], [])
    sentence = (
        "same bits: all 4 outs of 4 stages; commit c0ffee; A CPU, Python 3.11.2; the packages of requirements.lock"
    )
    assert said["sentence"] == f"{sentence}; 12 s"
    assert "| train@v | same bits | 1 same bits |" in as_markdown(said)
    assert "- README.md" in as_markdown(said)
    assert (said["verdict"], said["exit_status"], said["starts"]) == ("same bits", 0, [])
    made.after["evaluate@s"]["outs"][0]["md5"] = OTHER
    (made.root / SCORES).write_text("variant,mean\nv,0.5\n")
    wrong = report(list(made.judged().values()), [Finding("file", "x_y", "is another")], [Cause("a `b_c`", "do it")])
    assert (wrong["verdict"], wrong["exit_status"]) == ("different", 1)
    page = as_markdown(wrong)
    assert f"- evaluate@s: {SCORES} different: 0.25, 1 relative at mean[0]" in page
    assert "x\\_y: is another" in page and "a `b_c`" in page and "- do it" in page
    assert wrong["starts"] == ["evaluate@s"]
    assert wrong["stages"][3]["outs"][0]["made"] == OTHER


def test_of_very_many_differences_the_page_shows_some_and_the_json_all() -> None:
    other = Difference(Verdict.DIFFERENT, "is new")
    said = report([Stage("s", set(), [Out(f"data/{i}", "a", "b", other) for i in range(MOST_SHOWN + 7)])], [], [])
    assert "**And 7 more**\n\n- `--json FILE` keeps them all" in as_markdown(said)
    assert len(said["stages"][0]["outs"]) == MOST_SHOWN + 7
