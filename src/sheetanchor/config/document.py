"""A YAML document as plain values, with the line of every key and item.

Stricter than YAML itself: one document, no duplicate keys, keys are text, aliases cannot blow up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from sheetanchor.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: keys and indexes from the top."""

MERGE_TAG = "tag:yaml.org,2002:merge"
MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
"""Far above any real configuration; ends the "billion laughs" of nested aliases."""


@dataclass(frozen=True)
class Document:
    """The values and where each was written (lines count from 1)."""

    values: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest thing around it."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)


def parse(data: bytes, label: str) -> Document:
    """Parse YAML. Raises ConfigError `label:line: …` for anything that is not one clean document."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{label}: larger than {MAX_BYTES} bytes: this is no configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: not UTF-8 text") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{label}: the file is empty", hint="`sheetanchor init` writes one that works")
        return _Converter(loader, label).convert(node)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, label) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{label}:{line}: a character that text must not hold: #x{error.character:04x}"
        ) from error


def _syntax_error(error: yaml.MarkedYAMLError, label: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{label}:{mark.line + 1}" if mark else label
    tab = "\\t" in (error.problem or "")
    return ConfigError(
        f"{where}: not valid YAML: {error.problem or error.context}",
        hint="YAML is indented with spaces, never with tabs"
        if tab
        else "check the indentation and the quotes of this line and the one above",
    )


class _Converter:
    def __init__(self, loader: yaml.SafeLoader, label: str) -> None:
        self._loader = loader
        self._label = label
        self._lines: dict[Place, int] = {}
        self._count = 0

    def convert(self, node: yaml.Node) -> Document:
        self._lines[()] = node.start_mark.line + 1
        values = self._value(node, (), frozenset())
        return Document(values, self._lines)

    def _value(self, node: yaml.Node, place: Place, above: frozenset[int]) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"more than {MAX_VALUES} values")
        if id(node) in above:
            raise self._error(node, "an alias that holds itself")
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, above)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*place, index), above) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _item(self, node: yaml.Node, place: Place, above: frozenset[int]) -> Any:
        self._lines[place] = node.start_mark.line + 1
        return self._value(node, place, above)

    def _mapping(self, node: yaml.MappingNode, place: Place, above: frozenset[int]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        written: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key has to be a word")
            if key.value in written:
                raise self._error(key, f"{key.value!r} is written twice")
            if key.tag == MERGE_TAG:
                merged.update(self._merged(child, place, above))
                continue
            written[key.value] = self._item(child, (*place, key.value), above)
            self._lines[(*place, key.value)] = key.start_mark.line + 1
        return {**merged, **written}

    def _merged(self, node: yaml.Node, place: Place, above: frozenset[int]) -> dict[str, Any]:
        """Return what `<<: *anchor` or `<<: [*one, *two]` adds; the first of a list wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, "only a mapping can be merged by <<")
            result.update(self._value(source, place, above))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise self._error(node, str(error)) from error

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self._label}:{node.start_mark.line + 1}: {problem}")
