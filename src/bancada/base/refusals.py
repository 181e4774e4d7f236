"""Bad input told in one line: the key as the user wrote it, the value, and what would be right."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

PARAMS_FILE = "params.yaml"


class BadInput(ValueError):
    """Something the user wrote cannot be used. The message is one line that names the key, or the file and row."""


def did_you_mean(name: Any, known: Any) -> str:
    """Return a question that names the most similar known name, or an empty string where none is similar."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def explained(errors: list[ErrorDetails], raw: Any, prefix: str) -> BadInput:
    """pydantic's first finding as one line: the key as the user wrote it, the value, and what would be right.

    Where a value may be one of several kinds (`batch_size`: rows or full), pydantic finds fault with each: they are
    told as one, and of those the one that got furthest into the value is the one that the user meant.
    """
    found = [(*_place(error, raw, prefix), error) for error in errors]
    key = max((key for key, _, _ in found if key.startswith(found[0][0])), key=len)
    value = next(value for k, value, _ in found if k == key)
    return bad(key, value, _problem([error for k, _, error in found if k == key], value))


def _place(error: ErrorDetails, raw: Any, prefix: str) -> tuple[str, Any]:
    """The key as the user wrote it, and what is written there."""
    keys = [prefix] if prefix else []
    for part in error["loc"]:
        if isinstance(raw, list) and isinstance(part, int):
            keys[-1] += f"[{part}]"
            raw = raw[part]
            continue
        if isinstance(raw, Mapping) and part not in raw:
            part = {"width": "linear", "rate": "dropout"}.get(str(part), part)  # the short form of a layer
        if isinstance(raw, Mapping) and (part in raw or (error["type"] == "missing" and part == error["loc"][-1])):
            keys.append(str(part))
            raw = raw.get(part)
        # everything else is pydantic's own: the branch of a union, or the kind of a source
    context = error.get("ctx", {})
    if error["type"] == "unknown_key":
        return ".".join([*keys, str(context["key"])]), None
    if error["type"].startswith("union_tag") and isinstance(raw, Mapping):
        keys.append(str(context["discriminator"]).strip("'"))
        raw = context.get("tag")
    return ".".join(keys), raw


KINDS = {  # pydantic's types of errors, and what would have been right
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}


def _problem(errors: list[ErrorDetails], value: Any) -> str:
    """What would be right, all alternatives together."""
    contexts = [str(e.get("ctx", {}).get("expected") or e.get("ctx", {}).get("expected_tags") or "") for e in errors]
    names = [name for expected in contexts for name in re.findall(r"'([^']*)'", expected)]
    others = [error for error in errors if error["type"] not in (*KINDS, "literal_error")]
    if errors[0]["type"] in ("missing", "union_tag_not_found"):
        return "missing"
    if errors[0]["type"] == "string_pattern_mismatch":
        return "a name is made of letters, digits, - and _"
    if others and others[0]["type"] != "union_tag_invalid":  # such as a number of the right kind, but out of its range
        message = re.sub("^Value error, | after validation", "", others[0]["msg"])
        message = re.sub(r"\d{16,}", lambda digits: f"{float(digits[0]):g}", message)
        return re.sub("^(Input|List|Dictionary|String) should", "must", message)
    kinds = list(dict.fromkeys(KINDS[error["type"]] for error in errors if error["type"] in KINDS))
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    if names and not kinds:
        return f"must be one of {', '.join(names)}{did_you_mean(value, names)}"
    return f"must be {' or '.join([*kinds, *names])}{did_you_mean(value, names)}"


def bad(key: str, value: Any, problem: str) -> BadInput:
    shown = " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
    shown = f" = {shown[:60]}" if shown else ""
    return BadInput(f"{PARAMS_FILE}: {' '.join(key.split())}{shown}: {problem}")
