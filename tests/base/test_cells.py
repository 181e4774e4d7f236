"""What a cell means is the same in a file and in a data frame."""

import io

import numpy as np
import pandas as pd
import pytest

from bancada.base.cells import WrongCell, of_frame, text_of
from bancada.data.reading import Reading
from bancada.data.sources.csv import CsvFile

MOMENTS = ["2024-01-02 00:00", "2024-01-02 10:30", "2024-02-03 10:30:00.5"]


@pytest.mark.parametrize("zone", [None, "UTC", "America/Sao_Paulo"])
@pytest.mark.parametrize("how", ["csv", "parquet"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_moments_of_a_data_frame_are_the_words_of_the_training(tmp_path, monkeypatch, zone, how, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sources").mkdir(parents=True)
    stamps = pd.to_datetime(MOMENTS[:count], format="ISO8601").tz_localize(zone)
    frame, file = pd.DataFrame({"t": stamps, "c": range(count)}), io.BytesIO()
    frame.to_csv(file, index=False) if how == "csv" else frame.to_parquet(file)
    (tmp_path / "data/sources/t").write_bytes(file.getvalue())
    keys = {"kind": "csv", "path": "data/sources/t", "task": "regression", "targets": ["c"]}
    table = CsvFile.model_validate(keys).make("k")
    for unit in ("ns", "us") if zone is None else ("ns",):
        rows = frame.astype({"t": f"datetime64[{unit}]"}) if zone is None else frame
        features, words = of_frame(rows, ["t"], {"t"}, Reading().missing or ())
        assert words == dict(table.words)
        np.testing.assert_array_equal(features, table.features)
    assert len(table.words["t"]) == count


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        (2, "2"),
        (2.0, "2"),
        ("2.0", "2"),
        (np.float32(2), "2"),
        ("2.50", "2.50"),
        ("02", "02"),
        ("02.0", "02.0"),
        (-3.0, "-3"),
    ],
)
def test_a_whole_number_is_one_word_however_it_is_written(cell, word):
    assert text_of(cell) == word


def test_a_cell_that_is_no_number_is_told_by_its_row_and_column():
    for cell in ("1_000", "nan", "x", "inf"):
        with pytest.raises(WrongCell, match=rf"^row 2, column 'x' = {cell}: must be a"):
            of_frame(pd.DataFrame({"x": [1, cell]}), ["x"], (), ())
