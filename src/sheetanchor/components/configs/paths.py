"""Names of one configured path: where it is live, where it is stored, how a proof spells it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

_PLAIN = "/ !#$&'()*+,:;=@[]~{}^`|\\\"<>?"
"""Everything printable but "%" stays readable."""


def live_path(path: Path) -> Path:
    """Return the file or directory that `path` leads to, links resolved, whether it exists or not."""
    return Path(os.path.realpath(path))


def stored_path(path: Path) -> str:
    """Return where an absolute path is stored below the component's root."""
    return os.fspath(path).lstrip("/")


def proof_path(path: str | Path) -> str:
    """Return a path as the manifest spells it: UTF-8 as it is, other bytes percent-encoded."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return quote_from_bytes(os.fsencode(text), safe=_PLAIN)
    return text.replace("%", "%25")


def path_of(text: str) -> Path:
    """Return the path that `proof_path` has spelled."""
    return Path(os.fsdecode(unquote_to_bytes(text.encode())))


def outermost(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths in order, without doubles and without what is inside another of them."""
    normal = [Path(os.path.normpath(path)) for path in paths]
    out: list[Path] = []
    for path in normal:
        inside = any(path != other and path.is_relative_to(other) for other in normal)
        if path not in out and not inside:
            out.append(path)
    return tuple(out)
