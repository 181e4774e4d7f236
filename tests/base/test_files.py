"""How a file or folder is written: completely or not at all, and never in place of the other kind."""

from pathlib import Path

import pytest

from bancada.base import files


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    if kind == "a folder":
        path.mkdir()
        (path / "inside").write_text("old")
    else:
        path.write_text("old")
    with pytest.raises(OSError, match=r"Is a directory|Not a directory") as refused, files.whole(path) as unfinished:
        unfinished.write_text("new") if kind == "a folder" else unfinished.mkdir()
    assert refused.value.filename == str(path)
    assert (path / "inside" if kind == "a folder" else path).read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["kept"]
