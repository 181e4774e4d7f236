"""What a training was asked for: its settings by their names in params.yaml, and how they differ from a commit's."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bancada.base import BadInput, git, params_file
from bancada.base.refusals import PARAMS_FILE
from bancada.training.settings import training_keys

Settings = dict[str, str]  # `lr`, `batch_size`, `optimizer.name`, ... -> value


def settings(recipe: Mapping[str, Any]) -> Settings:
    """Return the settings of a recipe, as run.json has it, as texts."""
    values = {
        "layers": ", ".join(layer_text(layer) for layer in recipe.get("layers", [])),
        "module": " ".join(recipe["module"][key] for key in ("file", "name")) if "module" in recipe else "",
        "seed": recipe["seeds"][0],
        "num_seeds": len(recipe["seeds"]),
        **dict(flat(recipe["train"])),
        **dict(flat(recipe.get("module", {}).get("args", {}), "module.args.")),
        "device": recipe["device"],
        "engine": recipe.get("engine", ""),
    }
    if "loss.name" in values:  # torch's, whose arguments are beside it
        values["loss"] = values.pop("loss.name")
    return as_texts({key: value for key, value in values.items() if value != ""})


def as_texts(values: Mapping[str, Any]) -> Settings:
    """Return the values as JSON, and texts as they are."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def layer_text(layer: Mapping[str, Any]) -> str:
    """Write a layer as in params.yaml: `5`, `tanh`, `{linear: 5, bias: false}`, `{dropout: 0.1}`, `GELU`."""
    if "name" in layer:
        return f"{{{layer['name']}: {json.dumps(layer['args'])}}}" if layer["args"] else str(layer["name"])
    if layer["kind"] == "dropout":
        return f"{{dropout: {layer['rate']}}}"
    if layer["kind"] != "linear":
        return str(layer["kind"])
    return f"{{linear: {layer['width']}, bias: false}}" if layer.get("bias") is False else str(layer["width"])


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, by keys with dots."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and key != "columns":  # of which a user gives the names: they stay one value
            # the arguments of torch's classes stand beside their name in params.yaml
            yield from flat(value, prefix if key == "args" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- compared with a commit -----------------------------------------------------------------------------------------


def params_at(folder: Path, commit: str) -> params_file.ParamsFile:
    """Read params.yaml as the folder has it at a commit. Raise BadInput where that is impossible."""
    return params_file.parse(git.file_at(folder, commit, PARAMS_FILE), PARAMS_FILE)


def of_variant(params: params_file.ParamsFile, variant: str) -> Settings:
    """Return the settings of a variant, with its search; none where params.yaml has no such variant, or a wrong one."""
    try:
        keys = training_keys(params, variant)
        search, recipe = keys.search(), keys.recipe().model_dump(mode="json", exclude_none=True)
    except BadInput:
        return {}
    return settings(recipe) | (of_search(search.model_dump(mode="json")) if search else {})


def of_search(search: Mapping[str, Any]) -> Settings:
    """Return what was asked of a search, with one setting for each key of its space."""
    asked = {f"search.{key}": search[key] for key in ("trials", "seeds", "seed")}
    return as_texts(asked | {f"search.space.{key}": part for key, part in search["space"].items()})


def changes(now: Mapping[str, str], before: Mapping[str, str]) -> Settings:
    """Return the settings that have another value now; `none` for those that are gone.

    Where all settings of a group are gone, such as `search`, the group is. Where it has another name, such as that of
    an `optimizer`, the name says enough.
    """
    found = {key: value for key, value in now.items() if value != before.get(key)}
    groups = {key.partition(".")[0] for key in now}
    for key in before.keys() - now.keys():
        group = key.partition(".")[0]
        if group not in groups:
            found[group] = "none"
        elif f"{group}.name" not in found:
            found[key] = "none"
    return found


def in_words(changed: Mapping[str, str], width: int) -> str:
    """Return such as `lr=0.01, optimizer=adam`, cut to a width in letters."""
    told = [f"{key.removesuffix('.name')}={value}" for key, value in changed.items()]
    return textwrap.shorten(", ".join(told), width, placeholder=" ...")
