"""Pack files: blobs end to end, then a sealed list of them, then that list's length.

restic's design, "Pack Format": blob || ... || sealed header || header length (uint32 LE).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.crypto import OVERHEAD, Sealer
from sheetanchor.repository.ids import BlobType, Id

LENGTH_FIELD = 4
PLAIN_ENTRY = 37
COMPRESSED_ENTRY = 41
MAX_HEADER = 16 << 20
"""Limit of the sealed header, in bytes."""
MIN_PACK = PLAIN_ENTRY + OVERHEAD + LENGTH_FIELD
MAX_BLOB = (1 << 32) - 1
EAGER_ENTRIES = 15
"""Entries read with the first request; more need a second one."""

_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
_TYPE_BYTES = {BlobType.DATA: 0, BlobType.TREE: 1}
_BLOB_TYPES = (BlobType.DATA, BlobType.TREE)

RangeGetter = Callable[[int, int], bytes]
"""Given offset and length, returns exactly those bytes of a pack."""


class PackedBlob(NamedTuple):
    """One blob inside a pack; a tuple, since an index makes a million of them."""

    type: BlobType
    id: Id
    """SHA-256 of the plaintext."""
    offset: int
    length: int
    """Sealed length, in bytes."""
    uncompressed_length: int
    """0 when the blob is not compressed."""

    @property
    def plain_length(self) -> int:
        """Length of the plaintext in bytes."""
        return self.uncompressed_length or self.length - OVERHEAD


def entry_size(blob: PackedBlob) -> int:
    """Return the bytes that a blob takes in the header."""
    return COMPRESSED_ENTRY if blob.uncompressed_length else PLAIN_ENTRY


def header_size(blobs: Sequence[PackedBlob]) -> int:
    """Return the bytes of a sealed header with its length field."""
    return sum(entry_size(blob) for blob in blobs) + OVERHEAD + LENGTH_FIELD


def pack_size(blobs: Sequence[PackedBlob]) -> int:
    """Return the size a pack of these blobs must have."""
    return sum(blob.length for blob in blobs) + header_size(blobs)


def encode_header(sealer: Sealer, blobs: Sequence[PackedBlob]) -> bytes:
    """Return what follows the blobs in a pack: the sealed header and its length.

    `blobs` are in the order of their offsets. Raises DamagedRepositoryError when they have gaps,
    are none or too many, or when what was sealed does not read back.
    """
    _check_contiguous(blobs)
    plain = b"".join([_encode_entry(blob) for blob in blobs])
    if not blobs or len(plain) + OVERHEAD > MAX_HEADER:
        raise DamagedRepositoryError(f"a pack cannot hold {len(blobs)} blobs")
    sealed = sealer.seal(plain)
    if sealer.open(sealed) != plain:
        raise DamagedRepositoryError("a pack header changed while it was sealed: the machine miscalculates")
    return sealed + _LENGTH.pack(len(sealed))


def parse_header(plain: bytes) -> list[PackedBlob]:
    """Return the blobs of an opened header. Raises DamagedRepositoryError for an impossible one."""
    view = memoryview(plain)
    blobs: list[PackedBlob] = []
    offset = position = 0
    while position < len(view):
        blob, position = _parse_entry(view, position, offset)
        offset += blob.length
        blobs.append(blob)
    if not blobs:
        raise DamagedRepositoryError("a pack header names no blobs")
    return blobs


def read_header(get: RangeGetter, size: int, sealer: Sealer) -> list[PackedBlob]:
    """Return the blobs of the pack of `size` bytes that `get` reads.

    Raises DamagedRepositoryError, and what `get` raises.
    """
    if size < MIN_PACK:
        raise DamagedRepositoryError(f"a pack of {size} bytes is too small")
    eager = min(size, EAGER_ENTRIES * COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD)
    tail = get(size - eager, eager)
    if len(tail) != eager:
        raise DamagedRepositoryError(f"a pack is shorter than its {size} bytes")
    (length,) = _LENGTH.unpack(tail[-LENGTH_FIELD:])
    if not OVERHEAD + PLAIN_ENTRY <= length <= min(MAX_HEADER, size - LENGTH_FIELD):
        raise DamagedRepositoryError(f"a pack of {size} bytes cannot have a header of {length} bytes")
    sealed = tail[:-LENGTH_FIELD][-length:]
    if len(sealed) < length:
        missing = length - len(sealed)
        sealed = get(size - eager - missing, missing) + sealed
    blobs = parse_header(sealer.open(sealed))
    if pack_size(blobs) != size:
        raise DamagedRepositoryError(f"a pack of {size} bytes does not fit its header")
    return blobs


def _check_contiguous(blobs: Sequence[PackedBlob]) -> None:
    offset = 0
    for blob in blobs:
        if blob.offset != offset or not OVERHEAD <= blob.length <= MAX_BLOB:
            raise DamagedRepositoryError(f"blob {blob.id.hex()} does not follow the one before it")
        offset += blob.length


def _encode_entry(blob: PackedBlob) -> bytes:
    kind = _TYPE_BYTES[blob.type]
    if blob.uncompressed_length:
        return _COMPRESSED.pack(kind | 2, blob.length, blob.uncompressed_length, blob.id)
    return _PLAIN.pack(kind, blob.length, blob.id)


def _parse_entry(plain: memoryview, position: int, offset: int) -> tuple[PackedBlob, int]:
    kind = plain[position]
    if kind > 3:
        raise DamagedRepositoryError(f"a pack holds a blob of unknown type {kind}")
    end = position + (COMPRESSED_ENTRY if kind & 2 else PLAIN_ENTRY)
    if end > len(plain):
        raise DamagedRepositoryError("a pack header ends in the middle of an entry")
    uncompressed = 0
    if kind & 2:
        _, length, uncompressed, blob_id = _COMPRESSED.unpack(plain[position:end])
    else:
        _, length, blob_id = _PLAIN.unpack(plain[position:end])
    if length < OVERHEAD or offset + length > MAX_BLOB or (kind & 2 and uncompressed == 0):
        raise DamagedRepositoryError(f"a pack header gives blob {blob_id.hex()} an impossible length")
    return PackedBlob(_BLOB_TYPES[kind & 1], Id(blob_id), offset, length, uncompressed), end
