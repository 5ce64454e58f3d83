"""Filling restored files with content: fetched by pack in long ranges, written by several threads.

Files come open and empty. They are gathered into windows, bounded in files and bytes; in each
window the wanted blobs are sorted by their place, so that a pack is read in few requests, and a
blob that several files hold is opened once. While one window is written the next is gathered.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.blob_reader import BlobReader, content_of
from sheetanchor.repository.crypto import OVERHEAD
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Location
from sheetanchor.repository.metadata import Metadata
from sheetanchor.repository.node import Node

Progress = Callable[[int, int], None]

WINDOW_FILES = 256
WINDOW_BYTES = 64 * 1024 * 1024
RANGE_BYTES = 4 * 1024 * 1024
"""Length from which a request is not made longer."""
GAP_BYTES = 64 * 1024
"""Unwanted bytes that are cheaper to read than another request."""
HOLE_BYTES = 4096
_ZEROS = bytes(HOLE_BYTES)


@dataclass
class _Target:
    """A file that is open for writing."""

    fd: int
    node: Node
    path: bytes


@dataclass
class _Wanted:
    """One blob, and every place in files that it goes to."""

    location: Location
    places: list[tuple[_Target, int]] = field(default_factory=list)


@dataclass
class _Window:
    """What is being written, and the files that are complete with it."""

    futures: list[Future[None]] = field(default_factory=list)
    complete: list[_Target] = field(default_factory=list)


class FileFiller:
    """Takes open files; on leaving its context all are complete, or closed after an error."""

    def __init__(self, blobs: BlobReader, metadata: Metadata, *, threads: int, progress: Progress) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._progress = progress
        self._threads = ThreadPoolExecutor(max(threads, blobs.concurrency), thread_name_prefix="restore")
        self._open: dict[int, _Target] = {}
        self._running = _Window()
        self._complete: list[_Target] = []
        self._wanted: dict[Id, _Wanted] = {}
        self._window_bytes = 0

    def __enter__(self) -> FileFiller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._flush()
                self._finish(self._running)
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)
            for fd in self._open:
                os.close(fd)

    def add(self, fd: int, node: Node, path: bytes) -> None:
        """Take over an open, empty file. Raises DamagedRepositoryError, OSError."""
        target = _Target(fd, node, path)
        self._open[fd] = target
        offset = 0
        for blob_id in content_of(node):
            location = self._blobs.locate(BlobType.DATA, blob_id)
            length = location.uncompressed_length or location.length - OVERHEAD
            wanted = self._wanted.get(blob_id)
            if wanted is None:
                wanted = self._wanted[blob_id] = _Wanted(location)
            wanted.places.append((target, offset))
            offset += length
            self._window_bytes += length
            if self._window_bytes >= WINDOW_BYTES:
                self._flush()
        if offset != node.size:
            raise DamagedRepositoryError(
                f"{shown(path)}: the stored content has {offset} bytes instead of {node.size}"
            )
        os.ftruncate(fd, offset)
        self._complete.append(target)
        if len(self._complete) >= WINDOW_FILES:
            self._flush()

    def _flush(self) -> None:
        """Begin to write all wanted blobs; finish the window before, which was written meanwhile."""
        wanted, self._wanted = self._wanted, {}
        self._window_bytes = 0
        before = self._running
        self._running = _Window(complete=self._complete)
        self._complete = []
        for batch in _ranges(wanted):
            self._running.futures.append(self._threads.submit(self._write_range, batch))
        self._finish(before)

    def _finish(self, window: _Window) -> None:
        """Wait for a window; parts of its files in windows before it are written already."""
        for future in window.futures:
            future.result()
        for target in window.complete:
            self._metadata.set_open(target.fd, target.node, target.path)
            del self._open[target.fd]
            os.close(target.fd)
        if window.complete:
            self._progress(sum(target.node.size for target in window.complete), len(window.complete))

    def _write_range(self, batch: list[tuple[Id, _Wanted]]) -> None:
        """Fetch one range of one pack and write its blobs to their places.

        What a lost or cut pack held may still be in another one.
        """
        start = batch[0][1].location.offset
        last = batch[-1][1].location
        try:
            data = self._blobs.fetch(last.pack_id, start, last.offset + last.length - start)
        except DamagedRepositoryError:
            for blob_id, wanted in batch:
                _write(self._blobs.load(BlobType.DATA, blob_id), wanted.places)
            return
        for blob_id, wanted in batch:
            location = wanted.location
            at = location.offset - start
            sealed = data[at : at + location.length]
            self._blobs.use(blob_id, location, sealed, partial(_write, places=wanted.places))


def _ranges(wanted: dict[Id, _Wanted]) -> Iterator[list[tuple[Id, _Wanted]]]:
    """Sort blobs by pack and offset and yield those that one request fetches."""
    by_pack: defaultdict[Id, list[tuple[Id, _Wanted]]] = defaultdict(list)
    for blob_id, want in wanted.items():
        by_pack[want.location.pack_id].append((blob_id, want))
    for batch in by_pack.values():
        batch.sort(key=lambda item: item[1].location.offset)
        current = [batch[0]]
        for item in batch[1:]:
            first, last, here = current[0][1].location, current[-1][1].location, item[1].location
            gap = here.offset - (last.offset + last.length)
            if gap > GAP_BYTES or here.offset + here.length - first.offset > RANGE_BYTES:
                yield current
                current = []
            current.append(item)
        yield current


def _write(plain: bytes | memoryview, places: list[tuple[_Target, int]]) -> None:
    view = memoryview(plain)
    pieces = _pieces(view)
    for target, offset in places:
        for start, end in pieces:
            at = start
            while at < end:
                at += os.pwrite(target.fd, view[at:end], offset + at)


def _pieces(view: memoryview) -> list[tuple[int, int]]:
    """Return what has to be written; blocks of zeros stay holes of the new file."""
    if bytes(view).find(_ZEROS) < 0:
        # One call that leaves the interpreter alone: looking block by block, threads wait for one another.
        return [(0, len(view))] if view else []
    pieces: list[tuple[int, int]] = []
    start = 0
    for at in range(0, len(view), HOLE_BYTES):
        block = view[at : at + HOLE_BYTES]
        if block[0] == 0 and block[-1] == 0 and bytes(block) == _ZEROS[: len(block)]:
            if start < at:
                pieces.append((start, at))
            start = at + len(block)
    if start < len(view):
        pieces.append((start, len(view)))
    return pieces
