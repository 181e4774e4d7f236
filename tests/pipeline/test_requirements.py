"""requirements.lock: its versions, and how those of an environment differ."""

from pathlib import Path

from bancada.pipeline import requirements

LOCK = """\
# numpy==1.0
torch==2.13.0
ruamel.yaml==0.19.1 \\
    --hash=sha256:0a \\
    --hash=sha256:0b
tzdata==2026.6 ; sys_platform == 'emscripten' \\
    --hash=sha256:0c
Flask==3.1.3 ; python_full_version >= '3.11' \\
    --hash=sha256:0d
six==1.17.0 --hash=sha256:0e
"""


def test_hashes_are_no_part_of_a_version_and_markers_say_what_this_system_needs(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(LOCK)
    here = {"torch": "2.13.0", "ruamel-yaml": "0.19.1", "flask": "3.1.3", "six": "1.17.0"}
    assert requirements.needed(tmp_path / "lock") == here
    assert requirements.pinned(tmp_path / "lock") == here | {"tzdata": "2026.6"}
    assert requirements.pinned(tmp_path / "none") == {}


def test_the_build_is_no_part_of_a_version_and_packages_that_compute_come_first() -> None:
    wanted = {"ruff": "1.0", "torch": "2.13.0", "numpy": "2.4.0", "rich": "14.0"}
    found = {"ruff": "1.1", "torch": "2.13.0+cpu", "numpy": "2.4.1", "rich": None}
    assert requirements.others(wanted, found) == [
        "numpy 2.4.1 instead of 2.4.0",
        "ruff 1.1 instead of 1.0",
        "rich missing instead of 14.0",
    ]


def test_every_installed_package_is_found_by_its_normalised_name(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("ruamel.yaml==0.0\nscikit_learn==0.0\n")
    found = requirements.not_as_locked(tmp_path)
    assert [one.split()[0] for one in found] == ["scikit-learn", "ruamel-yaml"]
    assert not any("missing" in one for one in found)
