"""Path patterns of `exclude` and `--include`: the globs that people know from .gitignore.

Paths are bytes, relative to the directory that the patterns belong to, "/" between parts.

- A pattern without "/" (`*.tmp`, `cache`) matches a name at any depth.
- A pattern with a "/" at its beginning or inside (`/top`, `var/cache`) starts at the root.
- "/" at the end (`cache/`) matches directories only.
- `*`, `?` and `[a-z]` (`[!a-z]`) stay within a name; `**` spans any number of directories.
- A directory that matches takes all that is below it along.

There is no negation: `!` at the beginning is an ordinary character. A backslash takes the
meaning from the character after it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from sheetanchor.errors import UsageError


class Patterns:
    """A set of patterns, compiled once. Raises UsageError for one that is empty."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._any = [_compile(text) for text in patterns if not text.endswith("/")]
        self._directories = [_compile(text.rstrip("/")) for text in patterns if text.endswith("/")]

    def __bool__(self) -> bool:
        return bool(self._any or self._directories)

    def match(self, path: bytes, *, is_directory: bool) -> bool:
        """Say whether the entry itself matches; its parents are not looked at."""
        if any(pattern.fullmatch(path) for pattern in self._any):
            return True
        return is_directory and any(pattern.fullmatch(path) for pattern in self._directories)

    def covers(self, path: bytes, *, is_directory: bool) -> bool:
        """Say whether the entry or one of the directories above it matches."""
        if self.match(path, is_directory=is_directory):
            return True
        cut = path.rfind(b"/")
        while cut > 0:
            if self.match(path[:cut], is_directory=True):
                return True
            cut = path.rfind(b"/", 0, cut)
        return False


def _compile(text: str) -> re.Pattern[bytes]:
    stripped = text.strip("/")
    if not stripped:
        raise UsageError(f"pattern {text!r} matches nothing", hint="name files by globs such as `*.tmp`")
    parts = os.fsencode(stripped).split(b"/")
    anchored = text.startswith("/") or len(parts) > 1
    expression = [] if anchored else [b"(?:.*/)?"]
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == b"**":
            expression.append(b".+" if last else b"(?:.*/)?")
        else:
            expression.append(_translate(part) + (b"" if last else b"/"))
    return re.compile(b"".join(expression), re.DOTALL)


def _translate(part: bytes) -> bytes:
    """Turn the glob of one name into a regular expression that never crosses a "/"."""
    out: list[bytes] = []
    position = 0
    while position < len(part):
        character = part[position : position + 1]
        position += 1
        if character == b"*":
            out.append(b"[^/]*")
        elif character == b"?":
            out.append(b"[^/]")
        elif character == b"[":
            piece, position = _bracket(part, position)
            out.append(piece)
        else:
            if character == b"\\" and position < len(part):
                character = part[position : position + 1]
                position += 1
            out.append(re.escape(character))
    return b"".join(out)


def _bracket(part: bytes, start: int) -> tuple[bytes, int]:
    """Translate a character class whose "[" stands before `start`; without "]" it is a plain "["."""
    end = part.find(b"]", start + 1 if part[start : start + 1] not in (b"!", b"^") else start + 2)
    if end < 0:
        return rb"\[", start
    content = part[start:end]
    negated = content[:1] in (b"!", b"^")
    if negated:
        content = content[1:]
    content = content.replace(b"\\", rb"\\").replace(b"[", rb"\[").replace(b"]", rb"\]")
    content = content.replace(b"&&", rb"\&&").replace(b"~~", rb"\~~").replace(b"||", rb"\||")
    if content.startswith(b"^"):
        content = b"\\" + content
    return b"[" + (b"^/" if negated else b"") + content + b"]", end + 1
