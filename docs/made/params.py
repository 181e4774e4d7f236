"""Prints docs/params.md: every key of params.yaml, from the classes that check it.

Types, limits and defaults are those of pydantic. What a key means is the comment beside its field, or above it: a
comment, because a changed word in a `Field(description=...)` would be changed code, and rerun every stage.
"""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from typing import Any

import yaml

import bancada  # noqa: F401  (its pins come before numpy)
from bancada.base.settings import Settings
from bancada.data import reading, settings, sources
from bancada.networks import settings as networks
from bancada.pipeline.params import Params, Study
from bancada.training import prepare, space
from bancada.training import settings as training

INTRO = """# Every key of params.yaml

`make docs` makes this page from the classes that check the file, in the `settings.py` of each package. A key that
has no default must be written. One whose default is null may be written as null, too.

How keys work together is in [training.md](training.md), and how a table is read and split in [files.md](files.md).

A wrong value, and a key that does not exist, is refused with one line before anything runs:

```text
params.yaml: studies.moons.train.lr = -0.5: must be greater than 0
```
"""
KINDS = [import_module(sources.module_of(kind)).SOURCE for kind in sources.kinds() if kind != "table"]  # that is csv
# The level of a heading, the heading, the class.
PARTS: list[tuple[int, str, type[Settings]]] = [
    (2, "The top of the file", Params),
    (2, "studies.NAME", Study),
    (2, "studies.NAME.source", settings.Source),
    *[(3, f"source: {{kind: {kind.__module__.rpartition('.')[2]}}}", kind) for kind in KINDS],
    (3, "How a table is written", reading.Reading),
    (2, "studies.NAME.split", settings.Split),
    (2, "train, of a study or a variant", training.Train),
    (3, "optimizer: {name: sgd}", training.SGD),
    (3, "optimizer: {name: adam}", training.Adam),
    (3, "optimizer: {name: adamw}", training.AdamW),
    (3, "schedule: {name: none}", training.NoSchedule),
    (3, "schedule: {name: step}", training.StepSchedule),
    (3, "schedule: {name: inverse_time}", training.InverseTime),
    (3, "schedule: {name: cosine}", training.Cosine),
    (3, "schedule: {name: a class of torch}", training.TorchSchedule),
    (3, "init: {name: torch}", networks.TorchInit),
    (3, "init: {name: xavier_normal}", networks.XavierNormal),
    (3, "init: {name: normal}", networks.NormalInit),
    (3, "init: {name: given}", networks.GivenInit),
    (3, "early_stopping", training.EarlyStopping),
    (3, "prepare", prepare.Prepare),
    (3, "prepare.numbers", prepare.Numbers),
    (3, "prepare.words", prepare.Words),
    (3, "prepare.targets", prepare.Targets),
    (3, "search", space.Search),
    (3, "search.space: a range", space.Range),
    (3, "search.space: choices", space.Choices),
    (2, "variants.NAME", training.Variant),
    (3, "module", networks.Module),
    (3, "A layer", networks.LayerSpec),
    (3, "A class of torch", networks.TorchPart),
]
HEADINGS = {model.__name__: heading for _, heading, model in PARTS}
NO_LIMIT = 3.4e38  # that of float32


def page() -> str:
    """Return the whole page."""
    parts = [INTRO]
    for level, heading, model in PARTS:
        text = [f"{'#' * level} {heading}", inspect.cleandoc(model.__doc__ or "")]
        rows = list(table(model))
        if rows:
            text.append("\n".join(["| key | value | default | |", "| --- | --- | --- | --- |", *rows]))
        parts.append("\n\n".join(text) + "\n")
    return "\n".join(parts)


def table(model: type[Settings]) -> Iterator[str]:
    """Yield a row for each key of a class, but for those of a base that has a part of its own."""
    schema, meant = model.model_json_schema(), comments(model)
    own_part = [base for base in (settings.Source, reading.Reading) if base is not model and issubclass(model, base)]
    for key, field in model.model_fields.items():
        described = schema["properties"][key]
        if any(key in base.model_fields for base in own_part) or "const" in described:
            continue
        default = "" if field.is_required() else f"`{written(described.get('default'))}`"
        values = value(described, schema.get("$defs", {}))
        values = values.removesuffix(" or `null`") if default == "`null`" else values
        cells = (f"`{key}`", values, default, meant.get(key, ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def comments(model: type[Settings]) -> dict[str, str]:
    """Return the comment of each field, beside it or in the lines above it, also of those that are inherited."""
    found = dict[str, str]()
    for base in reversed([base for base in model.__mro__ if issubclass(base, Settings)]):
        source = inspect.getsource(base)
        lines = source.splitlines()
        for field in ast.walk(ast.parse(source)):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                above = takewhile(lambda line: line.lstrip().startswith("#"), reversed(lines[: field.lineno - 1]))
                beside = lines[(field.end_lineno or 0) - 1][field.end_col_offset :]
                said = " ".join(line.strip(" #") for line in [*reversed([*above]), beside]).strip()
                found |= {field.target.id: said} if said else {}
    return found


def value(schema: dict[str, Any], classes: dict[str, Any]) -> str:
    """Return in words which values a JSON schema allows. `classes`: the schemas that it refers to, by name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if heading := HEADINGS.get(name):
            return f"[{heading.rpartition(': ')[2].strip('{}')}](#{anchor(heading)})"
        inside = ", ".join(f"{key}: {value(one, classes)}" for key, one in classes[name]["properties"].items())
        return f"{{{inside}}}"
    for either in ("anyOf", "oneOf"):
        if either in schema:
            several = list(dict.fromkeys(value(one, classes) for one in schema[either]))
            return " or ".join(one for one in several if one != "whole number" or "number" not in several)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{written(one)}`" for one in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"[{value(schema.get('items', {}), classes)}, ...]"
    if kind == "object":
        inner = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        return f"{{name: {value(inner[0], classes)}, ...}}" if isinstance(inner[0], dict) else "keys and values"
    return {"string": "text", "boolean": "`true`, `false`", "integer": "whole number", "null": "`null`"}.get(
        kind, kind
    ) + limits(schema)


def limits(schema: dict[str, Any]) -> str:
    """Return the bounds of a number in words; none where a float32 has no more room, or what comes is narrower."""
    signs = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = {sign: schema[key] for key, sign in signs.items() if abs(schema.get(key, NO_LIMIT)) < NO_LIMIT}
    if "from" in bounds:
        bounds.pop("above", None)
    return "".join(f" {sign} {bound:,}" for sign, bound in bounds.items())


def written(default: Any) -> str:
    """Return a value as params.yaml has it, in one line."""
    return yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=1000).removesuffix("...\n").strip()


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    kept = [letter for letter in heading.lower() if letter.isalnum() or letter in " -_"]
    return "".join(kept).replace(" ", "-")


if __name__ == "__main__":
    print(page(), end="")
