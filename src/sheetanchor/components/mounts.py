"""Which directories are mount points, read from the kernel's own table (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def mount_points() -> tuple[str, ...]:
    """Return every mount point that this process sees; empty where there is no such table."""
    try:
        lines = _TABLE.read_bytes().splitlines()
    except OSError:
        return ()
    return tuple(os.fsdecode(_unescape(line.split(b" ")[4])) for line in lines)


def is_mount_point(directory: Path) -> bool:
    """Say whether another file system, or a bind mount, begins at `directory` (a resolved path)."""
    return os.path.ismount(directory) or os.fspath(directory) in mount_points()


def mounts_below(directory: Path) -> tuple[str, ...]:
    """Return the mount points strictly inside `directory` (a resolved path)."""
    prefix = os.fspath(directory).rstrip("/") + "/"
    return tuple(sorted({point for point in mount_points() if point.startswith(prefix)}))


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)
