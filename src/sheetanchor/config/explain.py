"""Turns pydantic's findings about `sheetanchor.yml` into one line each: file, line, path, cause.

Values are shown where they help, never under a key that could be a secret's, and never with the
password of a URL.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sheetanchor.config.document import Document, Place
from sheetanchor.errors import ConfigError

_SECRET_KEY = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@]*@")
_QUERY_PASSWORD = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)
_KINDS = {
    "string": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "a list",
    "path": "a path",
}
_MAX_SHOWN = 60


@dataclass(frozen=True)
class _Finding:
    line: int
    text: str
    hint: str | None = None


def explain(error: ValidationError, document: Document, label: str, model: type[BaseModel]) -> ConfigError:
    """Build the ConfigError: the first finding is the message, the others go to the hint."""
    findings = sorted(
        (_finding(details, document, model) for details in _relevant(error)),
        key=lambda finding: finding.line,
    )
    first, *others = (f"{label}:{finding.line}: {finding.text}" for finding in findings)
    hints = [finding.hint for finding in findings[:1] if finding.hint]
    if others:
        hints.append("also wrong: " + "; ".join(others))
    return ConfigError(first, hint=". ".join(hints) or None)


def _relevant(error: ValidationError) -> list[ErrorDetails]:
    """Leave out "too short" of a list whose items were refused: it is short of the wrong ones."""
    return [
        details
        for details in error.errors(include_url=False)
        if details["type"] != "too_short" or not details["input"]
    ]


def _finding(details: ErrorDetails, document: Document, model: type[BaseModel]) -> _Finding:
    place, current = _resolve(details["loc"], model)
    kind = details["type"]
    line = document.line(place)
    where = _written(place)
    if kind == "extra_forbidden":
        return _unknown_key(place, line, current)
    if kind == "missing":
        return _Finding(line, f"{where}: missing")
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _wrong_type_tag(details, place, document)
    return _Finding(line, f"{where}: {_cause(details)}{_shown(place, details['input'])}", _advice(details))


def _unknown_key(place: Place, line: int, model: type[BaseModel] | None) -> _Finding:
    name = str(place[-1])
    allowed = sorted(model.model_fields) if model else []
    text = f"{_written(place)}: unknown key{_nearest(name, allowed)}; allowed: {', '.join(allowed)}"
    hint = None
    if "password" in name and "password_file" in allowed:
        hint = "a password never stands in the configuration: write it to a file and name it in password_file"
    return _Finding(line, text, hint)


def _wrong_type_tag(details: ErrorDetails, place: Place, document: Document) -> _Finding:
    allowed = sorted(
        str(tag).strip("' ") for tag in details.get("ctx", {}).get("expected_tags", "").split(",")
    )
    allowed = [tag for tag in allowed if tag] or ["configs", "postgres", "redis", "volume"]
    if details["type"] == "union_tag_not_found":
        return _Finding(
            document.line(place), f"{_written((*place, 'type'))}: missing; allowed: {', '.join(allowed)}"
        )
    tag = str(details.get("ctx", {}).get("tag", ""))
    place = (*place, "type")
    text = f"{_written(place)}: {tag!r} is not known{_nearest(tag, allowed)}; allowed: {', '.join(allowed)}"
    return _Finding(document.line(place), text)


def _cause(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"has to be {context['expected']}"
    if kind == "string_pattern_mismatch":
        return (
            "has to begin with a letter or digit and hold only letters, digits, '_', '.' and '-' (63 at most)"
        )
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return "has to be a mapping (`key: value` lines)"
    if kind == "too_short":
        return "must not be empty"
    for prefix, wanted in _KINDS.items():
        if kind.startswith(prefix + "_") and kind.endswith(("_type", "_parsing")):
            return f"has to be {wanted}"
    return details["msg"][:1].lower() + details["msg"][1:]


def _advice(details: ErrorDetails) -> str | None:
    if details["type"] == "string_type" and isinstance(details["input"], bool | int | float):
        return "YAML reads this as a number or as true/false: put it into quotes"
    return None


def _resolve(location: Sequence[str | int], model: type[BaseModel]) -> tuple[Place, type[BaseModel] | None]:
    """Follow pydantic's location; leave out the union tags that it puts in between.

    Returns the place in the document and the model that holds its last key.
    """
    place: Place = ()
    candidates: list[type[BaseModel]] = [model]
    holder: type[BaseModel] | None = model
    for part in location:
        if len(candidates) > 1 and isinstance(part, str):
            candidates = [
                one for one in candidates if part in typing.get_args(one.model_fields["type"].annotation)
            ]
            continue
        place = (*place, part)
        if isinstance(part, str):
            holder = candidates[0] if candidates else None
            field = holder.model_fields.get(part) if holder else None
            candidates = _models_in(field.annotation) if field else []
    return place, holder


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]


def _written(place: Place) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "the file"


def _nearest(name: str, allowed: Sequence[str]) -> str:
    found = get_close_matches(name, allowed, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _shown(place: Place, value: Any) -> str:
    if value is None:
        return "; nothing is written here"
    keys = [part for part in place if isinstance(part, str)]
    if isinstance(value, dict | list) or (keys and _SECRET_KEY.search(keys[-1])):
        return ""
    value = str(value).lower() if isinstance(value, bool) else value
    text = _QUERY_PASSWORD.sub(r"\1********", _URL_PASSWORD.sub(r"\1:********@", str(value)))
    text = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    return f"; this is {text!r}"
