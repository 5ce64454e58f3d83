"""Putting metadata back: owner, permissions, extended attributes, times, in that order.

Changing the owner clears setuid and capabilities, so it comes first; times come last. What the
system refuses and costs no data (an owner, without root) is counted as a warning.
"""

from __future__ import annotations

import errno
import os
from collections import Counter

from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType, permissions
from sheetanchor.repository.filesystem import path_by_descriptor
from sheetanchor.repository.node import Node

_TOLERATED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.EINVAL, errno.ERANGE})


class Warnings:
    """Collects warnings, one line per kind with a count, however many entries are affected."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, what: str, path: bytes) -> None:
        """Count one entry."""
        self._first.setdefault(what, shown(path))
        self._counts[what] += 1

    def lines(self) -> tuple[str, ...]:
        """Return the lines."""
        return tuple(
            f"{what}: {self._first[what]}" + (f" and {count - 1} more" if count > 1 else "")
            for what, count in self._counts.items()
        )


class Metadata:
    """Sets metadata of entries just made."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def set_open(self, fd: int, node: Node, path: bytes) -> None:
        """Set everything on an open file or directory. Raises OSError for what is not tolerated."""
        try:
            os.chown(fd, node.uid, node.gid)
        except OSError as error:
            self._tolerate(error, "the owner could not be set", path)
        os.chmod(fd, permissions(node.mode))
        self._set_xattrs(fd, node, path)
        os.utime(fd, ns=(node.atime_ns, node.mtime_ns))

    def set_named(self, name: bytes, parent: int, node: Node, path: bytes) -> None:
        """Set everything on a symbolic link, device or FIFO, which cannot be opened."""
        try:
            os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self._tolerate(error, "the owner could not be set", path)
        if node.type is not NodeType.SYMLINK:
            os.chmod(name, permissions(node.mode), dir_fd=parent)
        self._set_xattrs(path_by_descriptor(name, parent), node, path)
        times = (node.atime_ns, node.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, target: int | bytes, node: Node, path: bytes) -> None:
        for key, value in node.xattrs:
            try:
                os.setxattr(target, key, value, follow_symlinks=isinstance(target, int))
            except OSError as error:
                self._tolerate(error, f"extended attribute {key} could not be set", path)

    def _tolerate(self, error: OSError, what: str, path: bytes) -> None:
        if error.errno not in _TOLERATED:
            raise error
        self._warnings.add(f"{what} ({error.strerror})", path)
