"""An entry of dvc.lock is replaced in its text, to the bytes that DVC writes when it writes the whole file."""

from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml

from bancada.pipeline.dvc_internals import with_entries

ENTRY: dict[str, Any] = {
    "cmd": "python -m a " * 20,
    "params": {"params.yaml": {"lr": None, "é 日本": [1e-05, "1", "no"]}},
}
NAMES = ["generate@s", "train@a", "train@a-longer", "evaluate@s: 1", "'quoted'"]


def lock(**changed: Any) -> str:
    return str(dumps_yaml({"schema": "2.0", "stages": {name: {"cmd": name} for name in NAMES} | changed}))


@pytest.mark.parametrize("name", [*NAMES, "new"])
def test_one_entry_is_changed_or_added_and_all_other_bytes_stay(name: str) -> None:
    assert with_entries(lock(), {name: ENTRY}) == lock(**{name: ENTRY})


@pytest.mark.parametrize(
    "text", ["", "stages:\n  a:\n    cmd: a\n", lock() + "# a note", lock() + "  ? b\n  : cmd: b\n"]
)
def test_a_text_of_another_form_is_left_to_dvc(text: str) -> None:
    assert with_entries(text, {"train@a": ENTRY}) == ""
