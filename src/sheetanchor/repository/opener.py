"""From sealed bytes back to a blob: opened, decompressed, and checked against its id."""

from __future__ import annotations

import mmap
import threading

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.codec import Decompressor
from sheetanchor.repository.crypto import OVERHEAD, Sealer
from sheetanchor.repository.ids import Id, digest

SCRATCH_SIZE = 16 * 1024 * 1024


class Opener(threading.local):
    """Opens blobs; holds one scratch buffer per thread, since fresh large ones cost page faults."""

    def __init__(self, sealer: Sealer) -> None:
        super().__init__()
        self._sealer = sealer
        self._decompressor = Decompressor()
        self._scratch = memoryview(mmap.mmap(-1, SCRATCH_SIZE))

    def open(self, blob_id: Id, sealed: bytes | memoryview, uncompressed_length: int) -> bytes | memoryview:
        """Return the blob; what comes back is valid until this thread's next call.

        Raises DamagedRepositoryError when a bit differs.
        """
        if len(sealed) - OVERHEAD > SCRATCH_SIZE:
            plain: bytes | memoryview = self._sealer.open(sealed)
        else:
            plain = self._scratch[: self._sealer.open_into(sealed, self._scratch)]
        if uncompressed_length:
            plain = self._decompressor.decompress(plain, uncompressed_length)
        if digest(plain) != blob_id:
            raise DamagedRepositoryError(f"blob {blob_id.hex()} has another hash than its name")
        return plain
