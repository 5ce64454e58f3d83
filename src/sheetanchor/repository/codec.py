"""Compression of blobs and of index, snapshot and lock files; decompression is bounded.

restic's design, "Blobs" and "Unpacked Data Format": repository version 2 stores zstd frames, in
unpacked files behind a byte 0x02. Frames of other writers may carry no content size.
"""

from __future__ import annotations

import threading
from enum import StrEnum

import zstandard

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.ids import BlobType

Buffer = bytes | bytearray | memoryview

_ZSTD_MARK = b"\x02"
_MAX_WINDOW = 1 << 27
"""Readers accept windows up to 128 MiB, as the zstd program does."""
_STEP = 1 << 20


class Compression(StrEnum):
    """How hard to compress; the words are restic's."""

    OFF = "off"
    AUTO = "auto"
    MAX = "max"


_LEVELS = {Compression.OFF: 1, Compression.AUTO: 1, Compression.MAX: 11}


class Compressor:
    """Compresses blobs by a policy; may be used by many threads at once.

    Nothing is compressed in repository version 1. In version 2 trees always are; data is
    unless the policy is `off` or compressing does not make it smaller.
    """

    def __init__(self, compression: Compression = Compression.AUTO, version: int = 2) -> None:
        self.compression = compression
        self.version = version
        self._compresses_trees = version >= 2
        self._compresses_data = version >= 2 and compression is not Compression.OFF
        self._contexts = _Compressing(_LEVELS[compression])

    def compress(self, blob_type: BlobType, plain: Buffer) -> bytes | None:
        """Return the zstd frame to store, or None when `plain` is to be stored as it is."""
        if len(plain) == 0:
            return None
        if blob_type is BlobType.TREE:
            return self._frame(plain) if self._compresses_trees else None
        if not self._compresses_data:
            return None
        frame = self._frame(plain)
        return frame if len(frame) < len(plain) else None

    def _frame(self, plain: Buffer) -> bytes:
        return self._contexts.compressor.compress(plain)


class Decompressor:
    """Decompresses blobs; may be used by many threads at once."""

    def __init__(self) -> None:
        self._contexts = _Decompressing()

    def decompress(self, frame: Buffer, size: int) -> bytes:
        """Return the content of one frame, which must be exactly `size` bytes.

        Never makes more than `size` bytes. Raises DamagedRepositoryError.
        """
        try:
            stated = zstandard.frame_content_size(frame)
            if stated not in (-1, size):
                raise DamagedRepositoryError(f"compressed data says {stated} bytes instead of {size}")
            plain = _one_shot(self._contexts.decompressor, frame, size)
        except zstandard.ZstdError as error:
            raise DamagedRepositoryError(f"compressed data cannot be read: {error}") from error
        if len(plain) != size:
            raise DamagedRepositoryError(f"compressed data holds {len(plain)} bytes instead of {size}")
        return plain


def encode_unpacked(version: int, json_bytes: bytes) -> bytes:
    """Return what to seal for an index, snapshot or lock file of a repository of `version`."""
    if version < 2:
        return json_bytes
    return _ZSTD_MARK + zstandard.ZstdCompressor(level=3).compress(json_bytes)


def decode_unpacked(version: int, data: bytes, limit: int) -> bytes:
    """Return the JSON of an opened index, snapshot or lock file, of at most `limit` bytes.

    Raises DamagedRepositoryError for any other form and for more than `limit` bytes.
    """
    if version < 2 or data[:1] in (b"", b"{", b"["):
        if len(data) > limit:
            raise DamagedRepositoryError(f"a file of {len(data)} bytes is over the limit of {limit}")
        return data
    if data[:1] != _ZSTD_MARK:
        raise DamagedRepositoryError(f"a file begins with byte {data[0]:#04x}, which no format has")
    try:
        return _bounded(memoryview(data)[1:], limit)
    except zstandard.ZstdError as error:
        raise DamagedRepositoryError(f"compressed data cannot be read: {error}") from error


class _Compressing(threading.local):
    """One thread's compressor, which must not be shared between threads."""

    def __init__(self, level: int) -> None:
        super().__init__()
        parameters = zstandard.ZstdCompressionParameters.from_level(level, write_content_size=1)
        self.compressor = zstandard.ZstdCompressor(compression_params=parameters)


class _Decompressing(threading.local):
    """One thread's decompressor, which must not be shared between threads."""

    def __init__(self) -> None:
        super().__init__()
        self.decompressor = zstandard.ZstdDecompressor()


def _one_shot(decompressor: zstandard.ZstdDecompressor, frame: Buffer, size: int) -> bytes:
    """Return the content of exactly one frame; zstd takes a bound of 0 for "no bound"."""
    return decompressor.decompress(frame, max_output_size=max(size, 1), allow_extra_data=False)


def _bounded(frame: Buffer, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    size = zstandard.frame_content_size(frame)
    if size == -1:
        size = _measured(decompressor, frame, limit)
    if size > limit:
        raise DamagedRepositoryError(f"compressed data is over the limit of {limit} bytes")
    return _one_shot(decompressor, frame, size)


def _measured(decompressor: zstandard.ZstdDecompressor, frame: Buffer, limit: int) -> int:
    """Count a frame's content by steps, stopping past `limit`; a cut frame is not noticed here."""
    size = 0
    with decompressor.stream_reader(frame) as reader:
        while size <= limit and (piece := reader.read(_STEP)):
            size += len(piece)
    return size
