"""Messages for bad input: one line that names the key as the user wrote it, the value, and what would be right."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

PARAMS_FILE = "params.yaml"
MOST_NAMED = 3  # names in one line


class BadInput(ValueError):
    """Something that the user wrote cannot be used. The message is one line that names the key, or the file and row."""


def bad(key: str, value: Any, problem: str) -> BadInput:
    """Return the error `params.yaml: KEY = VALUE: PROBLEM`. The value is left out if it is None or a mapping."""
    return BadInput(f"{PARAMS_FILE}: {' '.join(key.split())}{shown(value)}: {problem}")


def shown(value: Any) -> str:
    """Return ` = VALUE`, as `one_line` has it; an empty string for an empty value, None or a mapping."""
    text = one_line(value) if isinstance(value, str | int | float) else ""
    return f" = {text}" if text else ""


def one_line(value: Any) -> str:
    """Return the text of a value on one line, cut if it is long."""
    return visible(" ".join(str(value).split())[:60])


def several(names: Iterable[str], most: int = MOST_NAMED, count: int = 0) -> str:
    """Return the first names, and how many more there are: of `count`, where only some of them are given."""
    names = list(names)
    more = max(count, len(names)) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def visible(text: str) -> str:
    """Return the text with invisible characters by their codes, as YAML has them in double quotes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def did_you_mean(name: Any, known: Any, cutoff: float = 0.5) -> str:
    """Return a question that suggests the most similar known name, or an empty string if none is similar."""
    written = {str(one).lower(): str(one) for one in known}
    near = difflib.get_close_matches(str(name).lower(), written, n=1, cutoff=cutoff)
    return f"; did you mean '{written[near[0]]}'?" if near else ""


def unknown_key(key: Any, known: Any) -> PydanticCustomError:
    """Return the error that a validator raises for a key that its mapping does not have."""
    return wrong_key(str(key), f"unknown key{did_you_mean(key, known)}")


def wrong_key(key: str, problem: str) -> PydanticCustomError:
    """Return the error that a validator raises for a key inside of its mapping, such as one that is missing."""
    return PydanticCustomError("wrong_key", "{problem}", {"key": key, "problem": problem})


def explained(errors: list[ErrorDetails], raw: Any, prefix: str) -> BadInput:
    """Return pydantic's first error about `raw`, the value of the key `prefix`, as one line.

    If a value may be one of several kinds (`batch_size`: a number of rows, or full), pydantic reports an error for
    each kind. They become one message, about the kind whose error lies deepest: this is the kind that the user meant.
    """
    found = [(*_place(error, raw, prefix), error) for error in errors]
    key, value, _ = max((place for place in found if place[0].startswith(found[0][0])), key=lambda place: len(place[0]))
    return bad(key, value, _problem([error for k, _, error in found if k == key], value))


SHORT_FORMS = {"width": "linear", "rate": "dropout"}  # a layer's width may be written {linear: 5}


def _place(error: ErrorDetails, raw: Any, prefix: str) -> tuple[str, Any]:
    """Return the key as the user wrote it, and its value."""
    keys = [prefix] if prefix else []
    for part in error["loc"]:
        if isinstance(raw, list) and isinstance(part, int):
            keys[-1] += f"[{part}]"
            raw = raw[part]
        elif isinstance(raw, Mapping):
            key = part if part in raw else SHORT_FORMS.get(str(part), part)
            if key in raw or (error["type"] == "missing" and key == error["loc"][-1]):
                keys.append(str(key))
                raw = raw.get(key)
        # any other part is pydantic's own name for the kind of a value
    context = error.get("ctx", {})
    if error["type"] == "wrong_key":
        return ".".join([*keys, str(context["key"])]), None
    if error["type"].startswith("union_tag") and isinstance(raw, Mapping):
        keys.append(str(context["discriminator"]).strip("'"))
        raw = context.get("tag")
    return ".".join(keys), raw


KINDS = {  # pydantic's type of an error: what would be right
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


TORCHS = {"adam": "AdamW", "inverse_time": "CosineAnnealingLR", "half_mse": "MSELoss", "batch_norm": "GELU"}


def _problem(errors: list[ErrorDetails], value: Any) -> str:
    """Return what would be right, all kinds together."""
    contexts = [str(e.get("ctx", {}).get("expected") or e.get("ctx", {}).get("expected_tags") or "") for e in errors]
    names = [name for expected in contexts for name in re.findall(r"'([^']*)'", expected)]
    others = [error for error in errors if error["type"] not in (*KINDS, "literal_error")]
    if errors[0]["type"] in ("missing", "union_tag_not_found"):
        return "missing"
    if errors[0]["type"] == "string_pattern_mismatch":
        return "a name is made of letters, digits, - and _"
    if others and others[0]["type"] != "union_tag_invalid":  # for example a number of the right kind, but too large
        message = re.sub("^Value error, | after validation", "", others[0]["msg"])
        message = re.sub(r"\d{16,}", lambda digits: f"{float(digits[0]):g}", message)
        return re.sub("^(Input|List|Dictionary|String) should", "must", message)
    kinds = list(dict.fromkeys(KINDS[error["type"]] for error in errors if error["type"] in KINDS))
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    quotes = f'; write "{value}" in quotes' if kinds == ["a text"] and type(value) in (int, float) else ""
    right = " or ".join([*kinds, *names]) if kinds else f"one of {', '.join(names)}"
    torchs = "".join(f", or a class of torch by its own name, such as {TORCHS[one]}" for one in names if one in TORCHS)
    return f"must be {right}{quotes}{torchs}{did_you_mean(value, names)}"
