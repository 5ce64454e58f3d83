"""Index, snapshot and lock files: sealed JSON, named by the SHA-256 of the stored bytes.

restic's design, "Repository Layout" and "Unpacked Data Format".
"""

from __future__ import annotations

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.codec import decode_unpacked, encode_unpacked
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, digest

LIMITS = {Kind.INDEX: 256 << 20, Kind.SNAPSHOTS: 64 << 20, Kind.LOCKS: 1 << 20}
"""Most bytes of JSON accepted of each kind, against decompression bombs."""


def seal_file(sealer: Sealer, version: int, kind: Kind, json_bytes: bytes) -> tuple[Id, bytes]:
    """Return a file's id and the bytes to store, proven to read back.

    Raises DamagedRepositoryError when they do not.
    """
    sealed = sealer.seal(encode_unpacked(version, json_bytes))
    if decode_unpacked(version, sealer.open(sealed), len(json_bytes)) != json_bytes:
        raise DamagedRepositoryError(
            f"a new file of {kind} is damaged before it was stored",
            hint="nothing wrong was written; test this machine's memory before trusting its backups",
        )
    return digest(sealed), sealed


def save(backend: Backend, sealer: Sealer, version: int, kind: Kind, json_bytes: bytes) -> Id:
    """Store a file durably and return its id.

    Raises DamagedRepositoryError, before anything is stored, when the sealed bytes do not read
    back, and what the backend raises.
    """
    file_id, sealed = seal_file(sealer, version, kind, json_bytes)
    backend.put(kind, file_id.hex(), sealed)
    return file_id


def load(backend: Backend, sealer: Sealer, version: int, kind: Kind, file_id: Id) -> bytes:
    """Return the JSON of a file.

    Raises ObjectAbsentError, or DamagedRepositoryError when the bytes are not those of the name.
    """
    stored = backend.get(kind, file_id.hex())
    try:
        if digest(stored) != file_id:
            raise DamagedRepositoryError("its content does not match its name")
        return decode_unpacked(version, sealer.open(stored), LIMITS[kind])
    except DamagedRepositoryError as error:
        raise DamagedRepositoryError(
            f"{backend.location}: {kind}/{file_id.hex()}: {error.message}",
            hint="`sheetanchor repository check` tells what else is affected",
        ) from error
