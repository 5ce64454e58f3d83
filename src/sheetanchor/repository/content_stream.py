"""A stored file as a stream: every blob checked, some read ahead by threads."""

from __future__ import annotations

import bisect
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any

from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id

READ_AHEAD = 4
"""Blobs that are fetched before they are asked for: at most 32 MiB."""


class ContentStream(io.RawIOBase):
    """Reads a file's content; seekable; for one thread."""

    def __init__(self, blobs: BlobReader, content: Sequence[Id]) -> None:
        super().__init__()
        self._blobs = blobs
        self._content = content
        self._ends = list(accumulate(blobs.plain_length(blob_id) for blob_id in content))
        self._position = 0
        self._single: bytes | None = None
        self._loading: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from one blob. Raises DamagedRepositoryError."""
        number = bisect.bisect_right(self._ends, self._position)
        if number == len(self._ends):
            return 0
        data = self._blob(number)
        start = self._position - (self._ends[number] - len(data))
        piece = memoryview(data)[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        super().close()

    def _blob(self, number: int) -> bytes:
        if len(self._content) == 1:
            return self._only()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, thread_name_prefix="read-ahead")
        for old in [key for key in self._loading if not number <= key <= number + READ_AHEAD]:
            self._loading.pop(old).cancel()
        for wanted in range(number, min(number + READ_AHEAD, len(self._content))):
            if wanted not in self._loading:
                blob_id = self._content[wanted]
                self._loading[wanted] = self._threads.submit(self._blobs.load, BlobType.DATA, blob_id)
        return self._loading[number].result()

    def _only(self) -> bytes:
        """Return the one blob of a small file, for which threads would cost more than they save."""
        if self._single is None:
            self._single = self._blobs.load(BlobType.DATA, self._content[0])
        return self._single
