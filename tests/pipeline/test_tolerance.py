"""How far two results are apart, with expected figures calculated by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bancada.pipeline.tolerance import ABSOLUTE, PIXELS, RELATIVE, Difference, Verdict, compare

SAME, WITHIN, DIFFERENT = Verdict
TENSOR = np.array([[1.0, 2.0], [4.0, 8.0]], dtype=np.float64)
WAS = ", was float64 of shape [2, 2]: [[1. 2.] [4. 8.]]"


def written(folder: Path, **files: Any) -> Path:
    """`weights`: tensors; `table`: columns; `data`: a JSON; `text`: a CSV; `plot`: pixels."""
    folder.mkdir()
    if "weights" in files:
        save_file(files["weights"], folder / "w.safetensors")
    if "table" in files:
        pq.write_table(pa.table(files["table"]), folder / "t.parquet")
    if "data" in files:
        (folder / "d.json").write_text(json.dumps(files["data"]))
    if "text" in files:
        (folder / "c.csv").write_text(files["text"])
    if "plot" in files:
        Image.fromarray(files["plot"]).save(folder / "p.png")
    return folder


def between(tmp_path: Path, before: dict[str, Any], now: dict[str, Any]) -> Difference:
    return compare(written(tmp_path / "before", **before), written(tmp_path / "now", **now))


def test_the_same_files_are_the_same_bits(tmp_path: Path) -> None:
    files = {"weights": {"a": TENSOR}, "table": {"x": [1.0]}, "data": {"a": 1}, "text": "a\n1\n"}
    assert between(tmp_path, files, files).verdict == SAME


def test_a_rounding_of_one_weight_is_within_tolerance_and_named(tmp_path: Path) -> None:
    now = TENSOR.copy()
    now[1, 0] *= 1 + 1e-7  # 4 -> 4.0000004
    found = between(tmp_path, {"weights": {"0.weight": TENSOR}}, {"weights": {"0.weight": now}})
    assert found.verdict == WITHIN
    assert found.absolute == pytest.approx(4e-7)
    assert found.relative == pytest.approx(1e-7)
    assert str(found) == "4e-07, 1e-07 relative at w.safetensors: 0.weight[1, 0]"


def test_the_number_farthest_from_its_tolerance_is_named(tmp_path: Path) -> None:
    """0.01 beside 1000 is a tenth of what is allowed, 5e-7 beside 1e-3 nearly half."""
    before = {"big": np.array([1000.0]), "small": np.array([1e-3])}
    now = {"big": before["big"] + 0.01, "small": before["small"] + 5e-7}
    found = between(tmp_path, {"weights": before}, {"weights": now})
    assert (found.verdict, found.at) == (WITHIN, "w.safetensors: small[0]")
    assert found.absolute == pytest.approx(5e-7, rel=1e-6)
    assert found.relative == pytest.approx(5e-4, rel=1e-6)
    assert found.excess == pytest.approx(5e-7 / 1.1e-6, rel=1e-6)


@pytest.mark.parametrize(("gap", "verdict"), [(0.99, WITHIN), (1.01, DIFFERENT)])
def test_the_tolerance_is_a_share_and_a_little_more(tmp_path: Path, gap: float, verdict: Verdict) -> None:
    before = np.array([-50.0])
    now = before + gap * (ABSOLUTE + RELATIVE * 50)
    assert between(tmp_path, {"weights": {"a": before}}, {"weights": {"a": now}}).verdict == verdict


def test_beside_a_zero_only_the_absolute_difference_counts(tmp_path: Path) -> None:
    found = between(tmp_path, {"weights": {"a": np.zeros(2)}}, {"weights": {"a": np.array([0.0, 5e-7])}})
    assert (found.verdict, found.absolute, found.relative) == (WITHIN, 5e-7, 0.0)


def test_nan_is_as_nan_and_infinite_as_infinite(tmp_path: Path) -> None:
    odd = np.array([np.nan, np.inf, 1.0])
    rounded = np.array([np.nan, np.inf, 1.0 + 1e-9])
    assert between(tmp_path, {"weights": {"a": odd}}, {"weights": {"a": rounded}}).verdict == WITHIN


@pytest.mark.parametrize("other", [1.0, np.inf])
def test_nan_is_no_number(tmp_path: Path, other: float) -> None:
    found = between(tmp_path, {"weights": {"a": np.array([np.nan])}}, {"weights": {"a": np.array([other])}})
    assert (found.verdict, found.problem) == (DIFFERENT, "w.safetensors: a: not finite on one side alone")


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (
            {"a": TENSOR.reshape(4)},
            f"a: float64 of shape [4]: [1. 2. 4. 8.]{WAS}",
        ),
        (
            {"a": TENSOR.astype(np.float32)},
            f"a: float32 of shape [2, 2]: [[1. 2.] [4. 8.]]{WAS}",
        ),
        ({"b": TENSOR}, "on one side alone: a, b"),
    ],
)
def test_tensors_of_another_name_shape_or_kind_are_different(
    tmp_path: Path, now: dict[str, np.ndarray], problem: str
) -> None:
    found = between(tmp_path, {"weights": {"a": TENSOR}}, {"weights": now})
    assert (found.verdict, found.problem) == (DIFFERENT, f"w.safetensors: {problem}")


def test_a_column_with_a_fraction_is_compared_and_whole_numbers_and_texts_must_be_equal(tmp_path: Path) -> None:
    before = {"seed": [1, 2], "loss": [0.5, 0.25], "name": ["a", "b"]}
    near = before | {"loss": [0.5, 0.25 + 1e-8]}
    assert between(tmp_path, {"table": before}, {"table": near}).at == "t.parquet: loss[1]"
    for number, other in enumerate(({"seed": [1, 3]}, {"name": ["a", "c"]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = between(folder, {"table": before}, {"table": before | other})
        assert found.problem.startswith(f"t.parquet: {next(iter(other))}: ")


def test_a_csv_is_compared_cell_by_cell(tmp_path: Path) -> None:
    before = "variant,n,mean\na,10,0.5\nb,10,\n"
    near = between(tmp_path, {"text": before}, {"text": before.replace("0.5", "0.50001")})
    assert (near.verdict, near.at) == (WITHIN, "c.csv: mean[0]")
    assert near.absolute == pytest.approx(1e-5)
    assert near.relative == pytest.approx(2e-5)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("a,10", "a,11", "n: int64 of shape [2]: [11 10], was int64 of shape [2]: [10 10]"),
        ("b,10,", "b,10,0.1", "mean: not finite on one side alone"),
        ("a,10,0.5", "a,10", "mean: not finite on one side alone"),
        ("b,10,\n", "", "variant: object of shape [1]: ['a'], was object of shape [2]: ['a' 'b'] (and 2 more)"),
        ("mean", "top", "on one side alone: mean, top"),
    ],
)
def test_what_is_no_rounding_in_a_csv_is_different(tmp_path: Path, old: str, new: str, problem: str) -> None:
    before = "variant,n,mean\na,10,0.5\nb,10,\n"
    found = between(tmp_path, {"text": before}, {"text": before.replace(old, new)})
    assert (found.verdict, found.problem) == (DIFFERENT, f"c.csv: {problem}")


def test_a_json_is_compared_key_by_key(tmp_path: Path) -> None:
    before = {"error": {"mean": 2.0, "high": None}, "diverged": {}}
    near = between(tmp_path, {"data": before}, {"data": before | {"error": {"mean": 2.0001, "high": None}}})
    assert (near.verdict, near.at) == (WITHIN, "d.json: error.mean")
    folder = tmp_path / "two"
    folder.mkdir()
    found = between(folder, {"data": before}, {"data": before | {"error": {"mean": 2.0, "high": 3.0}}})
    assert found.problem == "d.json: error.high: 3., was None"


@pytest.mark.parametrize(("pixels", "verdict"), [(1, WITHIN), (100, WITHIN), (101, DIFFERENT)])
def test_of_a_plot_a_share_of_the_pixels_may_differ(tmp_path: Path, pixels: int, verdict: Verdict) -> None:
    assert PIXELS == 0.01
    before = np.zeros((100, 100, 3), dtype=np.uint8)
    now = before.copy()
    now.reshape(-1, 3)[:pixels, 1] = 7
    found = between(tmp_path, {"plot": before}, {"plot": now})
    assert found.verdict == verdict
    assert found.problem == f"p.png: pixels: {pixels / 100:.2f}% differ"


def test_a_plot_of_another_size_is_different(tmp_path: Path) -> None:
    before, now = (np.zeros((10, width, 3), dtype=np.uint8) for width in (10, 11))
    found = between(tmp_path, {"plot": before}, {"plot": now})
    assert found.verdict == DIFFERENT
    assert found.problem.startswith("p.png: pixels: uint8 of shape [10, 11, 4]")


def test_files_that_came_or_went_and_broken_ones_are_named(tmp_path: Path) -> None:
    before = written(tmp_path / "before", data={}, text="a\n1\n")
    now = written(tmp_path / "now", text="a\n1\n", weights={"a": TENSOR})
    assert compare(before, now).problem == "d.json: was not made (and 1 more)"
    (now / "d.json").write_text("{")
    (before / "w.safetensors").write_bytes(b"\0")
    found = compare(before, now)
    assert found.verdict == DIFFERENT
    assert found.problem.startswith("d.json: cannot be read: Expecting property name")
    assert compare(before / "w.safetensors", now / "w.safetensors").problem.startswith("cannot be read")
