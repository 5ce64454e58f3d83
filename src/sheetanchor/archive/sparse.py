"""Holes in files: where the zeros are, and GNU tar's sparse map (format 1.0).

Reference: GNU tar manual, "Storing Sparse Files": the map stands before the content, decimal
numbers one a line, filled up to whole records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sheetanchor.archive.streams import ByteSource, read_exactly
from sheetanchor.archive.tar_format import RECORD, padding
from sheetanchor.errors import HostileArchiveError

GRAIN = 4096
"""Holes begin and end at multiples of this: the usual block of a file system."""
MINIMUM_HOLE = 16 * GRAIN
"""Shorter runs of zeros are plain content: their map entry is not worth the seek."""
HEAD_BYTES = 32 << 20
"""A file up to this size is held in memory while its holes are looked for."""
MAX_REGIONS = 1_000_000

_ZEROS = bytes(MINIMUM_HOLE)


@dataclass(frozen=True, slots=True)
class Region:
    """A run of content between holes."""

    offset: int
    size: int


def find_regions(pieces: Iterable[bytes], size: int) -> list[Region]:
    """Return the regions of the content that are no holes, in order.

    The last region always reaches the end of the file, if only with a size of zero where the
    file ends in a hole. One region of `size` bytes means: no holes.
    """
    regions: list[Region] = []
    start: int | None = None
    position = 0
    for block in _blocks(pieces):
        if _ZEROS.startswith(block) and len(block) == MINIMUM_HOLE and len(regions) < MAX_REGIONS:
            if start is not None:
                regions.append(Region(start, position - start))
                start = None
        elif start is None:
            start = position
        position += len(block)
    if start is not None:
        regions.append(Region(start, position - start))
    elif size:
        regions.append(Region(size, 0))
    return regions


def encode_map(regions: list[Region]) -> bytes:
    """Return the map of a sparse file."""
    numbers = [len(regions)]
    for region in regions:
        numbers += (region.offset, region.size)
    data = b"".join(b"%d\n" % number for number in numbers)
    return data + padding(len(data))


def read_map(source: ByteSource, available: int, size: int, what: str) -> tuple[list[Region], int]:
    """Read a map from an entry's content of `available` bytes for a file of `size` bytes.

    Returns the regions and how many bytes the map took. Raises HostileArchiveError for a map that
    is no map, is not in order, or does not match the sizes.
    """
    numbers = _MapNumbers(source, available, what)
    count = numbers.next()
    if count > MAX_REGIONS:
        raise HostileArchiveError(f"{what}: a sparse map of {count} entries")
    regions: list[Region] = []
    end = 0
    for _ in range(count):
        region = Region(numbers.next(), numbers.next())
        if region.offset < end or region.offset + region.size > size:
            raise HostileArchiveError(f"{what}: a sparse map that is not in order")
        end = region.offset + region.size
        regions.append(region)
    if sum(region.size for region in regions) != available - numbers.taken:
        raise HostileArchiveError(f"{what}: a sparse map that does not match the content")
    return regions, numbers.taken


class SparseSource:
    """A sparse file's full content: regions from `source`, zeros between them."""

    def __init__(self, source: ByteSource, regions: list[Region], size: int) -> None:
        self._source = source
        self._regions = [*regions, Region(size, 0)]
        self._index = 0
        self._position = 0
        self._size = size

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        while self._position < self._size and size > 0:
            region = self._regions[self._index]
            if self._position < region.offset:
                count = min(size, region.offset - self._position, MINIMUM_HOLE)
                self._position += count
                return _ZEROS[:count]
            left = region.offset + region.size - self._position
            if left:
                data = self._source.read(min(size, left))
                self._position += len(data)
                return data
            self._index += 1
        return b""


class _MapNumbers:
    """Reads the map's numbers record by record."""

    def __init__(self, source: ByteSource, available: int, what: str) -> None:
        self._source = source
        self._available = available
        self._what = what
        self._text = b""
        self.taken = 0

    def next(self) -> int:
        while b"\n" not in self._text:
            if len(self._text) > 32 or self.taken + RECORD > self._available:
                raise HostileArchiveError(f"{self._what}: damaged sparse map")
            self._text += read_exactly(self._source, RECORD)
            self.taken += RECORD
        digits, _, self._text = self._text.partition(b"\n")
        if not digits.isdigit() or len(digits) > 20:
            raise HostileArchiveError(f"{self._what}: damaged sparse map")
        return int(digits)


def _blocks(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Yield `pieces` anew in blocks of MINIMUM_HOLE bytes, the last one shorter."""
    kept = b""
    for piece in pieces:
        data = kept + piece if kept else piece
        whole = len(data) - len(data) % MINIMUM_HOLE
        for start in range(0, whole, MINIMUM_HOLE):
            yield data[start : start + MINIMUM_HOLE]
        kept = data[whole:]
    if kept:
        yield kept
