"""Filling packs: sealed blobs side by side in a reused buffer, from several threads at once.

A thread reserves its place under a short lock and seals outside of it; the thread that puts the
last blob into a closed pack hands the pack on. Two packs per blob type are open and one of them
is chosen at random for each blob, so that offsets tell an outsider little about file sizes
(restic's design, "Threat Model").
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.codec import Compressor
from sheetanchor.repository.crypto import OVERHEAD, Sealer
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import COMPRESSED_ENTRY, LENGTH_FIELD, PackedBlob, encode_header, read_header

PACK_SIZE = 16 * 1024 * 1024
"""Bytes; a pack never grows beyond it, unless it holds a single larger blob."""

MAX_BLOBS = 8192
"""Blobs in a pack at most: a pack full of tiny files would have a header of megabytes, and lists of
its blobs are held while it is filled, proven and indexed."""

OPEN_PACKS = 2


class Packed(NamedTuple):
    """What went into packs."""

    blobs: int
    plain_bytes: int
    sealed_bytes: int


class OpenPack:
    """One pack being filled."""

    def __init__(self, blob_type: BlobType, buffer: memoryview, sealer: Sealer) -> None:
        self.type = blob_type
        self.buffer = buffer
        self.blobs: list[PackedBlob] = []
        self._sealer = sealer
        self._used = 0
        self._sealed = 0
        self._closed = False
        self._lock = threading.Lock()

    def fits(self, length: int) -> bool:
        """Say whether a sealed blob of `length` bytes and its header entry still have room."""
        header = (len(self.blobs) + 1) * COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD
        return len(self.blobs) < MAX_BLOBS and self._used + length + header <= len(self.buffer)

    def reserve(self, blob_id: Id, length: int, uncompressed_length: int) -> PackedBlob:
        """Give the blob its place; the caller has asked `fits` and holds the packer's lock."""
        blob = PackedBlob(self.type, blob_id, self._used, length, uncompressed_length)
        with self._lock:
            self.blobs.append(blob)
            self._used += length
        return blob

    def seal(self, blob: PackedBlob, payload: bytes | memoryview) -> bool:
        """Seal `payload` into its place; return whether the pack is now complete."""
        self._sealer.seal_into(payload, self.buffer, blob.offset)
        with self._lock:
            self._sealed += 1
            return self._closed and self._sealed == len(self.blobs)

    def close(self) -> bool:
        """Take no more blobs; return whether the pack is complete already."""
        with self._lock:
            self._closed = True
            return self._sealed == len(self.blobs)

    def absorb(self, other: OpenPack) -> bool:
        """Take over all sealed blobs of another idle pack when they fit; say whether they did."""
        header = (len(self.blobs) + len(other.blobs)) * COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD
        if len(self.blobs) + len(other.blobs) > MAX_BLOBS:
            return False
        if self._used + other._used + header > len(self.buffer):
            return False
        self.buffer[self._used : self._used + other._used] = other.buffer[: other._used]
        for blob in other.blobs:
            self.reserve(blob.id, blob.length, blob.uncompressed_length)
        self._sealed += other._sealed
        return True

    def finish(self, opener: Opener) -> memoryview:
        """Write the header, open everything again to prove it, and return the finished pack.

        Raises DamagedRepositoryError when what was sealed is not what was to be stored: memory
        or a library is at fault, and nothing of it must reach the repository.
        """
        header = encode_header(self._sealer, self.blobs)
        end = self._used + len(header)
        self.buffer[self._used : end] = header
        prove(self.buffer[:end], self.blobs, self._sealer, opener)
        return self.buffer[:end]


def prove(pack: memoryview, blobs: list[PackedBlob], sealer: Sealer, opener: Opener) -> None:
    """Open a finished pack as a reader would.

    Raises DamagedRepositoryError unless it holds exactly `blobs`.
    """
    try:
        header = read_header(lambda at, length: bytes(pack[at : at + length]), len(pack), sealer)
        if header != blobs:
            raise DamagedRepositoryError("its header reads differently")
        for blob in blobs:
            opener.open(blob.id, pack[blob.offset : blob.offset + blob.length], blob.uncompressed_length)
    except DamagedRepositoryError as error:
        raise DamagedRepositoryError(
            f"a new pack is damaged before it was stored: {error.message}",
            hint="nothing wrong was written; test this machine's memory before trusting its backups",
        ) from error


def pack_new(
    ids: Sequence[Id],
    plains: Sequence[bytes],
    wanted: Sequence[bool | int],
    packer: Packer,
    compressor: Compressor,
) -> Packed:
    """Compress and pack those data blobs that are wanted."""
    blobs = plain_bytes = sealed_bytes = 0
    for blob_id, plain, is_wanted in zip(ids, plains, wanted, strict=True):
        if is_wanted:
            frame = compressor.compress(BlobType.DATA, plain)
            payload, length = (plain, 0) if frame is None else (frame, len(plain))
            sealed_bytes += packer.add(blob_id, payload, length)
            plain_bytes += len(plain)
            blobs += 1
    return Packed(blobs, plain_bytes, sealed_bytes)


class Packer:
    """The open packs of one blob type; `complete` receives every pack once it is complete."""

    def __init__(
        self,
        blob_type: BlobType,
        sealer: Sealer,
        take_buffer: Callable[[], memoryview],
        complete: Callable[[OpenPack], None],
    ) -> None:
        self._type = blob_type
        self._sealer = sealer
        self._take_buffer = take_buffer
        self._complete = complete
        self._open: list[OpenPack | None] = [None] * OPEN_PACKS
        self._random_bytes = bytearray()
        self._lock = threading.Lock()

    def add(self, blob_id: Id, payload: bytes | memoryview, uncompressed_length: int) -> int:
        """Seal a blob into one of the open packs; return its sealed length."""
        length = len(payload) + OVERHEAD
        if length + COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD > PACK_SIZE:
            self._add_alone(blob_id, payload, uncompressed_length)
            return length
        with self._lock:
            pack = self._with_room(length)
            blob = pack.reserve(blob_id, length, uncompressed_length)
        if pack.seal(blob, payload):
            self._complete(pack)
        return length

    def flush(self) -> None:
        """Hand on the open packs, as one where they fit into one; nobody may be adding."""
        with self._lock:
            packs = [pack for pack in self._open if pack is not None]
            self._open = [None] * OPEN_PACKS
        if len(packs) == OPEN_PACKS and packs[0].absorb(packs[1]):
            packs[1].blobs.clear()
        for pack in packs:
            pack.close()
            self._complete(pack)

    def _with_room(self, length: int) -> OpenPack:
        slot = self._random_slot()
        pack = self._open[slot]
        if pack is not None and pack.fits(length):
            return pack
        if pack is not None and pack.close():
            self._complete(pack)
        self._open[slot] = None
        pack = OpenPack(self._type, self._take_buffer(), self._sealer)
        self._open[slot] = pack
        return pack

    def _random_slot(self) -> int:
        """Return a random slot; the caller holds the lock. Asking the system for each is slow."""
        if not self._random_bytes:
            self._random_bytes = bytearray(secrets.token_bytes(1024))
        return self._random_bytes.pop() % OPEN_PACKS

    def _add_alone(self, blob_id: Id, payload: bytes | memoryview, uncompressed_length: int) -> None:
        length = len(payload) + OVERHEAD
        buffer = memoryview(bytearray(length + COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD))
        pack = OpenPack(self._type, buffer, self._sealer)
        pack.seal(pack.reserve(blob_id, length, uncompressed_length), payload)
        pack.close()
        self._complete(pack)
