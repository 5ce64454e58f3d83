"""Storing many small files: one tight loop over a directory, blobs saved many at a time.

Only what goes as expected is done here. A file that vanished, changed, grew or cannot be read is
left to the one place that knows what to do then (`file_content.py`, `file_tree.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sheetanchor.repository import filesystem
from sheetanchor.repository.file_text import FileTexts, tail, times_of
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import xattrs_text

SMALL_SIZE = 64 * 1024
"""Bytes up to which a file is stored here, as one blob."""


class StoredFile(NamedTuple):
    """A file that is stored."""

    size: int
    """Bytes."""
    text: str
    """Its entry in the tree, as JSON."""


SaveAll = Callable[[Sequence[bytes]], Sequence[Id]]
"""Stores blobs that are not stored yet; returns the id of each."""


def store_small_files(
    directory: int, names: Sequence[bytes], texts: FileTexts, save_all: SaveAll
) -> list[StoredFile | None]:
    """Store regular files of an open directory; None stands for those that have to be done again.

    Raises what `save_all` raises.
    """
    read = [_read(directory, name, texts) for name in names]
    ids = iter(save_all([data for _, data in filter(None, read) if data]))
    return [
        StoredFile(len(found[1]), found[0] + tail((next(ids),) if found[1] else ()))
        if found is not None
        else None
        for found in read
    ]


def _read(directory: int, name: bytes, texts: FileTexts) -> tuple[str, bytes] | None:
    """Return the entry up to its content, and the content; None when anything is out of order."""
    try:
        fd, before = filesystem.open_file(name, directory)
    except OSError:
        return None
    size = before.st_size
    try:
        if size > SMALL_SIZE or before.st_nlink != 1:
            return None
        data = os.read(fd, size + 1)
        xattrs = filesystem.xattrs_of(fd)
        after = os.fstat(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    if (
        len(data) != size
        or after.st_size != size
        or after.st_mtime_ns != before.st_mtime_ns
        or after.st_ctime_ns != before.st_ctime_ns
    ):
        return None
    return texts.head(name, before, times_of(before), size) + xattrs_text(xattrs), data
