"""How much an archive that nobody vouches for may expand to."""

from __future__ import annotations

from sheetanchor.archive.streams import ByteSource
from sheetanchor.errors import HostileArchiveError

MAX_RATIO = 250
"""Text of a database compresses 4 to 20 times; our own volumes hold no long runs of zeros."""
FREE_BYTES = 1 << 30
FREE_HOLE_BYTES = 64 << 30


class ExpansionLimit:
    """Counts what comes out of an archive of `archive_bytes`; None stands for "no limit"."""

    def __init__(self, archive_bytes: int | None, what: str) -> None:
        self._what = what
        self._bytes: int | None = None
        self._holes: int | None = None
        if archive_bytes is not None:
            self._bytes = FREE_BYTES + MAX_RATIO * archive_bytes
            self._holes = FREE_HOLE_BYTES + MAX_RATIO * archive_bytes

    def take(self, count: int) -> None:
        """Count decompressed bytes. Raises HostileArchiveError beyond the limit."""
        if self._bytes is not None:
            self._bytes -= count
            self._check(self._bytes)

    def take_logical(self, size: int) -> None:
        """Count a file of a volume, holes included. Raises HostileArchiveError beyond the limit."""
        if self._holes is not None:
            self._holes -= size
            self._check(self._holes)

    def _check(self, left: int) -> None:
        if left < 0:
            raise HostileArchiveError(
                f"{self._what}: expands to more than {MAX_RATIO} times its size, like a decompression bomb",
                hint="if you know where it comes from, --trust-archive lifts this limit",
            )


class LimitedSource:
    """A source whose bytes count against a limit."""

    def __init__(self, source: ByteSource, limit: ExpansionLimit) -> None:
        self._source = source
        self._limit = limit

    def read(self, size: int, /) -> bytes:
        """Read from the source."""
        data = self._source.read(size)
        self._limit.take(len(data))
        return data
