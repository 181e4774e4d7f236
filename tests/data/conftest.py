"""What the tests of data share."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with an empty data/sources."""
    (tmp_path / "data" / "sources").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
