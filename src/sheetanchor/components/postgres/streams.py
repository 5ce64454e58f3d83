"""Byte streams between sources and programs: a reader as a pipe's end, and one that counts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, BinaryIO

from sheetanchor.components.base import Context

PIECE_BYTES = 1 << 20


class Reporting(io.RawIOBase):
    """A reader that tells the listener how far it is."""

    def __init__(self, stream: BinaryIO, context: Context, task: str) -> None:
        super().__init__()
        self._stream = stream
        self._context = context
        self._task = task

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes."""
        data = self._stream.read(-1 if size is None else size)
        self._context.listener.advanced(self._task, len(data))
        return data


@contextmanager
def piped(stream: IO[bytes] | io.RawIOBase) -> Iterator[IO[bytes]]:
    """Feed `stream` through a pipe whose read end a program can take as standard input.

    An error of the stream is raised in place of whatever its cut-off input made the program say.
    """
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        reader = os.fdopen(read_end, "rb")
        feeding = pool.submit(_feed, stream, write_end)
        try:
            yield reader
        finally:
            reader.close()
            feeding.result()


def _feed(stream: IO[bytes] | io.RawIOBase, write_end: int) -> None:
    with os.fdopen(write_end, "wb", buffering=0) as writer:
        try:
            while piece := stream.read(PIECE_BYTES):
                _write_all(writer.fileno(), piece)
        except BrokenPipeError:
            pass  # the program ended early, and says why by its exit status


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
