"""Reading one regular file into blobs, whatever happens to it meanwhile."""

from __future__ import annotations

import io
import os

from sheetanchor.repository import filesystem
from sheetanchor.repository.chunker import MIN_SIZE
from sheetanchor.repository.node import Node
from sheetanchor.repository.stream_writer import INLINE_SIZE, PendingContent, StreamWriter

ATTEMPTS = 3
"""How often a file that changes while it is read is read again before it is kept with a warning."""


class Unreadable(Exception):  # noqa: N818 - an outcome that is recorded, not an error that is raised on
    """The file cannot be read; the text says why."""


def shown(path: bytes) -> str:
    """Return a path for people: what is no UTF-8 as backslash escapes."""
    return path.decode("utf-8", "backslashreplace")


class FileReader:
    """Reads the files of one tree; knows which names are links to a file already read."""

    def __init__(self, streams: StreamWriter, owners: filesystem.Owners) -> None:
        self._streams = streams
        self._owners = owners
        self._linked: dict[tuple[int, int], tuple[Node, PendingContent]] = {}

    def release(self) -> None:
        """Let go of shared buffers, before waiting for content."""
        self._streams.release()

    def read(self, name: bytes, parent: int, status: os.stat_result) -> tuple[Node, PendingContent, bool]:
        """Store a file; return its node, its content, and whether it kept changing.

        Raises OSError when it cannot be opened, Unreadable when reading it fails.
        """
        key = (status.st_dev, status.st_ino)
        known = self._linked.get(key) if status.st_nlink > 1 else None
        if known is not None and _unchanged(status, known[0]):
            node = filesystem.node_from_status(name, status, self._owners)
            node.xattrs = known[0].xattrs
            return node, known[1], False
        changed = True
        for attempt in range(ATTEMPTS):
            node, content, changed = self._read_once(name, parent, whole=attempt > 0)
            if not changed:
                break
        if status.st_nlink > 1 and not changed:
            self._linked[key] = (node, content)
        return node, content, changed

    def _read_once(self, name: bytes, parent: int, *, whole: bool) -> tuple[Node, PendingContent, bool]:
        fd, before = filesystem.open_file(name, parent)
        try:
            node = filesystem.node_from_status(name, before, self._owners)
            content, size = self._store(fd, before.st_size, whole=whole)
            node.xattrs = filesystem.xattrs_of(fd)
            node.size = size
            return node, content, not _unchanged(os.fstat(fd), node)
        except OSError as error:
            raise Unreadable(error.strerror) from error
        finally:
            os.close(fd)

    def _store(self, fd: int, expected: int, *, whole: bool) -> tuple[PendingContent, int]:
        """Store content by the way that fits its size; `whole` reads on to the true end."""
        if not whole and expected <= INLINE_SIZE:
            data = os.read(fd, expected + 1)
            return self._streams.write_small(data), len(data)
        with io.FileIO(fd, closefd=False) as file:
            if not whole and expected < MIN_SIZE:
                return self._streams.write_medium(file.readinto, expected)
            stored = self._streams.write(file)
        return stored.content, stored.size


def _unchanged(status: os.stat_result, node: Node) -> bool:
    return (
        status.st_size == node.size
        and status.st_mtime_ns == node.mtime_ns
        and status.st_ctime_ns == node.ctime_ns
    )
