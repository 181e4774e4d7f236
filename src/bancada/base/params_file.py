"""params.yaml as the user wrote it, read as YAML 1.2; keys with dots, such as `studies.moons.split`, find a value."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode

from bancada.base.refusals import PARAMS_FILE, BadInput, did_you_mean

TOP = ("seed", "num_seeds", "lr", "engine", "device", "studies", "variants")  # the keys of the file


class ParamsFile:
    """The content of params.yaml. A stage asks for the keys that dvc.yaml names for it, one by one, and no others."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def value(self, key: str) -> Any:
        """Return the value of a key such as `studies.moons.split`. Raise BadInput if the key is missing."""
        found: Any = self.raw
        parts = key.split(".")
        for i, part in enumerate(parts):
            if not isinstance(found, Mapping) or part not in found:
                similar = [key for key in found if key not in TOP] if isinstance(found, Mapping) else []
                known = did_you_mean(part, similar)
                raise BadInput(f"{PARAMS_FILE}: {'.'.join(parts[: i + 1])}: missing{known}")
            found = found[part]
        return found


class _Constructor(SafeConstructor):
    def construct_yaml_int(self, node: ScalarNode) -> int:
        """Refuse 010, which is 10 in YAML 1.2, 8 in YAML 1.1, and might be meant as a text."""
        if re.fullmatch("[-+]?0[0-9_]+", node.value):
            problem = f"{node.value}: write a whole number without leading zeros, or a text in quotes"
            raise ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)


def read(path: Path = Path(PARAMS_FILE)) -> ParamsFile:
    """Read the file. Raise BadInput, with the line number if it is known, if the file is not a YAML mapping."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text in UTF-8 ({error.reason})") from None


def parse(text: str, name: str) -> ParamsFile:
    """Read the text of a file of this name. Raise BadInput as `read` does."""
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Constructor
        raw = yaml.load(text)  # YAML 1.2: 1e-05 is a number
    except YAMLError as error:
        mark, problem = (getattr(error, key, None) for key in ("problem_mark", "problem"))
        what = " ".join(problem.split()) if problem else str(error).splitlines()[0]
        raise BadInput(f"{name}:{f' line {mark.line + 1}' if mark else ''} {what}") from None
    except (ValueError, KeyError) as error:  # for example 2024-99-99, which looks like a date
        raise BadInput(f"{name}: a value cannot be read: {error}") from None
    if not isinstance(raw, Mapping):
        raise BadInput(f"{name}: a mapping with seed, num_seeds, studies and variants is expected")
    return ParamsFile(raw)
