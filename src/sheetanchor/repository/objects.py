"""Sealed objects: what is no restic file (WAL, state, reports), kept under a prefix restic ignores.

The seal has no associated data, so an object says inside of it what it is: kind, name, length and
SHA-256, all checked on reading. An object moved to another name or cut is refused; an older version
put back in its own place cannot be told, since nothing else in the repository knows the newest.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sheetanchor.errors import DamagedRepositoryError, FinalBackendError
from sheetanchor.repository.backend.base import Backend, Kind, is_object_name
from sheetanchor.repository.codec import Decompressor
from sheetanchor.repository.crypto import MasterKey, Sealer

Buffer = bytes | bytearray | memoryview

MAX_SIZE = 1 << 30
"""Most plain bytes of one object: as large as the largest WAL segment."""

_MAGIC = b"SAO1"
_FIXED = struct.Struct("<4sBHHQ32s")
"""Magic, flags, lengths of kind and name, length and SHA-256 of the content."""
_COMPRESSED = 1
_LEVEL = 3
_KEY_INFO = b"sheetanchor sealed objects v1"


@dataclass(frozen=True)
class ObjectInfo:
    """One entry of a listing."""

    name: str
    stored_size: int
    """Bytes as stored: sealed, and perhaps compressed."""
    received_at: datetime | None
    """The storage's own time, None where it has none."""


class SealedObjects:
    """The sealed objects of one repository. Threads may share it.

    An object is addressed by a kind (one part: "wal", "state") and a name (one or more parts, as in
    `backend.base.is_object_name`), and stored as `objects/<kind>/<name>`.
    """

    def __init__(self, backend: Backend, key: MasterKey) -> None:
        self._backend = backend
        self._sealer = Sealer(derive_key(key))
        self._decompressor = Decompressor()

    def put(
        self, kind: str, name: str, data: Buffer, *, if_absent: bool = False, compress: bool = True
    ) -> None:
        """Store an object whole or not at all, durable on return.

        With `if_absent` raises ObjectExistsError when it exists; that two writers at once cannot
        both win holds only where `Features.conditional_put` does (see `probe.honours_if_absent`).
        Raises FinalBackendError for an impossible name or more than MAX_SIZE bytes,
        DamagedRepositoryError when what was sealed does not read back, and what the backend raises.
        """
        path = _path(kind, name)
        if len(data) > MAX_SIZE:
            raise FinalBackendError(f"object {path} of {len(data)} bytes is over the limit of {MAX_SIZE}")
        sealed = self._sealer.seal(_encode(kind, name, data, compress=compress))
        if self._opened(kind, name, sealed) != data:
            raise DamagedRepositoryError(
                f"object {path} is damaged before it was stored",
                hint="nothing wrong was written; test this machine's memory before trusting its backups",
            )
        self._backend.put(Kind.OBJECTS, path, sealed, if_absent=if_absent)

    def get(self, kind: str, name: str) -> bytes:
        """Return an object's content.

        Raises ObjectAbsentError, or DamagedRepositoryError when the stored bytes are not those of
        this kind and name.
        """
        path = _path(kind, name)
        sealed = self._backend.get(Kind.OBJECTS, path)
        try:
            return self._opened(kind, name, sealed)
        except DamagedRepositoryError as error:
            raise DamagedRepositoryError(
                f"{self._backend.location}: objects/{path}: {error.message}", hint=error.hint
            ) from error

    def list(self, kind: str, under: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects of a kind whose names begin with `under`, in any order.

        Listings are not sealed: what they say is a hint until `get` has checked it.
        """
        folder = f"{_checked(kind)}/"
        for stored in self._backend.list(Kind.OBJECTS):
            name = stored.name.removeprefix(folder)
            if stored.name.startswith(folder) and name.startswith(under):
                yield ObjectInfo(name, stored.size, stored.received_at)

    def delete(self, kind: str, name: str) -> None:
        """Remove an object; one that is absent already is no error."""
        self._backend.delete(Kind.OBJECTS, _path(kind, name))

    def _opened(self, kind: str, name: str, sealed: Buffer) -> bytes:
        return _decode(kind, name, self._sealer.open(sealed), self._decompressor)


def derive_key(key: MasterKey) -> MasterKey:
    """Return the key that seals objects, derived from the master key (HKDF-SHA512, RFC 5869).

    With the master key itself, a file whose content was made to look like an object would turn into
    one when its sealed blob is copied out of a pack.
    """
    from cryptography.hazmat.primitives.hashes import SHA512
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    material = key.encrypt + key.mac_k + key.mac_r
    return MasterKey.from_bytes(HKDF(SHA512(), length=64, salt=None, info=_KEY_INFO).derive(material))


def _encode(kind: str, name: str, data: Buffer, *, compress: bool) -> bytes:
    import zstandard

    payload, flags = bytes(data), 0
    if compress and payload:
        frame = zstandard.ZstdCompressor(level=_LEVEL).compress(payload)
        if len(frame) < len(payload):
            payload, flags = frame, _COMPRESSED
    fixed = _FIXED.pack(_MAGIC, flags, len(kind), len(name), len(data), hashlib.sha256(data).digest())
    return b"".join((fixed, kind.encode(), name.encode(), payload))


def _decode(kind: str, name: str, plain: bytes, decompressor: Decompressor) -> bytes:
    if len(plain) < _FIXED.size or plain[: len(_MAGIC)] != _MAGIC:
        raise DamagedRepositoryError("it is no sealed object, or of a newer format")
    _, flags, kind_length, name_length, length, sha256 = _FIXED.unpack_from(plain)
    names_end = _FIXED.size + kind_length + name_length
    stored_kind = plain[_FIXED.size : _FIXED.size + kind_length]
    stored_name = plain[_FIXED.size + kind_length : names_end]
    if (stored_kind, stored_name) != (kind.encode(), name.encode()):
        raise DamagedRepositoryError(
            f"it is the object {(stored_kind + b'/' + stored_name).decode('ascii', 'replace')}",
            hint="somebody moved or swapped objects on the storage",
        )
    if flags & ~_COMPRESSED or length > MAX_SIZE:
        raise DamagedRepositoryError("it is of a newer format, or of an impossible length")
    content = plain[names_end:]
    if flags & _COMPRESSED:
        content = decompressor.decompress(content, length)
    if len(content) != length or not hmac.compare_digest(hashlib.sha256(content).digest(), sha256):
        raise DamagedRepositoryError("its content has another length or hash than it says")
    return content


def _checked(kind: str) -> str:
    if "/" in kind or not is_object_name(kind):
        raise FinalBackendError(f"{kind[:80]!r} is no kind of sealed object")
    return kind


def _path(kind: str, name: str) -> str:
    path = f"{_checked(kind)}/{name}"
    if not is_object_name(path):
        raise FinalBackendError(f"{name[:80]!r} is no name of a sealed object")
    return path
